//! What a push changes: its new commits, and in each the paths that differ from its parents.
//!
//! New are the commits that no ref of the repository reached before the push, whether their objects were
//! here or not. Each is compared with its parents; a merge changes only what differs from all of them, so
//! that whoever merges is not taken for the author of what others did. Where a branch moves back or is
//! forced, what it loses counts as changed, too: see [`PushChanges::moved`].

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use bstr::{BStr, BString, ByteSlice as _};
use gix::ObjectId;

use super::ancestry;
use super::object_store::{ObjectKind, ObjectStore, Pos, Reader, StoreError};
use super::ref_transaction::RefUpdate;
use super::snapshot::Snapshot;
use super::upload_pack::history::HistoryError;
use super::walk::{TreeEntry, WalkError, Walker, tree_entries};
use super::work::{Stopped, Tick};

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// Objects between two calls of the tick.
const OBJECTS_PER_TICK: u32 = 256;
/// So many bytes of a folder count as one more object.
const TREE_BYTES_PER_STEP: usize = 512;
/// Longest path that is looked at, in bytes; no file system takes a longer one.
pub const MAX_PATH_BYTES: usize = 16 << 10;

/// How much of a push is looked at.
#[derive(Clone, Copy, Debug)]
pub struct ChangeLimits {
    /// Most new commits, and most commits that a branch loses.
    pub max_commits: usize,
    /// Most changed files and opened folders, all commits together.
    pub max_paths: u64,
}

/// Why it is not known what a push changes.
#[derive(Debug, thiserror::Error)]
pub enum PushChangesError {
    /// It brings, or takes away, more commits than are looked at.
    #[error("more than {limit} commits are new or are taken away")]
    TooManyCommits {
        /// The limit.
        limit: usize,
    },
    /// It changes more than is looked at.
    #[error("more than {limit} files and folders change")]
    TooManyPaths {
        /// The limit.
        limit: u64,
    },
    /// A path is longer than any file system takes.
    #[error("a path is longer than {MAX_PATH_BYTES} bytes")]
    PathTooLong,
    /// History is damaged, or the work was stopped.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

impl From<StoreError> for PushChangesError {
    fn from(error: StoreError) -> Self {
        Self::Walk(error.into())
    }
}

impl From<Stopped> for PushChangesError {
    fn from(stopped: Stopped) -> Self {
        Self::Walk(stopped.into())
    }
}

impl From<HistoryError> for PushChangesError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => error.into(),
            HistoryError::Stopped(stopped) => stopped.into(),
        }
    }
}

/// A commit that no ref reached before the push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommit {
    /// Its id.
    pub id: ObjectId,
    /// Its root folder.
    pub tree: ObjectId,
    /// Its parents, in order. One that is not here counts as an empty folder.
    pub parents: Vec<ObjectId>,
}

/// A file, symbolic link or submodule at a path; never a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File mode as stored, such as 0o100644.
    pub mode: u32,
    /// What it names.
    pub id: ObjectId,
}

/// A path that differs. A rename is two of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'c> {
    /// From the root, with `/` between folders.
    pub path: &'c BStr,
    /// What was there: in the first parent, or at the old place of a branch.
    pub old: Option<Entry>,
    /// What is there now.
    pub new: Option<Entry>,
}

/// Is shown what changes.
pub trait ChangeVisitor {
    /// Whether changes below this folder are wanted. What is said no to costs nothing.
    fn enters(&mut self, folder: &BStr) -> bool {
        let _ = folder;
        true
    }

    /// A path that this commit changes.
    fn change(&mut self, commit: &NewCommit, change: &Change<'_>);
}

/// What one push changes.
pub struct PushChanges<'a> {
    before: &'a Snapshot,
    objects: &'a ObjectStore,
    reader: Reader<'a>,
    limits: ChangeLimits,
    commits: Vec<NewCommit>,
    numbers: HashMap<ObjectId, usize>,
    paths: u64,
    since_tick: u32,
}

