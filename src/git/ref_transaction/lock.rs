//! Lock files: git and this server keep out of each other's way by them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::git::durable::sync_file;

/// How long to wait for a lock that someone else holds.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(1);

/// First and longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A held lock; it is let go when dropped. Its file is not kept open: a push may lock thousands.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    is_held: bool,
}

impl Lock {
    /// Takes the lock of the file at `target`, waiting about a second for someone else, and writes
    /// `content` into it.
    pub fn take(target: &Path, content: &[u8]) -> io::Result<Self> {
        Self::take_with(target, content, false)
    }

    /// Takes the lock and brings what the file shall hold to the disk, for [`Lock::rename_to`].
    pub fn take_durably(target: &Path, content: &[u8]) -> io::Result<Self> {
        Self::take_with(target, content, true)
    }

    fn take_with(target: &Path, content: &[u8], durable: bool) -> io::Result<Self> {
        let path = lock_path(target);
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut file = loop {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && started.elapsed() < WAIT_FOR_LOCK => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        let lock = Self { path, is_held: true };
        file.write_all(content)?;
        if durable {
            sync_file(&file)?;
        }
        Ok(lock)
    }

    /// Puts the lock's content in the place of `target`, and so lets the lock go.
    pub fn rename_to(mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.is_held = false;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_held {
            // If this fails the next writer says that the lock is held, and by which file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Path of the lock of the file at `target`.
pub(super) fn lock_path(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}
