//! Writing a commit-graph: which commits go into it, and upon which layers.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use gix::hash::ObjectId;

use super::encode::{Table, stored_date};
use super::place::{self, Lock};
use super::{
    CHAIN_FILE, CommitGraph, Form, GraphError, GraphPos, GraphStamp, LEVEL_MAX, MAX_COMMITS, MAX_LAYERS, ONE_FILE,
};
use crate::git::object_store::{CommitInfo, ObjectKind, ObjectStore, Pos, Reader, StoreError};
use crate::git::snapshot::Snapshot;
use crate::git::walk::Bits;
use crate::git::work::{Stopped, Tick};

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// Commits between two calls of the tick.
const COMMITS_PER_TICK: u32 = 256;
/// A layer stays as it is if it holds more than this many times what comes upon it (git's
/// `--size-multiple`). So layers double in size, and a commit is written again a few times only.
const SIZE_MULTIPLE: u64 = 2;

/// Which files a graph is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphLayout {
    /// All commits in one file, each read from its object.
    OneFile,
    /// A layer with the commits that the chain lacks, as `git commit-graph write --split` does:
    /// upper layers that are not much larger are merged into it.
    Chain,
}

/// What writing a graph did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Commits in the graph now.
    pub commits: u32,
    /// Commits among them that no graph held before that could be built upon.
    pub new_commits: u32,
    /// Files before.
    pub layers_before: usize,
    /// Files now.
    pub layers_after: usize,
    /// Whether anything was written.
    pub is_changed: bool,
}

/// Why no graph was written. The repository has the one it had.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An object cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A commit is absent: the repository is incomplete.
    #[error("commit {0} is missing; the repository is damaged, ask the administrator to run `auxin repo fsck`")]
    Missing(ObjectId),
    /// The commits cannot be numbered.
    #[error("the repository has more commits than a commit-graph can hold ({MAX_COMMITS})")]
    TooMany,
    /// Somebody else is writing it.
    #[error("the commit-graph is being written by someone else; wait for that to end, or remove {} if nothing runs", .0.display())]
    Busy(PathBuf),
    /// Somebody else wrote it meanwhile.
    #[error("the commit-graph was replaced by someone else meanwhile; try again")]
    Replaced,
    /// The one that is there cannot be built upon, and a new one failed, too.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The disk failed.
    #[error("the commit-graph could not be written to {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Writes the graph of everything that refs reach, durably; `None` if git keeps no graph of such a
/// repository, see [`Snapshot::may_use_graph`].
///
/// `objects_dir` is the object folder of the snapshot's repository. Readers notice the new graph at
/// the next request. Only one caller at a time: the others hear [`WriteError::Busy`] or
/// [`WriteError::Replaced`].
///
/// # Errors
/// [`WriteError`]; the old graph, if any, is then in place.
pub fn write(
    snapshot: &Snapshot,
    objects_dir: &Path,
    layout: GraphLayout,
    tick: Tick<'_>,
) -> Result<Option<WriteReport>, WriteError> {
    if !snapshot.may_use_graph() {
        return Ok(None);
    }
    let stamp = GraphStamp::read(objects_dir);
    let store = &*snapshot.objects;
    let graph = CommitGraph::open_or_warn(objects_dir, store.hash(), store.graph().as_deref());
    let writer = Writer {
        store,
        objects_dir,
        tips: snapshot.all_tips(),
        layout,
        stamp,
    };
    let result = match writer.write(graph.as_ref(), tick) {
        // What is there is no base to build upon; the commits themselves are.
        Err(WriteError::Graph(error)) if graph.is_some() => {
            tracing::warn!(%error, "the commit-graph is written anew");
            writer.write(None, tick)
        }
        result => result,
    };
    result.map(Some)
}

struct Writer<'a> {
    store: &'a ObjectStore,
    objects_dir: &'a Path,
    tips: Vec<ObjectId>,
    layout: GraphLayout,
    stamp: GraphStamp,
}

