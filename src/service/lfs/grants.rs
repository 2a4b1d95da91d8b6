//! Tokens of the chunked transfer: short-lived signed statements that one person may up- or download large files
//! of one repository. The agent gets one with each batch, since it is a program of its own that knows no
//! password. A token says who was allowed; who is allowed is read from the database at each request.

use lfs_protocol::batch::Operation;
use lfs_protocol::chunked::TokenAnswer;

use super::{LargeFiles, LfsError};
use crate::ids::RepoId;
use crate::service::links::{Link, LinkError};
use crate::service::sign_in::{SignedIn, TokenGrant};

/// What a token stands for, as the database has it now.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The person.
    pub by: SignedIn,
    /// The one repository.
    pub repo: RepoId,
    /// The one thing.
    pub operation: Operation,
}

fn purpose(operation: Operation) -> &'static str {
    match operation {
        Operation::Download => "lfs-download",
        Operation::Upload => "lfs-upload",
    }
}

impl LargeFiles {
    /// A token for a person whose right has been checked, and for how long it is good, in seconds.
    pub fn grant(&self, grant: &Grant) -> TokenAnswer {
        let expires_in = self.inner.config.lfs.action_expiry_secs;
        let holder = (grant.by.id, grant.by.token.as_ref().map(|token| token.id));
        let purpose = purpose(grant.operation);
        let links = &self.inner.links;
        TokenAnswer {
            token: links.issue(purpose, holder, Some(grant.repo), u64::from(expires_in)),
            expires_in,
        }
    }

    /// Who comes with this token. Their right to the repository is for the caller to check.
    ///
    /// # Errors
    /// [`LfsError::BadToken`]
    pub async fn granted(&self, text: &str, operations: &[Operation]) -> Result<Grant, LfsError> {
        self.inner.check_on()?;
        let mut failed = LinkError::Invalid;
        for &operation in operations {
            match self.inner.links.verify(text, purpose(operation)) {
                Ok(link) => return self.holder(link, operation).await,
                Err(error) => failed = error,
            }
            if failed == LinkError::Expired {
                break;
            }
        }
        Err(LfsError::BadToken(match failed {
            LinkError::Expired => "has expired",
            LinkError::Invalid => "is not valid here",
        }))
    }

    async fn holder(&self, link: Link, operation: Operation) -> Result<Grant, LfsError> {
        let db = &self.inner.db;
        let repo = link.repo.ok_or(LfsError::BadToken("is not valid here"))?;
        let user = db.user_by_id(link.user).await?;
        let user = user.filter(|user| !user.is_disabled);
        let user = user.ok_or(LfsError::BadToken("is that of an account that is closed"))?;
        let token = match link.token {
            None => None,
            Some(id) => {
                let row = db.token_by_id(id).await?;
                let is_good = |row: &crate::db::TokenRow| {
                    row.user_id == user.id
                        && row.revoked_at_us.is_none()
                        && row.expires_at_us.is_none_or(|at_us| at_us > db.now_us())
                };
                let row = row.filter(is_good);
                let row = row.ok_or(LfsError::BadToken(
                    "stems from an access token that is not good any more",
                ))?;
                Some(TokenGrant {
                    id,
                    scope: row.scope,
                    repo: row.repo_id,
                })
            }
        };
        Ok(Grant {
            by: SignedIn {
                id: user.id,
                name: user.name,
                is_site_admin: user.is_site_admin,
                token,
            },
            repo,
            operation,
        })
    }
}
