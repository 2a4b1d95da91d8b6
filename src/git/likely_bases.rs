//! What a client probably has that is much like an object it lacks: the older version at the same path.
//!
//! A stored delta often cannot be sent, because repacking stored the newest version whole, or made
//! the delta against something that this client does not get. For small fetches the new commits'
//! trees are compared with those of their parents, and each new folder or file is paired with what
//! lay at its path before; [`super::emit`] then tries a delta against that.

use std::collections::{HashMap, VecDeque};

use super::ObjectId;
use super::object_store::{ObjectKind, Pos};
use super::walk::{Bits, WalkError, Walker, tree_entries};
use super::work::Tick;

/// Objects sent, up to which older versions are looked for.
const MAX_OBJECTS: u32 = 4096;
/// Pairs of trees that are compared, at most.
const MAX_TREE_PAIRS: usize = 8192;
/// Longest list of older versions that is followed from one object.
const MAX_VERSIONS: usize = 50;

/// For objects that are sent: the version before, by position.
#[derive(Clone, Debug, Default)]
pub struct LikelyBases(HashMap<Pos, Pos>);

impl LikelyBases {
    /// Looks for the older version of each object in `send` that is in `has` or is sent itself;
    /// nothing where many objects are sent.
    ///
    /// # Errors
    /// [`WalkError`] if a commit or tree is damaged, or the work is stopped.
    pub fn find(walker: &mut Walker<'_>, send: &Bits, has: &Bits, tick: Tick<'_>) -> Result<Self, WalkError> {
        let mut bases = Self::default();
        if send.count() > MAX_OBJECTS {
            return Ok(bases);
        }
        let store = walker.reader().store();
        let mut commits = Vec::new();
        for position in send.range(0, store.len()) {
            walker.step(tick)?;
            if walker.kind(position)? == ObjectKind::Commit
                && let Some(commit) = walker.reader().commit_at(position)?
            {
                commits.push(commit);
            }
        }
        // Oldest first, so that each object is paired with what it came from.
        commits.sort_by_key(|commit| commit.committed_at_secs);
        let is_known = |position: Pos| send.has(position) || has.has(position);
        let mut open: VecDeque<(Pos, Pos)> = VecDeque::new();
        let mut pairs = 0;
        for commit in &commits {
            for parent in &commit.parents {
                let Some(older) = walker.reader().commit(parent)? else {
                    continue;
                };
                let position = |id: &ObjectId| store.position(id);
                if let (Some(new), Some(old)) = (position(&commit.tree), position(&older.tree)) {
                    open.push_back((new, old));
                }
            }
            while let Some((new, old)) = open.pop_front() {
                if new == old || !send.has(new) || !is_known(old) || bases.0.contains_key(&new) {
                    continue;
                }
                if pairs == MAX_TREE_PAIRS {
                    return Ok(bases);
                }
                pairs += 1;
                walker.step(tick)?;
                bases.0.insert(new, old);
                compare(walker, new, old, &mut |new, old, is_tree| {
                    if !send.has(new) || bases.0.contains_key(&new) {
                        return;
                    }
                    if is_tree {
                        open.push_back((new, old));
                    } else if is_known(old) {
                        bases.0.insert(new, old);
                    }
                })?;
            }
        }
        Ok(bases)
    }

    /// Memory it takes, about, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.0.capacity() * 2 * size_of::<(Pos, Pos)>()
    }

    /// Whether an older version of this object is known.
    pub fn has(&self, position: Pos) -> bool {
        self.0.contains_key(&position)
    }

    /// The versions before this object, latest first.
    pub fn versions(&self, position: Pos) -> impl Iterator<Item = Pos> + '_ {
        std::iter::successors(self.0.get(&position), |older| self.0.get(older))
            .take(MAX_VERSIONS)
            .copied()
    }
}

/// Passes on what differs between two trees under the same name and of the same kind.
fn compare(
    walker: &mut Walker<'_>,
    new: Pos,
    old: Pos,
    on_pair: &mut dyn FnMut(Pos, Pos, bool),
) -> Result<(), WalkError> {
    let store = walker.reader().store();
    let hash_len = store.hash().len_in_bytes();
    let (mut new_data, mut old_data) = (Vec::new(), Vec::new());
    let new = walker.reader().read_at(new, &mut new_data)?;
    let old = walker.reader().read_at(old, &mut old_data)?;
    if new.kind != ObjectKind::Tree || old.kind != ObjectKind::Tree {
        return Ok(());
    }
    // Malformed entries are passed over: whoever walks the trees tells of them.
    let mut older: HashMap<&[u8], _> = HashMap::new();
    for entry in tree_entries(old.data, hash_len).flatten() {
        older.insert(entry.name, entry);
    }
    for entry in tree_entries(new.data, hash_len).flatten() {
        let Some(older) = older.get(entry.name) else { continue };
        if older.id == entry.id || older.is_tree() != entry.is_tree() || entry.is_commit() || older.is_commit() {
            continue;
        }
        if let (Some(new), Some(old)) = (store.position(entry.id), store.position(older.id)) {
            on_pair(new, old, entry.is_tree());
        }
    }
    Ok(())
}
