//! Accounts: adding, changing and removing people. Signing in is in [`super::sign_in`].

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::passwords::{self, BadPassword, HashError, Passwords};
use super::secret::Secret;
use super::sign_in_cache::SignInCache;
use super::throttle::Throttle;
use crate::config::AuthSettings;
use crate::db::{By, Db, DbError, InsertUser, NewUser, RemoveUser, UserRow};
use crate::ids::TokenId;
use crate::names::{OwnerName, RepoAddress, RepoName};

/// Tokens whose recent use is remembered, so that it is not noted again.
const RECENT_USES_MAX: u64 = 10_000;

/// Why nothing was changed; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Somebody has the name.
    #[error("there is a user {0} already; choose another name")]
    NameTaken(OwnerName),
    /// Nobody has the name.
    #[error("there is no user {0}; `auxin user list` shows all")]
    NoUser(OwnerName),
    /// The password cannot be used.
    #[error(transparent)]
    BadPassword(#[from] BadPassword),
    /// A person who owns repositories cannot be removed without an heir.
    #[error(
        "{user} owns {total} repositories ({}{}); give them to somebody with --transfer-to NAME, or delete them first",
        join(.first), if (.first.len() as u64) < *.total { ", …" } else { "" }
    )]
    OwnsRepos {
        /// Who.
        user: OwnerName,
        /// The first of the repositories.
        first: Vec<RepoAddress>,
        /// How many there are.
        total: u64,
    },
    /// The heir has repositories of the same names.
    #[error("{heir} has repositories named {} too; rename or delete one of each first", join(.names))]
    NamesTaken {
        /// Who was to have them.
        heir: OwnerName,
        /// The names.
        names: Vec<RepoName>,
    },
    /// The heir is the person who is removed.
    #[error("{0} cannot take over from {0}; name somebody else after --transfer-to")]
    HeirIsSame(OwnerName),
    /// Hashing did not happen.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// Never shown to a client.
    #[error(transparent)]
    Db(#[from] DbError),
}

fn join<T: std::fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    texts.join(", ")
}

/// People and how they sign in. Cloning shares everything.
#[derive(Clone)]
pub struct Accounts {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub db: Db,
    pub passwords: Passwords,
    pub cache: SignInCache,
    pub throttle: Throttle,
    /// Tokens to the time when their use was last noted, in microseconds since 1970.
    pub recent_uses: Cache<TokenId, i64>,
    pub token_last_use_secs: u64,
    /// For the negative control of tests: a stamp that no commit changes.
    #[cfg(test)]
    pub stuck_stamp: std::sync::OnceLock<crate::db::ChangeStamp>,
}

impl Accounts {
    /// With the limits of `[auth]`; times come from the clock of `db`.
    pub fn new(db: Db, settings: &AuthSettings) -> Self {
        let clock = db.clock().clone();
        Self {
            inner: Arc::new(Inner {
                passwords: Passwords::new(settings.hash_parallelism),
                cache: SignInCache::new(settings.password_cache_secs, clock.clone()),
                throttle: Throttle::new(settings, clock),
                recent_uses: Cache::builder()
                    .max_capacity(RECENT_USES_MAX)
                    .time_to_live(Duration::from_secs(settings.token_last_use_secs.clamp(1, 24 * 3600)))
                    .build(),
                token_last_use_secs: settings.token_last_use_secs,
                #[cfg(test)]
                stuck_stamp: std::sync::OnceLock::new(),
                db,
            }),
        }
    }

    /// Adds a person.
    ///
    /// # Errors
    /// [`AccountError::BadPassword`], [`AccountError::NameTaken`].
    pub async fn add(
        &self,
        name: OwnerName,
        password: &Secret,
        is_site_admin: bool,
        by: By,
    ) -> Result<UserRow, AccountError> {
        passwords::check(password)?;
        if self.inner.db.user_by_name(&name).await?.is_some() {
            return Err(AccountError::NameTaken(name)); // before the costly hash
        }
        let new = NewUser {
            name: name.clone(),
            password_hash: self.inner.passwords.hash(password).await?,
            is_site_admin,
        };
        match self.inner.db.insert_user(new, by).await? {
            InsertUser::Done(row) => Ok(row),
            InsertUser::NameTaken => Err(AccountError::NameTaken(name)),
        }
    }

