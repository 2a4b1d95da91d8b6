//! One at a time: this server's maintenance, a command's, and `git gc`.
//!
//! Ours is a lock of the operating system. For stock git we also keep `gc.pid` as `git gc` does, so
//! that the one that comes second steps back. `git repack` asks for neither; it is put up with: what it
//! removes under our hands ends a step, which begins again with what is there then.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, test_kill_process};

use crate::git::work::{Stopped, Tick};

/// The file that is locked; it stays.
pub(in crate::git) const LOCK_FILE: &str = "auxin-maintenance.lock";
/// Git's file: `<process> <host>`.
const GC_PID: &str = "gc.pid";
/// From this age on git takes `gc.pid` for left behind.
const GC_PID_MAX_AGE: Duration = Duration::from_secs(12 * 3600);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a repository cannot be maintained now.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another maintenance of ours is at work.
    #[error("the repository is being maintained already; wait for that to end")]
    Busy,
    /// `git gc` is at work.
    #[error("git gc runs in this repository (process {pid}); wait for it to end")]
    StockGit {
        /// Its process.
        pid: u32,
    },
    /// A file could not be worked on.
    #[error("{}: cannot be locked", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The work was stopped while it waited.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// For so long a taken lock says nothing: a program that this process starts has it too, from its fork
/// until its exec.
const MOMENT: Duration = Duration::from_secs(1);

/// The right to maintain one repository.
#[derive(Debug)]
pub struct MaintenanceLock {
    #[allow(dead_code, reason = "held for its lock")]
    file: File,
    gc_pid: Option<PathBuf>,
}

impl MaintenanceLock {
    /// Takes it; with `wait` behind whoever of ours has it.
    ///
    /// # Errors
    /// [`LockError`]
    pub fn take(git_dir: &Path, wait: bool, tick: Tick<'_>) -> Result<Self, LockError> {
        let path = git_dir.join(LOCK_FILE);
        let fail = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if wait || began.elapsed() < MOMENT => {
                    tick()?;
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Busy),
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            }
        }
        let gc_pid = take_gc_pid(git_dir)?;
        Ok(Self { file, gc_pid })
    }
}

impl Drop for MaintenanceLock {
    fn drop(&mut self) {
        if let Some(path) = &self.gc_pid
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), %error, "a lock of git gc stays behind; git takes no notice of it once this process has ended");
        }
    }
}

/// Writes git's lock file; `None` where this host has no name to write into it.
fn take_gc_pid(git_dir: &Path) -> Result<Option<PathBuf>, LockError> {
    let Some(host) = host_name() else {
        return Ok(None);
    };
    let path = git_dir.join(GC_PID);
    if let Some(pid) = running_gc(&path, &host) {
        return Err(LockError::StockGit { pid });
    }
    // Not under git's lock of the file: one that a dead process leaves would stop git for good, while both
    // at once do no harm.
    fs::write(&path, format!("{} {host}", std::process::id())).map_err(|source| LockError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(Some(path))
}

/// The process of a `git gc` that is at work, by git's own rule.
fn running_gc(path: &Path, host: &str) -> Option<u32> {
    let content = fs::read_to_string(path).ok()?;
    let (pid, other_host) = content.trim_end().split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    let modified = fs::metadata(path).and_then(|data| data.modified()).ok()?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    let is_alive = || {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(error) if error == rustix::io::Errno::SRCH))
    };
    let is_running = age <= GC_PID_MAX_AGE && pid != std::process::id() && (other_host != host || is_alive());
    is_running.then_some(pid)
}

/// What git calls this machine.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(folder: &Path) -> Result<MaintenanceLock, LockError> {
        MaintenanceLock::take(folder, false, &mut || Ok(()))
    }

    #[test]
    fn of_two_at_once_the_second_is_told_to_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = take(folder.path()).expect("free");

        assert!(matches!(take(folder.path()), Err(LockError::Busy)));

        drop(first);
        take(folder.path()).expect("free again");
        assert!(!folder.path().join(GC_PID).exists());
    }

    #[test]
    fn a_git_gc_that_runs_is_respected_and_one_that_died_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = host_name().expect("this machine has a name");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        fs::write(folder.path().join(GC_PID), format!("{} {host}", child.id())).expect("writes");

        let refused = take(folder.path());

        assert!(matches!(refused, Err(LockError::StockGit { pid }) if pid == child.id()));
        child.kill().expect("ends");
        child.wait().expect("ended");
        take(folder.path()).expect("nobody is there");
    }
}
