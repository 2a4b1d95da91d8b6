//! Whether everything a pushed ref leads to is here.
//!
//! What existing refs reach is complete, so the walk goes through the commits that came with the
//! push and stops at commits that a ref reaches. Of a new commit's trees only those are opened that
//! came with the push; an older subtree is taken for complete where a parent has it in the same
//! folder, and walked otherwise. Objects outside the quarantine prove nothing by being there: an
//! interrupted clean-up may have left a tree without its blobs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use gix::ObjectId;
use gix::hash::oid;

use super::object_store::{ObjectKind, ObjectStore, Pos, Reader, StoreError, parse_tag_target};
use super::walk::{Bits, TREE_BYTES_PER_STEP, WalkError, Walker, tree_entries};
use super::work::{Stopped, Tick};

/// Objects between two calls of the tick.
const OBJECTS_PER_TICK: u32 = 256;

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Most and fewest slots of the tables of ids seen lately: trees name the same entries again and again.
const MAX_SEEN_SLOTS: usize = 1 << 16;
const MIN_SEEN_SLOTS: usize = 1 << 8;
/// Slots for each object that came with the push: a small push must not pay for large tables.
const SEEN_SLOTS_PER_OBJECT: usize = 4;

/// Why a push is not connected, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectivityError {
    /// An object is neither in the push nor here.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// An object is not of the kind that another one says.
    #[error("object {id} is not a {expected}")]
    WrongKind {
        /// The object.
        id: ObjectId,
        /// What it should be.
        expected: &'static str,
    },
    /// A stored object is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<WalkError> for ConnectivityError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Missing(id) => Self::Missing(id),
            WalkError::Store(error) => Self::Store(error),
            WalkError::Stopped(stopped) => Self::Stopped(stopped),
        }
    }
}

/// What the check starts from.
pub struct Ground<'a> {
    /// Objects of the repository and of the quarantine.
    pub objects: &'a ObjectStore,
    /// The quarantine folder and the kinds of the objects in its pack, if a pack came.
    pub quarantine: Option<(&'a Path, &'a [ObjectKind])>,
    /// Everything that refs name, hidden ones and those of alternates included, and what tags among
    /// it name in the end.
    pub tips: HashSet<ObjectId>,
    /// Commits whose parents this repository lacks knowingly.
    pub own_shallow: &'a [ObjectId],
    /// Commits whose parents the client lacks.
    pub client_shallow: &'a [ObjectId],
}

/// Checks new tips one after the other; what one proved the next need not.
pub struct Connectivity<'a> {
    ground: &'a Ground<'a>,
    reader: Reader<'a>,
    /// Positions of the objects that came with the push.
    pushed: Range<u32>,
    own_shallow: HashSet<ObjectId>,
    client_shallow: HashSet<ObjectId>,
    state: State,
    lacks_empty_tree: bool,
    since_tick: u32,
}

/// What is proved, or is being proved by the check under way.
struct State {
    /// Objects that are complete.
    complete: Bits,
    /// Ids of complete objects that were met lately.
    seen: Vec<ObjectId>,
    /// Ids of blobs outside the push that are here and were met lately.
    seen_blobs: Vec<ObjectId>,
    /// What the last check has put into `complete` and into which slots of `seen` it has written.
    last: Last,
}

struct Last {
    complete: Vec<Pos>,
    /// Slots as positions.
    slots: Bits,
}

impl Last {
    fn new(slots: usize) -> Self {
        Self {
            complete: Vec::new(),
            slots: Bits::new(slots as u32),
        }
    }
}

impl State {
    /// Nothing is proved of `objects` objects. There are so many `slots`, a power of two.
    fn new(objects: u32, slots: usize, null: ObjectId) -> Self {
        Self {
            complete: Bits::new(objects),
            seen: vec![null; slots],
            seen_blobs: vec![null; slots],
            last: Last::new(slots),
        }
    }

    /// Takes an object for complete; tells whether that is new.
    fn complete(&mut self, position: Pos) -> bool {
        let is_new = self.complete.set(position);
        if is_new {
            self.last.complete.push(position);
        }
        is_new
    }

