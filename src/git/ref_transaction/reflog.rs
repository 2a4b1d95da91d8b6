//! Git's own reflogs, for repositories that ask for them.
//!
//! The server's record of who pushed what is the push row; these files are for people who use stock
//! git on the same disk, so they follow git: a log that exists is continued, a new one is begun only
//! where `core.logAllRefUpdates` says so. They are not synced to disk, as in git.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, ByteSlice};
use gix::ObjectId;

use crate::git::repo_config::LogRefUpdates;

/// Who a reflog says has moved a ref.
#[derive(Clone, Debug)]
pub struct ReflogIdentity {
    /// Name, such as `anna`.
    pub name: String,
    /// Mail address, such as `anna@http.203.0.113.7`.
    pub email: String,
    /// When, in seconds since 1970.
    pub at_secs: u64,
}

/// Adds one line to the log of `name`, if it has one or shall have one.
pub(super) fn append(
    git_dir: &Path,
    policy: Option<LogRefUpdates>,
    name: &BStr,
    old: &ObjectId,
    new: &ObjectId,
    who: &ReflogIdentity,
) -> io::Result<()> {
    let path = log_path(git_dir, name);
    let begins_new = match policy {
        Some(LogRefUpdates::Always) => true,
        Some(LogRefUpdates::Yes) => {
            name == "HEAD"
                || [&b"refs/heads/"[..], b"refs/remotes/", b"refs/notes/"]
                    .iter()
                    .any(|p| name.starts_with(p))
        }
        Some(LogRefUpdates::No) | None => false,
    };
    let Some(mut file) = open(&path, begins_new)? else {
        return Ok(());
    };
    let clean = |text: &str| text.replace(|c: char| c.is_control() || c == '<' || c == '>', "");
    let line = format!(
        "{old} {new} {} <{}> {} +0000\tpush\n",
        clean(&who.name),
        clean(&who.email),
        who.at_secs
    );
    file.write_all(line.as_bytes())
}

fn open(path: &Path, begins_new: bool) -> io::Result<Option<File>> {
    if begins_new && let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match OpenOptions::new().append(true).create(begins_new).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

/// Removes the log of a ref that is gone, and the folders that are empty then.
pub(super) fn remove(git_dir: &Path, name: &BStr) {
    let path = log_path(git_dir, name);
    if std::fs::remove_file(&path).is_ok() {
        super::files::remove_empty_folders(&git_dir.join("logs"), name);
    }
}

fn log_path(git_dir: &Path, name: &BStr) -> PathBuf {
    git_dir.join("logs").join(OsStr::from_bytes(name.as_bytes()))
}
