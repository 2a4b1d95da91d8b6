//! Keeps what a push relies on from being pruned.
//!
//! A push is found to be connected, and only later its refs name what it was found to be connected
//! to. An object that no ref reaches may be part of that, and must not go in between. So a push
//! holds this lock shared from before it looks at what is here until its refs have moved, and
//! pruning holds it alone from before it reads the refs for the last time until it is done. The lock
//! is one of the operating system, so it also stands between a command and the server, and is let go
//! whenever a process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::git::fault;
use crate::git::work::{Stopped, Tick};

/// The file that is locked; it stays and is always empty.
const LOCK_FILE: &str = "auxin-prune.lock";

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a push cannot be kept safe from pruning.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The lock cannot be used.
    #[error("the repository's lock against pruning cannot be taken")]
    Io(#[from] io::Error),
    /// The work was stopped while it waited.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// As long as this lives nothing is pruned.
#[derive(Debug)]
#[must_use = "what a push relies on is safe only as long as this lives"]
pub struct PushGuard(#[allow(dead_code, reason = "held for its lock")] Option<File>);

impl PushGuard {
    /// Takes it; waits while somebody prunes, which takes moments.
    ///
    /// # Errors
    /// [`GuardError`]
    pub fn take(git_dir: &Path, tick: Tick<'_>) -> Result<Self, GuardError> {
        if fault::is_on("no-guard") {
            return Ok(Self(None));
        }
        let file = open(git_dir)?;
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Self(Some(file))),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            tick()?;
            std::thread::sleep(PAUSE);
        }
    }
}

/// As long as this lives no push comes to rely on anything.
#[derive(Debug)]
#[must_use = "pushes are held off only as long as this lives"]
pub struct PruneGuard(#[allow(dead_code, reason = "held for its lock")] Option<File>);

impl PruneGuard {
    /// Takes it; `None` if pushes were in the way for as long as `patience`.
    ///
    /// # Errors
    /// [`GuardError`]
    pub fn take(git_dir: &Path, patience: Duration, tick: Tick<'_>) -> Result<Option<Self>, GuardError> {
        if fault::is_on("no-guard") {
            return Ok(Some(Self(None)));
        }
        let file = open(git_dir)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(Some(file)))),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            tick()?;
            std::thread::sleep(PAUSE);
        }
    }
}

fn open(git_dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(git_dir.join(LOCK_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Result<(), Stopped> {
        Ok(())
    }

    #[test]
    fn pushes_go_side_by_side_and_hold_pruning_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = PushGuard::take(folder.path(), &mut never).expect("free");
        let other = PushGuard::take(folder.path(), &mut never).expect("shared");

        let prune = |patience| PruneGuard::take(folder.path(), patience, &mut never).expect("no failure");
        assert!(prune(Duration::ZERO).is_none());
        drop(one);
        assert!(prune(Duration::ZERO).is_none());
        drop(other);
        assert!(prune(Duration::ZERO).is_some());
    }

    #[test]
    fn a_push_that_waits_for_pruning_can_be_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        let prune = PruneGuard::take(folder.path(), Duration::ZERO, &mut never).expect("no failure");

        let waited = PushGuard::take(folder.path(), &mut || Err(Stopped::Cancelled));

        assert!(matches!(waited, Err(GuardError::Stopped(Stopped::Cancelled))));
        drop(prune);
        drop(PushGuard::take(folder.path(), &mut never).expect("free"));
    }
}
