//! Access tokens: made, listed, revoked. How they sign in is in [`super::sign_in`].

use std::collections::HashMap;

use serde::Serialize;

use super::secret::Secret;
use super::token_secret::TokenSecret;
use crate::db::{By, Db, DbError, NewToken, Scope, TokenRow, UserRow};
use crate::ids::{RepoId, TokenId};
use crate::names::{OwnerName, RepoAddress};

/// Longest label, in characters.
pub const LABEL_MAX_CHARS: usize = 100;

/// Longest lifetime, in days.
pub const LIFETIME_MAX_DAYS: u32 = 36_500;

/// Most tokens of one person that are good; revoked and expired ones do not count.
pub const TOKENS_PER_USER_MAX: u32 = 1000;

/// Most tokens that a list shows.
const LIST_MAX: u32 = 100_000;

const SECS_PER_DAY: u64 = 24 * 3600;

/// Why nothing was changed; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nobody has the name.
    #[error("there is no user {0}; `auxin user list` shows all")]
    NoUser(OwnerName),
    /// There is no such repository, or the person may not see it.
    #[error("there is no repository {0} that the user can read; check the address with `auxin repo list`")]
    NoRepo(RepoAddress),
    /// The label is too long or has control characters.
    #[error("the label of a token is one line of at most {LABEL_MAX_CHARS} characters; shorten it")]
    BadLabel,
    /// The lifetime is 0 or too long.
    #[error(
        "a token is good for 1 to {LIFETIME_MAX_DAYS} days; leave the lifetime out for a token that does not expire"
    )]
    BadLifetime,
    /// The person has too many.
    #[error("{0} has {TOKENS_PER_USER_MAX} tokens, which is the limit; revoke unused ones with `auxin token revoke`")]
    TooMany(OwnerName),
    /// There is no such token.
    #[error("there is no token {0}; `auxin token list` shows all")]
    NoToken(TokenId),
    /// Never shown to a client.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// Whose rights it carries.
    pub owner: OwnerName,
    /// What its owner calls it; may be empty.
    pub label: String,
    /// How much of its owner's rights it carries.
    pub scope: Scope,
    /// The only repository it is good for.
    pub repo: Option<RepoAddress>,
    /// For how many days it works; `None` is for ever.
    pub lifetime_days: Option<u32>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    /// Identity; what `token revoke` takes.
    pub id: TokenId,
    /// Whose rights it carries.
    pub owner: OwnerName,
    /// What its owner calls it; may be empty.
    pub label: String,
    /// How much of its owner's rights it carries.
    pub scope: Scope,
    /// The only repository it is good for, by its address today.
    pub repo: Option<RepoAddress>,
    /// When it stops working, in microseconds since 1970.
    pub expires_at_us: Option<i64>,
    /// When it was made, in microseconds since 1970.
    pub created_at_us: i64,
    /// When it was last used, give or take `auth.token_last_use_secs`.
    pub last_used_at_us: Option<i64>,
    /// When it was revoked, in microseconds since 1970.
    pub revoked_at_us: Option<i64>,
}

/// A token that was just made.
#[derive(Clone, Debug)]
pub struct CreatedToken {
    /// What can be shown again later.
    pub info: TokenInfo,
    /// What can be shown only now: the server keeps a hash.
    pub secret: Secret,
}

/// Access tokens. Cloning shares everything.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
}

