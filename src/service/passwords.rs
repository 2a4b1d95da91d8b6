//! Hashing passwords: argon2id in the blocking pool, a bounded number at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::secret::Secret;
use super::transfer::CallerKey;
use super::transfer::pool::Callers;

/// Shortest password, in bytes.
pub const PASSWORD_MIN_BYTES: usize = 8;

/// Longest password, in bytes; a bound on what a stranger can make the server read.
pub const PASSWORD_MAX_BYTES: usize = 1024;

/// Memory of one hash, in KiB: 19 MiB, with two passes and one lane, as OWASP recommends.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Sign-ins that may wait for their turn to be hashed; with more the server is overrun.
const WAITING_MAX: usize = 1024;

/// Of these, how many may come from one address (of IPv6: the network of one subscriber). Whoever
/// makes up names is not slowed by failures; this keeps them from filling the queue, so that others
/// wait behind so many at most.
const WAITING_PER_ADDRESS_MAX: usize = 64;

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
    waiting_by_address: Arc<Callers<CallerKey>>,
}

impl Passwords {
    /// `parallelism` hashes run at once (at least one).
    pub fn new(parallelism: usize) -> Self {
        let parallelism = parallelism.max(1);
        Self {
            turns: Arc::new(Semaphore::new(parallelism)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            waiting_by_address: Arc::new(Callers::new(WAITING_PER_ADDRESS_MAX)),
        }
    }

    /// Waits for a turn, first come first served. `from` is the client's address; `None` for a
    /// command on this machine.
    ///
    /// # Errors
    /// [`HashError::Overrun`] at once if too many wait already, of all or of this address.
    pub async fn turn(&self, from: Option<IpAddr>) -> Result<Turn, HashError> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(Turn(turn));
        }
        let of_address = match from {
            Some(address) => {
                let place = self.waiting_by_address.admit(CallerKey::stranger(address));
                Some(place.ok_or(HashError::Overrun)?)
            }
            None => None,
        };
        let place = self
            .waiting
            .clone()
            .try_acquire_owned()
            .map_err(|_| HashError::Overrun)?;
        let turn = self.turns.clone().acquire_owned().await;
        drop((of_address, place));
        turn.map(Turn).map_err(|closed| HashError::Failed(closed.to_string()))
    }

    /// Hashes a password that a person chose, in a turn of its own.
    ///
    /// # Errors
    /// [`HashError`] if it could not be done.
    pub async fn hash(&self, password: &Secret) -> Result<String, HashError> {
        let turn = self.turn(None).await?;
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
        let turn = passwords.turn(None).await.unwrap();
        assert!(passwords.verify(turn, &password, Some(hash.clone())).await.unwrap());
        let turn = passwords.turn(None).await.unwrap();
        let wrong = Secret::new("incorrect horse");
        assert!(!passwords.verify(turn, &wrong, Some(hash)).await.unwrap());
        let turn = passwords.turn(None).await.unwrap();
        assert!(!passwords.verify(turn, &password, None).await.unwrap());
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// That many sign-ins from one address, which all wait.
    fn wait(passwords: &Passwords, from: IpAddr, count: usize) -> Vec<impl Future<Output = Result<Turn, HashError>>> {
        let mut waiting: Vec<_> = (0..count).map(|_| Box::pin(passwords.turn(Some(from)))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        waiting
    }

    fn is_turned_away(passwords: &Passwords, from: IpAddr) -> bool {
        let turn = passwords.turn(Some(from)).now_or_never();
        matches!(turn, Some(Err(HashError::Overrun)))
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_places_in_the_queue() {
        let passwords = Passwords::new(1);
        let held = passwords.turn(None).await.unwrap();
        let flood = wait(&passwords, ip("192.0.2.1"), WAITING_PER_ADDRESS_MAX);
        assert!(is_turned_away(&passwords, ip("192.0.2.1")));
        assert!(is_turned_away(&passwords, ip("::ffff:192.0.2.1")));
        let mut other = wait(&passwords, ip("192.0.2.2"), 1);
        let household = wait(&passwords, ip("2001:db8:1:2::1"), WAITING_PER_ADDRESS_MAX);
        assert!(is_turned_away(&passwords, ip("2001:db8:1:2:ffff::9")));
        assert!(!is_turned_away(&passwords, ip("2001:db8:1:3::1")));

        drop((flood, household, held));
        assert!(other.remove(0).await.is_ok());
        assert!(!is_turned_away(&passwords, ip("192.0.2.1")));
    }

    #[tokio::test]
    async fn more_waiting_sign_ins_than_the_limit_are_turned_away_at_once() {
        let passwords = Passwords::new(1);
        let held = passwords.turn(None).await.unwrap();
        let waiting: Vec<_> = (0..WAITING_MAX / WAITING_PER_ADDRESS_MAX)
            .map(|last| wait(&passwords, ip(&format!("192.0.2.{last}")), WAITING_PER_ADDRESS_MAX))
            .collect();
        assert!(is_turned_away(&passwords, ip("198.51.100.1")));
        drop(waiting);
        drop(held);
        assert!(passwords.turn(None).await.is_ok());
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
