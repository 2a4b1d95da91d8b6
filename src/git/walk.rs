//! Walking history: which objects are reached from where, as bitsets over positions.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use gix::hash::{ObjectId, oid};

use super::object_store::{ObjectKind, ObjectStore, Pos, Reader, StoreError, parse_tag_target};
use super::work::{Stopped, Tick};

mod reach;

pub use reach::{CoveredWalk, Reaching, Uncovered};

/// Objects between two calls of the tick.
const TICK_OBJECTS: u32 = 256;
/// So many bytes of a tree count as one more object.
pub(super) const TREE_BYTES_PER_STEP: usize = 512;
/// Slots of the table of ids seen lately. Trees name the same entries again and again; this table
/// keeps most of them from being looked up in the packs.
const SEEN_SLOTS: usize = 1 << 16;
/// Slots of that table at first: most walks are short.
const FEW_SEEN_SLOTS: usize = 1 << 10;
/// Commits looked at after everything left to walk is already had, as git does: commit dates may lie.
const SLOP: u32 = 5;

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// An object that history names is absent: the repository is incomplete.
    #[error("object {0} is missing; the repository is damaged, ask the administrator to run `auxin repo fsck`")]
    Missing(ObjectId),
    /// A stored object is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client went away or the budget is used up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A set of positions.
#[derive(Clone, Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// The empty set over `len` positions.
    pub fn new(len: u32) -> Self {
        Self(vec![0; (len as usize).div_ceil(64)])
    }

    /// Whether the position is in the set.
    pub fn has(&self, position: Pos) -> bool {
        self.0[position.0 as usize / 64] & (1 << (position.0 % 64)) != 0
    }

    /// Puts the position in; tells whether it is new.
    pub fn set(&mut self, position: Pos) -> bool {
        let word = &mut self.0[position.0 as usize / 64];
        let bit = 1 << (position.0 % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes the position out.
    pub fn unset(&mut self, position: Pos) {
        self.0[position.0 as usize / 64] &= !(1 << (position.0 % 64));
    }

    /// Memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }

    /// Number of positions in the set.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Takes everything in `other` out.
    pub fn remove(&mut self, other: &Self) {
        for (word, out) in self.0.iter_mut().zip(&other.0) {
            *word &= !out;
        }
    }

    /// Puts everything in `other` in.
    pub fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// The set as words: position 0 is the lowest bit of the first one. Bits beyond the last position
    /// must not be set.
    pub(in crate::git) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }

    /// Takes everything out that is not in `other`.
    pub fn keep(&mut self, other: &Self) {
        let kept = other.0.iter().copied().chain(std::iter::repeat(0));
        for (word, kept) in self.0.iter_mut().zip(kept) {
            *word &= kept;
        }
    }

    /// The words of the set.
    pub(in crate::git) fn into_words(self) -> Vec<u64> {
        self.0
    }

    /// The positions in the set from `start` to before `end`, in order.
    pub fn range(&self, start: u32, end: u32) -> impl Iterator<Item = Pos> + '_ {
        let mut next = start;
        std::iter::from_fn(move || {
            while next < end {
                let word = self.0[next as usize / 64] >> (next % 64);
                if word == 0 {
                    next = (next / 64 + 1) * 64;
                    continue;
                }
                let found = next + word.trailing_zeros();
                next = found + 1;
                return (found < end).then_some(Pos(found));
            }
            None
        })
    }
}

/// One entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// File mode as stored, such as 0o100644.
    pub mode: u32,
    /// Name within the folder.
    pub name: &'a [u8],
    /// What it names.
    pub id: &'a oid,
}

impl TreeEntry<'_> {
    /// A folder.
    pub fn is_tree(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// A commit of another repository (submodule), which this one does not hold.
    pub fn is_commit(&self) -> bool {
        self.mode & 0o170_000 == 0o160_000
    }
}