impl<'a> PushChanges<'a> {
    /// Finds the new commits of a push. `before` is the repository without it, `objects` holds what is there
    /// and what is pushed.
    ///
    /// # Errors
    /// [`PushChangesError`]
    pub fn read(
        before: &'a Snapshot,
        objects: &'a ObjectStore,
        updates: &[RefUpdate],
        limits: ChangeLimits,
        tick: Tick<'_>,
    ) -> Result<Self, PushChangesError> {
        let mut changes = Self {
            before,
            objects,
            reader: objects.reader(CACHE_BYTES),
            limits,
            commits: Vec::new(),
            numbers: HashMap::new(),
            paths: 0,
            since_tick: 0,
        };
        let tips: HashSet<ObjectId> = before
            .refs
            .all()
            .iter()
            .flat_map(|known| [Some(known.target), known.peeled])
            .flatten()
            .collect();
        let mut open = Vec::new();
        for update in updates.iter().filter(|update| !update.is_delete()) {
            if let Some((id, ObjectKind::Commit)) = changes.reader.peel(&update.new)? {
                open.push(id);
            }
        }
        // What was here before may or may not be reached; that is asked for all at once, as it may
        // need a walk through the whole history.
        let mut older = HashSet::new();
        loop {
            while let Some(id) = open.pop() {
                if tips.contains(&id) || changes.numbers.contains_key(&id) {
                    continue;
                }
                if before.objects.contains(&id) {
                    older.insert(id);
                } else {
                    changes.add_commit(id, &mut open, tick)?;
                }
            }
            let asked: Vec<ObjectId> = older.drain().filter(|id| !changes.numbers.contains_key(id)).collect();
            if asked.is_empty() {
                return Ok(changes);
            }
            let is_reached = before.reachable_commits(&asked, &before.all_tips(), tick)?;
            for (id, _) in asked.into_iter().zip(is_reached).filter(|(_, is_reached)| !is_reached) {
                changes.add_commit(id, &mut open, tick)?;
            }
        }
    }

    fn add_commit(&mut self, id: ObjectId, open: &mut Vec<ObjectId>, tick: Tick<'_>) -> Result<(), PushChangesError> {
        self.step(1, tick)?;
        let Some(commit) = self.reader.commit(&id)? else {
            return Ok(());
        };
        if self.commits.len() == self.limits.max_commits {
            return Err(PushChangesError::TooManyCommits {
                limit: self.limits.max_commits,
            });
        }
        let is_cut = self.before.shallow.contains(&id);
        let parents = if is_cut { Vec::new() } else { commit.parents };
        open.extend(parents.iter().filter(|parent| self.objects.contains(parent)));
        self.numbers.insert(id, self.commits.len());
        self.commits.push(NewCommit {
            id,
            tree: commit.tree,
            parents,
        });
        Ok(())
    }

    /// The new commits, in no particular order.
    pub fn commits(&self) -> &[NewCommit] {
        &self.commits
    }

    /// Shows every path that a new commit changes against its parents: of a merge what differs from all.
    ///
    /// # Errors
    /// [`PushChangesError`]
    pub fn visit(&mut self, visitor: &mut dyn ChangeVisitor, tick: Tick<'_>) -> Result<(), PushChangesError> {
        let commits = std::mem::take(&mut self.commits);
        let visited = commits
            .iter()
            .try_for_each(|commit| self.visit_commit(commit, visitor, tick));
        self.commits = commits;
        visited
    }

    /// Shows every path that one commit changes against its parents.
    ///
    /// # Errors
    /// [`PushChangesError`]
    pub fn visit_commit(
        &mut self,
        commit: &NewCommit,
        visitor: &mut dyn ChangeVisitor,
        tick: Tick<'_>,
    ) -> Result<(), PushChangesError> {
        let mut parents = Vec::with_capacity(commit.parents.len().max(1));
        for parent in &commit.parents {
            parents.push(self.reader.commit(parent)?.map(|parent| parent.tree));
        }
        if parents.is_empty() {
            parents.push(None);
        }
        let mut shown = Shown { commit, visitor };
        self.compare(Some(commit.tree), parents, &mut shown, tick)
    }