    /// Finds a person.
    ///
    /// # Errors
    /// [`AccountError::NoUser`].
    pub async fn find(&self, name: &OwnerName) -> Result<UserRow, AccountError> {
        let row = self.inner.db.user_by_name(name).await?;
        row.ok_or_else(|| AccountError::NoUser(name.clone()))
    }

    /// People by name, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`AccountError::Db`].
    pub async fn list(&self, after: Option<&OwnerName>, limit: u32) -> Result<Vec<UserRow>, AccountError> {
        Ok(self.inner.db.list_users(after, limit).await?)
    }

    /// Whether there is anybody; `false` means a first start.
    ///
    /// # Errors
    /// [`AccountError::Db`].
    pub async fn any(&self) -> Result<bool, AccountError> {
        Ok(self.inner.db.has_users().await?)
    }

    /// Sets a password. What was remembered of the old one is void with the next request.
    ///
    /// # Errors
    /// [`AccountError::BadPassword`], [`AccountError::NoUser`].
    pub async fn passwd(&self, name: &OwnerName, password: &Secret, by: By) -> Result<(), AccountError> {
        passwords::check(password)?;
        let user = self.find(name).await?;
        let hash = self.inner.passwords.hash(password).await?;
        let done = self.inner.db.set_password(user.id, hash, by).await?;
        done.then_some(()).ok_or_else(|| AccountError::NoUser(name.clone()))
    }

    /// Lets a person sign in no longer, with password or token; they are out with their next request.
    ///
    /// # Errors
    /// [`AccountError::NoUser`].
    pub async fn disable(&self, name: &OwnerName, by: By) -> Result<(), AccountError> {
        self.set_disabled(name, true, by).await
    }

    /// Lets a person sign in again.
    ///
    /// # Errors
    /// [`AccountError::NoUser`].
    pub async fn enable(&self, name: &OwnerName, by: By) -> Result<(), AccountError> {
        self.set_disabled(name, false, by).await
    }

    async fn set_disabled(&self, name: &OwnerName, is_disabled: bool, by: By) -> Result<(), AccountError> {
        let user = self.find(name).await?;
        let done = self.inner.db.set_disabled(user.id, is_disabled, by).await?;
        done.then_some(()).ok_or_else(|| AccountError::NoUser(name.clone()))
    }

    /// Removes a person with their tokens and memberships, and returns how many repositories went to
    /// `transfer_to`. Those keep answering at their old addresses.
    ///
    /// # Errors
    /// [`AccountError::NoUser`] (also for the heir), [`AccountError::HeirIsSame`],
    /// [`AccountError::OwnsRepos`], [`AccountError::NamesTaken`].
    pub async fn remove(&self, name: &OwnerName, transfer_to: Option<&OwnerName>, by: By) -> Result<u64, AccountError> {
        let user = self.find(name).await?;
        let heir = match transfer_to {
            Some(heir) => Some(self.find(heir).await?),
            None => None,
        };
        if heir.as_ref().is_some_and(|heir| heir.id == user.id) {
            return Err(AccountError::HeirIsSame(user.name));
        }
        let heir_name = heir.as_ref().map_or(name, |heir| &heir.name).clone();
        let heir_id = heir.map(|heir| heir.id);
        match self.inner.db.remove_user(user.id, heir_id, by).await? {
            RemoveUser::Done { transferred } => Ok(transferred),
            RemoveUser::Gone => Err(AccountError::NoUser(user.name)),
            RemoveUser::HeirGone => Err(AccountError::NoUser(heir_name)),
            RemoveUser::OwnsRepos { first, total } => Err(AccountError::OwnsRepos {
                user: user.name,
                first,
                total,
            }),
            RemoveUser::NamesTaken(names) => Err(AccountError::NamesTaken { heir: heir_name, names }),
        }
    }
}
