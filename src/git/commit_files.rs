//! The files of a commit, by path.

use std::collections::BTreeMap;

use bstr::{BStr, ByteSlice as _};
use gix::ObjectId;

use super::object_store::{ObjectKind, StoreError};
use super::snapshot::Snapshot;
use super::walk::{Tip, WalkError, Walker, tree_entries};
use super::work::Tick;

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 8 << 20;
/// Deepest folder that is read.
const MAX_DEPTH: usize = 64;
/// Longest name of a ref or commit that is looked up, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// The commit that a name stands for, among those that fetches may see: a branch, a tag, a full ref name, `HEAD`, or the
/// whole id of a commit. `None` if there is none.
///
/// # Errors
/// [`WalkError`]
pub fn commit_named(snapshot: &Snapshot, name: &str, tick: Tick<'_>) -> Result<Option<ObjectId>, WalkError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Ok(None);
    }
    let head = match (name, snapshot.refs.head()) {
        ("HEAD", super::refs::Head::Symbolic { branch, .. }) => Some(branch.to_string()),
        _ => None,
    };
    let names = [
        head.unwrap_or_else(|| name.to_owned()),
        format!("refs/heads/{name}"),
        format!("refs/tags/{name}"),
    ];
    let mut walker = Walker::new(&snapshot.objects, &snapshot.shallow, CACHE_BYTES);
    for full in names {
        let known = snapshot.refs.find(BStr::new(&full));
        let Some(target) = known
            .map(|known| known.target)
            .filter(|_| snapshot.is_visible(full.as_bytes()))
        else {
            continue;
        };
        return Ok(match walker.tip(&target, |_| {})? {
            Tip::Commit(position) => Some(snapshot.objects.id(position)),
            Tip::Tree(_) | Tip::Blob(_) => None,
        });
    }
    let is_id = name.len() == snapshot.hash().len_in_hex();
    let Some(id) = ObjectId::from_hex(name.as_bytes()).ok().filter(|_| is_id) else {
        return Ok(None);
    };
    let is_reached = snapshot.reachable_commits(&[id], &[], tick)? == [true];
    Ok(Some(id).filter(|_| is_reached))
}

/// The ordinary files of a commit with their blobs; links, other repositories and names that are not UTF-8 are left
/// out. At most `max_files`; `None` if there are more.
///
/// # Errors
/// [`WalkError`]
pub fn files(
    snapshot: &Snapshot,
    commit: &ObjectId,
    max_files: usize,
    tick: Tick<'_>,
) -> Result<Option<BTreeMap<String, ObjectId>>, WalkError> {
    let store = &snapshot.objects;
    let mut reader = store.reader(CACHE_BYTES);
    let position = store.position(commit).ok_or(WalkError::Missing(*commit))?;
    let info = reader.commit_at(position)?.ok_or(WalkError::Missing(*commit))?;
    let mut files = BTreeMap::new();
    let mut folders = vec![(info.tree, String::new(), 0)];
    let (mut entries, mut buffer) = (0_usize, Vec::new());
    while let Some((tree, folder, depth)) = folders.pop() {
        tick()?;
        let Some(object) = reader.read(&tree, &mut buffer)? else {
            return Err(WalkError::Missing(tree));
        };
        for entry in tree_entries(object.data, store.hash().len_in_bytes()).map_while(Result::ok) {
            entries += 1;
            if entries > max_files.saturating_mul(2) || files.len() > max_files {
                return Ok(None);
            }
            let Ok(name) = entry.name.to_str() else { continue };
            let path = match folder.as_str() {
                "" => name.to_owned(),
                folder => format!("{folder}/{name}"),
            };
            if entry.is_tree() && depth < MAX_DEPTH {
                folders.push((entry.id.to_owned(), path, depth + 1));
            } else if super::attributes::is_file(entry.mode) {
                files.insert(path, entry.id.to_owned());
            }
        }
    }
    Ok(Some(files).filter(|files| files.len() <= max_files))
}

/// Length of a blob in bytes; `None` if it is absent or no blob.
///
/// # Errors
/// [`StoreError`]
pub fn blob_bytes(snapshot: &Snapshot, blob: &ObjectId) -> Result<Option<u64>, StoreError> {
    let header = snapshot.objects.reader(0).header(blob)?;
    Ok(header.and_then(|(kind, bytes)| (kind == ObjectKind::Blob).then_some(bytes)))
}

/// A blob, whose length the caller has bounded; `None` if it is absent or no blob.
///
/// # Errors
/// [`StoreError`]
pub fn blob(snapshot: &Snapshot, blob: &ObjectId) -> Result<Option<Vec<u8>>, StoreError> {
    let mut buffer = Vec::new();
    let mut reader = snapshot.objects.reader(CACHE_BYTES);
    let object = reader.read(blob, &mut buffer)?;
    Ok(object
        .filter(|object| object.kind == ObjectKind::Blob)
        .map(|object| object.data.to_vec()))
}
