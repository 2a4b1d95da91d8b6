//! What refs reach, in the order in which it lies best in a pack.
//!
//! Commits newest first, so that history is read forwards; then tags, then trees, then blobs, each
//! as a walk from the newest commit comes to it: what belongs to one version lies together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use gix::ObjectId;

use crate::git::object_store::{CommitInfo, ObjectKind, ObjectStore, Pos, Reader, StoreError, parse_tag_target};
use crate::git::walk::{Bits, SeenCache, WalkError, tree_entries};
use crate::git::work::Tick;

/// Memory for decoded delta bases, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Objects between two calls of the tick.
const TICK_OBJECTS: u32 = 128;

/// Objects in the order of a pack.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    pub commits: Vec<Pos>,
    pub tags: Vec<Pos>,
    pub trees: Vec<Pos>,
    pub blobs: Vec<Pos>,
}

impl Ordered {
    /// All of them, as they follow each other in the pack.
    pub fn iter(&self) -> impl Iterator<Item = Pos> + '_ {
        let kinds = [&self.commits, &self.tags, &self.trees, &self.blobs];
        kinds.into_iter().flatten().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.commits.len() + self.tags.len() + self.trees.len() + self.blobs.len()
    }

    /// Puts what another walk found behind.
    pub fn append(&mut self, other: Self) {
        self.commits.extend(other.commits);
        self.tags.extend(other.tags);
        self.trees.extend(other.trees);
        self.blobs.extend(other.blobs);
    }

    /// Leaves only what `keep` holds.
    pub fn retain(&mut self, keep: &Bits) {
        for kind in [&mut self.commits, &mut self.tags, &mut self.trees, &mut self.blobs] {
            kind.retain(|position| keep.has(*position));
        }
    }
}

/// What happens where history names an object that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The walk ends: what is walked must be whole.
    Fails,
    /// It is passed over: nothing promises that what is walked is whole.
    Skipped,
}

/// Commits that wait for their turn, newest first.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<(i64, Reverse<u32>)>,
    commits: HashMap<u32, CommitInfo>,
}

impl Queue {
    fn push(&mut self, position: Pos, commit: CommitInfo) {
        self.heap.push((commit.committed_at_secs, Reverse(position.0)));
        self.commits.insert(position.0, commit);
    }

    fn pop(&mut self) -> Option<(Pos, CommitInfo)> {
        let (_, Reverse(number)) = self.heap.pop()?;
        self.commits.remove(&number).map(|commit| (Pos(number), commit))
    }
}

/// Walks from tips; what one walk found the next passes over.
pub(super) struct Collector<'s> {
    store: &'s ObjectStore,
    reader: Reader<'s>,
    seen: SeenCache,
    buffer: Vec<u8>,
    parentless: HashSet<ObjectId>,
    since_tick: u32,
    /// Everything that was found.
    pub found: Bits,
    /// Per position git's hash of the path a tree or blob was first found under; 0 for none.
    pub name_hashes: Vec<u32>,
}

impl<'s> Collector<'s> {
    /// Parents of the commits in `parentless` are not followed.
    pub fn new(store: &'s ObjectStore, parentless: &[ObjectId]) -> Self {
        Self {
            store,
            reader: store.reader(CACHE_BYTES),
            seen: SeenCache::new(store),
            buffer: Vec::new(),
            parentless: parentless.iter().copied().collect(),
            since_tick: 0,
            found: Bits::new(store.len()),
            name_hashes: vec![0; store.len() as usize],
        }
    }

