//! Folders of repositories: made aside and renamed into place, moved aside and removed.
//!
//! Everything stays below `repos/`, so that a rename never crosses file systems. Folders aside begin
//! with `.`, which no owner's name does.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::RepoError;
use crate::ids::RepoId;
use crate::names::RepoAddress;

/// A folder that is being made.
const NEW_MARK: &str = ".new-";

/// A folder that is being removed.
const TRASH_MARK: &str = ".trash-";

/// How old a folder that was never finished is when it is removed, in seconds: no import takes
/// longer, and another process may be at work on a younger one.
const NEW_KEPT_SECS: u64 = 7 * 24 * 3600;

/// Names tried for one folder: the plain one, and one that no other repository can have.
pub(super) fn dirs(address: &RepoAddress, id: RepoId) -> [String; 2] {
    let (owner, name) = (address.owner.key(), address.name.key());
    // the last 12 digits of an id are random, the first are its time
    let id = id.to_string();
    let ending = id.rsplit('-').next().unwrap_or(&id);
    [format!("{owner}/{name}.git"), format!("{owner}/{name}~{ending}.git")]
}

/// Where the folder of a new repository is made.
pub(super) fn aside(repos_dir: &Path, id: RepoId) -> PathBuf {
    repos_dir.join(format!("{NEW_MARK}{id}"))
}

/// Moves a finished folder to its place, durably. `false` if something is there already.
pub(super) fn put(from: &Path, repos_dir: &Path, dir: &str) -> io::Result<bool> {
    let target = repos_dir.join(dir);
    let parent = target.parent().unwrap_or(repos_dir).to_owned();
    if !parent.is_dir() {
        match fs::create_dir(&parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(repos_dir)?,
        }
    }
    if target.symlink_metadata().is_ok() {
        return Ok(false);
    }
    match fs::rename(from, &target) {
        // somebody put a folder there since we looked
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            return Ok(false);
        }
        other => other?,
    }
    sync_folder(&parent)?;
    if let Some(was_in) = from.parent() {
        sync_folder(was_in)?;
    }
    Ok(true)
}

/// Takes a folder out of the way at once and removes it. Fine if it is gone.
pub(super) fn remove(repos_dir: &Path, dir: &Path) -> io::Result<()> {
    let trash = repos_dir.join(format!("{TRASH_MARK}{}", RepoId::new()));
    match fs::rename(dir, &trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    if let Some(parent) = dir.parent() {
        sync_folder(parent)?;
        if parent != repos_dir {
            // the folder of an owner without repositories; kept if it is not empty
            let _ = fs::remove_dir(parent);
        }
    }
    fs::remove_dir_all(&trash)
}

/// Removes what interrupted work left behind: folders that were being removed, and folders that
/// were being made long ago. What cannot be removed is logged and stays. Returns how many.
pub(super) fn sweep(repos_dir: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(repos_dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_over = name.starts_with(TRASH_MARK) || (name.starts_with(NEW_MARK) && is_old(&entry));
        if !is_over {
            continue;
        }
        match fs::remove_dir_all(entry.path()) {
            Ok(()) => removed += 1,
            // A command that runs beside this start is removing it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %entry.path().display(), %error,
                    "What interrupted work left behind cannot be removed; the next start tries again");
            }
        }
    }
    Ok(removed)
}

/// Whether it was made long ago. Not, if that cannot be told: then it is gone already.
fn is_old(entry: &fs::DirEntry) -> bool {
    let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
        return false;
    };
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    age > Duration::from_secs(NEW_KEPT_SECS)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Runs work on the disk where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RepoError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|ended| Err(io::Error::other(ended)))
        .map_err(|cause| RepoError::Disk { doing, cause })
}