/// Where a parent is.
#[derive(Clone, Copy)]
enum Parent {
    /// In a layer that stays.
    Below(u32),
    /// Among the commits found, by its position in the store.
    Found(Pos),
}

/// Commits for a new file, in no order.
#[derive(Default)]
struct Found {
    positions: Vec<Pos>,
    /// Root trees, one after the other.
    trees: Vec<u8>,
    dates: Vec<u64>,
    parents: Vec<Parent>,
    /// Where each commit's parents end.
    parent_ends: Vec<usize>,
}

impl Found {
    fn parents(&self, at: usize) -> &[Parent] {
        let start = if at == 0 { 0 } else { self.parent_ends[at - 1] };
        &self.parents[start..self.parent_ends[at]]
    }
}

impl Writer<'_> {
    fn write(&self, graph: Option<&CommitGraph>, tick: Tick<'_>) -> Result<WriteReport, WriteError> {
        let layers_before = graph.map_or(0, CommitGraph::layer_count);
        let known = graph.map_or(0, CommitGraph::len);
        let mut found = self.find(graph, known, tick)?;
        let new_commits = found.positions.len() as u32;
        let mut report = WriteReport {
            commits: known,
            new_commits,
            layers_before,
            layers_after: layers_before,
            is_changed: false,
        };
        let is_in_form = graph
            .is_none_or(|graph| graph.is_whole && (graph.form == Form::OneFile || self.layout == GraphLayout::Chain));
        if new_commits == 0 && is_in_form {
            return Ok(report);
        }
        let kept = self.kept_layers(graph, new_commits);
        let below: Vec<ObjectId> = graph
            .iter()
            .flat_map(|graph| &graph.layers[..kept])
            .map(|layer| layer.checksum().to_owned())
            .collect();
        let below_len = graph.map_or(0, |graph| graph.starts[kept]);
        if self.layout == GraphLayout::OneFile {
            // Each commit from its object: what was wrong before ends here.
            found = self.find(None, 0, tick)?;
        } else if below_len < known {
            found = self.find(graph, below_len, tick)?;
        }
        if found.positions.is_empty() {
            return Ok(report);
        }
        let table = self.table(graph, below_len, &below, kept, found)?;
        report.commits = below_len + table.dates.len() as u32;
        report.layers_after = kept + 1;
        report.is_changed = true;
        self.place(&table)?;
        Ok(report)
    }

    /// How many layers stay as they are.
    fn kept_layers(&self, graph: Option<&CommitGraph>, new_commits: u32) -> usize {
        let Some(graph) =
            graph.filter(|graph| self.layout == GraphLayout::Chain && graph.form == Form::Chain && graph.is_whole)
        else {
            return 0;
        };
        let mut kept = graph.layer_count();
        let mut upon = u64::from(new_commits);
        while let Some(top) = kept.checked_sub(1) {
            let len = u64::from(graph.layers[top].len());
            if len > SIZE_MULTIPLE * upon && kept < MAX_LAYERS - 1 {
                break;
            }
            upon += len;
            kept = top;
        }
        kept
    }

    /// Walks from the tips to commits that `graph` has below number `limit`. What it has above is
    /// taken from it, everything else from objects.
    fn find(&self, graph: Option<&CommitGraph>, limit: u32, tick: Tick<'_>) -> Result<Found, WriteError> {
        let mut reader = self.store.reader(CACHE_BYTES).without_graph();
        let mut met = Bits::new(self.store.len());
        let mut found = Found::default();
        let mut stack = Vec::new();
        let mut since_tick = 0;
        for tip in &self.tips {
            let (id, kind) = reader.peel(tip)?.ok_or(WriteError::Missing(*tip))?;
            if kind != ObjectKind::Commit {
                continue;
            }
            if let Parent::Found(position) = self.place_of(&id, graph, limit)?
                && met.set(position)
            {
                stack.push(position);
            }
            while let Some(position) = stack.pop() {
                since_tick += 1;
                if since_tick >= COMMITS_PER_TICK {
                    since_tick = 0;
                    tick()?;
                }
                let commit = self.commit(position, graph, &mut reader)?;
                found.positions.push(position);
                found.trees.extend(commit.tree.as_bytes());
                found.dates.push(stored_date(commit.committed_at_secs));
                for parent in &commit.parents {
                    let place = self.place_of(parent, graph, limit)?;
                    if let Parent::Found(position) = place
                        && met.set(position)
                    {
                        stack.push(position);
                    }
                    found.parents.push(place);
                }
                found.parent_ends.push(found.parents.len());
            }
        }
        if found.positions.len() > (MAX_COMMITS - limit) as usize {
            return Err(WriteError::TooMany);
        }
        Ok(found)
    }

    fn place_of(&self, id: &ObjectId, graph: Option<&CommitGraph>, limit: u32) -> Result<Parent, WriteError> {
        if let Some(GraphPos(number)) = graph.and_then(|graph| graph.position(id))
            && number < limit
        {
            return Ok(Parent::Below(number));
        }
        let position = self.store.position(id).ok_or(WriteError::Missing(*id))?;
        Ok(Parent::Found(position))
    }

    fn commit(
        &self,
        position: Pos,
        graph: Option<&CommitGraph>,
        reader: &mut Reader<'_>,
    ) -> Result<CommitInfo, WriteError> {
        let id = self.store.id(position);
        if let Some(known) = graph.and_then(|graph| graph.info(&id)) {
            return Ok(known);
        }
        let commit = reader.commit_at(position)?;
        Ok(commit.ok_or_else(|| StoreError::damaged(id, "a commit was expected here"))?)
    }

    /// Sorts the commits and computes both generation numbers.
    fn table<'t>(
        &self,
        graph: Option<&CommitGraph>,
        below_len: u32,
        below: &'t [ObjectId],
        kept: usize,
        found: Found,
    ) -> Result<Table<'t>, WriteError> {
        let count = found.positions.len();
        let mut order: Vec<(ObjectId, u32)> = (0..)
            .zip(&found.positions)
            .map(|(at, position)| (self.store.id(*position), at))
            .collect();
        order.sort_unstable();
        let numbers: HashMap<Pos, u32> = (below_len..)
            .zip(&order)
            .map(|(number, (_, at))| (found.positions[*at as usize], number))
            .collect();
        let hash_len = self.store.hash().len_in_bytes();
        let mut table = Table {
            hash: self.store.hash(),
            below,
            ids: Vec::with_capacity(count * hash_len),
            trees: Vec::with_capacity(count * hash_len),
            parents: Vec::with_capacity(found.parents.len()),
            parent_ends: Vec::with_capacity(count),
            dates: Vec::with_capacity(count),
            levels: vec![0; count],
            corrected_dates: vec![0; count],
        };
        for (id, at) in &order {
            let at = *at as usize;
            table.ids.extend(id.as_bytes());
            table.trees.extend(&found.trees[at * hash_len..][..hash_len]);
            table.dates.push(found.dates[at]);
            for parent in found.parents(at) {
                table.parents.push(match parent {
                    Parent::Below(number) => *number,
                    Parent::Found(position) => numbers[position],
                });
            }
            table.parent_ends.push(table.parents.len());
        }
        let base = match graph.filter(|_| kept > 0) {
            Some(graph) => Some(Base::read(graph, kept)?),
            None => None,
        };
        number_generations(&mut table, below_len, base.as_ref())?;
        Ok(table)
    }

    fn place(&self, table: &Table<'_>) -> Result<(), WriteError> {
        let is_chain = self.layout == GraphLayout::Chain;
        let target = self.objects_dir.join(if is_chain { CHAIN_FILE } else { ONE_FILE });
        let fail = |source| WriteError::Io {
            path: target.clone(),
            source,
        };
        let lock = Lock::take(self.objects_dir, is_chain).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Busy(target.with_added_extension("lock")),
            _ => fail(source),
        })?;
        if GraphStamp::read(self.objects_dir) != self.stamp {
            return Err(WriteError::Replaced);
        }
        if is_chain {
            let checksum = lock.write_layer(self.objects_dir, table).map_err(fail)?;
            // Until it is gone, git prefers it to the chain.
            place::remove_one_file(self.objects_dir).map_err(fail)?;
            let in_use = [table.below, &[checksum]].concat();
            place::remove_layers(self.objects_dir, &in_use).map_err(fail)
        } else {
            lock.write_one_file(table).map_err(fail)?;
            place::remove_chain(self.objects_dir).map_err(fail)
        }
    }
}

