//! Which unreachable objects have been so for long enough to go.
//!
//! An object's time begins when maintenance first finds that nothing reaches it, and begins anew when a
//! copy of it comes in; the time stands beside the pack of unreachable objects. What a younger
//! unreachable object names stays with it: somebody may still use that one.

use std::collections::HashMap;
use std::time::Duration;

use gix::ObjectId;

use super::MaintenanceError;
use super::cruft;
use super::order::{Absent, Collector};
use super::own::{Own, Role};
use super::survey::now_secs;
use crate::git::object_store::{ObjectKind, ObjectStore, Pos, StoreError, parse_tag_target};
use crate::git::snapshot::Snapshot;
use crate::git::walk::{Bits, WalkError, tree_entries};
use crate::git::work::Tick;

/// Memory for decoded delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// What becomes of unreachable objects.
pub(super) struct Judgement {
    /// Since when each one is unreachable, in seconds since 1970.
    pub times: HashMap<Pos, u32>,
    /// Some of them were not known to be unreachable before.
    pub has_new: bool,
    /// Those that go.
    pub doomed: Bits,
}

/// Decides about `unreachable`; with `grace` of `None` all of them stay. `collector` has found everything
/// that is reached.
///
/// # Errors
/// [`MaintenanceError`]
pub(super) fn judge(
    objects: &ObjectStore,
    own: &Own,
    unreachable: &Bits,
    collector: &mut Collector<'_>,
    grace: Option<Duration>,
    tick: Tick<'_>,
) -> Result<Judgement, MaintenanceError> {
    let now = u32::try_from(now_secs()).unwrap_or(u32::MAX);
    let mut elsewhere = own.objects_of(objects, |pack| pack.role == Role::Plain);
    own.add_loose(objects, &mut elsewhere);
    let mut times: HashMap<Pos, u32> = HashMap::new();
    for pack in own.packs.iter().filter(|pack| pack.role == Role::Unreachable) {
        match cruft::read(&objects.packs()[pack.number]) {
            Ok(read) => {
                for (id, time) in read {
                    if let Some(position) = objects.position(&id)
                        && unreachable.has(position)
                        && !elsewhere.has(position)
                    {
                        let known = times.entry(position).or_insert(time);
                        *known = time.min(now).max(*known);
                    }
                }
            }
            // Their time begins anew, which is the safe side.
            Err(error) => tracing::warn!(%error, "times of unreachable objects are lost"),
        }
    }
    let mut has_new = false;
    let mut doomed = Bits::new(objects.len());
    let mut young = Vec::new();
    for position in unreachable.range(0, objects.len()) {
        let time = *times.entry(position).or_insert_with(|| {
            has_new = true;
            now
        });
        let is_over = grace.is_some_and(|grace| u64::from(now.saturating_sub(time)) >= grace.as_secs());
        if is_over {
            doomed.set(position);
        } else {
            young.push(objects.id(position));
        }
    }
    if doomed.count() > 0 && !young.is_empty() {
        match collector.collect(&young, Absent::Skipped, tick) {
            Ok(rescued) => rescued.iter().for_each(|position| doomed.unset(position)),
            Err(WalkError::Stopped(stopped)) => return Err(stopped.into()),
            Err(error) => {
                tracing::warn!(%error, "unreachable objects cannot be walked; they all stay");
                doomed = Bits::new(objects.len());
            }
        }
    }
    Ok(Judgement { times, has_new, doomed })
}

/// What was reached, and what is to go, in an older view of the repository.
pub(super) struct Before<'b> {
    pub objects: &'b ObjectStore,
    pub reached: &'b Bits,
    pub doomed: &'b Bits,
    /// Ids from which that was found.
    pub tips: Vec<ObjectId>,
}

/// Whether refs that moved meanwhile, or what they name, lead to an object that is to go.
///
/// Only what is new is walked. To be called while no push can move a ref.
///
/// # Errors
/// [`MaintenanceError`]
pub(super) fn is_wanted_again(now: &Snapshot, before: &Before<'_>, tick: Tick<'_>) -> Result<bool, MaintenanceError> {
    let mut reader = now.objects.reader(CACHE_BYTES);
    let mut buffer = Vec::new();
    let mut seen = Bits::new(now.objects.len());
    let mut open: Vec<ObjectId> = now
        .all_tips()
        .into_iter()
        .filter(|tip| before.tips.binary_search(tip).is_err())
        .collect();
    while let Some(id) = open.pop() {
        tick()?;
        if let Some(position) = before.objects.position(&id) {
            if before.doomed.has(position) {
                return Ok(true);
            }
            if before.reached.has(position) {
                continue;
            }
        }
        let Some(position) = now.objects.position(&id) else {
            continue;
        };
        if !seen.set(position) {
            continue;
        }
        let object = reader.read_at(position, &mut buffer)?;
        match object.kind {
            ObjectKind::Blob => {}
            ObjectKind::Tag => open.extend(parse_tag_target(object.data).map(|(target, _)| target)),
            ObjectKind::Commit => {
                if let Some(commit) = reader.commit_at(position)? {
                    open.push(commit.tree);
                    open.extend(commit.parents);
                }
            }
            ObjectKind::Tree => {
                for entry in tree_entries(object.data, now.hash().len_in_bytes()) {
                    let entry = entry.map_err(|()| StoreError::damaged(id, "it is not a well-formed tree"))?;
                    if !entry.is_commit() {
                        open.push(entry.id.to_owned());
                    }
                }
            }
        }
    }
    Ok(false)
}
