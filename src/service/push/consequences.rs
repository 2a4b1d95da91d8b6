//! What follows from a push, run from its row.
//!
//! Each consequence runs after refs moved and before the row is closed. A row that a stop left open
//! is run again at the next start, so each runs **at least once** and must do no harm when it runs
//! twice. None of them may refuse anything: the push has happened.

use std::sync::{Mutex, PoisonError};

use bstr::{BString, ByteSlice as _};
use tokio::runtime::Handle;

use crate::db::{Db, RefChange};
use crate::git::ref_transaction;
use crate::git::refs::Head;
use crate::git::snapshot::Repository;
use crate::ids::{PushId, RepoId};

/// Branches that HEAD is to name, best first, when the one it names was not pushed.
const USUAL_BRANCHES: [&[u8]; 2] = [b"refs/heads/main", b"refs/heads/master"];
/// Held while HEAD of a new repository is decided, so that first pushes at once decide one by one.
static DECIDING: Mutex<()> = Mutex::new(());
/// Ref changes that one log line names.
const LOGGED_REFS_MAX: usize = 5;

/// A push whose refs have moved.
pub(super) struct Pushed<'a> {
    pub(super) handle: &'a Handle,
    pub(super) db: &'a Db,
    pub(super) id: PushId,
    pub(super) repo: RepoId,
    pub(super) repository: &'a Repository,
    /// Who pushed.
    pub(super) pusher: &'a str,
    /// The changes that were applied, in the order of the push.
    pub(super) applied: &'a [RefChange],
}

/// Why a consequence failed; for the log only.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One thing that follows from a push.
struct Consequence {
    name: &'static str,
    /// Returns sentences for the one who pushes.
    run: fn(&Pushed<'_>) -> Result<Vec<String>, Failure>,
}

/// Everything that follows, in this order.
const CONSEQUENCES: [Consequence; 3] = [
    Consequence {
        name: "locks",
        run: release_locks,
    },
    Consequence {
        name: "head",
        run: name_first_branch,
    },
    Consequence {
        name: "event",
        run: tell_log,
    },
];

/// Runs all consequences. Returns their sentences for the one who pushes; a failure goes to the log
/// and keeps none of the others from running.
pub(super) fn run(pushed: &Pushed<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for consequence in &CONSEQUENCES {
        match (consequence.run)(pushed) {
            Ok(mut said) => lines.append(&mut said),
            Err(error) => tracing::error!(push.id = %pushed.id, consequence = consequence.name,
                %error, "A consequence of a push failed"),
        }
    }
    lines
}

/// After the first push HEAD names a branch that is there: `main`, else `master`, else the first
/// one of the push.
///
/// A push is a first one as long as no row that is closed has left a branch. So of several at once
/// each counts as one, whatever the others have moved by now, and the first to get here decides.
fn name_first_branch(pushed: &Pushed<'_>) -> Result<Vec<String>, Failure> {
    let is_unborn = |head: &Head| matches!(head, Head::Symbolic { target: None, .. });
    if !is_unborn(pushed.repository.snapshot()?.refs.head()) {
        return Ok(Vec::new());
    }
    let _one_by_one = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
    let snapshot = pushed.repository.snapshot()?;
    let Head::Symbolic { branch, target: None } = snapshot.refs.head() else {
        return Ok(Vec::new());
    };
    let is_first_push = !pushed.handle.block_on(pushed.db.has_known_branch(pushed.repo))?;
    let exists = |name: &[u8]| snapshot.refs.find(name.as_bstr()).is_some();
    let chosen = USUAL_BRANCHES
        .into_iter()
        .chain(pushed.applied.iter().map(|change| change.name.as_slice()))
        .find(|name| name.starts_with(b"refs/heads/") && exists(name));
    let (true, Some(chosen)) = (is_first_push, chosen) else {
        return Ok(Vec::new());
    };
    ref_transaction::set_head(pushed.repository.path(), chosen.as_bstr())?;
    let short = |name: &[u8]| BString::from(name.strip_prefix(b"refs/heads/").unwrap_or(name));
    Ok(vec![format!(
        "The default branch is now {} (there is no {}).",
        short(chosen),
        short(branch)
    )])
}

/// The pusher's locks on what was pushed go, if the rules of the repository say so.
fn release_locks(pushed: &Pushed<'_>) -> Result<Vec<String>, Failure> {
    let moved = pushed.applied.iter().map(|change| change.name.clone()).collect();
    let released = pushed.db.release_pushed_locks(pushed.id, moved);
    let paths = pushed.handle.block_on(released)?;
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!("Released your locks on {}.", paths.join(", "))])
}

/// One line in the log for every push.
fn tell_log(pushed: &Pushed<'_>) -> Result<Vec<String>, Failure> {
    let count = pushed.applied.len();
    let mut names: Vec<String> = pushed
        .applied
        .iter()
        .take(LOGGED_REFS_MAX)
        .map(|change| change.name.as_bstr().to_string())
        .collect();
    if count > names.len() {
        names.push(format!("and {} more", count - names.len()));
    }
    tracing::info!(push.id = %pushed.id, repo.id = %pushed.repo, user = pushed.pusher, refs = count,
        "{} pushed {}", pushed.pusher, names.join(", "));
    Ok(Vec::new())
}
