//! What tips reach, with stored bitmaps where there are any.
//!
//! A bitmap holds everything that one commit reaches, so a walk ends where it meets one; only what
//! is newer than the bitmaps is walked, newest first, and its folders are looked at only where no
//! bitmap holds them already. Bitmaps know of no cut in history: where there is one they are not used.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::{Bits, Tip, WalkError, Walker};
use crate::git::ObjectId;
use crate::git::object_store::{Bitmaps, CommitInfo, ObjectKind, Pos, StoreError};
use crate::git::work::Tick;

/// What no bitmap covered.
#[derive(Debug, Default)]
pub struct Uncovered {
    /// Commits with their root trees, newest first as far as dates tell.
    pub commits: Vec<(Pos, ObjectId)>,
    /// Commits at the border that the other side has.
    pub edges: Vec<Pos>,
    /// More commits than allowed; the walk was given up.
    pub is_cut_short: bool,
}

/// How a walk of uncovered commits goes.
#[derive(Clone, Copy)]
pub struct CoveredWalk<'w> {
    /// The stored bitmaps.
    pub bitmaps: &'w Bitmaps,
    /// What the other side has: the walk ends there.
    pub without: &'w Bits,
    /// Most commits that are walked.
    pub most: usize,
    /// An absent parent is an error.
    pub must_exist: bool,
}

impl<'s> Walker<'s> {
    /// The stored bitmaps, unless there are none, history is cut somewhere, or they are not to be
    /// believed.
    pub fn bitmaps(&self) -> Option<&'s Bitmaps> {
        if self.believes_bitmaps && self.parentless.is_empty() {
            self.store.bitmaps()
        } else {
            None
        }
    }

    /// Puts the bitmaps that the commits `tips` reach into `bits`, and tells which commits none of
    /// them covers. `bits` must be closed: what an object in it names is in it, or in `without`.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn add_covered(
        &mut self,
        tips: &[Pos],
        bits: &mut Bits,
        walk: CoveredWalk<'_>,
        tick: Tick<'_>,
    ) -> Result<Uncovered, WalkError> {
        let mut uncovered = Uncovered::default();
        let mut queue = Queue::default();
        // Bitmaps of tips first: they may cover the other tips.
        let mut open = Vec::new();
        for tip in tips {
            self.step(tick)?;
            if !walk.without.has(*tip) && !bits.has(*tip) && !walk.bitmaps.add(*tip, bits) {
                open.push(*tip);
            }
        }
        for tip in open {
            self.step(tick)?;
            self.enqueue_uncovered(tip, bits, walk.bitmaps, &mut queue)?;
        }
        while let Some((_, Reverse(number))) = queue.heap.pop() {
            self.step(tick)?;
            let position = Pos(number);
            let Some(commit) = queue.known.get_mut(&number).and_then(Option::take) else {
                continue;
            };
            if bits.has(position) {
                continue;
            }
            if uncovered.commits.len() == walk.most {
                uncovered.is_cut_short = true;
                break;
            }
            uncovered.commits.push((position, commit.tree));
            for parent in &commit.parents {
                let Some(parent) = self.store.position(parent) else {
                    if walk.must_exist {
                        return Err(WalkError::Missing(*parent));
                    }
                    continue;
                };
                if walk.without.has(parent) {
                    uncovered.edges.push(parent);
                } else {
                    self.enqueue_uncovered(parent, bits, walk.bitmaps, &mut queue)?;
                }
            }
        }
        Ok(uncovered)
    }

    fn enqueue_uncovered(
        &mut self,
        position: Pos,
        bits: &mut Bits,
        bitmaps: &Bitmaps,
        queue: &mut Queue,
    ) -> Result<(), WalkError> {
        if bits.has(position) || queue.known.contains_key(&position.0) || bitmaps.add(position, bits) {
            return Ok(());
        }
        let commit = self
            .reader
            .commit_at(position)?
            .ok_or_else(|| StoreError::damaged(self.store.id(position), "a commit was expected here"))?;
        queue.heap.push((commit.committed_at_secs, Reverse(position.0)));
        queue.known.insert(position.0, Some(commit));
        Ok(())
    }

    /// [`Walker::add_closure`] with bitmaps.
    pub(super) fn add_closure_covered(
        &mut self,
        bitmaps: &Bitmaps,
        tips: &[ObjectId],
        bits: &mut Bits,
        tick: Tick<'_>,
    ) -> Result<(), WalkError> {
        let (mut commits, mut trees, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for tip in tips {
            self.step(tick)?;
            match self.tip(tip, |tag| others.push(tag))? {
                Tip::Commit(position) => commits.push(position),
                Tip::Tree(position) => trees.push(self.store.id(position)),
                Tip::Blob(position) => others.push(position),
            }
        }
        let nothing = Bits::new(self.store.len());
        let walk = CoveredWalk {
            bitmaps,
            without: &nothing,
            most: usize::MAX,
            must_exist: true,
        };
        let uncovered = self.add_covered(&commits, bits, walk, tick)?;
        trees.extend(uncovered.commits.iter().map(|(_, tree)| *tree));
        for tree in trees {
            self.add_tree(&tree, bits, &nothing, true, tick)?;
        }
        // Not before: a commit in the set stands for everything below it.
        others.extend(uncovered.commits.iter().map(|(position, _)| *position));
        for position in others {
            bits.set(position);
        }
        Ok(())
    }

    /// [`Walker::add_commits`] with bitmaps, into an empty set.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn commits_covered(&mut self, bitmaps: &Bitmaps, tips: &[ObjectId], tick: Tick<'_>) -> Result<Bits, WalkError> {
        let mut bits = Bits::new(self.store.len());
        let (mut commits, mut others) = (Vec::new(), Vec::new());
        for tip in tips {
            self.step(tick)?;
            match self.tip(tip, |tag| others.push(tag))? {
                Tip::Commit(position) => commits.push(position),
                Tip::Tree(position) | Tip::Blob(position) => others.push(position),
            }
        }
        let nothing = Bits::new(self.store.len());
        let walk = CoveredWalk {
            bitmaps,
            without: &nothing,
            most: usize::MAX,
            must_exist: true,
        };
        let uncovered = self.add_covered(&commits, &mut bits, walk, tick)?;
        bits.keep(bitmaps.kind_bits(ObjectKind::Commit));
        others.extend(uncovered.commits.iter().map(|(position, _)| *position));
        for position in others {
            bits.set(position);
        }
        Ok(bits)
    }
}