    /// Shows what a branch loses that moves back or is forced: every path that differs between its old and
    /// its new place, if a commit that is taken away had changed it. So a branch that is put on top of what
    /// others pushed elsewhere takes nothing from them. Of other refs nothing is shown.
    ///
    /// The commit that is shown is the one at the new place.
    ///
    /// # Errors
    /// [`PushChangesError`]
    pub fn moved(
        &mut self,
        update: &RefUpdate,
        visitor: &mut dyn ChangeVisitor,
        tick: Tick<'_>,
    ) -> Result<(), PushChangesError> {
        let is_branch = update.name.starts_with(b"refs/heads/");
        if !is_branch || update.is_delete() || update.old.is_null() {
            return Ok(());
        }
        let (Some(old), Some(new)) = (self.reader.commit(&update.old)?, self.reader.commit(&update.new)?) else {
            return Ok(());
        };
        let shallow = &self.before.shallow;
        if ancestry::is_fast_forward(self.objects, shallow, &update.old, &update.new, tick)? {
            return Ok(());
        }
        let mut differing = Collected {
            visitor,
            paths: Vec::new(),
        };
        self.compare(Some(new.tree), vec![Some(old.tree)], &mut differing, tick)?;
        let Collected { visitor, paths } = differing;
        if paths.is_empty() {
            return Ok(());
        }
        let mut lost = Lost {
            visitor,
            paths: paths
                .into_iter()
                .map(|(path, old, new)| (path, (old, new, false)))
                .collect(),
        };
        for commit in self.commits_without(&update.old, &update.new, tick)? {
            self.visit_commit(&commit, &mut lost, tick)?;
        }
        let commit = NewCommit {
            id: update.new,
            tree: new.tree,
            parents: new.parents,
        };
        let mut paths: Vec<_> = lost.paths.into_iter().collect();
        paths.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (path, (old, new, _)) in paths.iter().filter(|(_, (_, _, is_lost))| *is_lost) {
            let (path, old, new) = (path.as_bstr(), *old, *new);
            lost.visitor.change(&commit, &Change { path, old, new });
        }
        Ok(())
    }

    /// Commits that `tip` reaches and `without` does not.
    ///
    /// # Errors
    /// [`PushChangesError`]
    pub fn commits_without(
        &mut self,
        tip: &ObjectId,
        without: &ObjectId,
        tick: Tick<'_>,
    ) -> Result<Vec<NewCommit>, PushChangesError> {
        let position = |id: &ObjectId| self.objects.position(id).ok_or(WalkError::Missing(*id));
        let (old, new) = (position(tip)?, position(without)?);
        let mut walker = Walker::new(self.objects, &self.before.shallow, CACHE_BYTES);
        let limited = walker.limit(&[old], &[new], tick)?;
        if limited.commits.len() > self.limits.max_commits {
            return Err(PushChangesError::TooManyCommits {
                limit: self.limits.max_commits,
            });
        }
        limited
            .commits
            .into_iter()
            .map(|(at, tree)| self.lost_commit(at, tree))
            .collect()
    }

    fn lost_commit(&mut self, at: Pos, tree: ObjectId) -> Result<NewCommit, PushChangesError> {
        let id = self.objects.id(at);
        let parents = match self.reader.commit_at(at)? {
            Some(commit) if !self.before.shallow.contains(&id) => commit.parents,
            _ => Vec::new(),
        };
        Ok(NewCommit { id, tree, parents })
    }