    /// Where an id is looked for in both tables.
    fn slot(&self, id: &oid) -> usize {
        let bytes = id.as_bytes();
        usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) & (self.seen.len() - 1)
    }

    fn see(&mut self, id: &oid) {
        let slot = self.slot(id);
        self.seen[slot] = id.to_owned();
        self.last.slots.set(Pos(slot as u32));
    }

    fn see_blob(&mut self, id: &oid) {
        let slot = self.slot(id);
        self.seen_blobs[slot] = id.to_owned();
    }

    fn is_seen(&self, id: &oid) -> bool {
        self.is_in(&self.seen, id)
    }

    fn is_seen_blob(&self, id: &oid) -> bool {
        self.is_in(&self.seen_blobs, id)
    }

    /// The null id stands for an empty slot, and names nothing.
    fn is_in(&self, table: &[ObjectId], id: &oid) -> bool {
        table[self.slot(id)].as_slice() == id.as_bytes() && !id.is_null()
    }
}

/// A commit whose trees must be looked at.
struct NewCommit {
    id: ObjectId,
    tree: ObjectId,
    parents: Vec<ObjectId>,
}

impl<'a> Connectivity<'a> {
    /// Nothing is proved yet.
    pub fn new(ground: &'a Ground<'a>) -> Self {
        let objects = ground.objects;
        let pushed = ground.quarantine.and_then(|(folder, _)| {
            let number = objects
                .packs()
                .iter()
                .position(|pack| pack.path().starts_with(folder))?;
            let start = objects.pack_start(number);
            Some(start..start + objects.packs()[number].object_count())
        });
        let pushed = pushed.unwrap_or(0..0);
        let slots = (pushed.len() * SEEN_SLOTS_PER_OBJECT)
            .next_power_of_two()
            .clamp(MIN_SEEN_SLOTS, MAX_SEEN_SLOTS);
        Self {
            reader: objects.reader(CACHE_BYTES),
            pushed,
            own_shallow: ground.own_shallow.iter().copied().collect(),
            client_shallow: ground.client_shallow.iter().copied().collect(),
            state: State::new(objects.len(), slots, objects.hash().null()),
            lacks_empty_tree: false,
            since_tick: 0,
            ground,
        }
    }

    /// Whether the empty tree is named and is not here. Git takes it for granted, so clients need not
    /// send it.
    pub fn lacks_empty_tree(&self) -> bool {
        self.lacks_empty_tree
    }

    /// Whether this is an empty tree that is taken for granted.
    fn is_granted(&mut self, id: &oid) -> bool {
        let is_granted = id.is_empty_tree() && !self.ground.objects.contains(id);
        self.lacks_empty_tree |= is_granted;
        is_granted
    }

    /// Checks that everything `tips` lead to is here.
    ///
    /// Returns the client's shallow commits whose parents are missing here, too: the tips are complete
    /// only if the repository takes these over into its own shallow boundary.
    ///
    /// # Errors
    /// [`ConnectivityError`]; then nothing more is proved than before.
    pub fn check(&mut self, tips: &[ObjectId], tick: Tick<'_>) -> Result<Vec<ObjectId>, ConnectivityError> {
        self.state.last = Last::new(self.state.seen.len());
        let result = self.check_all(tips, tick);
        if result.is_err() {
            self.forget_last();
        }
        result
    }

    /// Nothing that the last check proved counts: what it stands on is not taken over.
    pub fn forget_last(&mut self) {
        let null = self.ground.objects.hash().null();
        let slots = self.state.seen.len();
        let last = std::mem::replace(&mut self.state.last, Last::new(slots));
        for position in last.complete {
            self.state.complete.unset(position);
        }
        for slot in last.slots.range(0, slots as u32) {
            self.state.seen[slot.0 as usize] = null;
        }
    }

    fn check_all(&mut self, tips: &[ObjectId], tick: Tick<'_>) -> Result<Vec<ObjectId>, ConnectivityError> {
        let mut commits = Vec::new();
        let mut trees = Vec::new();
        let mut unproven = Vec::new();
        for tip in tips {
            self.follow_tip(*tip, &mut commits, &mut trees, &mut unproven, tick)?;
        }
        let mut boundary = Vec::new();
        let mut new = self.pushed_commits(commits, &mut unproven, &mut boundary, tick)?;
        if !unproven.is_empty() {
            new.extend(self.unreached(&unproven, tick)?);
        }
        for commit in parents_first(new) {
            self.check_tree(commit.tree, &commit.parents, tick)?;
        }
        for tree in trees {
            self.check_tree(tree, &[], tick)?;
        }
        Ok(boundary)
    }