/// Whether tips reach an object, found out step by step: what bitmaps cover first, then the folders of newer
/// commits, newest first, only as far as needed. What is asked for is mostly near the tips.
pub struct Reaching<'s> {
    walker: Walker<'s>,
    bits: Bits,
    nothing: Bits,
    /// Folders that were not walked yet, the newest last.
    trees: Vec<ObjectId>,
}

impl<'s> Reaching<'s> {
    /// What `tips` reach; `None` where there are no bitmaps to begin with.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn new(mut walker: Walker<'s>, tips: &[ObjectId], tick: Tick<'_>) -> Result<Option<Self>, WalkError> {
        let Some(bitmaps) = walker.bitmaps() else {
            return Ok(None);
        };
        let len = walker.store.len();
        let (mut bits, nothing) = (Bits::new(len), Bits::new(len));
        let (mut commits, mut trees) = (Vec::new(), Vec::new());
        for tip in tips {
            walker.step(tick)?;
            match walker.tip(tip, |_| {})? {
                Tip::Commit(position) => commits.push(position),
                Tip::Tree(position) => trees.push(walker.store.id(position)),
                Tip::Blob(_) => {}
            }
        }
        let walk = CoveredWalk {
            bitmaps,
            without: &nothing,
            most: usize::MAX,
            must_exist: true,
        };
        let uncovered = walker.add_covered(&commits, &mut bits, walk, tick)?;
        trees.extend(uncovered.commits.iter().rev().map(|(_, tree)| *tree));
        Ok(Some(Self {
            walker,
            bits,
            nothing,
            trees,
        }))
    }

    /// Whether the tips reach this folder or file. Of newer commits, of tags and of files that tips name
    /// themselves it does not know.
    ///
    /// # Errors
    /// [`WalkError`]
    pub fn reaches(&mut self, position: Pos, tick: Tick<'_>) -> Result<bool, WalkError> {
        while !self.bits.has(position) {
            let Some(tree) = self.trees.pop() else {
                return Ok(false);
            };
            self.walker.add_tree(&tree, &mut self.bits, &self.nothing, true, tick)?;
        }
        Ok(true)
    }
}

/// Commits to look at, by date; each is taken out of `known` when its turn comes.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<(i64, Reverse<u32>)>,
    known: HashMap<u32, Option<CommitInfo>>,
}
