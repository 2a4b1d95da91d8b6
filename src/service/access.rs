//! From an address to a repository that the caller may use for something, or to the sentence why not.
//!
//! Whoever may not read a repository gets, word for word, the answer for one that does not exist.

use std::path::{Path, PathBuf};

use moka::sync::Cache;

pub use super::rights::Right;
use super::rights::{Question, Reason, Standing, TokenLimit, Verdict, least_scope};
use super::sign_in::{Caller, SignedIn};
use crate::config::RepoSettings;
use crate::db::{ChangeStamp, Db, DbError, FoundRepo, ProtectedBranch, RepoRow, Role, Scope, Visibility};
use crate::ids::{RepoId, UserId};
use crate::names::{BadName, RepoAddress};

/// Repositories, each for one caller, whose rows are kept; the least used go first.
const ROWS_MAX: u64 = 10_000;

/// A repository that the caller may use for what was asked.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Identity.
    pub id: RepoId,
    /// Its address today.
    pub address: RepoAddress,
    /// Its folder on disk.
    pub path: PathBuf,
    /// Who may see it without being a member.
    pub visibility: Visibility,
    /// Nobody may push.
    pub archived: bool,
    /// The old address it was found by.
    pub renamed_from: Option<RepoAddress>,
    /// Its hooks and the includes of its git config are trusted.
    pub trust_hooks: bool,
    /// What the caller is to it; a site administrator counts as owner.
    pub role: Option<Role>,
    /// Its rules for branches; empty when it was opened for reading.
    pub protected: Vec<ProtectedBranch>,
}

impl Opened {
    /// Opened by its owner at its address of today.
    pub(super) fn by_owner(repo: RepoRow, repos_dir: &Path, protected: Vec<ProtectedBranch>) -> Self {
        let found = FoundRepo {
            repo,
            role: Some(Role::Owner),
            renamed_from: None,
        };
        Self::new(found, false, repos_dir, protected)
    }

    fn new(found: FoundRepo, is_site_admin: bool, repos_dir: &Path, protected: Vec<ProtectedBranch>) -> Self {
        let FoundRepo {
            repo,
            role,
            renamed_from,
        } = found;
        Self {
            id: repo.id,
            path: repos_dir.join(&repo.dir),
            address: repo.address,
            visibility: repo.visibility,
            archived: repo.is_archived,
            renamed_from,
            trust_hooks: repo.trust_hooks,
            role: if is_site_admin { Some(Role::Owner) } else { role },
            protected,
        }
    }
}

/// Where a push goes.
#[derive(Clone, Debug)]
pub enum PushTarget {
    /// Into this repository.
    Existing(Opened),
    /// Into one that does not exist yet and may be made, in the caller's own space.
    Creatable(RepoAddress),
}

/// Why a repository was not opened. The sentences are for the person at the client.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// 401: the caller has not said who they are, and the answer may depend on it.
    #[error("Sign in with your user name and password, or with an access token as password.")]
    SignInNeeded,
    /// 404: no such repository, or none that the caller may see.
    #[error("{0}")]
    NotFound(String),
    /// 403: the caller may read it, but not do this.
    #[error("{0}")]
    Forbidden(String),
    /// 500: never shown to a client.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What the database says about repositories and roles, until anything in it changes: rows count only while
/// it gives the [`ChangeStamp`] that was taken before they were read.
#[derive(Clone)]
struct FoundRepos {
    db: Db,
    kept: Cache<(String, String, Option<UserId>), (ChangeStamp, FoundRepo)>,
}

impl FoundRepos {
    fn new(db: Db) -> Self {
        Self {
            db,
            kept: Cache::new(ROWS_MAX),
        }
    }

    /// As [`Db::find_repo`]. What is not there is looked for each time.
    async fn find(&self, address: &RepoAddress, caller: Option<UserId>) -> Result<Option<FoundRepo>, DbError> {
        let key = (address.owner.key(), address.name.key(), caller);
        let stamp = self.db.change_stamp().await;
        if let Some((kept, found)) = self.kept.get(&key)
            && Some(kept) == stamp
        {
            return Ok(Some(found));
        }
        let found = self.db.find_repo(address, caller).await?;
        if let (Some(stamp), Some(found)) = (stamp, &found) {
            self.kept.insert(key, (stamp, found.clone()));
        }
        Ok(found)
    }
}

/// Opens repositories for callers. Cloning shares everything.
#[derive(Clone)]
pub struct Access {
    db: Db,
    found: FoundRepos,
    repos_dir: PathBuf,
    base_url: String,
    create_on_push: bool,
}

