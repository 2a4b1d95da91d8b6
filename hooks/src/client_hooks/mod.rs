//! Hooks of a musician's own repository: small scripts (`hooks/scripts`) that call `git auxin hook NAME`.
//!
//! ```text
//! install   puts the scripts in front of what is there, and takes them out again
//! times     after a checkout or merge: sound gets the time of the commit that last changed it
//! overview  before a commit: files of which only Logic's overview changed may stay out
//! push      before a push: what somebody else has locked is told before anything travels
//! sounds    sound hashes of large files that are here
//! ```

mod install;
mod overview;
mod push;
mod sounds;
mod times;

use std::io::Read as _;

pub use self::install::{Installed, State, install, uninstall};
use crate::git::{self, GitError};
use crate::locks::LockError;

/// The hooks, with their scripts.
pub const SCRIPTS: [(&str, &str); 4] = [
    ("post-checkout", include_str!("../../scripts/post-checkout")),
    ("post-merge", include_str!("../../scripts/post-merge")),
    ("pre-commit", include_str!("../../scripts/pre-commit")),
    ("pre-push", include_str!("../../scripts/pre-push")),
];
/// Longest list of refs that a push hands over, in bytes.
const MAX_REFS_BYTES: u64 = 16 << 20;

/// Gives all sound of the current version its time, as a checkout of all of it does.
///
/// # Errors
/// [`HookError`]
pub fn restore_times() -> Result<(), HookError> {
    if git::run(&["rev-parse", "--verify", "--quiet", "HEAD"])?
        .status
        .success()
    {
        times::restore("0", "HEAD")?;
    }
    Ok(())
}

/// Why a hook stops what Git is about to do, or cannot do its own part.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Git did not help.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The server did not help.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file or folder cannot be used.
    #[error("{0} cannot be used: {1}")]
    Io(String, std::io::Error),
    /// What to tell the person.
    #[error("{0}")]
    Stop(String),
}

/// Runs one hook with what Git passes to it; what to tell the person, line by line. `None`: there is no such hook.
///
/// # Errors
/// [`HookError`]: before a commit or push these do not go on.
pub fn run(name: &str, args: &[&str]) -> Option<Result<Vec<String>, HookError>> {
    Some(match (name, args) {
        ("post-checkout", [before, after, "1", ..]) => times::restore(before, after),
        // Single files.
        ("post-checkout", _) => Ok(Vec::new()),
        ("post-merge", _) => times::restore("ORIG_HEAD", "HEAD"),
        ("pre-commit", _) => overview::leave_out(),
        ("pre-push", [remote, url, ..]) => {
            let mut refs = String::new();
            let read = std::io::stdin().lock().take(MAX_REFS_BYTES).read_to_string(&mut refs);
            match read {
                Ok(_) => push::check(remote, url, &refs),
                Err(error) => Err(HookError::Io("standard input".to_owned(), error)),
            }
        }
        _ => return None,
    })
}

/// A change of a file between two versions, as `--raw -z` tells it.
struct Change {
    before: String,
    after: String,
    path: String,
}

/// Reads `:MODE MODE BLOB BLOB STATUS\0PATH\0…`.
fn changes(raw: &str) -> Vec<Change> {
    let mut fields = raw.split('\0');
    let mut changes = Vec::new();
    while let (Some(facts), Some(path)) = (fields.next(), fields.next()) {
        let mut words = facts.trim_start().split(' ').skip(2);
        if let (Some(before), Some(after)) = (words.next(), words.next()) {
            changes.push(Change {
                before: before.to_owned(),
                after: after.to_owned(),
                path: path.to_owned(),
            });
        }
    }
    changes
}

/// Whether an id stands for nothing.
fn is_null(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}