    /// Follows tags from a new tip and sorts what they lead to.
    fn follow_tip(
        &mut self,
        tip: ObjectId,
        commits: &mut Vec<Pos>,
        trees: &mut Vec<ObjectId>,
        unproven: &mut Vec<Pos>,
        tick: Tick<'_>,
    ) -> Result<(), ConnectivityError> {
        let mut id = tip;
        let mut expected = None;
        let mut buffer = Vec::new();
        loop {
            self.step(tick)?;
            let position = self.position(&id)?;
            let kind = self.kind(position)?;
            if expected.is_some_and(|expected| expected != kind) {
                return Err(wrong_kind(id, expected.unwrap_or(kind)));
            }
            match kind {
                ObjectKind::Commit => self.meet_commit(position, &id, commits, unproven),
                ObjectKind::Tree => trees.push(id),
                ObjectKind::Blob => {}
                ObjectKind::Tag => {
                    if self.ground.tips.contains(&id) {
                        return Ok(());
                    }
                    let tag = self.reader.read_at(position, &mut buffer)?;
                    let (target, kind) = parse_tag_target(tag.data).ok_or_else(|| wrong_kind(id, ObjectKind::Tag))?;
                    (id, expected) = (target, Some(kind));
                    continue;
                }
            }
            return Ok(());
        }
    }

    /// Sorts a commit: complete, pushed, or to be proved.
    fn meet_commit(&mut self, position: Pos, id: &oid, commits: &mut Vec<Pos>, unproven: &mut Vec<Pos>) {
        if !self.state.complete(position) || self.ground.tips.contains(id) {
            return;
        }
        if self.pushed.contains(&position.0) {
            commits.push(position);
        } else {
            unproven.push(position);
        }
    }

    /// Walks the commits that came with the push.
    fn pushed_commits(
        &mut self,
        mut stack: Vec<Pos>,
        unproven: &mut Vec<Pos>,
        boundary: &mut Vec<ObjectId>,
        tick: Tick<'_>,
    ) -> Result<Vec<NewCommit>, ConnectivityError> {
        let mut new = Vec::new();
        while let Some(position) = stack.pop() {
            self.step(tick)?;
            let id = self.ground.objects.id(position);
            let commit = self
                .reader
                .commit_at(position)?
                .ok_or_else(|| wrong_kind(id, ObjectKind::Commit))?;
            let mut is_cut = false;
            let parents = if self.own_shallow.contains(&id) {
                &[][..]
            } else {
                &commit.parents[..]
            };
            for parent in parents {
                match self.ground.objects.position(parent) {
                    Some(position) => {
                        if self.kind(position)? != ObjectKind::Commit {
                            return Err(wrong_kind(*parent, ObjectKind::Commit));
                        }
                        self.meet_commit(position, parent, &mut stack, unproven);
                    }
                    None if self.client_shallow.contains(&id) => is_cut = true,
                    None => return Err(ConnectivityError::Missing(*parent)),
                }
            }
            if is_cut {
                boundary.push(id);
            }
            new.push(NewCommit {
                id,
                tree: commit.tree,
                parents: commit.parents,
            });
        }
        Ok(new)
    }

    /// Of commits that did not come with the push those that no ref reaches, with their ancestors.
    fn unreached(&mut self, unproven: &[Pos], tick: Tick<'_>) -> Result<Vec<NewCommit>, ConnectivityError> {
        let objects = self.ground.objects;
        let mut haves = HashSet::new();
        for tip in &self.ground.tips {
            self.step(tick)?;
            if let Some(position) = objects.position(tip)
                && self.reader.header_at(position)?.0 == ObjectKind::Commit
            {
                haves.insert(position);
            }
        }
        let haves: Vec<Pos> = haves.into_iter().collect();
        let mut walker = Walker::new(objects, self.ground.own_shallow, CACHE_BYTES);
        let limited = walker.limit(unproven, &haves, tick)?;
        let mut new = Vec::with_capacity(limited.commits.len());
        for (position, tree) in limited.commits {
            self.step(tick)?;
            self.state.complete(position);
            let parents = self
                .reader
                .commit_at(position)?
                .map(|commit| commit.parents)
                .unwrap_or_default();
            new.push(NewCommit {
                id: objects.id(position),
                tree,
                parents,
            });
        }
        Ok(new)
    }