impl Tokens {
    /// On the tokens of `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Makes a token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// Every [`TokenError`] but [`TokenError::NoToken`].
    pub async fn create(&self, request: TokenRequest, by: By) -> Result<CreatedToken, TokenError> {
        let label_ok = request.label.chars().count() <= LABEL_MAX_CHARS && !request.label.chars().any(char::is_control);
        if !label_ok {
            return Err(TokenError::BadLabel);
        }
        let lifetime_ok = |days: u32| (1..=LIFETIME_MAX_DAYS).contains(&days);
        if !request.lifetime_days.is_none_or(lifetime_ok) {
            return Err(TokenError::BadLifetime);
        }
        let owner = self.owner(&request.owner).await?;
        let repo = match request.repo {
            Some(address) => Some(self.readable_repo(address, &owner).await?),
            None => None,
        };
        let now_us = self.db.now_us();
        let good =
            |token: &TokenRow| token.revoked_at_us.is_none() && token.expires_at_us.is_none_or(|at_us| at_us > now_us);
        let tokens = self.db.list_tokens(Some(owner.id), LIST_MAX).await?;
        let good_count = tokens.iter().filter(|(token, _)| good(token)).count();
        if good_count as u64 >= u64::from(TOKENS_PER_USER_MAX) {
            return Err(TokenError::TooMany(owner.name));
        }

        let secret = TokenSecret::random();
        let new = NewToken {
            user_id: owner.id,
            label: request.label,
            secret_sha256: secret.digest(),
            scope: request.scope,
            repo_id: repo.as_ref().map(|(id, _)| *id),
            lifetime_secs: request.lifetime_days.map(|days| u64::from(days) * SECS_PER_DAY),
        };
        let row = self.db.insert_token(new, by).await?;
        let row = row.ok_or_else(|| TokenError::NoUser(owner.name.clone()))?;
        Ok(CreatedToken {
            info: info(row, owner.name, repo.map(|(_, address)| address)),
            secret: secret.into_secret(),
        })
    }

    /// The tokens of one person, or of everybody, oldest first; expired and revoked ones too.
    ///
    /// # Errors
    /// [`TokenError::NoUser`].
    pub async fn list(&self, owner: Option<&OwnerName>) -> Result<Vec<TokenInfo>, TokenError> {
        let owner = match owner {
            Some(name) => Some(self.owner(name).await?.id),
            None => None,
        };
        let rows = self.db.list_tokens(owner, LIST_MAX).await?;
        let mut addresses: HashMap<RepoId, RepoAddress> = HashMap::new();
        for repo in rows.iter().filter_map(|(token, _)| token.repo_id) {
            if !addresses.contains_key(&repo)
                && let Some(row) = self.db.repo_by_id(repo).await?
            {
                addresses.insert(repo, row.address);
            }
        }
        Ok(rows
            .into_iter()
            .map(|(token, owner)| {
                let repo = token.repo_id.and_then(|repo| addresses.get(&repo).cloned());
                info(token, owner, repo)
            })
            .collect())
    }

    /// Revokes a token; it is refused with the next request.
    ///
    /// # Errors
    /// [`TokenError::NoToken`].
    pub async fn revoke(&self, id: TokenId, by: By) -> Result<(), TokenError> {
        let done = self.db.revoke_token(id, by).await?;
        done.then_some(()).ok_or(TokenError::NoToken(id))
    }

    async fn owner(&self, name: &OwnerName) -> Result<UserRow, TokenError> {
        let row = self.db.user_by_name(name).await?;
        row.ok_or_else(|| TokenError::NoUser(name.clone()))
    }

    /// A token for a repository that its owner cannot read would never be good for anything.
    async fn readable_repo(&self, address: RepoAddress, owner: &UserRow) -> Result<(RepoId, RepoAddress), TokenError> {
        use super::rights::{Question, Right, Standing, Verdict};
        let Some(found) = self.db.find_repo(&address, Some(owner.id)).await? else {
            return Err(TokenError::NoRepo(address));
        };
        let question = Question {
            standing: Standing::SignedIn {
                role: found.role,
                is_site_admin: owner.is_site_admin,
                token: None,
            },
            visibility: found.repo.visibility,
            is_archived: found.repo.is_archived,
            right: Right::Read,
        };
        if question.verdict() != Verdict::Allowed {
            return Err(TokenError::NoRepo(address));
        }
        Ok((found.repo.id, found.repo.address))
    }
}

