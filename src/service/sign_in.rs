//! Signing in: from what a client sent to who it is.
//!
//! Everything that a right depends on (disabled, administrator, token revoked) is what the database
//! says at the time of the request, so a change made by any process counts at once. It is read again
//! only if anything was changed since, and the costly part, argon2, is skipped for a password that was
//! right a short while ago (module `sign_in_cache`). Expiry and throttling are checked at each request.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::accounts::Accounts;
use super::passwords::{HashError, PASSWORD_MAX_BYTES};
use super::secret::Secret;
use super::throttle::{AccountKind, Pair};
use super::token_secret::TokenSecret;
use crate::db::{ChangeStamp, DbError, Scope, UserRow};
use crate::ids::{RepoId, TokenId, UserId};
use crate::names::OwnerName;

/// What a client is asked to wait when too many passwords are being checked, in seconds.
const OVERRUN_WAIT_SECS: u64 = 2;

/// What a client sent to say who it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing.
    None,
    /// `Authorization: Basic`: a user name with its password; any user name, or none, with an access
    /// token as password; or an access token as user name with an empty password. What stands beside
    /// a token counts for nothing: programs put names of their own there.
    Basic {
        /// As it was sent, decoded.
        user: String,
        /// As it was sent, decoded.
        password: Secret,
    },
    /// `Authorization: Bearer`: an access token.
    Bearer(Secret),
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who did not say.
    Anonymous,
    /// A person, or a program with a person's token.
    User(SignedIn),
}

impl Caller {
    /// The person, if there is one.
    pub fn signed_in(&self) -> Option<&SignedIn> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(user),
        }
    }
}

/// A person who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Identity.
    pub id: UserId,
    /// Name.
    pub name: OwnerName,
    /// May do everything everywhere, as far as a token allows.
    pub is_site_admin: bool,
    /// The token that was used instead of the password.
    pub token: Option<TokenGrant>,
}

/// What an access token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// Identity.
    pub id: TokenId,
    /// How much of its owner's rights it carries.
    pub scope: Scope,
    /// The only repository it is good for.
    pub repo: Option<RepoId>,
}

/// Why nobody is signed in; each message is a sentence for the person at the client. All but
/// [`SignInError::Throttled`], [`SignInError::Overrun`] and [`SignInError::Failed`] are answered
/// with 401, so that the client forgets what it has stored.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// No such person, or another password; which of the two is not said.
    #[error("The user name or the password is wrong. Check both and try again.")]
    Wrong,
    /// Not a token of this server.
    #[error(
        "This access token is not known here. Check that it was copied whole, or ask the administrator of this server for a new one."
    )]
    WrongToken,
    /// The token has had its time.
    #[error("This access token expired on {}. Ask the administrator of this server for a new one (auxin token create {owner} --scope {scope}).", day(*.at_us))]
    TokenExpired {
        /// Whose it was.
        owner: OwnerName,
        /// What it allowed.
        scope: Scope,
        /// When, in microseconds since 1970.
        at_us: i64,
    },
    /// The token was revoked.
    #[error(
        "This access token was revoked. Ask the administrator of this server for a new one (auxin token create {owner} --scope {scope})."
    )]
    TokenRevoked {
        /// Whose it was.
        owner: OwnerName,
        /// What it allowed.
        scope: Scope,
    },
    /// The account is disabled. Only said to who has the right password or token.
    #[error("The account {0} is disabled. Ask the administrator of this server.")]
    Disabled(OwnerName),
    /// Too many failures of this account from this address.
    #[error("Too many failed sign-ins with this account from your address. Try again in {retry_after_secs} s.")]
    Throttled {
        /// When to try again, in seconds.
        retry_after_secs: u64,
    },
    /// Too many passwords are being checked at once.
    #[error("The server is checking many sign-ins. Try again in {retry_after_secs} s.")]
    Overrun {
        /// When to try again, in seconds.
        retry_after_secs: u64,
    },
    /// The server failed; never shown to a client.
    #[error("signing in failed: {0}")]
    Failed(String),
}

impl From<DbError> for SignInError {
    fn from(error: DbError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<HashError> for SignInError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overrun => Self::Overrun {
                retry_after_secs: OVERRUN_WAIT_SECS,
            },
            HashError::Failed(cause) => Self::Failed(cause),
        }
    }
}

fn day(at_us: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(at_us)
        .map(|time| time.format("%F").to_string())
        .unwrap_or_default()
}

impl Accounts {
    /// Finds out who is asking.
    ///
    /// `from` is the address of the client itself, behind whatever proxies are trusted: failures are
    /// counted for it and the account together.
    ///
    /// # Errors
    /// [`SignInError`]; see there for what to answer.
    pub async fn sign_in(&self, credentials: Credentials, from: IpAddr) -> Result<Caller, SignInError> {
        let signed_in = match credentials {
            Credentials::None => return Ok(Caller::Anonymous),
            Credentials::Bearer(secret) => {
                let token = TokenSecret::parse(secret.expose()).ok_or(SignInError::WrongToken)?;
                self.by_token(token, from).await?
            }
            Credentials::Basic { user, password } => {
                if let Some(token) = TokenSecret::parse(password.expose()) {
                    self.by_token(token, from).await?
                } else if password.expose().is_empty()
                    && let Some(token) = TokenSecret::parse(&user)
                {
                    self.by_token(token, from).await?
                } else {
                    self.by_password(&user, &password, from).await?
                }
            }
        };
        Ok(Caller::User(signed_in))
    }