    /// Checks a root tree of a commit with these parents.
    fn check_tree(&mut self, root: ObjectId, parents: &[ObjectId], tick: Tick<'_>) -> Result<(), ConnectivityError> {
        let mut folders = Folders::new(parents);
        let mut stack: Vec<(Pos, Folder)> = Vec::new();
        let mut older: Vec<(Pos, ObjectId, Folder)> = Vec::new();
        if !self.state.is_seen(&root) && !self.is_granted(&root) {
            let position = self.position(&root)?;
            self.meet_tree(
                position,
                &root,
                Folder::ABOVE_ROOT,
                b"",
                &mut folders,
                &mut stack,
                &mut older,
            )?;
        }
        let mut buffer = Vec::new();
        loop {
            while let Some((position, folder)) = stack.pop() {
                self.step(tick)?;
                self.open_tree(position, folder, &mut buffer, &mut folders, &mut stack, &mut older)?;
            }
            // Older subtrees are complete where a parent has them in the same folder; else walked.
            let Some((position, id, folder)) = older.pop() else {
                return Ok(());
            };
            self.step(tick)?;
            if self.state.complete.has(position) {
                continue;
            }
            self.state.complete(position);
            if !folders.parents_have(&id, folder, &mut self.reader)? {
                stack.push((position, folder));
            }
        }
    }

    /// Sorts a tree: complete, pushed, or older.
    #[allow(clippy::too_many_arguments, reason = "the work lists of one check")]
    fn meet_tree(
        &mut self,
        position: Pos,
        id: &oid,
        above: Folder,
        name: &[u8],
        folders: &mut Folders,
        stack: &mut Vec<(Pos, Folder)>,
        older: &mut Vec<(Pos, ObjectId, Folder)>,
    ) -> Result<(), ConnectivityError> {
        if self.state.complete.has(position) {
            return Ok(());
        }
        let folder = folders.below(above, name);
        if !self.pushed.contains(&position.0) {
            older.push((position, id.to_owned(), folder));
            return Ok(());
        }
        if self.kind(position)? != ObjectKind::Tree {
            return Err(wrong_kind(id.to_owned(), ObjectKind::Tree));
        }
        self.state.complete(position);
        stack.push((position, folder));
        Ok(())
    }

    /// Looks at every entry of one tree.
    fn open_tree(
        &mut self,
        position: Pos,
        folder: Folder,
        buffer: &mut Vec<u8>,
        folders: &mut Folders,
        stack: &mut Vec<(Pos, Folder)>,
        older: &mut Vec<(Pos, ObjectId, Folder)>,
    ) -> Result<(), ConnectivityError> {
        let objects = self.ground.objects;
        let object = self.reader.read_at(position, buffer)?;
        if object.kind != ObjectKind::Tree {
            return Err(wrong_kind(objects.id(position), ObjectKind::Tree));
        }
        // A wide folder is as much work as many narrow ones.
        self.since_tick += (object.data.len() / TREE_BYTES_PER_STEP) as u32;
        for entry in tree_entries(object.data, objects.hash().len_in_bytes()) {
            let entry = entry.map_err(|()| wrong_kind(objects.id(position), ObjectKind::Tree))?;
            if entry.is_commit() || self.state.is_seen(entry.id) {
                continue;
            }
            if entry.is_tree() {
                if self.is_granted(entry.id) {
                    continue;
                }
                let child = self.position(entry.id)?;
                self.meet_tree(child, entry.id, folder, entry.name, folders, stack, older)?;
                // An older tree is not complete yet, only met; it is looked up again next time.
                if self.state.complete.has(child) {
                    self.state.see(entry.id);
                }
            } else if !self.state.is_seen_blob(entry.id) {
                let child = self.position(entry.id)?;
                if self.pushed.contains(&child.0) && self.kind(child)? != ObjectKind::Blob {
                    return Err(wrong_kind(entry.id.to_owned(), ObjectKind::Blob));
                }
                self.state.see_blob(entry.id);
            }
        }
        Ok(())
    }

    fn position(&self, id: &oid) -> Result<Pos, ConnectivityError> {
        self.ground
            .objects
            .position(id)
            .ok_or_else(|| ConnectivityError::Missing(id.to_owned()))
    }

    /// The kind of an object: of one that was pushed it is known without looking.
    fn kind(&mut self, position: Pos) -> Result<ObjectKind, ConnectivityError> {
        let known = self.ground.quarantine.filter(|_| self.pushed.contains(&position.0));
        match known.and_then(|(_, kinds)| kinds.get((position.0 - self.pushed.start) as usize)) {
            Some(kind) => Ok(*kind),
            None => Ok(self.reader.header_at(position)?.0),
        }
    }

    fn step(&mut self, tick: &mut dyn FnMut() -> Result<(), Stopped>) -> Result<(), Stopped> {
        self.since_tick += 1;
        if self.since_tick >= OBJECTS_PER_TICK {
            self.since_tick = 0;
            tick()?;
        }
        Ok(())
    }
}

