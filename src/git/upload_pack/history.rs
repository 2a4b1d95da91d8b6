//! Commits as a graph that is loaded only where a request looks at it.
//!
//! Negotiation and shallow boundaries walk a little history several times; each commit is decoded
//! once per request.

use std::collections::{HashMap, HashSet};

use gix::ObjectId;

use crate::git::object_store::{ObjectKind, ObjectStore, Pos, Reader, StoreError};
use crate::git::work::{Stopped, Tick};

/// Memory for decoded delta bases, in bytes.
const CACHE_BYTES: usize = 8 << 20;
/// Commits decoded between two looks at the budget and the connection.
const COMMITS_PER_TICK: u32 = 256;

/// Number of a commit in one [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitNumber(u32);

impl CommitNumber {
    /// For tables with one entry per known commit.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why history could not be walked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A stored commit is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client went away or the budget is used up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

#[derive(Clone, Copy)]
struct Commit {
    position: Pos,
    /// `None` until somebody asks.
    facts: Option<Facts>,
}

#[derive(Clone, Copy)]
struct Facts {
    committed_at_secs: i64,
    first_parent: u32,
    parent_count: u32,
}

/// The commits of one object store, as far as they were looked at.
pub struct History<'s> {
    store: &'s ObjectStore,
    reader: Reader<'s>,
    /// Commits that are taken to have no parents.
    parentless: HashSet<ObjectId>,
    commits: Vec<Commit>,
    numbers: HashMap<Pos, CommitNumber>,
    parents: Vec<CommitNumber>,
    since_tick: u32,
}

impl<'s> History<'s> {
    /// The history in `store`; commits in `parentless` count as having no parents, as in git's
    /// `shallow` file.
    pub fn new(store: &'s ObjectStore, parentless: &[ObjectId]) -> Self {
        Self {
            store,
            reader: store.reader(CACHE_BYTES),
            parentless: parentless.iter().copied().collect(),
            commits: Vec::new(),
            numbers: HashMap::new(),
            parents: Vec::new(),
            since_tick: 0,
        }
    }

    /// From here on these commits count as having no parents either; commits known so far are
    /// looked at again.
    pub fn add_parentless(&mut self, commits: &[ObjectId]) {
        for id in commits {
            if self.parentless.insert(*id)
                && let Some(number) = self.store.position(id).and_then(|at| self.numbers.get(&at))
            {
                self.commits[number.index()].facts = None;
            }
        }
    }

    /// How many commits have a number: one more than the largest number.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether no commit was looked at yet.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The commit that `id` is or that a tag `id` names in the end; `None` for other objects and
    /// absent ones.
    ///
    /// # Errors
    /// [`HistoryError::Store`] if an object is damaged.
    pub fn peeled(&mut self, id: &ObjectId) -> Result<Option<CommitNumber>, HistoryError> {
        match self.reader.header(id)? {
            Some((ObjectKind::Commit, _)) => Ok(self.store.position(id).map(|at| self.number(at))),
            Some((ObjectKind::Tag, _)) => match self.reader.peel(id)? {
                Some((id, ObjectKind::Commit)) => Ok(self.store.position(&id).map(|at| self.number(at))),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// What kind of object `id` is, and its number if it is a commit; `None` if it is absent.
    ///
    /// # Errors
    /// [`HistoryError::Store`] if the object is damaged.
    pub fn look_up(&mut self, id: &ObjectId) -> Result<Option<(ObjectKind, Option<CommitNumber>)>, HistoryError> {
        let Some(position) = self.store.position(id) else {
            return Ok(None);
        };
        let (kind, _) = self.reader.header_at(position)?;
        let number = (kind == ObjectKind::Commit).then(|| self.number(position));
        Ok(Some((kind, number)))
    }

    /// The id of a commit.
    pub fn id(&self, commit: CommitNumber) -> ObjectId {
        self.store.id(self.commits[commit.index()].position)
    }

    /// When it was committed, in seconds since 1970.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn committed_at_secs(&mut self, commit: CommitNumber, tick: Tick<'_>) -> Result<i64, HistoryError> {
        Ok(self.facts(commit, tick)?.committed_at_secs)
    }

    /// Its topological level, which is higher than those of all its ancestors; `None` where no
    /// commit-graph tells.
    pub fn level(&self, commit: CommitNumber) -> Option<u32> {
        self.reader.level_at(self.commits[commit.index()].position)
    }

    /// Its parents that are here, as a range for [`History::parent`].
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn parents(&mut self, commit: CommitNumber, tick: Tick<'_>) -> Result<std::ops::Range<usize>, HistoryError> {
        let facts = self.facts(commit, tick)?;
        let first = facts.first_parent as usize;
        Ok(first..first + facts.parent_count as usize)
    }

    /// One of the parents that [`History::parents`] told of.
    pub fn parent(&self, at: usize) -> CommitNumber {
        self.parents[at]
    }

    /// The commits that count as having no parents, as far as they are here.
    ///
    /// # Errors
    /// [`HistoryError::Store`] if one is damaged.
    pub fn parentless_commits(&mut self) -> Result<HashSet<CommitNumber>, HistoryError> {
        let ids: Vec<ObjectId> = self.parentless.iter().copied().collect();
        let mut found = HashSet::with_capacity(ids.len());
        for id in ids {
            if let Some((_, Some(commit))) = self.look_up(&id)? {
                found.insert(commit);
            }
        }
        Ok(found)
    }

    /// Whether it counts as having no parents.
    fn is_parentless(&self, commit: CommitNumber) -> bool {
        !self.parentless.is_empty() && self.parentless.contains(&self.id(commit))
    }

    /// The parents its object names, whatever the boundary says.
    ///
    /// # Errors
    /// [`HistoryError::Store`] if the commit is damaged.
    pub fn true_parents(&mut self, commit: CommitNumber) -> Result<Vec<ObjectId>, HistoryError> {
        let position = self.commits[commit.index()].position;
        Ok(self
            .reader
            .commit_at(position)?
            .map(|commit| commit.parents)
            .unwrap_or_default())
    }

    fn number(&mut self, position: Pos) -> CommitNumber {
        let next = CommitNumber(u32::try_from(self.commits.len()).expect("a store has fewer than 2^32 objects"));
        let number = *self.numbers.entry(position).or_insert(next);
        if number == next {
            self.commits.push(Commit { position, facts: None });
        }
        number
    }

    fn facts(&mut self, commit: CommitNumber, tick: Tick<'_>) -> Result<Facts, HistoryError> {
        let Commit { position, facts } = self.commits[commit.index()];
        if let Some(facts) = facts {
            return Ok(facts);
        }
        self.since_tick += 1;
        if self.since_tick >= COMMITS_PER_TICK {
            self.since_tick = 0;
            tick()?;
        }
        let first_parent = u32::try_from(self.parents.len()).expect("parents number less than 2^32");
        let mut facts = Facts {
            committed_at_secs: 0,
            first_parent,
            parent_count: 0,
        };
        if let Some(info) = self.reader.commit_at(position)? {
            facts.committed_at_secs = info.committed_at_secs;
            if !self.is_parentless(commit) {
                for parent in &info.parents {
                    // A parent that is absent ends the walk here; the plan tells of the damage.
                    if let Some(position) = self.store.position(parent) {
                        let parent = self.number(position);
                        self.parents.push(parent);
                        facts.parent_count += 1;
                    }
                }
            }
        }
        self.commits[commit.index()].facts = Some(facts);
        Ok(facts)
    }
}
