//! Locks: who works on what, so that two people do not lose each other's work.
//!
//! ```text
//! path     which paths are the same, and what a lock is about
//! mod      taking, listing, releasing
//! acts     what is done with a lock that is held; the rules of a repository
//! outdated whether a lock is taken on an old version
//! guard    what a push does to locked paths
//! ```
//!
//! A lock on a folder is about everything below it, and one on a song's `ProjectData` about its alternative.

mod acts;
mod guard;
mod outdated;
mod path;

use std::io::BufReader;
use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use self::acts::Taken;
pub(in crate::service) use self::guard::Guard;
pub use self::path::{LockPath, PATH_MAX_BYTES, fold, lies_in};
use super::access::Opened;
use super::rights::is_maintainer;
use super::sign_in::SignedIn;
use super::transfer::coding::{self, Exceeded};
use super::transfer::spool::Spool;
use super::transfer::{Incoming, Transfer, TransferError};
use crate::config::Settings;
use crate::db::{By, Db, DbError, LockFilter, LockRow, NewLock, Reach, ReleaseLock, TakeLock};
use crate::ids::LockId;

/// Longest request about locks, in bytes.
const REQUEST_MAX_BYTES: u64 = 64 << 10;
/// Longest name of a branch, in bytes.
const BRANCH_MAX_BYTES: usize = 1024;