impl Access {
    /// `repos_dir` is where the folders of repositories are; `base_url` is the address that people
    /// use, such as `https://git.example.org`, for the commands in sentences.
    pub fn new(db: Db, repos_dir: PathBuf, base_url: &str, settings: &RepoSettings) -> Self {
        Self {
            found: FoundRepos::new(db.clone()),
            db,
            repos_dir,
            base_url: base_url.trim_end_matches('/').to_owned(),
            create_on_push: settings.create_on_push,
        }
    }

    /// Opens a repository for `right`.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn open(&self, caller: &Caller, address: &RepoAddress, right: Right) -> Result<Opened, AccessError> {
        match self.look(caller, address, right).await? {
            Some(opened) => Ok(opened),
            None => Err(missing(caller, || self.not_found(caller, address))),
        }
    }

    /// Opens a repository for pushing. One that is missing in the caller's own space is
    /// [`PushTarget::Creatable`] if the server's settings and the caller's token allow it; nothing is
    /// created here.
    ///
    /// # Errors
    /// See [`AccessError`]; what cannot be found comes with the way to create it.
    pub async fn open_for_push(&self, caller: &Caller, address: &RepoAddress) -> Result<PushTarget, AccessError> {
        if let Some(opened) = self.look(caller, address, Right::Write).await? {
            return Ok(PushTarget::Existing(opened));
        }
        let Caller::User(user) = caller else {
            return Err(AccessError::SignInNeeded);
        };
        // From here on the answer depends on the address, the caller and the settings only.
        if user.name != address.owner || !self.create_on_push {
            return Err(AccessError::NotFound(self.way_out(user, address)));
        }
        if let Some(token) = &user.token {
            if token.repo.is_some() {
                return Err(AccessError::NotFound(format!(
                    "There is no repository {address} for this access token: it is good for \
                     another repository only. Use a token without --repo, or your password."
                )));
            }
            if token.scope < Scope::Write {
                return Err(AccessError::Forbidden(scope_too_small(user, Right::Write)));
            }
        }
        Ok(PushTarget::Creatable(address.clone()))
    }

    /// Looks once more whether `user` may push to `repo`, which was opened for that a while ago: a push
    /// may take long, and rights that ended meanwhile do not count for it. Returns the repository with
    /// its rules for branches as they are now. A token that expires meanwhile stays good.
    ///
    /// # Errors
    /// See [`AccessError`]; the sentences say what changed.
    pub async fn open_again(&self, user: &SignedIn, repo: &Opened) -> Result<Opened, AccessError> {
        let forbidden = |sentence: String| Err(AccessError::Forbidden(sentence));
        let name = &user.name;
        let Some(now) = self.db.user_by_id(user.id).await? else {
            return forbidden(format!("the account {name} was removed while you were pushing"));
        };
        if now.is_disabled {
            return forbidden(format!(
                "the account {name} was disabled while you were pushing; ask the administrator of this server"
            ));
        }
        if let Some(token) = &user.token
            && self.db.is_token_revoked(token.id).await?
        {
            return forbidden("your access token was revoked while you were pushing".into());
        }
        let gone = || AccessError::NotFound("this repository was deleted while you were pushing".into());
        let row = self.db.repo_by_id(repo.id).await?.ok_or_else(gone)?;
        let caller = Caller::User(SignedIn {
            is_site_admin: now.is_site_admin,
            ..user.clone()
        });
        match self.look(&caller, &row.address, Right::Write).await? {
            Some(opened) if opened.id == repo.id => Ok(opened),
            Some(_) => Err(gone()),
            None => forbidden(format!("{} was closed to you while you were pushing", repo.address)),
        }
    }

    /// The answer for an address that is no address: as for a repository that is missing, with what
    /// is wrong about the name.
    pub fn bad_address(&self, caller: &Caller, error: &BadName) -> AccessError {
        missing(caller, || format!("There is no such repository: {error}."))
    }

    /// `None` if it is missing or hidden.
    async fn look(&self, caller: &Caller, address: &RepoAddress, right: Right) -> Result<Option<Opened>, AccessError> {
        let user = caller.signed_in();
        let found = self.found.find(address, user.map(|user| user.id)).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let question = Question {
            standing: standing(user, &found),
            visibility: found.repo.visibility,
            is_archived: found.repo.is_archived,
            right,
        };
        match (question.verdict(), user) {
            (Verdict::Allowed, _) => {}
            (Verdict::Hidden, _) => return Ok(None),
            (Verdict::SignInNeeded, _) | (Verdict::Refused(_), None) => {
                return Err(AccessError::SignInNeeded);
            }
            (Verdict::Refused(reason), Some(user)) => {
                return Err(AccessError::Forbidden(refusal(
                    reason,
                    user,
                    &found.repo.address,
                    right,
                )));
            }
        }
        let protected = if right == Right::Read {
            Vec::new()
        } else {
            self.db.protected_branches(found.repo.id).await?
        };
        let is_site_admin = user.is_some_and(|user| user.is_site_admin);
        Ok(Some(Opened::new(found, is_site_admin, &self.repos_dir, protected)))
    }

    /// What somebody reads who looks for what is missing or hidden. In one's own space nothing is
    /// hidden, except from a token for one repository.
    fn not_found(&self, caller: &Caller, address: &RepoAddress) -> String {
        let owner = &address.owner;
        let is_own =
            |user: &SignedIn| user.name == *owner && user.token.as_ref().is_none_or(|token| token.repo.is_none());
        if !caller.signed_in().is_some_and(is_own) {
            return format!(
                "There is no repository {address} here that you can see. Check the address, or ask {owner} for access."
            );
        }
        let name = &address.name;
        if self.create_on_push {
            format!(
                "You have no repository {name}. Check the name, or make it with a push: git push {}/{address}.git main",
                self.base_url
            )
        } else {
            format!(
                "You have no repository {name}. Check the name, or ask the administrator of this server to run: auxin repo create {address}"
            )
        }
    }

    /// What to do instead of a push that finds nothing and may create nothing.
    fn way_out(&self, user: &SignedIn, address: &RepoAddress) -> String {
        let (owner, name) = (&address.owner, &address.name);
        if user.name == *owner {
            return format!(
                "There is no repository {address} here, and pushing creates none on this server \
                 (setting repo.create_on_push). Ask the administrator of this server to run: auxin repo create {address}"
            );
        }
        let ask = format!(
            "ask {owner} and the administrator of this server for the repository and the right to push (auxin repo create {address})"
        );
        if self.create_on_push {
            format!(
                "There is no repository {address} here that you can see. Pushing creates \
                 repositories only in your own space: git push {}/{}/{name}.git main. Or {ask}.",
                self.base_url, user.name
            )
        } else {
            format!("There is no repository {address} here that you can see. Check the address, or {ask}.")
        }
    }
}