/// Entries of a tree's content; `Err(())` once where it is malformed.
pub fn tree_entries(mut data: &[u8], hash_len: usize) -> impl Iterator<Item = Result<TreeEntry<'_>, ()>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let mut mode = 0_u32;
        let mut at = 0;
        let entry = loop {
            match data.get(at) {
                Some(digit @ b'0'..=b'7') if at < 8 => mode = mode << 3 | u32::from(digit - b'0'),
                Some(b' ') if at > 0 => {
                    let rest = &data[at + 1..];
                    break bstr::ByteSlice::find_byte(rest, 0)
                        .filter(|len| rest.len() > len + hash_len)
                        .map(|len| {
                            (
                                &rest[..len],
                                &rest[len + 1..len + 1 + hash_len],
                                &rest[len + 1 + hash_len..],
                            )
                        });
                }
                _ => break None,
            }
            at += 1;
        };
        Some(match entry {
            Some((name, id, rest)) => {
                data = rest;
                Ok(TreeEntry {
                    mode,
                    name,
                    id: oid::from_bytes_unchecked(id),
                })
            }
            None => {
                data = &[];
                Err(())
            }
        })
    })
}

/// Ids whose object needs no further look, the latest one per slot.
pub(super) struct SeenCache {
    slots: Vec<ObjectId>,
    puts: usize,
}

impl SeenCache {
    pub(super) fn new(store: &ObjectStore) -> Self {
        Self {
            slots: vec![store.hash().null(); FEW_SEEN_SLOTS],
            puts: 0,
        }
    }

    fn slot(&self, id: &oid) -> usize {
        let bytes = id.as_bytes();
        usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) & (self.slots.len() - 1)
    }

    pub(super) fn has(&self, id: &oid) -> bool {
        self.slots[self.slot(id)].as_bytes() == id.as_bytes()
    }

    pub(super) fn put(&mut self, id: &oid) {
        self.puts += 1;
        if self.puts == FEW_SEEN_SLOTS {
            let null = self.slots[0].kind().null();
            let few = std::mem::replace(&mut self.slots, vec![null; SEEN_SLOTS]);
            for id in few.into_iter().filter(|id| !id.is_null()) {
                let slot = self.slot(&id);
                self.slots[slot] = id;
            }
        }
        let slot = self.slot(id);
        self.slots[slot] = id.to_owned();
    }

    fn clear(&mut self) {
        let null = self.slots[0].kind().null();
        self.slots.fill(null);
    }
}

/// What a commit walk found.
#[derive(Debug, Default)]
pub struct Limited {
    /// Commits that the wants reach and the haves do not, with their root trees.
    pub commits: Vec<(Pos, ObjectId)>,
    /// Root trees of commits at the border that the other side has.
    pub edge_trees: Vec<ObjectId>,
    /// Commits the other side has, as far as they were walked.
    pub had: Vec<Pos>,
}

/// What an id leads to after its tags.
pub enum Tip {
    /// A commit.
    Commit(Pos),
    /// A tree.
    Tree(Pos),
    /// A blob.
    Blob(Pos),
}

#[derive(Clone)]
struct Known {
    parents: Vec<u32>,
    tree: ObjectId,
    is_done: bool,
    is_had: bool,
}

/// Walks one store; holds the decoding state, so one per request.
pub struct Walker<'s> {
    store: &'s ObjectStore,
    reader: Reader<'s>,
    parentless: HashSet<ObjectId>,
    believes_bitmaps: bool,
    seen: SeenCache,
    buffer: Vec<u8>,
    since_tick: u32,
}

impl<'s> Walker<'s> {
    /// Parents of the commits in `parentless` are not followed.
    pub fn new(store: &'s ObjectStore, parentless: &[ObjectId], cache_bytes: usize) -> Self {
        Self {
            store,
            reader: store.reader(cache_bytes),
            parentless: parentless.iter().copied().collect(),
            believes_bitmaps: true,
            seen: SeenCache::new(store),
            buffer: Vec::new(),
            since_tick: 0,
        }
    }

    /// Reads every commit from its object, never from a commit-graph.
    #[must_use]
    pub fn without_graph(mut self) -> Self {
        self.reader = self.reader.without_graph();
        self
    }