/// Orders commits so that each comes after its parents: then what a parent has is proved already.
fn parents_first(commits: Vec<NewCommit>) -> Vec<NewCommit> {
    let number_of: HashMap<ObjectId, usize> = commits.iter().enumerate().map(|(n, commit)| (commit.id, n)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); commits.len()];
    let mut open_parents = vec![0usize; commits.len()];
    for (n, commit) in commits.iter().enumerate() {
        for parent in commit.parents.iter().filter_map(|parent| number_of.get(parent)) {
            children[*parent].push(n);
            open_parents[n] += 1;
        }
    }
    let mut order: Vec<usize> = (0..commits.len()).filter(|&n| open_parents[n] == 0).collect();
    let mut next = 0;
    while let Some(&n) = order.get(next) {
        next += 1;
        for &child in &children[n] {
            open_parents[child] -= 1;
            if open_parents[child] == 0 {
                order.push(child);
            }
        }
    }
    let mut commits: Vec<Option<NewCommit>> = commits.into_iter().map(Some).collect();
    order.into_iter().filter_map(|n| commits[n].take()).collect()
}

fn wrong_kind(id: ObjectId, expected: ObjectKind) -> ConnectivityError {
    ConnectivityError::WrongKind {
        id,
        expected: expected.as_str(),
    }
}

/// Number of a folder of the commit under check.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Folder(u32);

impl Folder {
    /// What the root lies in.
    const ABOVE_ROOT: Self = Self(0);
}

/// Paths of one commit's folders, and what its parents have there.
struct Folders<'p> {
    parents: &'p [ObjectId],
    /// For each folder the one above it and its name there.
    paths: Vec<(Folder, Box<[u8]>)>,
    /// For each folder that was asked for, the subtrees that the parents have in it by name.
    entries: HashMap<Folder, HashMap<Box<[u8]>, Vec<ObjectId>>>,
}

impl<'p> Folders<'p> {
    fn new(parents: &'p [ObjectId]) -> Self {
        Self {
            parents,
            paths: vec![(Folder::ABOVE_ROOT, Box::default())],
            entries: HashMap::new(),
        }
    }

    fn below(&mut self, above: Folder, name: &[u8]) -> Folder {
        self.paths.push((above, name.into()));
        Folder((self.paths.len() - 1) as u32)
    }

    /// Whether a parent has the tree `id` in the folder that `folder` lies in.
    fn parents_have(
        &mut self,
        id: &ObjectId,
        folder: Folder,
        reader: &mut Reader<'_>,
    ) -> Result<bool, ConnectivityError> {
        let (above, _) = self.paths[folder.0 as usize];
        if folder == above {
            return Ok(false);
        }
        self.load(above, reader)?;
        Ok(self.entries[&above].values().any(|ids| ids.contains(id)))
    }

    /// Reads what the parents have in `folder`, and before it in the folders above.
    fn load(&mut self, folder: Folder, reader: &mut Reader<'_>) -> Result<(), ConnectivityError> {
        let mut path = vec![folder];
        while let Some(&last) = path.last() {
            if self.entries.contains_key(&last) {
                path.pop();
                break;
            }
            if last == Folder::ABOVE_ROOT {
                break;
            }
            path.push(self.paths[last.0 as usize].0);
        }
        while let Some(folder) = path.pop() {
            let entries = if folder == Folder::ABOVE_ROOT {
                let mut roots = Vec::with_capacity(self.parents.len());
                for parent in self.parents {
                    roots.extend(reader.commit(parent)?.map(|commit| commit.tree));
                }
                HashMap::from([(Box::default(), roots)])
            } else {
                let (above, name) = &self.paths[folder.0 as usize];
                let trees = self.entries[above].get(name).cloned().unwrap_or_default();
                subtrees(&trees, reader)?
            };
            self.entries.insert(folder, entries);
        }
        Ok(())
    }
}

/// The subtrees of some trees by name.
fn subtrees(
    trees: &[ObjectId],
    reader: &mut Reader<'_>,
) -> Result<HashMap<Box<[u8]>, Vec<ObjectId>>, ConnectivityError> {
    let mut found: HashMap<Box<[u8]>, Vec<ObjectId>> = HashMap::new();
    let mut buffer = Vec::new();
    for tree in trees {
        let Some(object) = reader.read(tree, &mut buffer)? else {
            continue;
        };
        if object.kind != ObjectKind::Tree {
            continue;
        }
        for entry in tree_entries(object.data, tree.kind().len_in_bytes())
            .flatten()
            .filter(|entry| entry.is_tree())
        {
            found.entry(entry.name.into()).or_default().push(entry.id.to_owned());
        }
    }
    Ok(found)
}
