//! Whether one commit is in the history of another.

use std::collections::{BinaryHeap, HashSet};

use gix::ObjectId;

use super::commit_graph::LEVEL_MAX;
use super::object_store::ObjectStore;
use super::upload_pack::history::{History, HistoryError};
use super::work::Tick;

/// Whether moving a ref from `old` to `new` only adds: both are commits, and `old` is `new` or in its
/// history. Commits in `parentless` count as having no parents, as in git's `shallow` file.
///
/// The newest commits are looked at first, so that the usual answer, yes, is found after as many
/// commits as were added. No is found after the whole history, or with a commit-graph after the
/// commits whose level is higher than that of `old`: none of the others can have it as an ancestor.
///
/// # Errors
/// [`HistoryError`] if history is damaged or the work is stopped.
pub fn is_fast_forward(
    store: &ObjectStore,
    parentless: &[ObjectId],
    old: &ObjectId,
    new: &ObjectId,
    tick: Tick<'_>,
) -> Result<bool, HistoryError> {
    let mut history = History::new(store, parentless);
    let (Some((_, Some(old))), Some((_, Some(new)))) = (history.look_up(old)?, history.look_up(new)?) else {
        return Ok(false);
    };
    let old_level = history.level(old).filter(|level| *level < LEVEL_MAX);
    let mut seen = HashSet::from([new]);
    let mut next = BinaryHeap::from([(i64::MAX, new)]);
    while let Some((_, commit)) = next.pop() {
        if commit == old {
            return Ok(true);
        }
        for at in history.parents(commit, tick)? {
            let parent = history.parent(at);
            let is_too_low =
                parent != old && old_level.is_some_and(|old| history.level(parent).is_some_and(|level| level <= old));
            if !is_too_low && seen.insert(parent) {
                next.push((history.committed_at_secs(parent, tick)?, parent));
            }
        }
    }
    Ok(false)
}