    /// Does not follow the parents of these commits either.
    pub fn add_parentless(&mut self, commits: &[ObjectId]) {
        self.parentless.extend(commits);
    }

    /// Looks at every object itself: for checks, which must not believe what bitmaps say.
    #[must_use]
    pub fn without_bitmaps(mut self) -> Self {
        self.believes_bitmaps = false;
        self
    }

    /// The reader it decodes with.
    pub fn reader(&mut self) -> &mut Reader<'s> {
        &mut self.reader
    }

    /// Counts one object; calls the tick now and then.
    pub(super) fn step(&mut self, tick: &mut dyn FnMut() -> Result<(), Stopped>) -> Result<(), Stopped> {
        self.since_tick += 1;
        if self.since_tick >= TICK_OBJECTS {
            self.since_tick = 0;
            tick()?;
        }
        Ok(())
    }

    /// The kind of an object.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged.
    pub(super) fn kind(&mut self, position: Pos) -> Result<ObjectKind, StoreError> {
        match self.bitmaps().and_then(|bitmaps| bitmaps.kind(position)) {
            Some(kind) => Ok(kind),
            None => Ok(self.reader.header_at(position)?.0),
        }
    }

    /// Follows tags from `id`; each tag object on the way is passed to `on_tag`.
    ///
    /// # Errors
    /// [`WalkError::Missing`] if anything on the way is absent.
    pub fn tip(&mut self, id: &oid, mut on_tag: impl FnMut(Pos)) -> Result<Tip, WalkError> {
        let mut id = id.to_owned();
        loop {
            let position = self.store.position(&id).ok_or(WalkError::Missing(id))?;
            match self.kind(position)? {
                ObjectKind::Commit => return Ok(Tip::Commit(position)),
                ObjectKind::Tree => return Ok(Tip::Tree(position)),
                ObjectKind::Blob => return Ok(Tip::Blob(position)),
                ObjectKind::Tag => {
                    on_tag(position);
                    let tag = self.reader.read_at(position, &mut self.buffer)?;
                    id = parse_tag_target(tag.data)
                        .ok_or_else(|| StoreError::damaged(id, "it is not a well-formed tag"))?
                        .0;
                }
            }
        }
    }

    /// Puts the commits that `tips` reach into `bits`, and the tips themselves whatever they are.
    /// What is in the set already is not walked again.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn add_commits(&mut self, tips: &[ObjectId], bits: &mut Bits, tick: Tick<'_>) -> Result<(), WalkError> {
        self.add_commits_with(tips, bits, tick, &mut |_, _| {})
    }

    /// Like [`Walker::add_commits`]; each new commit is passed on with its root tree.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn add_commits_with(
        &mut self,
        tips: &[ObjectId],
        bits: &mut Bits,
        tick: Tick<'_>,
        on_commit: &mut dyn FnMut(Pos, ObjectId),
    ) -> Result<(), WalkError> {
        let mut stack = Vec::new();
        for tip in tips {
            match self.tip(tip, |tag| {
                bits.set(tag);
            })? {
                Tip::Commit(position) => {
                    if bits.set(position) {
                        stack.push(position);
                    }
                }
                Tip::Tree(position) | Tip::Blob(position) => {
                    bits.set(position);
                }
            }
            while let Some(position) = stack.pop() {
                self.step(tick)?;
                let commit = self
                    .reader
                    .commit_at(position)?
                    .ok_or_else(|| StoreError::damaged(self.store.id(position), "a parent is not a commit"))?;
                on_commit(position, commit.tree);
                if !self.parentless.is_empty() && self.parentless.contains(&self.store.id(position)) {
                    continue;
                }
                for parent in &commit.parents {
                    let parent = self.store.position(parent).ok_or(WalkError::Missing(*parent))?;
                    if bits.set(parent) {
                        stack.push(parent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts everything that `tips` reach into `bits`. The set must be closed already: what an
    /// object in it names is in it too.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn add_closure(&mut self, tips: &[ObjectId], bits: &mut Bits, tick: Tick<'_>) -> Result<(), WalkError> {
        if let Some(bitmaps) = self.bitmaps() {
            return self.add_closure_covered(bitmaps, tips, bits, tick);
        }
        let mut trees = Vec::new();
        for tip in tips {
            if let Tip::Tree(position) = self.tip(tip, |_| {})?
                && !bits.has(position)
            {
                trees.push(self.store.id(position));
            }
        }
        // A tree that a tip names outright must still be walked after the tip set its bit.
        let mut commits = bits.clone();
        self.add_commits_with(tips, &mut commits, tick, &mut |_, tree| trees.push(tree))?;
        let nothing = Bits::new(self.store.len());
        for tree in trees {
            self.add_tree(&tree, bits, &nothing, true, tick)?;
        }
        bits.add(&commits);
        Ok(())
    }

    /// Puts a tree and all below it into `bits`, except what is in `bits` or in `without` already.
    ///
    /// # Errors
    /// [`WalkError::Missing`] if something is absent and `must_exist`; else absent objects are passed over.
    pub fn add_tree(
        &mut self,
        tree: &oid,
        bits: &mut Bits,
        without: &Bits,
        must_exist: bool,
        tick: Tick<'_>,
    ) -> Result<(), WalkError> {
        let hash_len = self.store.hash().len_in_bytes();
        let mut stack = Vec::new();
        let Some(root) = self.store.position(tree) else {
            return if must_exist {
                Err(WalkError::Missing(tree.to_owned()))
            } else {
                Ok(())
            };
        };
        if !without.has(root) && bits.set(root) {
            stack.push(root);
        }
        while let Some(position) = stack.pop() {
            self.step(tick)?;
            let object = self.reader.read_at(position, &mut self.buffer)?;
            if object.kind != ObjectKind::Tree {
                return Err(StoreError::damaged(self.store.id(position), "a tree was expected here").into());
            }
            // A wide folder is as much work as many narrow ones.
            self.since_tick += (object.data.len() / TREE_BYTES_PER_STEP) as u32;
            for entry in tree_entries(object.data, hash_len) {
                let entry =
                    entry.map_err(|()| StoreError::damaged(self.store.id(position), "it is not a well-formed tree"))?;
                if entry.is_commit() || self.seen.has(entry.id) {
                    continue;
                }
                let Some(child) = self.store.position(entry.id) else {
                    if must_exist {
                        return Err(WalkError::Missing(entry.id.to_owned()));
                    }
                    continue;
                };
                self.seen.put(entry.id);
                if !without.has(child) && bits.set(child) && entry.is_tree() {
                    stack.push(child);
                }
            }
        }
        Ok(())
    }

    /// Forgets which ids need no further look: before a walk with other sets.
    pub fn forget_seen(&mut self) {
        self.seen.clear();
    }

    /// Finds the commits that `wants` reach and `haves` do not; both are positions of commits.
    ///
    /// Newest first, so that only the difference is walked. Where commit dates lie, a few commits
    /// that the other side has may be among the result; never is one missing that it lacks.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn limit(&mut self, wants: &[Pos], haves: &[Pos], tick: Tick<'_>) -> Result<Limited, WalkError> {
        let mut known: HashMap<u32, Known> = HashMap::new();
        let mut queue: BinaryHeap<(i64, Reverse<u32>)> = BinaryHeap::new();
        let mut wanted_in_queue = 0_usize;
        let mut found = Vec::new();
        let mut last_date = i64::MAX;
        let mut slop = SLOP;
        for (positions, is_had) in [(haves, true), (wants, false)] {
            for position in positions {
                self.enqueue(position.0, is_had, &mut known, &mut queue, &mut wanted_in_queue)?;
            }
        }
        while let Some((date, Reverse(number))) = queue.pop() {
            self.step(tick)?;
            let commit = known.get_mut(&number).expect("queued commits are known");
            commit.is_done = true;
            let (is_had, parents) = (commit.is_had, commit.parents.clone());
            if !is_had {
                wanted_in_queue -= 1;
                last_date = date;
                found.push(number);
            }
            for parent in parents {
                self.enqueue(parent, is_had, &mut known, &mut queue, &mut wanted_in_queue)?;
            }
            if wanted_in_queue > 0 || queue.peek().is_some_and(|(next, _)| *next >= last_date) {
                slop = SLOP;
            } else if slop == 0 {
                break;
            } else {
                slop -= 1;
            }
        }
        let mut limited = Limited::default();
        let mut edges = HashSet::new();
        for number in found {
            let commit = &known[&number];
            if commit.is_had {
                continue;
            }
            limited.commits.push((Pos(number), commit.tree));
            for parent in &commit.parents {
                let parent_commit = &known[parent];
                if parent_commit.is_had && edges.insert(*parent) {
                    limited.edge_trees.push(parent_commit.tree);
                }
            }
        }
        limited.had = known
            .iter()
            .filter(|(_, commit)| commit.is_had)
            .map(|(number, _)| Pos(*number))
            .collect();
        Ok(limited)
    }

    fn enqueue(
        &mut self,
        number: u32,
        is_had: bool,
        known: &mut HashMap<u32, Known>,
        queue: &mut BinaryHeap<(i64, Reverse<u32>)>,
        wanted_in_queue: &mut usize,
    ) -> Result<(), WalkError> {
        if known.contains_key(&number) {
            if is_had {
                mark_had(number, known, wanted_in_queue);
            }
            return Ok(());
        }
        let position = Pos(number);
        let commit = self
            .reader
            .commit_at(position)?
            .ok_or_else(|| StoreError::damaged(self.store.id(position), "a commit was expected here"))?;
        let mut parents = Vec::with_capacity(commit.parents.len());
        if self.parentless.is_empty() || !self.parentless.contains(&self.store.id(position)) {
            for parent in &commit.parents {
                match self.store.position(parent) {
                    Some(parent) => parents.push(parent.0),
                    // Beyond what the other side has, an incomplete history does no harm.
                    None if is_had => {}
                    None => return Err(WalkError::Missing(*parent)),
                }
            }
        }
        known.insert(
            number,
            Known {
                parents,
                tree: commit.tree,
                is_done: false,
                is_had,
            },
        );
        queue.push((commit.committed_at_secs, Reverse(number)));
        *wanted_in_queue += usize::from(!is_had);
        Ok(())
    }
}

/// Marks a commit as had, and with it the ancestors that were walked already.
fn mark_had(number: u32, known: &mut HashMap<u32, Known>, wanted_in_queue: &mut usize) {
    let mut stack = vec![number];
    while let Some(number) = stack.pop() {
        let Some(commit) = known.get_mut(&number) else { continue };
        if commit.is_had {
            continue;
        }
        commit.is_had = true;
        if commit.is_done {
            stack.extend(&commit.parents);
        } else {
            *wanted_in_queue -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_its_positions_in_order() {
        let mut bits = Bits::new(200);
        for position in [0, 63, 64, 130, 199] {
            assert!(bits.set(Pos(position)));
            assert!(!bits.set(Pos(position)));
        }

        let all: Vec<u32> = bits.range(0, 200).map(|position| position.0).collect();
        let some: Vec<u32> = bits.range(1, 131).map(|position| position.0).collect();

        assert_eq!(all, [0, 63, 64, 130, 199]);
        assert_eq!(some, [63, 64, 130]);
        assert_eq!(bits.count(), 5);
    }

    #[test]
    fn a_tree_that_ends_in_the_middle_of_an_entry_is_malformed() {
        let mut tree = b"100644 a\0".to_vec();
        tree.extend([7; 20]);
        let whole: Vec<_> = tree_entries(&tree, 20).collect();
        assert_eq!(whole.len(), 1);
        assert_eq!(
            whole[0].map(|entry| (entry.mode, entry.name)),
            Ok((0o100_644, &b"a"[..]))
        );

        for len in 1..tree.len() {
            let cut: Vec<_> = tree_entries(&tree[..len], 20).collect();
            assert_eq!(cut, [Err(())], "{len} bytes");
        }
    }
}
