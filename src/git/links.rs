//! What the objects of a pushed pack name, gathered while they are in memory anyway.
//!
//! A pack whose every link leads to an object in it is complete, and so is each tip in it; then
//! nothing of it need be decoded again to find that out. That is so for most first pushes. For every
//! other pack this says nothing, and the new tips are walked ([`super::connectivity`]).

use std::collections::HashSet;

use gix::ObjectId;
use gix::hash::{Kind, oid};

use super::index_pack::{IndexedPack, Visitor};
use super::object_store::{ObjectKind, ObjectStore, parse_commit, parse_tag_target};
use super::walk::tree_entries;
use super::work::{Stopped, Tick};

/// Objects between two calls of the tick.
const OBJECTS_PER_TICK: u32 = 1 << 15;
/// Slots of the table of ids seen lately: trees name the same entries again and again.
const SEEN_SLOTS: usize = 1 << 16;
/// Memory for one link, with room that a set keeps free, in bytes.
const LINK_BYTES: usize = 96;

/// What the objects of one pack name.
///
/// Bounded: when there are too many, or an object is malformed, it gives up and says nothing.
#[derive(Clone, Debug)]
pub struct Links {
    hash: Kind,
    max: usize,
    /// `None` after giving up.
    named: Option<HashSet<Link>>,
    /// Ids of trees and of other entries seen lately; made when the first tree comes.
    seen_trees: Vec<ObjectId>,
    seen_blobs: Vec<ObjectId>,
}

/// One object that another one names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Link {
    id: ObjectId,
    kind: ObjectKind,
}

impl Links {
    /// Nothing seen yet. The links are held in at most about `max_bytes` of memory.
    pub fn new(hash: Kind, max_bytes: usize) -> Self {
        Self {
            hash,
            max: max_bytes / LINK_BYTES,
            named: Some(HashSet::new()),
            seen_trees: Vec::new(),
            seen_blobs: Vec::new(),
        }
    }

    /// Whether everything that was seen leads only to objects of the right kind in `pack`, which lies
    /// in `objects`: then each object in it is complete.
    ///
    /// # Errors
    /// If `tick` stops the work.
    pub fn stay_within(&self, pack: &IndexedPack, objects: &ObjectStore, tick: Tick<'_>) -> Result<bool, Stopped> {
        // Bases of our own that complete a thin pack were not seen.
        let Some(named) = self.named.as_ref().filter(|_| pack.completed == 0) else {
            return Ok(false);
        };
        let Some(stored) = objects.packs().iter().find(|stored| stored.path() == pack.file("pack")) else {
            return Ok(false);
        };
        if pack.kinds.len() != stored.object_count() as usize {
            return Ok(false);
        }
        // An object lies once in a pack, so each link is found once at most.
        let mut found = 0;
        for (order, kind) in (0..stored.object_count()).zip(&pack.kinds) {
            if order % OBJECTS_PER_TICK == 0 {
                tick()?;
            }
            let id = stored.id_at_order(order).to_owned();
            found += usize::from(named.contains(&Link { id, kind: *kind }));
        }
        Ok(found == named.len())
    }

    fn give_up(&mut self) {
        self.named = None;
        self.seen_trees = Vec::new();
        self.seen_blobs = Vec::new();
    }

    fn name(&mut self, id: ObjectId, kind: ObjectKind) {
        if let Some(named) = &mut self.named {
            named.insert(Link { id, kind });
            if named.len() > self.max {
                self.give_up();
            }
        }
    }

    /// Takes the entries of a tree; `None` if it is malformed.
    fn name_entries(&mut self, tree: &[u8]) -> Option<()> {
        let null = self.hash.null();
        if self.seen_trees.is_empty() {
            self.seen_trees = vec![null; SEEN_SLOTS];
            self.seen_blobs = vec![null; SEEN_SLOTS];
        }
        for entry in tree_entries(tree, self.hash.len_in_bytes()) {
            let entry = entry.ok()?;
            if entry.is_commit() {
                continue;
            }
            let (seen, kind) = if entry.is_tree() {
                (&mut self.seen_trees, ObjectKind::Tree)
            } else {
                (&mut self.seen_blobs, ObjectKind::Blob)
            };
            let slot = &mut seen[slot(entry.id)];
            // The null id stands for an empty slot, and names nothing.
            if slot.as_slice() == entry.id.as_bytes() && !entry.id.is_null() {
                continue;
            }
            *slot = entry.id.to_owned();
            self.name(entry.id.to_owned(), kind);
            if self.named.is_none() {
                return Some(());
            }
        }
        Some(())
    }

    fn name_all(&mut self, kind: ObjectKind, data: &[u8]) -> Option<()> {
        match kind {
            ObjectKind::Blob => {}
            ObjectKind::Tree => self.name_entries(data)?,
            ObjectKind::Tag => {
                let (target, kind) = parse_tag_target(data)?;
                self.name(target, kind);
            }
            ObjectKind::Commit => {
                let commit = parse_commit(data)?;
                self.name(commit.tree, ObjectKind::Tree);
                for parent in commit.parents {
                    self.name(parent, ObjectKind::Commit);
                }
            }
        }
        Some(())
    }
}

fn slot(id: &oid) -> usize {
    let bytes = id.as_bytes();
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

impl Visitor for Links {
    fn visit(&mut self, _: &ObjectId, kind: ObjectKind, data: &[u8]) {
        if self.named.is_some() && self.name_all(kind, data).is_none() {
            self.give_up();
        }
    }

    fn split(&self) -> Self {
        let mut other = Self::new(self.hash, 0);
        other.max = self.max;
        other
    }

    fn join(&mut self, other: Self) {
        match (&mut self.named, other.named) {
            (Some(named), Some(more)) => {
                named.extend(more);
                if named.len() > self.max {
                    self.give_up();
                }
            }
            _ => self.give_up(),
        }
    }
}