fn info(row: TokenRow, owner: OwnerName, repo: Option<RepoAddress>) -> TokenInfo {
    TokenInfo {
        id: row.id,
        owner,
        label: row.label,
        scope: row.scope,
        repo,
        expires_at_us: row.expires_at_us,
        created_at_us: row.created_at_us,
        last_used_at_us: row.last_used_at_us,
        revoked_at_us: row.revoked_at_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::testing::World;

    fn request(owner: &str) -> TokenRequest {
        TokenRequest {
            owner: owner.parse().unwrap(),
            label: "laptop".into(),
            scope: Scope::Write,
            repo: None,
            lifetime_days: Some(30),
        }
    }

    #[tokio::test]
    async fn a_token_is_listed_without_its_secret_and_the_database_keeps_a_hash_only() {
        let world = World::new().await;
        world.user("anna").await;

        let made = world.tokens.create(request("anna"), By::Command).await.unwrap();

        let listed = world.tokens.list(Some(&"anna".parse().unwrap())).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&made.info));
        assert_eq!(
            made.info.expires_at_us,
            Some(made.info.created_at_us + 30 * 86_400_000_000)
        );
        let secret = made.secret.expose().as_bytes();
        world.db.close().await;
        let file = std::fs::read(world.folder.path().join("auxin.db")).unwrap();
        assert!(!file.windows(secret.len()).any(|window| window == secret));
    }

    #[tokio::test]
    async fn a_revoked_token_stays_in_the_list_and_revoking_again_is_fine() {
        let world = World::new().await;
        world.user("anna").await;
        let made = world.tokens.create(request("anna"), By::Command).await.unwrap();

        world.tokens.revoke(made.info.id, By::Command).await.unwrap();
        world.tokens.revoke(made.info.id, By::Command).await.unwrap();

        let listed = world.tokens.list(None).await.unwrap();
        assert!(listed[0].revoked_at_us.is_some());
        let unknown = world.tokens.revoke(TokenId::new(), By::Command).await;
        assert!(matches!(unknown, Err(TokenError::NoToken(_))));
    }

    #[tokio::test]
    async fn bad_requests_are_refused_with_a_reason() {
        let world = World::new().await;
        world.user("anna").await;
        world.user("ben").await;
        world.repo("anna/song", super::super::Visibility::Private).await;
        let create = |request| world.tokens.create(request, By::Command);

        assert!(matches!(create(request("carl")).await, Err(TokenError::NoUser(_))));
        let mut bad = request("anna");
        bad.lifetime_days = Some(0);
        assert!(matches!(create(bad).await, Err(TokenError::BadLifetime)));
        let mut bad = request("anna");
        bad.label = "two\nlines".into();
        assert!(matches!(create(bad).await, Err(TokenError::BadLabel)));
        for address in ["anna/other", "anna/song"] {
            let mut bad = request("ben");
            bad.repo = Some(address.parse().unwrap());
            assert!(matches!(create(bad).await, Err(TokenError::NoRepo(_))), "{address}");
        }
    }

    #[tokio::test]
    async fn a_token_for_one_repository_shows_its_address_of_today_and_goes_with_it() {
        let world = World::new().await;
        world.user("anna").await;
        let song = world.repo("anna/song", super::super::Visibility::Private).await;
        let mut wanted = request("anna");
        wanted.repo = Some("anna/song".parse().unwrap());
        world.tokens.create(wanted, By::Command).await.unwrap();

        world
            .db
            .rename_repo(song.id, "tune".parse().unwrap(), By::Command)
            .await
            .unwrap();
        let listed = world.tokens.list(None).await.unwrap();
        assert_eq!(listed[0].repo, Some("anna/tune".parse().unwrap()));

        world.db.delete_repo(song.id, By::Command).await.unwrap();
        assert!(world.tokens.list(None).await.unwrap().is_empty());
    }
}
