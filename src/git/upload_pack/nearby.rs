//! What visible refs reach within a few steps.
//!
//! Whether an object may be had is certain only once everything that the refs reach is known, and
//! that is computed anew whenever a ref moves. Nearly all questions are about recent commits and
//! about files of a branch as it is now (a partial clone that checks out), and these are answered
//! here by looking at little. This only ever answers yes; for the rest the snapshot is asked.

use std::collections::{BinaryHeap, HashSet};

use gix::ObjectId;

use super::UploadError;
use super::history::{CommitNumber, History};
use crate::git::advertise::visible_head;
use crate::git::object_store::ObjectKind;
use crate::git::snapshot::Snapshot;
use crate::git::walk::{Bits, WalkError, Walker};
use crate::git::work::{Stopped, Tick};

/// Commits that are looked at from `HEAD` alone.
const MAX_HEAD_COMMITS: usize = 1024;
/// Refs up to which looking nearby is cheaper than walking everything.
const MAX_TIPS: usize = 16_384;
/// Commits that are looked at from all refs.
const MAX_COMMITS: usize = 8192;
/// Refs whose files are looked at.
const MAX_TREE_TIPS: usize = 256;
/// Calls of the tick after which no further branch's files are looked at.
const MAX_TREE_TICKS: u32 = 64;
/// Memory for decoded delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Takes recent commits that visible refs reach out of `open`.
///
/// # Errors
/// [`UploadError`] if history cannot be read.
pub fn remove_recent_commits(
    snapshot: &Snapshot,
    open: &mut HashSet<ObjectId>,
    tick: Tick<'_>,
) -> Result<(), UploadError> {
    let mut history = History::new(&snapshot.objects, &snapshot.shallow);
    let mut wanted: HashSet<CommitNumber> = HashSet::new();
    for id in open.iter() {
        if let Some((ObjectKind::Commit, Some(commit))) = history.look_up(id)? {
            wanted.insert(commit);
        }
    }
    let tips = tips(snapshot);
    let rounds = [(1, MAX_HEAD_COMMITS), (tips.len(), MAX_COMMITS)];
    for (tip_count, most) in rounds {
        if wanted.is_empty() || tip_count > MAX_TIPS {
            break;
        }
        let tips = &tips[..tip_count.min(tips.len())];
        let found = walk_newest(&mut history, tips, most, &mut wanted, tick)?;
        for commit in found {
            open.remove(&history.id(commit));
        }
    }
    Ok(())
}

/// Takes what it meets out of `wanted`, and gives it back.
fn walk_newest(
    history: &mut History<'_>,
    tips: &[ObjectId],
    most: usize,
    wanted: &mut HashSet<CommitNumber>,
    tick: Tick<'_>,
) -> Result<Vec<CommitNumber>, UploadError> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut queue = BinaryHeap::new();
    for tip in tips {
        if let Some(commit) = history.peeled(tip)?
            && seen.insert(commit)
        {
            queue.push((history.committed_at_secs(commit, tick)?, commit));
        }
    }
    for _ in 0..most {
        let Some((_, commit)) = queue.pop() else {
            break;
        };
        if wanted.remove(&commit) {
            found.push(commit);
            if wanted.is_empty() {
                break;
            }
        }
        for at in history.parents(commit, tick)? {
            let parent = history.parent(at);
            if seen.insert(parent) {
                queue.push((history.committed_at_secs(parent, tick)?, parent));
            }
        }
    }
    Ok(found)
}

/// Takes folders and files out of `open` that the newest commits of visible refs hold; `HEAD` first.
///
/// # Errors
/// [`UploadError`] if history cannot be read.
pub fn remove_present_files(
    snapshot: &Snapshot,
    open: &mut HashSet<ObjectId>,
    tick: Tick<'_>,
) -> Result<(), UploadError> {
    let store = &*snapshot.objects;
    walk_present_files(snapshot, tick, &mut |reached| {
        open.retain(|id| !store.position(id).is_some_and(|position| reached.has(position)));
        open.is_empty()
    })?;
    Ok(())
}

/// Folders and files that the newest commits of visible refs hold; `HEAD` first.
///
/// # Errors
/// [`WalkError`] if history cannot be read.
pub fn present_files(snapshot: &Snapshot, tick: Tick<'_>) -> Result<Bits, WalkError> {
    walk_present_files(snapshot, tick, &mut |_| false)
}

/// Ends when `is_enough` says so of what was found so far, or when it has cost enough.
fn walk_present_files(
    snapshot: &Snapshot,
    tick: Tick<'_>,
    is_enough: &mut dyn FnMut(&Bits) -> bool,
) -> Result<Bits, WalkError> {
    let store = &*snapshot.objects;
    let mut walker = Walker::new(store, &snapshot.shallow, CACHE_BYTES);
    let mut reached = Bits::new(store.len());
    let nothing = Bits::new(store.len());
    let mut ticks = 0;
    for tip in tips(snapshot).into_iter().take(MAX_TREE_TIPS) {
        if ticks > MAX_TREE_TICKS {
            break;
        }
        let Some((id, ObjectKind::Commit)) = walker.reader().peel(&tip)? else {
            continue;
        };
        let Some(commit) = walker.reader().commit(&id)? else {
            continue;
        };
        let mut counting = || -> Result<(), Stopped> {
            ticks += 1;
            tick()
        };
        walker.add_tree(&commit.tree, &mut reached, &nothing, false, &mut counting)?;
        if is_enough(&reached) {
            break;
        }
    }
    Ok(reached)
}

/// What visible refs name, tags followed, `HEAD` first.
fn tips(snapshot: &Snapshot) -> Vec<ObjectId> {
    let refs = snapshot.refs.all();
    let mut tips = Vec::with_capacity(refs.len() + 1);
    tips.extend(visible_head(snapshot).and_then(|head| head.target));
    for known in refs {
        if snapshot.is_visible(&known.name) {
            tips.push(known.peeled.unwrap_or(known.target));
        }
    }
    tips
}
