//! Hashing passwords: argon2id in the blocking pool, a bounded number at once.

use std::sync::Arc;
use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::secret::Secret;

/// Shortest password, in bytes.
pub const PASSWORD_MIN_BYTES: usize = 8;

/// Longest password, in bytes; a bound on what a stranger can make the server read.
pub const PASSWORD_MAX_BYTES: usize = 1024;

/// Memory of one hash, in KiB: 19 MiB, with two passes and one lane, as OWASP recommends.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Sign-ins that may wait for their turn to be hashed; with more the server is overrun.
const WAITING_MAX: usize = 256;

/// What is verified when there is no such person, so that they cost the same as a wrong password.
static NOBODY: OnceLock<String> = OnceLock::new();

/// A password that cannot be used; the message says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Too short.
    #[error("the password is too short: use at least {PASSWORD_MIN_BYTES} characters")]
    TooShort,
    /// Too long.
    #[error("the password is too long: use at most {PASSWORD_MAX_BYTES} bytes")]
    TooLong,
}

/// Hashing did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HashError {
    /// Too many wait already.
    #[error("too many sign-ins are waiting")]
    Overrun,
    /// The hash function or its thread failed.
    #[error("hashing a password failed: {0}")]
    Failed(String),
}

/// The turn to hash, one of `auth.hash_parallelism`.
pub(super) struct Turn(#[allow(dead_code)] OwnedSemaphorePermit);

/// Hashes and verifies passwords. Cloning shares the turns.
#[derive(Clone)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Passwords {
    /// `parallelism` hashes run at once (at least one).
    pub fn new(parallelism: usize) -> Self {
        let parallelism = parallelism.max(1);
        Self {
            turns: Arc::new(Semaphore::new(parallelism)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX + parallelism)),
        }
    }

    /// Waits for a turn, first come first served.
    ///
    /// # Errors
    /// [`HashError::Overrun`] at once if too many wait already.
    pub async fn turn(&self) -> Result<Turn, HashError> {
        let place = self
            .waiting
            .clone()
            .try_acquire_owned()
            .map_err(|_| HashError::Overrun)?;
        let turn = self.turns.clone().acquire_owned().await;
        drop(place);
        turn.map(Turn).map_err(|closed| HashError::Failed(closed.to_string()))
    }

    /// Hashes a password that a person chose, in a turn of its own.
    ///
    /// # Errors
    /// [`HashError`] if it could not be done.
    pub async fn hash(&self, password: &Secret) -> Result<String, HashError> {
        let turn = self.turn().await?;
        let password = password.clone();
        blocking(move || {
            let _turn = turn;
            hash_now(password.expose().as_bytes())
        })
        .await?
    }

    /// Whether `password` is the one behind `hash`. Without a hash the answer is no, at the same cost.
    /// The turn is given back when the work is over, even if the caller has gone.
    ///
    /// # Errors
    /// [`HashError`] if it could not be done.
    pub async fn verify(&self, turn: Turn, password: &Secret, hash: Option<String>) -> Result<bool, HashError> {
        let password = password.clone();
        blocking(move || {
            let _turn = turn;
            let password = password.expose().as_bytes();
            match hash {
                Some(hash) => verify_now(password, &hash),
                None => verify_now(password, nobody()?).map(|_| false),
            }
        })
        .await?
    }
}

/// Checks what a person chose.
///
/// # Errors
/// [`BadPassword`] with the rule that is broken.
pub(super) fn check(password: &Secret) -> Result<(), BadPassword> {
    let password = password.expose();
    if password.len() < PASSWORD_MIN_BYTES {
        return Err(BadPassword::TooShort);
    }
    if password.len() > PASSWORD_MAX_BYTES {
        return Err(BadPassword::TooLong);
    }
    Ok(())
}

fn nobody() -> Result<&'static str, HashError> {
    if let Some(hash) = NOBODY.get() {
        return Ok(hash);
    }
    let made = hash_now(Secret::random_password().expose().as_bytes())?;
    Ok(NOBODY.get_or_init(|| made))
}

fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(failed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &[u8]) -> Result<String, HashError> {
    let hash: PasswordHash = argon2()?.hash_password(password).map_err(failed)?;
    Ok(hash.to_string())
}

fn verify_now(password: &[u8], hash: &str) -> Result<bool, HashError> {
    let hash = PasswordHash::new(hash).map_err(failed)?;
    // The parameters are those in the hash, so that older hashes stay good when ours change.
    match argon2()?.verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: impl std::fmt::Display) -> HashError {
    HashError::Failed(error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_hash_is_argon2id_with_the_parameters_of_the_design_and_a_salt_of_its_own() {
        let passwords = Passwords::new(1);
        let password = Secret::new("correct horse");
        let hash = passwords.hash(&password).await.unwrap();

        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(&password).await.unwrap());
        let turn = passwords.turn().await.unwrap();
        assert!(passwords.verify(turn, &password, Some(hash.clone())).await.unwrap());
        let turn = passwords.turn().await.unwrap();
        let wrong = Secret::new("incorrect horse");
        assert!(!passwords.verify(turn, &wrong, Some(hash)).await.unwrap());
        let turn = passwords.turn().await.unwrap();
        assert!(!passwords.verify(turn, &password, None).await.unwrap());
    }

    #[tokio::test]
    async fn more_waiting_sign_ins_than_the_limit_are_turned_away_at_once() {
        let passwords = Passwords::new(1);
        let held = passwords.turn().await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX + 1).map(|_| Box::pin(passwords.turn())).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        assert!(matches!(passwords.turn().await, Err(HashError::Overrun)));
        drop(waiting);
        drop(held);
        assert!(passwords.turn().await.is_ok());
    }

    #[test]
    fn passwords_have_a_shortest_and_a_longest_length() {
        let of = |n: usize| Secret::new("x".repeat(n));
        assert_eq!(check(&of(PASSWORD_MIN_BYTES - 1)), Err(BadPassword::TooShort));
        assert_eq!(check(&of(PASSWORD_MIN_BYTES)), Ok(()));
        assert_eq!(check(&of(PASSWORD_MAX_BYTES)), Ok(()));
        assert_eq!(check(&of(PASSWORD_MAX_BYTES + 1)), Err(BadPassword::TooLong));
    }
}