    /// Which of `updates` lead to one of `wanted`, which are new commits.
    pub fn updates_with(&mut self, updates: &[RefUpdate], wanted: &HashSet<ObjectId>) -> Result<Vec<bool>, StoreError> {
        let mut verdicts = Vec::with_capacity(updates.len());
        for update in updates {
            let tip = match update.is_delete() {
                true => None,
                false => self.reader.peel(&update.new)?.map(|(id, _)| id),
            };
            let mut stack: Vec<usize> = tip
                .and_then(|tip| self.numbers.get(&tip).copied())
                .into_iter()
                .collect();
            let mut seen: HashSet<usize> = stack.iter().copied().collect();
            let mut leads = false;
            while let Some(number) = stack.pop() {
                let commit = &self.commits[number];
                if wanted.contains(&commit.id) {
                    leads = true;
                    break;
                }
                let parents = commit
                    .parents
                    .iter()
                    .filter_map(|parent| self.numbers.get(parent).copied());
                stack.extend(parents.filter(|parent| seen.insert(*parent)));
            }
            verdicts.push(leads);
        }
        Ok(verdicts)
    }

    /// Shows what in the folder `new` differs from all of `olds`.
    fn compare(
        &mut self,
        new: Option<ObjectId>,
        olds: Vec<Option<ObjectId>>,
        show: &mut dyn Show,
        tick: Tick<'_>,
    ) -> Result<(), PushChangesError> {
        if olds.contains(&new) {
            return Ok(());
        }
        let mut stack = vec![(BString::default(), new, olds)];
        let mut buffers: Vec<Vec<u8>> = Vec::new();
        while let Some((folder, new, olds)) = stack.pop() {
            let ids: Vec<Option<ObjectId>> = std::iter::once(new).chain(olds).collect();
            buffers.resize_with(ids.len().max(buffers.len()), Vec::new);
            let mut folders = Vec::with_capacity(ids.len());
            for (id, buffer) in ids.iter().zip(&mut buffers) {
                folders.push(self.entries(*id, buffer, tick)?);
            }
            self.count_path()?;
            let mut path = folder;
            if !path.is_empty() {
                path.push(b'/');
            }
            let folder_len = path.len();
            while let Some(first) = folders
                .iter()
                .filter_map(|entries| entries.last())
                .min_by(|a, b| in_order(a, b))
            {
                let first = *first;
                let mut same = folders.iter_mut().map(|entries| {
                    let is_same = entries
                        .last()
                        .is_some_and(|entry| in_order(entry, &first) == Ordering::Equal);
                    is_same.then(|| entries.pop()).flatten()
                });
                let new = same.next().flatten();
                let olds: Vec<Option<TreeEntry<'_>>> = same.collect();
                if olds.contains(&new) {
                    continue;
                }
                path.truncate(folder_len);
                path.extend_from_slice(first.name);
                if path.len() > MAX_PATH_BYTES {
                    return Err(PushChangesError::PathTooLong);
                }
                if first.is_tree() {
                    let id = |entry: Option<TreeEntry<'_>>| entry.map(|entry| entry.id.to_owned());
                    let olds: Vec<Option<ObjectId>> = olds.into_iter().map(id).collect();
                    if !olds.contains(&id(new)) && show.enters(path.as_bstr()) {
                        stack.push((path.clone(), id(new), olds));
                    }
                    continue;
                }
                self.count_path()?;
                let entry = |entry: Option<TreeEntry<'_>>| {
                    entry.map(|entry| Entry {
                        mode: entry.mode,
                        id: entry.id.to_owned(),
                    })
                };
                show.show(&Change {
                    path: path.as_bstr(),
                    old: entry(olds.first().copied().flatten()),
                    new: entry(new),
                });
            }
        }
        Ok(())
    }

    /// The entries of a folder, the first one last.
    fn entries<'b>(
        &mut self,
        id: Option<ObjectId>,
        buffer: &'b mut Vec<u8>,
        tick: Tick<'_>,
    ) -> Result<Vec<TreeEntry<'b>>, PushChangesError> {
        let Some(id) = id else { return Ok(Vec::new()) };
        let hash_len = self.objects.hash().len_in_bytes();
        let Some(object) = self.reader.read(&id, buffer)? else {
            // Git takes the empty folder for granted.
            return match id.is_empty_tree() {
                true => Ok(Vec::new()),
                false => Err(WalkError::Missing(id).into()),
            };
        };
        if object.kind != ObjectKind::Tree {
            return Err(StoreError::damaged(id, "a tree was expected here").into());
        }
        let data = object.data;
        self.step(1 + (data.len() / TREE_BYTES_PER_STEP) as u32, tick)?;
        let entries: Result<Vec<_>, ()> = tree_entries(data, hash_len).collect();
        let mut entries = entries.map_err(|()| StoreError::damaged(id, "it is not a well-formed tree"))?;
        // Old history may hold folders that are out of order.
        entries.sort_by(|one, other| in_order(other, one));
        Ok(entries)
    }

    fn count_path(&mut self) -> Result<(), PushChangesError> {
        self.paths += 1;
        match self.paths > self.limits.max_paths {
            true => Err(PushChangesError::TooManyPaths {
                limit: self.limits.max_paths,
            }),
            false => Ok(()),
        }
    }

    fn step(&mut self, objects: u32, tick: Tick<'_>) -> Result<(), Stopped> {
        self.since_tick += objects;
        if self.since_tick >= OBJECTS_PER_TICK {
            self.since_tick = 0;
            tick()?;
        }
        Ok(())
    }
}

