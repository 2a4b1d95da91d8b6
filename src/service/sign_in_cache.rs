//! What makes signing in cheap: that a password was right, for minutes, and what the database says
//! about people and tokens, until anything in it changes.
//!
//! **Passwords.** A request does not pay for argon2 again.
//! What is kept is HMAC-SHA-256 of person, account version and password under a key that is made at
//! the start of the process and never leaves it: not a password, and nothing that could be tried
//! out elsewhere. Any change of the account raises its version, and what was remembered before no longer
//! matches, whichever process made the change.
//!
//! **Rows.** They are kept with the [`ChangeStamp`] that was taken before they were read, and count
//! only while the database gives the same stamp: the very next request after a commit, also of another
//! process, reads afresh. So does every request when there is no stamp. Hashes of passwords are not
//! kept.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use moka::sync::Cache;
use sha2::Sha256;

use super::secret::Secret;
use crate::db::{ChangeStamp, Clock, TokenRow, US_PER_SEC, UserRow};
use crate::names::OwnerName;

/// Passwords remembered at once; the least used go first.
const REMEMBERED_MAX: u64 = 10_000;

/// People, and as many tokens, whose rows are kept; the least used go first.
const ROWS_MAX: u64 = 10_000;

/// The memory of right passwords and of rows.
pub(super) struct SignInCache {
    /// People by the key of their name.
    users: Cache<String, (ChangeStamp, UserRow)>,
    /// Tokens and their owners by the SHA-256 of the secret, as in the database.
    tokens: Cache<[u8; 32], (ChangeStamp, (TokenRow, UserRow))>,
    key: [u8; 32],
    /// Proof to the time when it stops counting, in microseconds since 1970.
    right: Cache<[u8; 32], i64>,
    lifetime_us: i64,
    clock: Clock,
}

impl SignInCache {
    /// Remembers for `lifetime_secs`; 0 remembers nothing.
    pub fn new(lifetime_secs: u64, clock: Clock) -> Self {
        let mut key = [0; 32];
        rand::fill(&mut key);
        let lifetime_us = i64::try_from(lifetime_secs)
            .unwrap_or(i64::MAX)
            .saturating_mul(US_PER_SEC);
        Self {
            users: Cache::new(ROWS_MAX),
            tokens: Cache::new(ROWS_MAX),
            key,
            right: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(Duration::from_secs(lifetime_secs.clamp(1, 24 * 3600)))
                .build(),
            lifetime_us,
            clock,
        }
    }

    /// Whether this password was right for this version of the account a short while ago.
    pub fn knows(&self, user: &UserRow, password: &Secret) -> bool {
        let proof = self.proof(user, password);
        self.right
            .get(&proof)
            .is_some_and(|until_us| self.clock.now_us() < until_us)
    }

    /// Remembers a password that was found right.
    pub fn remember(&self, user: &UserRow, password: &Secret) {
        if self.lifetime_us > 0 {
            let until_us = self.clock.now_us().saturating_add(self.lifetime_us);
            self.right.insert(self.proof(user, password), until_us);
        }
    }

    /// A person's row, if it was kept under this stamp.
    pub fn user(&self, stamp: Option<ChangeStamp>, name: &OwnerName) -> Option<UserRow> {
        let (kept, row) = self.users.get(&name.key())?;
        (Some(kept) == stamp).then_some(row)
    }

    /// Keeps a person's row, read under the name after the stamp was taken.
    pub fn keep_user(&self, stamp: Option<ChangeStamp>, name: &OwnerName, row: &UserRow) {
        if let Some(stamp) = stamp {
            self.users.insert(name.key(), (stamp, row.clone()));
        }
    }

    /// A token's row with its owner's, if they were kept under this stamp.
    pub fn token(&self, stamp: Option<ChangeStamp>, digest: &[u8; 32]) -> Option<(TokenRow, UserRow)> {
        let (kept, rows) = self.tokens.get(digest)?;
        (Some(kept) == stamp).then_some(rows)
    }

    /// Keeps a token's row with its owner's, read after the stamp was taken.
    pub fn keep_token(&self, stamp: Option<ChangeStamp>, digest: [u8; 32], rows: &(TokenRow, UserRow)) {
        if let Some(stamp) = stamp {
            self.tokens.insert(digest, (stamp, rows.clone()));
        }
    }

    fn proof(&self, user: &UserRow, password: &Secret) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        // Both fields before the password have a fixed length, so nothing can be shifted.
        mac.update(user.id.as_bytes());
        mac.update(&user.auth_version.to_be_bytes());
        mac.update(password.expose().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn anna() -> UserRow {
        UserRow {
            id: UserId::new(),
            name: "anna".parse().unwrap(),
            is_site_admin: false,
            is_disabled: false,
            auth_version: 1,
            created_at_us: 0,
        }
    }

    #[test]
    fn a_password_is_remembered_for_its_person_and_account_version_only() {
        let (clock, _) = Clock::manual(0);
        let cache = SignInCache::new(60, clock);
        let (anna, password) = (anna(), Secret::new("correct horse"));
        assert!(!cache.knows(&anna, &password));

        cache.remember(&anna, &password);

        assert!(cache.knows(&anna, &password));
        assert!(!cache.knows(&anna, &Secret::new("correct horsf")));
        let mut changed = anna.clone();
        changed.auth_version += 1;
        assert!(!cache.knows(&changed, &password));
        let mut other = anna;
        other.id = UserId::new();
        assert!(!cache.knows(&other, &password));
    }

    #[test]
    fn a_password_is_forgotten_in_time_and_never_kept_with_a_lifetime_of_zero() {
        let (clock, hands) = Clock::manual(0);
        let cache = SignInCache::new(60, clock.clone());
        let (anna, password) = (anna(), Secret::new("correct horse"));
        cache.remember(&anna, &password);
        hands.advance_secs(59);
        assert!(cache.knows(&anna, &password));
        hands.advance_secs(1);
        assert!(!cache.knows(&anna, &password));

        let cache = SignInCache::new(0, clock);
        cache.remember(&anna, &password);
        assert!(!cache.knows(&anna, &password));
    }

    #[test]
    fn another_process_has_another_key() {
        let (clock, _) = Clock::manual(0);
        let (anna, password) = (anna(), Secret::new("correct horse"));
        let one = SignInCache::new(60, clock.clone()).proof(&anna, &password);
        assert_ne!(one, SignInCache::new(60, clock).proof(&anna, &password));
    }
}