    /// Everything that `tips` reach and that was not found before.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn collect(&mut self, tips: &[ObjectId], absent: Absent, tick: Tick<'_>) -> Result<Ordered, WalkError> {
        let mut out = Ordered::default();
        let mut queue = Queue::default();
        let mut trees = Vec::new();
        for tip in tips {
            self.start(tip, absent, &mut out, &mut queue, &mut trees)?;
        }
        let mut roots = Vec::new();
        while let Some((position, commit)) = queue.pop() {
            self.step(tick)?;
            out.commits.push(position);
            match self.store.position(&commit.tree) {
                Some(tree) if self.found.set(tree) => roots.push(tree),
                Some(_) => {}
                None if absent == Absent::Skipped => {}
                None => return Err(WalkError::Missing(commit.tree)),
            }
            if !self.parentless.is_empty() && self.parentless.contains(&self.store.id(position)) {
                continue;
            }
            for parent in &commit.parents {
                match self.store.position(parent) {
                    Some(parent) => self.enqueue(parent, &mut queue)?,
                    None if absent == Absent::Skipped => {}
                    None => return Err(WalkError::Missing(*parent)),
                }
            }
        }
        for root in roots.into_iter().chain(trees) {
            self.add_tree(root, absent, &mut out, tick)?;
        }
        Ok(out)
    }

    /// Takes a tip and its tags in.
    fn start(
        &mut self,
        tip: &ObjectId,
        absent: Absent,
        out: &mut Ordered,
        queue: &mut Queue,
        trees: &mut Vec<Pos>,
    ) -> Result<(), WalkError> {
        let mut id = *tip;
        loop {
            let Some(position) = self.store.position(&id) else {
                return if absent == Absent::Skipped {
                    Ok(())
                } else {
                    Err(WalkError::Missing(id))
                };
            };
            match self.reader.header_at(position)?.0 {
                ObjectKind::Commit => return Ok(self.enqueue(position, queue)?),
                ObjectKind::Tree => {
                    if self.found.set(position) {
                        trees.push(position);
                    }
                    return Ok(());
                }
                ObjectKind::Blob => {
                    if self.found.set(position) {
                        out.blobs.push(position);
                    }
                    return Ok(());
                }
                ObjectKind::Tag => {
                    if !self.found.set(position) {
                        return Ok(());
                    }
                    out.tags.push(position);
                    let tag = self.reader.read_at(position, &mut self.buffer)?;
                    id = parse_tag_target(tag.data)
                        .ok_or_else(|| StoreError::damaged(id, "it is not a well-formed tag"))?
                        .0;
                }
            }
        }
    }

    fn enqueue(&mut self, position: Pos, queue: &mut Queue) -> Result<(), StoreError> {
        if self.found.set(position) {
            let commit = self.reader.commit_at(position)?;
            let commit =
                commit.ok_or_else(|| StoreError::damaged(self.store.id(position), "a commit was expected here"))?;
            queue.push(position, commit);
        }
        Ok(())
    }

    /// Takes a tree in whose bit is set already, and all below it.
    fn add_tree(&mut self, root: Pos, absent: Absent, out: &mut Ordered, tick: Tick<'_>) -> Result<(), WalkError> {
        let hash_len = self.store.hash().len_in_bytes();
        let mut stack = vec![(root, 0_u32)];
        while let Some((position, path_hash)) = stack.pop() {
            self.step(tick)?;
            out.trees.push(position);
            self.name_hashes[position.0 as usize] = path_hash;
            let object = self.reader.read_at(position, &mut self.buffer)?;
            if object.kind != ObjectKind::Tree {
                return Err(StoreError::damaged(self.store.id(position), "a tree was expected here").into());
            }
            let first_below = stack.len();
            for entry in tree_entries(object.data, hash_len) {
                let entry =
                    entry.map_err(|()| StoreError::damaged(self.store.id(position), "it is not a well-formed tree"))?;
                if entry.is_commit() || self.seen.has(entry.id) {
                    continue;
                }
                let Some(child) = self.store.position(entry.id) else {
                    if absent == Absent::Skipped {
                        continue;
                    }
                    return Err(WalkError::Missing(entry.id.to_owned()));
                };
                self.seen.put(entry.id);
                if !self.found.set(child) {
                    continue;
                }
                let below = if position == root {
                    0
                } else {
                    name_hash(path_hash, b"/")
                };
                let hash = name_hash(below, entry.name);
                if entry.is_tree() {
                    stack.push((child, hash));
                } else {
                    self.name_hashes[child.0 as usize] = hash;
                    out.blobs.push(child);
                }
            }
            stack[first_below..].reverse();
        }
        Ok(())
    }

    fn step(&mut self, tick: &mut dyn FnMut() -> Result<(), crate::git::work::Stopped>) -> Result<(), WalkError> {
        self.since_tick += 1;
        if self.since_tick >= TICK_OBJECTS {
            self.since_tick = 0;
            tick()?;
        }
        Ok(())
    }
}

/// Git's hash of paths, which brings files with the same ending together; goes on from the hash of what
/// comes before (`pack_name_hash` of gitformat-bitmap's name-hash cache).
fn name_hash(before: u32, name: &[u8]) -> u32 {
    name.iter().fold(before, |hash, byte| {
        if byte.is_ascii_whitespace() || *byte == 0x0b {
            hash
        } else {
            (hash >> 2).wrapping_add(u32::from(*byte) << 24)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_path_can_be_made_piece_by_piece() {
        let whole = name_hash(0, b"Takes/01.wav");

        assert_eq!(name_hash(name_hash(name_hash(0, b"Takes"), b"/"), b"01.wav"), whole);
        assert_eq!(name_hash(0, b"a"), 0x6100_0000);
        assert_eq!(name_hash(0, b"ab"), 0x6200_0000 + 0x1840_0000);
    }
}
