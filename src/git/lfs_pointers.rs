//! Git LFS pointers that a push brings: gathered while its pack is in memory, and the paths they lie at.
//!
//! A pointer counts where the `.gitattributes` of a new commit give its path `filter=lfs`; the same text
//! elsewhere is an ordinary file.

use std::collections::{BTreeSet, HashMap, HashSet};

use bstr::{BStr, BString, ByteSlice as _};
use gix::ObjectId;
use lfs_protocol::{Oid, Pointer};

use super::attributes::{self, Attributes, entry_at, is_file};
use super::index_pack::{SEEN_BLOB_MAX_BYTES, Visitor};
use super::object_store::{ObjectKind, ObjectStore, StoreError};
use super::push_changes::{Change, ChangeLimits, ChangeVisitor, NewCommit, PushChanges, PushChangesError};
use super::ref_transaction::RefUpdate;
use super::snapshot::Snapshot;
use super::work::Tick;

/// Most pointers that one push may bring; each takes about a hundred bytes of memory.
pub const MAX_POINTERS: usize = 1 << 20;
/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 8 << 20;
/// How much is looked at to find the paths.
const LIMITS: ChangeLimits = ChangeLimits {
    max_commits: 1 << 20,
    max_paths: 1 << 26,
};
/// The filter whose files are pointers.
const FILTER: &[u8] = b"lfs";

const _: () = assert!(lfs_protocol::MAX_POINTER_BYTES as u64 <= SEEN_BLOB_MAX_BYTES);

/// Canonical pointers among the objects of a pack, by their blobs. The empty file, which is its own pointer,
/// is left out.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    found: HashMap<ObjectId, Oid>,
    are_too_many: bool,
}

impl Pointers {
    /// Blobs and the large files they stand for.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, &Oid)> {
        self.found.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether there are more than [`MAX_POINTERS`], and some are left out.
    pub fn are_too_many(&self) -> bool {
        self.are_too_many
    }

    fn add(&mut self, blob: ObjectId, oid: Oid) {
        if self.found.len() < MAX_POINTERS {
            self.found.insert(blob, oid);
        } else {
            self.are_too_many |= !self.found.contains_key(&blob);
        }
    }
}

impl Visitor for Pointers {
    fn visit(&mut self, _: &ObjectId, _: ObjectKind, _: &[u8]) {}

    fn visit_small_blob(&mut self, id: &ObjectId, data: &[u8]) {
        match Pointer::parse(data) {
            Ok(parsed) if parsed.canonical && parsed.pointer.size_bytes > 0 => self.add(*id, parsed.pointer.oid),
            _ => {}
        }
    }

    fn split(&self) -> Self {
        Self::default()
    }

    fn join(&mut self, other: Self) {
        self.are_too_many |= other.are_too_many;
        for (blob, oid) in other.found {
            self.add(blob, oid);
        }
    }
}

/// Where new commits need large files that are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfilled {
    /// Paths of all new commits together.
    pub paths: BTreeSet<BString>,
    /// For each update whether it leads to such a commit.
    pub updates: Vec<bool>,
}

/// Finds where new commits have one of the pointers `wanted`. `before` is the repository without the push,
/// `objects` holds what is there and what is pushed. A pointer that refs reached before is not new and does
/// not count.
///
/// # Errors
/// [`PushChangesError`]
pub fn unfilled(
    before: &Snapshot,
    objects: &ObjectStore,
    updates: &[RefUpdate],
    mut wanted: HashSet<ObjectId>,
    tick: Tick<'_>,
) -> Result<Unfilled, PushChangesError> {
    let older: Vec<ObjectId> = wanted
        .iter()
        .filter(|blob| before.objects.contains(blob))
        .copied()
        .collect();
    if !older.is_empty() {
        let is_reached = before.reachable(&older, &before.all_tips(), tick)?;
        for (blob, _) in older.iter().zip(is_reached).filter(|(_, is_reached)| *is_reached) {
            wanted.remove(blob);
        }
    }
    if wanted.is_empty() {
        return Ok(Unfilled {
            updates: vec![false; updates.len()],
            ..Unfilled::default()
        });
    }
    let mut changes = PushChanges::read(before, objects, updates, LIMITS, tick)?;
    let mut places = Places {
        wanted,
        found: Vec::new(),
        with_rules: HashMap::new(),
    };
    changes.visit(&mut places, tick)?;
    let merges = changes.commits().iter().filter(|commit| commit.parents.len() > 1);
    places.with_rules.extend(merges.map(|commit| (commit.id, commit.tree)));
    let (paths, commits) = places.filtered(objects, tick)?;
    let updates = changes.updates_with(updates, &commits)?;
    Ok(Unfilled { paths, updates })
}

/// A pointer at a path of a new commit.
struct Place {
    commit: ObjectId,
    root: ObjectId,
    path: BString,
    blob: ObjectId,
}

struct Places {
    wanted: HashSet<ObjectId>,
    found: Vec<Place>,
    /// Commits whose rules may differ from those of their parents, with their roots.
    with_rules: HashMap<ObjectId, ObjectId>,
}

impl ChangeVisitor for Places {
    fn change(&mut self, commit: &NewCommit, change: &Change<'_>) {
        if is_rule_file(change.path) {
            self.with_rules.insert(commit.id, commit.tree);
        }
        if let Some(new) = change.new
            && is_file(new.mode)
            && self.wanted.contains(&new.id)
        {
            self.found.push(Place {
                commit: commit.id,
                root: commit.tree,
                path: change.path.to_owned(),
                blob: new.id,
            });
        }
    }
}

fn is_rule_file(path: &BStr) -> bool {
    let name = path.rfind_byte(b'/').map_or(path, |slash| path[slash + 1..].as_bstr());
    name == attributes::FILE_NAME.as_bytes()
}

impl Places {
    /// The paths at which large files are, and the commits that have them there.
    fn filtered(
        &self,
        objects: &ObjectStore,
        tick: Tick<'_>,
    ) -> Result<(BTreeSet<BString>, HashSet<ObjectId>), PushChangesError> {
        let mut reader = objects.reader(CACHE_BYTES);
        let mut attributes = Attributes::default();
        let (mut paths, mut commits) = (BTreeSet::new(), HashSet::new());
        let mut is_large = |reader: &mut _, root: &ObjectId, path: &BStr| -> Result<bool, StoreError> {
            Ok(attributes
                .filter(reader, root, path)?
                .is_some_and(|filter| filter == FILTER))
        };
        let mut unruled = Vec::new();
        for place in &self.found {
            tick()?;
            if is_large(&mut reader, &place.root, place.path.as_bstr())? {
                paths.insert(place.path.clone());
                commits.insert(place.commit);
            } else {
                unruled.push(place);
            }
        }
        // A later commit may bring the rule without touching the file.
        if unruled.is_empty() {
            return Ok((paths, commits));
        }
        for (commit, root) in &self.with_rules {
            for place in &unruled {
                tick()?;
                let path = place.path.as_bstr();
                let is_there = entry_at(&mut reader, root, path)?.is_some_and(|(_, id)| id == place.blob);
                if is_there && is_large(&mut reader, root, path)? {
                    paths.insert(place.path.clone());
                    commits.insert(*commit);
                }
            }
        }
        Ok((paths, commits))
    }
}