/// What the layers that stay say of generations.
struct Base<'g> {
    graph: &'g CommitGraph,
    kept: usize,
    corrected_dates: Vec<u64>,
}

impl<'g> Base<'g> {
    fn read(graph: &'g CommitGraph, kept: usize) -> Result<Self, GraphError> {
        let corrected_dates = graph.corrected_dates_of(kept)?.ok_or_else(|| {
            let path = graph.layers[kept - 1].path();
            GraphError::damaged(path, "an older Git wrote it without corrected commit dates")
        })?;
        Ok(Self {
            graph,
            kept,
            corrected_dates,
        })
    }

    /// Level and corrected date.
    fn generations(&self, number: u32) -> Result<(u32, u64), GraphError> {
        let (layer, at) = self.graph.locate(GraphPos(number)).ok_or_else(|| {
            let path = self.graph.layers[self.kept - 1].path();
            GraphError::damaged(path, "it names a parent outside of it")
        })?;
        let layer = &self.graph.layers[layer];
        match layer.level(at) {
            0 => Err(GraphError::damaged(layer.path(), "a commit has no level")),
            level => Ok((level, self.corrected_dates[number as usize])),
        }
    }
}

/// Computes levels and corrected dates, parents first.
fn number_generations(table: &mut Table<'_>, below_len: u32, base: Option<&Base<'_>>) -> Result<(), GraphError> {
    let count = table.dates.len();
    let mut is_open = vec![false; count];
    let mut stack: Vec<usize> = Vec::new();
    for start in 0..count {
        if table.levels[start] == 0 {
            stack.push(start);
        }
        while let Some(&at) = stack.last() {
            if table.levels[at] != 0 {
                stack.pop();
                continue;
            }
            let first = if at == 0 { 0 } else { table.parent_ends[at - 1] };
            let before = stack.len();
            // Zero would mean that it was not computed.
            let (mut level, mut date) = (0, 1);
            for parent in &table.parents[first..table.parent_ends[at]] {
                let (parent_level, parent_date) = match parent.checked_sub(below_len) {
                    Some(here) => {
                        let here = here as usize;
                        if table.levels[here] == 0 {
                            stack.push(here);
                        }
                        (table.levels[here], table.corrected_dates[here])
                    }
                    None => match base {
                        Some(base) => base.generations(*parent)?,
                        None => (0, 0),
                    },
                };
                level = level.max(parent_level);
                date = date.max(parent_date.saturating_add(1));
            }
            if stack.len() == before {
                table.levels[at] = (level + 1).min(LEVEL_MAX);
                table.corrected_dates[at] = date.max(table.dates[at]);
                stack.pop();
            } else if std::mem::replace(&mut is_open[at], true) {
                // Ids are hashes of what they name, so only a graph that lies can say so.
                let path = base.map_or(Path::new(ONE_FILE), |base| base.graph.layers[base.kept - 1].path());
                return Err(GraphError::damaged(path, "commits are each other's ancestors"));
            }
        }
    }
    Ok(())
}