    async fn by_password(&self, user: &str, password: &Secret, from: IpAddr) -> Result<SignedIn, SignInError> {
        let this = &*self.inner;
        if password.expose().len() > PASSWORD_MAX_BYTES {
            return Err(SignInError::Wrong); // nobody can have it
        }
        let pair = Pair::new(AccountKind::Name, user.to_ascii_lowercase().as_bytes(), from);
        // Before the memory of right passwords too, or guesses could be tried out on that.
        self.check_throttle(pair)?;
        let name = OwnerName::parse(user).ok();
        let stamp = self.stamp().await;
        if let Some(name) = &name
            && let Some(row) = this.cache.user(stamp, name)
            && this.cache.knows(&row, password)
        {
            this.throttle.succeeded(pair);
            return signed_in(row, None);
        }
        let row = match &name {
            Some(name) => this.db.user_with_password(name).await?,
            None => None,
        };
        let known =
            |row: &Option<(UserRow, String)>| row.as_ref().is_some_and(|(user, _)| this.cache.knows(user, password));
        if !known(&row) {
            let turn = this.passwords.turn(Some(from)).await?;
            // While this one waited, others of the same client may have been checked.
            self.check_throttle(pair)?;
            if !known(&row) {
                let hash = row.as_ref().map(|(_, hash)| hash.clone());
                if !this.passwords.verify(turn, password, hash).await? {
                    this.throttle.failed(pair);
                    return Err(SignInError::Wrong);
                }
                if let Some((user, _)) = &row {
                    this.cache.remember(user, password);
                }
            }
        }
        let (Some(name), Some((user, _))) = (name, row) else {
            return Err(SignInError::Wrong);
        };
        this.cache.keep_user(stamp, &name, &user);
        this.throttle.succeeded(pair);
        signed_in(user, None)
    }

    async fn by_token(&self, secret: TokenSecret, from: IpAddr) -> Result<SignedIn, SignInError> {
        let this = &*self.inner;
        let digest = secret.digest();
        let pair = Pair::new(AccountKind::Token, &digest, from);
        self.check_throttle(pair)?;
        let stamp = self.stamp().await;
        let (token, owner) = match this.cache.token(stamp, &digest) {
            Some(kept) => kept,
            None => {
                let Some(read) = this.db.token_by_secret(&digest).await? else {
                    this.throttle.failed(pair);
                    return Err(SignInError::WrongToken);
                };
                this.cache.keep_token(stamp, digest, &read);
                read
            }
        };
        // Who has a token that was good once guesses nothing, and is to hear what is wrong however often a
        // program tries.
        if token.revoked_at_us.is_some() {
            let (owner, scope) = (owner.name, token.scope);
            return Err(SignInError::TokenRevoked { owner, scope });
        }
        if let Some(at_us) = token.expires_at_us
            && at_us <= this.db.now_us()
        {
            let (owner, scope) = (owner.name, token.scope);
            return Err(SignInError::TokenExpired { owner, scope, at_us });
        }
        this.throttle.succeeded(pair);
        let grant = TokenGrant {
            id: token.id,
            scope: token.scope,
            repo: token.repo_id,
        };
        let signed_in = signed_in(owner, Some(grant))?;
        self.note_use(token.id, token.last_used_at_us);
        Ok(signed_in)
    }

    /// Under what rows are kept and found; to be taken before anything is read.
    async fn stamp(&self) -> Option<ChangeStamp> {
        #[cfg(test)]
        if let Some(stuck) = self.inner.stuck_stamp.get() {
            return Some(*stuck);
        }
        self.inner.db.change_stamp().await
    }

    fn check_throttle(&self, pair: Pair) -> Result<(), SignInError> {
        self.inner
            .throttle
            .check(pair)
            .map_err(|retry_after_secs| SignInError::Throttled { retry_after_secs })
    }

    /// Puts the note into the queue of writes unless one is fresh; the request does not wait for it.
    fn note_use(&self, token: TokenId, last_used_at_us: Option<i64>) {
        let this = &*self.inner;
        let every_us = i64::try_from(this.token_last_use_secs)
            .unwrap_or(i64::MAX)
            .saturating_mul(crate::db::US_PER_SEC);
        let now_us = this.db.now_us();
        let fresh = |at_us: Option<i64>| at_us.is_some_and(|at_us| now_us - at_us < every_us);
        // The row may lag behind the queue, so what was queued is remembered here too.
        if fresh(last_used_at_us) || fresh(this.recent_uses.get(&token)) {
            return;
        }
        this.recent_uses.insert(token, now_us);
        if let Err(error) = this.db.note_token_use(token, this.token_last_use_secs) {
            tracing::debug!(token.id = %token, %error, "The last use of a token was not noted");
        }
    }
}

fn signed_in(user: UserRow, token: Option<TokenGrant>) -> Result<SignedIn, SignInError> {
    if user.is_disabled {
        return Err(SignInError::Disabled(user.name));
    }
    Ok(SignedIn {
        id: user.id,
        name: user.name,
        is_site_admin: user.is_site_admin,
        token,
    })
}

#[cfg(test)]
mod tests;
