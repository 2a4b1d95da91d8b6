//! Lock files: git and this server keep out of each other's way by them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::git::durable::sync_file;

/// What a lock holds whose file gets its content from elsewhere.
pub(super) const LOCK_MARK: &[u8] = b"auxin\n";

/// What follows the name of a locked file in the names of our own files beside it.
const MARKED_INFIX: &str = ".auxin-";

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

    /// Takes the lock with a mark in it from its first moment on, so that a start can tell a lock that a
    /// dead process left from one that git holds ([`remove_marked`]).
    pub fn take_marked(target: &Path) -> io::Result<Self> {
        let path = lock_path(target);
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!("{MARKED_INFIX}{:016x}", rand::random::<u64>()));
        let marked = target.with_file_name(name);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&marked)?;
            file.write_all(LOCK_MARK)?;
            sync_file(&file)?;
            wait_for(|| std::fs::hard_link(&marked, &path))
        };
        let taken = write();
        // The lock is a second name of it; a start removes what stays.
        let _ = std::fs::remove_file(&marked);
        taken.map(|()| Self { path, is_held: true })
    }

    /// Takes the lock unless someone else has it.
    pub fn try_take(target: &Path, content: &[u8]) -> io::Result<Option<Self>> {
        let path = lock_path(target);
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let lock = Self { path, is_held: true };
        file.write_all(content)?;
        Ok(Some(lock))
    }

    fn take_with(target: &Path, content: &[u8], durable: bool) -> io::Result<Self> {
        let path = lock_path(target);
        let mut file = wait_for(|| OpenOptions::new().write(true).create_new(true).open(&path))?;
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

/// Tries `take` again for about a second while someone else holds the lock.
fn wait_for<T>(take: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match take() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && started.elapsed() < WAIT_FOR_LOCK => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            taken => return taken,
        }
    }
}

/// Puts `content` in the place of `target`, whose lock is held, durably but for the name.
pub(super) fn replace(target: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!("{MARKED_INFIX}new"));
    let staged = target.with_file_name(name);
    let mut file = File::create(&staged)?;
    file.write_all(content)?;
    sync_file(&file)?;
    std::fs::rename(&staged, target)
}

/// At start: removes the lock of `target` and what else of ours lies beside it, if a dead process of this
/// server left them. What git holds stays.
pub(super) fn remove_marked(target: &Path) {
    let lock = lock_path(target);
    if std::fs::read(&lock).is_ok_and(|content| content == LOCK_MARK) {
        let _ = std::fs::remove_file(&lock);
    }
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return;
    };
    let prefix = [name.as_encoded_bytes(), MARKED_INFIX.as_bytes()].concat();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(&prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
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
