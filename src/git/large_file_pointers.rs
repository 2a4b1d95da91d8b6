//! Git LFS pointers that history holds: which large files a repository needs, and where they lie.

use std::collections::HashSet;

use bstr::{BString, ByteSlice as _};
use gix::ObjectId;
use lfs_protocol::{MAX_POINTER_BYTES, Oid, Pointer};

use super::object_store::{ObjectKind, Pos};
use super::snapshot::Snapshot;
use super::walk::{Bits, Tip, WalkError, Walker, tree_entries};
use super::work::Tick;

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// Most entries of folders that are looked at to find paths.
const MAX_ENTRIES: usize = 1 << 22;

/// Passes on every pointer that `tips` reach, whatever its path and however it is written: name and size of the
/// large file. What `read_before` reaches may be left out. Tells how many commits were read.
///
/// # Errors
/// [`WalkError`] if history is damaged or the work is stopped.
pub fn pointers(
    snapshot: &Snapshot,
    tips: &[ObjectId],
    read_before: &[ObjectId],
    tick: Tick<'_>,
    each: &mut dyn FnMut(Oid, u64),
) -> Result<usize, WalkError> {
    let store = &snapshot.objects;
    let mut walker = Walker::new(store, &snapshot.shallow, CACHE_BYTES).without_bitmaps();
    let (mut found, mut without) = (Bits::new(store.len()), Bits::new(store.len()));
    let (mut wants, mut haves, mut trees) = (Vec::new(), Vec::new(), Vec::new());
    for tip in tips {
        match walker.tip(tip, |_| {})? {
            Tip::Commit(position) => wants.push(position),
            Tip::Tree(position) => trees.push(store.id(position)),
            Tip::Blob(position) => {
                found.set(position);
            }
        }
    }
    for tip in read_before {
        if let Tip::Commit(position) = walker.tip(tip, |_| {})? {
            haves.push(position);
        }
    }
    let limited = walker.limit(&wants, &haves, tick)?;
    let nothing = Bits::new(store.len());
    for tree in &limited.edge_trees {
        walker.add_tree(tree, &mut without, &nothing, false, tick)?;
    }
    walker.forget_seen();
    trees.extend(limited.commits.iter().map(|(_, tree)| *tree));
    for tree in &trees {
        walker.add_tree(tree, &mut found, &without, true, tick)?;
    }
    let mut buffer = Vec::new();
    for position in found.range(0, store.len()) {
        tick()?;
        if let Some((oid, size_bytes)) = pointer_at(&mut walker, position, &mut buffer)? {
            each(oid, size_bytes);
        }
    }
    Ok(limited.commits.len())
}

/// Whether `tips` still reach all of `before`; absent ones are not reached.
///
/// # Errors
/// [`WalkError`]
pub fn reach_all(
    snapshot: &Snapshot,
    tips: &[ObjectId],
    before: &[ObjectId],
    tick: Tick<'_>,
) -> Result<bool, WalkError> {
    let store = &snapshot.objects;
    let mut walker = Walker::new(store, &snapshot.shallow, CACHE_BYTES);
    let (mut now, mut then) = (Vec::new(), Vec::new());
    for tip in tips {
        if let Tip::Commit(position) = walker.tip(tip, |_| {})? {
            now.push(position);
        }
    }
    for tip in before.iter().filter(|tip| !tips.contains(tip)) {
        if store.position(tip).is_none() {
            return Ok(false);
        }
        match walker.tip(tip, |_| {})? {
            Tip::Commit(position) => then.push(position),
            Tip::Tree(_) | Tip::Blob(_) => return Ok(false),
        }
    }
    Ok(walker.limit(&then, &now, tick)?.commits.is_empty())
}

/// Where the large files `wanted` lie in the commits that `tips` are, not in those before; not all if there are
/// very many paths.
///
/// # Errors
/// [`WalkError`]
pub fn paths(
    snapshot: &Snapshot,
    tips: &[ObjectId],
    wanted: &HashSet<Oid>,
    tick: Tick<'_>,
) -> Result<HashSet<(Oid, BString)>, WalkError> {
    let store = &snapshot.objects;
    let mut walker = Walker::new(store, &snapshot.shallow, CACHE_BYTES);
    let mut found = HashSet::new();
    let (mut entries, mut buffer) = (0, Vec::new());
    for tip in tips {
        let Tip::Commit(position) = walker.tip(tip, |_| {})? else {
            continue;
        };
        let Some(commit) = walker.reader().commit_at(position)? else {
            continue;
        };
        let mut folders = vec![(commit.tree, BString::default())];
        while let Some((tree, folder)) = folders.pop() {
            tick()?;
            let Some(object) = walker.reader().read(&tree, &mut buffer)? else {
                continue;
            };
            let mut files = Vec::new();
            for entry in tree_entries(object.data, store.hash().len_in_bytes()).flatten() {
                entries += 1;
                let mut path = folder.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.name.as_bytes());
                if entry.is_tree() {
                    folders.push((entry.id.to_owned(), path));
                } else if let Some(position) = store.position(entry.id) {
                    files.push((position, path));
                }
            }
            for (position, path) in files {
                match pointer_at(&mut walker, position, &mut buffer)? {
                    Some((oid, _)) if wanted.contains(&oid) => {
                        found.insert((oid, path));
                    }
                    _ => {}
                }
            }
            if entries > MAX_ENTRIES {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn pointer_at(walker: &mut Walker<'_>, position: Pos, buffer: &mut Vec<u8>) -> Result<Option<(Oid, u64)>, WalkError> {
    let (kind, bytes) = walker.reader().header_at(position)?;
    if kind != ObjectKind::Blob || bytes == 0 || bytes >= MAX_POINTER_BYTES as u64 {
        return Ok(None);
    }
    let object = walker.reader().read_at(position, buffer)?;
    let parsed = Pointer::parse(object.data).ok();
    Ok(parsed
        .filter(|parsed| parsed.pointer.size_bytes > 0)
        .map(|parsed| (parsed.pointer.oid, parsed.pointer.size_bytes)))
}