/// Git's order of the entries of a folder: a folder's name ends with `/`. A file and a folder of the same
/// name are two entries.
fn in_order(one: &TreeEntry<'_>, other: &TreeEntry<'_>) -> Ordering {
    let end = |entry: &TreeEntry<'_>| entry.is_tree().then_some(b'/');
    let bytes = |name: &[u8], end: Option<u8>, at: usize| match name.get(at) {
        Some(byte) => Some(*byte),
        None if at == name.len() => end,
        None => None,
    };
    let shared = one.name.len().min(other.name.len());
    one.name[..shared].cmp(&other.name[..shared]).then_with(|| {
        bytes(one.name, end(one), shared)
            .cmp(&bytes(other.name, end(other), shared))
            .then_with(|| one.name.len().cmp(&other.name.len()))
    })
}

/// Takes differences between folders.
trait Show {
    fn enters(&mut self, folder: &BStr) -> bool;
    fn show(&mut self, change: &Change<'_>);
}

/// Passes on what one commit changes.
struct Shown<'s> {
    commit: &'s NewCommit,
    visitor: &'s mut dyn ChangeVisitor,
}

impl Show for Shown<'_> {
    fn enters(&mut self, folder: &BStr) -> bool {
        self.visitor.enters(folder)
    }

    fn show(&mut self, change: &Change<'_>) {
        self.visitor.change(self.commit, change);
    }
}

/// Keeps what differs.
struct Collected<'s> {
    visitor: &'s mut dyn ChangeVisitor,
    paths: Vec<(BString, Option<Entry>, Option<Entry>)>,
}

impl Show for Collected<'_> {
    fn enters(&mut self, folder: &BStr) -> bool {
        self.visitor.enters(folder)
    }

    fn show(&mut self, change: &Change<'_>) {
        self.paths.push((change.path.to_owned(), change.old, change.new));
    }
}

/// Marks which of the paths that differ were changed by a commit that is taken away.
struct Lost<'s> {
    visitor: &'s mut dyn ChangeVisitor,
    paths: HashMap<BString, (Option<Entry>, Option<Entry>, bool)>,
}

impl ChangeVisitor for Lost<'_> {
    fn enters(&mut self, folder: &BStr) -> bool {
        self.visitor.enters(folder)
    }

    fn change(&mut self, _: &NewCommit, change: &Change<'_>) {
        if let Some((_, _, is_lost)) = self.paths.get_mut(change.path) {
            *is_lost = true;
        }
    }
}
