//! Whether a lock is taken on an old version: what its branch has had since.

use bstr::{BStr, ByteSlice as _};

use super::{fold, lies_in};
use crate::git::ObjectId;
use crate::git::push_changes::{Change, ChangeLimits, ChangeVisitor, NewCommit, PushChanges, PushChangesError};
use crate::git::refs::Head;
use crate::git::snapshot::Snapshot;
use crate::git::work::Tick;

/// How far a version is behind its branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// The branch, as a full ref name.
    pub branch: String,
    /// Commits that the branch has and the version has not.
    pub ahead: usize,
    /// Of these, those that change what is locked.
    pub changing: usize,
}

/// Counts commits that change what is locked.
struct Touching<'k> {
    covers_key: &'k str,
    is_touched: bool,
}

impl ChangeVisitor for Touching<'_> {
    fn enters(&mut self, folder: &BStr) -> bool {
        let key = fold(folder);
        lies_in(self.covers_key).any(|part| part == key) || lies_in(&key).any(|part| part == self.covers_key)
    }

    fn change(&mut self, _: &NewCommit, change: &Change<'_>) {
        self.is_touched |= lies_in(&fold(change.path)).any(|part| part == self.covers_key);
    }
}

/// How far `commit` is behind `branch`, or behind the default branch; nothing if that is not known here.
pub(super) fn behind(
    snapshot: &Snapshot,
    branch: Option<&str>,
    commit: &ObjectId,
    covers_key: &str,
    limits: ChangeLimits,
    tick: Tick<'_>,
) -> Result<Option<Behind>, PushChangesError> {
    let name = match (branch, snapshot.refs.head()) {
        (Some(branch), _) => branch.as_bytes().as_bstr().to_owned(),
        (None, Head::Symbolic { branch, .. }) => branch.clone(),
        (None, Head::Detached(_)) => return Ok(None),
    };
    let Some(tip) = snapshot.refs.find(name.as_bstr()).map(|known| known.target) else {
        return Ok(None);
    };
    let mut changes = PushChanges::read(snapshot, &snapshot.objects, &[], limits, tick)?;
    let is_known = snapshot.reachable_commits(&[*commit], &[], tick)?;
    if is_known != [true] {
        return Ok(None);
    }
    let commits = changes.commits_without(&tip, commit, tick)?;
    let mut changing = 0;
    for commit in &commits {
        let mut touching = Touching {
            covers_key,
            is_touched: false,
        };
        changes.visit_commit(commit, &mut touching, tick)?;
        changing += usize::from(touching.is_touched);
    }
    Ok(Some(Behind {
        branch: name.to_string(),
        ahead: commits.len(),
        changing,
    }))
}