fn standing(user: Option<&SignedIn>, found: &FoundRepo) -> Standing {
    match user {
        None => Standing::Anonymous,
        Some(user) => Standing::SignedIn {
            role: found.role,
            is_site_admin: user.is_site_admin,
            token: user.token.as_ref().map(|token| TokenLimit {
                scope: token.scope,
                is_for_another: token.repo.is_some_and(|repo| repo != found.repo.id),
            }),
        },
    }
}

/// A nameless caller is asked to sign in whether there is something or not: a client that has a
/// password sends it only when asked, and a stranger learns nothing.
fn missing(caller: &Caller, sentence: impl FnOnce() -> String) -> AccessError {
    match caller {
        Caller::Anonymous => AccessError::SignInNeeded,
        Caller::User(_) => AccessError::NotFound(sentence()),
    }
}

fn refusal(reason: Reason, user: &SignedIn, address: &RepoAddress, right: Right) -> String {
    let owner = &address.owner;
    match (reason, right) {
        (Reason::Role, Right::Read | Right::Write) => format!(
            "You may read {address} but not push to it. If {owner} agrees, ask the administrator of this server to run: auxin member add {address} {} write",
            user.name
        ),
        (Reason::Role, Right::Admin) => format!(
            "You may not manage {address}. If {owner} agrees, ask the administrator of this server to run: auxin member add {address} {} admin",
            user.name
        ),
        (Reason::Role, Right::Own) => {
            format!("Only its owner can do this with {address}. Ask {owner}.")
        }
        (Reason::Archived, _) => format!(
            "{address} is archived: it can be read, but nobody can push to it. Push to another \
             repository, or ask {owner} and the administrator of this server to run: auxin repo unarchive {address}"
        ),
        (Reason::Scope, right) => scope_too_small(user, right),
        (Reason::TokenForAnother, right) => format!(
            "Your access token is good for another repository only. Use your password, or ask the administrator of \
             this server for one for this: auxin token create {} --scope {} --repo {address}",
            user.name,
            least_scope(right)
        ),
    }
}

fn scope_too_small(user: &SignedIn, right: Right) -> String {
    let has = user.token.as_ref().map_or(Scope::Admin, |token| token.scope);
    let what = match right {
        Right::Read => "reading",
        Right::Write => "pushing",
        Right::Admin | Right::Own => "managing repositories",
    };
    format!(
        "Your access token has the scope {has}, which does not allow {what}. Use your password, or \
         ask the administrator of this server for one that does: auxin token create {} --scope {}",
        user.name,
        least_scope(right)
    )
}

#[cfg(test)]
mod tests;