/// Why a lock is not taken or released. The sentences are for the person at the client, except those of failures
/// of this server.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The request is not as the API wants it.
    #[error("{0}")]
    BadRequest(String),
    /// Somebody has it.
    #[error("{} has been locked by {} since {}.", .0.path, .0.holder_name, day_and_time(.0.locked_at_us))]
    Held(Box<LockRow>),
    /// There is no such lock.
    #[error("There is no lock {0} here; it may have been released.")]
    NoLock(String),
    /// The lock is somebody else's.
    #[error("{0}")]
    Foreign(String),
    /// It would be a lock on an old version.
    #[error("{0}")]
    Outdated(String),
    /// There is nothing to lock in.
    #[error("There is nothing to lock here yet: push first.")]
    NoRepo,
    /// The repository has as many locks as it may have.
    #[error("This repository has {0} locks, which is the limit (locks.max_per_repo). Release some first.")]
    Full(u32),
    /// The repository or the account went away meanwhile.
    #[error("The repository or your account was removed meanwhile.")]
    Gone,
    /// The body cannot be read.
    #[error(transparent)]
    Body(TransferError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A page of locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockPage {
    /// The locks, oldest first.
    pub locks: Vec<LockRow>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

/// Which locks are asked for, as text that nobody has looked at.
#[derive(Clone, Debug, Default)]
pub struct LockQuery {
    /// Of this path.
    pub path: Option<String>,
    /// With this identity.
    pub id: Option<String>,
    /// Good for this branch.
    pub branch: Option<String>,
    /// Where the page begins.
    pub cursor: Option<String>,
    /// Most locks in the page; 0 leaves it to the server.
    pub limit: Option<u64>,
}

/// What is to be locked.
#[derive(Clone, Debug, Default)]
pub struct LockWish {
    /// The file or folder.
    pub path: String,
    /// The branch that it is taken on.
    pub branch: Option<String>,
    /// What for.
    pub reason: Option<String>,
    /// On which machine the work is done.
    pub machine: Option<String>,
    /// It stays after a push of its path.
    pub is_kept: bool,
}

/// Takes, lists and releases locks. Cheap to clone.
#[derive(Clone)]
pub struct Locks {
    config: Arc<Settings>,
    db: Db,
    transfer: Transfer,
}

impl Locks {
    /// On the locks in `db`.
    pub fn new(config: Arc<Settings>, db: Db, transfer: Transfer) -> Self {
        Self { config, db, transfer }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`LockError::BadRequest`], [`LockError::Body`].
    pub async fn read_json<T: DeserializeOwned>(&self, incoming: Incoming) -> Result<T, LockError> {
        let (folder, silence) = (self.transfer.tmp_dir(), self.transfer.silence());
        let spool = Spool::read(incoming.body, folder, REQUEST_MAX_BYTES, silence).await;
        let spool = spool.map_err(LockError::Body)?;
        let exceeded = Exceeded::default();
        let body = coding::decoded(spool, incoming.coding, REQUEST_MAX_BYTES, &exceeded);
        serde_json::from_reader(BufReader::new(body)).map_err(|error| match exceeded.is_set() {
            true => LockError::Body(TransferError::TooLarge {
                max_bytes: REQUEST_MAX_BYTES,
            }),
            false => LockError::BadRequest(format!("This is no request about locks: {error}.")),
        })
    }

    /// Takes a lock for a person who may push.
    ///
    /// # Errors
    /// [`LockError::Held`] with the lock that is in the way, [`LockError::BadRequest`], [`LockError::Full`],
    /// [`LockError::Gone`].
    pub async fn take(&self, repo: &Opened, by: &SignedIn, wish: LockWish) -> Result<LockRow, LockError> {
        let path = LockPath::parse(&wish.path).map_err(LockError::BadRequest)?;
        let new = NewLock {
            repo: repo.id,
            lies_in: lies_in(&path.covers_key).map(str::to_owned).collect(),
            path: path.given,
            path_key: path.key,
            covers_key: path.covers_key,
            branch: branch(wish.branch)?,
            holder: by.id,
            holder_name: by.name.clone(),
            reason: wish.reason,
            machine: wish.machine,
            is_kept: wish.is_kept,
        };
        let max = self.config.locks.max_per_repo;
        match self.db.take_lock(new, max).await? {
            TakeLock::Taken(lock) => {
                tracing::info!(repository = %repo.address, user = %by.name, lock.id = %lock.id,
                    "{} locked {}", by.name, lock.path.escape_debug());
                Ok(lock)
            }
            TakeLock::Held(lock) => Err(LockError::Held(Box::new(lock))),
            TakeLock::Full => Err(LockError::Full(max)),
            TakeLock::Gone => Err(LockError::Gone),
        }
    }

    /// Lists locks.
    ///
    /// # Errors
    /// [`LockError::BadRequest`]
    pub async fn list(&self, repo: &Opened, query: LockQuery) -> Result<LockPage, LockError> {
        let mut filter = LockFilter {
            branch: branch(query.branch)?,
            after: cursor(query.cursor.as_deref())?,
            limit: self.page(query.limit),
            ..LockFilter::default()
        };
        let nothing = LockPage {
            locks: Vec::new(),
            next_cursor: None,
        };
        // What cannot be locked, or is no name of a lock, is not locked.
        if let Some(path) = query.path.filter(|path| !path.is_empty()) {
            match LockPath::parse(&path) {
                Ok(path) => filter.path_key = Some(path.key),
                Err(_) => return Ok(nothing),
            }
        }
        if let Some(id) = query.id.filter(|id| !id.is_empty()) {
            match id.parse() {
                Ok(id) => filter.id = Some(id),
                Err(_) => return Ok(nothing),
            }
        }
        let page = filter.limit;
        filter.limit += 1;
        let mut locks = self.db.list_locks(repo.id, &filter).await?;
        let has_more = locks.len() > page as usize;
        locks.truncate(page as usize);
        let last = locks.last().map(|lock| lock.seq.to_string());
        Ok(LockPage {
            locks,
            next_cursor: last.filter(|_| has_more),
        })
    }

    /// Releases a lock. With `force` also somebody else's, if it is stale or `by` is a maintainer.
    ///
    /// # Errors
    /// [`LockError::NoLock`], [`LockError::Foreign`].
    pub async fn release(&self, repo: &Opened, by: &SignedIn, id: &str, force: bool) -> Result<LockRow, LockError> {
        let no_lock = || LockError::NoLock(shown(id));
        let lock: LockId = id.parse().map_err(|_| no_lock())?;
        let reach = match (force, is_maintainer(repo.role, by)) {
            (false, _) => Reach::Own,
            (true, false) => Reach::Stale,
            (true, true) => Reach::All,
        };
        let actor = By::User(by.name.clone());
        match self.db.release_lock(repo.id, lock, by.id, reach, actor).await? {
            ReleaseLock::Released(lock) => {
                tracing::info!(repository = %repo.address, user = %by.name, lock.id = %lock.id,
                    "{} released {}", by.name, lock.path.escape_debug());
                Ok(lock)
            }
            ReleaseLock::Gone => Err(no_lock()),
            ReleaseLock::Foreign(lock) => Err(self.foreign(repo, &lock, force).await?),
        }
    }

    /// Says why somebody else's lock is not released.
    async fn foreign(&self, repo: &Opened, lock: &LockRow, force: bool) -> Result<LockError, DbError> {
        let rules = self.db.lock_rules(repo.id).await?;
        let held = LockError::Held(Box::new(lock.clone()));
        let what_now = match (force, rules.is_stale(lock, self.db.now_us())) {
            (false, true) => "Nobody has worked with it for a while: with --force you can release it.".to_owned(),
            (_, _) => format!(
                "Ask {} to release it. Maintainers can release it with --force at any time, everybody else who may \
                 push once it has been idle for {}.",
                lock.holder_name,
                span(rules.stale_after_secs)
            ),
        };
        Ok(LockError::Foreign(format!("{held} {what_now}")))
    }

    fn page(&self, limit: Option<u64>) -> u32 {
        let max = self.config.locks.max_page;
        match limit.unwrap_or(0) {
            0 => max,
            limit => u32::try_from(limit).unwrap_or(max).min(max),
        }
    }
}

/// A branch as a full ref name; nothing if none was named.
fn branch(text: Option<String>) -> Result<Option<String>, LockError> {
    let Some(name) = text.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name.len() > BRANCH_MAX_BYTES || name.contains('\0') {
        return Err(LockError::BadRequest(format!(
            "The name of a ref has at most {BRANCH_MAX_BYTES} bytes, such as refs/heads/main."
        )));
    }
    Ok(Some(match name.starts_with("refs/") {
        true => name,
        false => format!("refs/heads/{name}"),
    }))
}

fn cursor(text: Option<&str>) -> Result<i64, LockError> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(0),
        Some(text) => text
            .parse()
            .map_err(|_| LockError::BadRequest("A cursor is the next_cursor of an answer; begin without one.".into())),
    }
}

/// Text of a client, short enough to be repeated.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// A time as people write it, in UTC.
pub fn day_and_time(at_us: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(at_us) {
        Some(at) => at.format("%Y-%m-%d %H:%M UTC").to_string(),
        None => "an unknown time".into(),
    }
}

/// A length of time as people say it.
fn span(secs: u64) -> String {
    match (secs / 3600, secs / 60) {
        (0, 0) => format!("{secs} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, _) => format!("{hours} h"),
    }
}
