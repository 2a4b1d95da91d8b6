//! Git's commit-graph: what walks need of commits, in a table instead of in compressed objects
//! (gitformat-commit-graph).
//!
//! Either one file, `objects/info/commit-graph`, or a chain of layers in
//! `objects/info/commit-graphs`, of which each holds commits that the ones below lack. The graph is
//! never needed: whoever does not find a commit in it reads the object.
//!
//! A file is used only if its checksum is right, so that a bit that flipped on disk means slower
//! answers and not wrong ones; git itself does not look. Files are mapped and their tables bounded
//! by `gix-commitgraph`, which knows neither the second generation number nor how to write.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gix::hash::{Kind, ObjectId, oid};

use super::object_store::{CommitInfo, FileStamp};

mod encode;
mod layer;
mod place;
#[cfg(test)]
mod tests;
mod write;

use layer::Layer;
pub use write::{GraphLayout, WriteError, WriteReport, write};

/// The graph as one file, from the object folder. Git prefers it to a chain.
const ONE_FILE: &str = "info/commit-graph";
/// The folder of the layers, from the object folder.
const CHAIN_FOLDER: &str = "info/commit-graphs";
/// The file in it that lists the layers, lowest first.
const CHAIN_FILE: &str = "info/commit-graphs/commit-graph-chain";
/// Layers of a chain; the format counts those below a layer in one byte.
const MAX_LAYERS: usize = 256;
/// Largest list of layers that is read, in bytes.
const MAX_CHAIN_FILE_BYTES: u64 = (MAX_LAYERS * 66) as u64;
/// Largest file that is used, in bytes: a hundred million commits.
const MAX_LAYER_BYTES: u64 = 8 << 30;
/// Commits of all layers together; larger numbers have other meanings.
const MAX_COMMITS: u32 = gix_commitgraph::MAX_COMMITS;
/// Parents of one commit; one with more is read from its object.
const MAX_PARENTS: usize = 1 << 16;
/// How often the chain is read again because a layer vanished meanwhile.
const MAX_LISTINGS: usize = 4;

/// What is wrong with a commit-graph. The repository itself is not touched by it.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// A file could not be read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file is damaged.
    #[error("{}: damaged: {detail}; `git commit-graph write` makes it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl GraphError {
    fn damaged(path: &Path, detail: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            detail: detail.to_string(),
        }
    }
}

/// Number of a commit in one [`CommitGraph`], through all layers from the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraphPos(pub u32);

/// What a graph says of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphCommit {
    /// Its root tree.
    pub tree: ObjectId,
    /// Its parents, first parent first.
    pub parents: Vec<GraphPos>,
    /// When it was committed, in seconds since 1970, as far as 34 bits hold it.
    pub committed_at_secs: i64,
    /// Its topological level: 1 without parents, else one more than the highest of its parents.
    /// 0 where the writer did not know, [`LEVEL_MAX`] where it is at least that.
    pub level: u32,
}

/// The highest level that is told; it means "this or more".
pub const LEVEL_MAX: u32 = gix_commitgraph::GENERATION_NUMBER_MAX;

/// Where a graph was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneFile,
    Chain,
}

/// The commit-graph of one object folder.
pub struct CommitGraph {
    hash: Kind,
    form: Form,
    /// Lowest first.
    layers: Vec<Arc<Layer>>,
    /// Number of the first commit of each layer; then the number of all.
    starts: Vec<u32>,
    /// No layer that the chain lists is left out.
    is_whole: bool,
    /// Something in it turned out wrong; it is not asked again.
    is_given_up: AtomicBool,
}

/// Tells whether the graph of an object folder was replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::git) struct GraphStamp {
    one_file: Option<FileStamp>,
    chain: Option<FileStamp>,
}

impl GraphStamp {
    /// Costs two `stat` calls.
    pub(in crate::git) fn read(objects_dir: &Path) -> Self {
        Self {
            one_file: FileStamp::read(&objects_dir.join(ONE_FILE)),
            chain: FileStamp::read(&objects_dir.join(CHAIN_FILE)),
        }
    }
}

impl CommitGraph {
    /// Opens the graph of an object folder; `None` if there is none.
    ///
    /// Layers that `previous` has open and that did not change on disk are shared with it. If an
    /// upper layer of a chain is absent or damaged, the ones below are used, as in git; a warning is
    /// logged. Each file is read once to check it.
    ///
    /// # Errors
    /// [`GraphError`] if nothing of it can be used.
    pub fn open(objects_dir: &Path, hash: Kind, previous: Option<&Self>) -> Result<Option<Self>, GraphError> {
        let path = objects_dir.join(ONE_FILE);
        match Layer::open(&path, hash, None, previous_layer(previous, &path)) {
            Ok(Some(layer)) => return Self::assemble(hash, Form::OneFile, vec![layer], true).map(Some),
            Ok(None) => {}
            // As git does: a damaged file does not uncover an older chain.
            Err(error) => return Err(error),
        }
        for attempt in 1..=MAX_LISTINGS {
            let Some(ids) = read_chain(objects_dir, hash)? else {
                return Ok(None);
            };
            let folder = objects_dir.join(CHAIN_FOLDER);
            let mut layers: Vec<Arc<Layer>> = Vec::with_capacity(ids.len());
            let mut broken = None;
            for (number, id) in ids.iter().enumerate() {
                let path = folder.join(layer_name(id));
                match Layer::open(&path, hash, Some((&ids[..number], id)), previous_layer(previous, &path)) {
                    Ok(Some(layer)) => layers.push(layer),
                    Ok(None) => {
                        broken = Some(GraphError::damaged(&path, "the chain lists it, and it is not there"));
                        break;
                    }
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
            }
            match broken {
                None => return Self::assemble(hash, Form::Chain, layers, true).map(Some),
                // Stock git may have replaced the chain since it was read.
                Some(_) if attempt < MAX_LISTINGS && read_chain(objects_dir, hash)?.is_none_or(|now| now != ids) => {}
                Some(error) if layers.is_empty() => return Err(error),
                Some(error) => {
                    tracing::warn!(%error, "the commit-graph is used without its upper layers");
                    return Self::assemble(hash, Form::Chain, layers, false).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Like [`CommitGraph::open`]; a graph that cannot be used is none, and a warning is logged.
    pub(in crate::git) fn open_or_warn(objects_dir: &Path, hash: Kind, previous: Option<&Self>) -> Option<Self> {
        Self::open(objects_dir, hash, previous).unwrap_or_else(|error| {
            tracing::warn!(%error, "the commit-graph is not used; commits are read from their objects");
            None
        })
    }

    fn assemble(hash: Kind, form: Form, layers: Vec<Arc<Layer>>, is_whole: bool) -> Result<Self, GraphError> {
        let mut starts = Vec::with_capacity(layers.len() + 1);
        let mut next = 0_u32;
        for layer in &layers {
            starts.push(next);
            next = next
                .checked_add(layer.len())
                .filter(|all| *all <= MAX_COMMITS)
                .ok_or_else(|| GraphError::damaged(layer.path(), "more commits than can be numbered"))?;
        }
        starts.push(next);
        Ok(Self {
            hash,
            form,
            layers,
            starts,
            is_whole,
            is_given_up: AtomicBool::new(false),
        })
    }

    /// Number of commits in it.
    pub fn len(&self) -> u32 {
        self.starts[self.layers.len()]
    }

    /// Whether it holds no commit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of files it consists of.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// The number of a commit; `None` if it is not in the graph, which says nothing about whether
    /// there is one.
    pub fn position(&self, id: &oid) -> Option<GraphPos> {
        if id.kind() != self.hash {
            return None;
        }
        self.layers
            .iter()
            .zip(&self.starts)
            .find_map(|(layer, start)| layer.position(id).map(|at| GraphPos(start + at)))
    }

    /// The id of a commit; `None` if the graph has no such number.
    pub fn id(&self, position: GraphPos) -> Option<&oid> {
        let (number, at) = self.locate(position)?;
        Some(self.layers[number].id(at))
    }

    /// What the graph says of a commit.
    ///
    /// # Errors
    /// [`GraphError::Damaged`] if it names parents that it does not hold, or has no such number.
    pub fn commit(&self, position: GraphPos) -> Result<GraphCommit, GraphError> {
        let (number, at) = self.locate(position).ok_or_else(|| {
            let path = self.layers.last().map_or(Path::new(""), |layer| layer.path());
            GraphError::damaged(path, format!("it has no commit number {}", position.0))
        })?;
        let layer = &self.layers[number];
        // Parents are in the same layer or below.
        layer.commit(at, self.starts[number + 1])
    }

    /// What walks need of a commit; `None` if the graph does not hold it or proved unusable, of
    /// which a warning is logged once.
    pub(in crate::git) fn info(&self, id: &oid) -> Option<CommitInfo> {
        let position = self.position(id)?;
        if self.is_given_up.load(Ordering::Relaxed) {
            return None;
        }
        let commit = self.commit_or_give_up(position)?;
        let parents = commit.parents.iter().filter_map(|parent| self.id(*parent));
        Some(CommitInfo {
            tree: commit.tree,
            parents: parents.map(ToOwned::to_owned).collect(),
            committed_at_secs: commit.committed_at_secs,
        })
    }

    /// The level of a commit, see [`GraphCommit::level`]; `None` where the graph does not tell.
    pub(in crate::git) fn level(&self, id: &oid) -> Option<u32> {
        let (number, at) = self.locate(self.position(id)?)?;
        if self.is_given_up.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.layers[number].level(at)).filter(|level| *level != 0)
    }

    fn commit_or_give_up(&self, position: GraphPos) -> Option<GraphCommit> {
        self.commit(position)
            .inspect_err(|error| {
                if !self.is_given_up.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the commit-graph is not used; commits are read from their objects");
                }
            })
            .ok()
    }

    /// The second generation number of every commit by number: its corrected commit date, which is
    /// later than that of each parent and not before its own date, in seconds since 1970. `None` if a
    /// layer lacks them.
    ///
    /// # Errors
    /// [`GraphError`] if they cannot be read.
    pub fn corrected_dates(&self) -> Result<Option<Vec<u64>>, GraphError> {
        self.corrected_dates_of(self.layers.len())
    }

    /// Of the lowest `layer_count` layers.
    fn corrected_dates_of(&self, layer_count: usize) -> Result<Option<Vec<u64>>, GraphError> {
        let mut all = Vec::with_capacity(self.starts[layer_count] as usize);
        for layer in &self.layers[..layer_count] {
            match layer.corrected_dates()? {
                Some(dates) => all.extend(dates),
                None => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    fn locate(&self, position: GraphPos) -> Option<(usize, u32)> {
        if position.0 >= self.len() {
            return None;
        }
        let number = self.starts.partition_point(|start| *start <= position.0) - 1;
        Some((number, position.0 - self.starts[number]))
    }
}

fn previous_layer<'p>(previous: Option<&'p CommitGraph>, path: &Path) -> Option<&'p Arc<Layer>> {
    previous?.layers.iter().find(|layer| layer.path() == path)
}

/// File name of the layer with this checksum.
fn layer_name(id: &ObjectId) -> String {
    format!("graph-{id}.graph")
}

/// Checksums of the layers that the chain lists, lowest first; `None` if there is no chain.
fn read_chain(objects_dir: &Path, hash: Kind) -> Result<Option<Vec<ObjectId>>, GraphError> {
    let path = objects_dir.join(CHAIN_FILE);
    let fail = |source| GraphError::Io {
        path: path.clone(),
        source,
    };
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    let mut content = Vec::new();
    file.take(MAX_CHAIN_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(fail)?;
    let damaged = |detail: &str| GraphError::damaged(&path, detail);
    if content.len() as u64 > MAX_CHAIN_FILE_BYTES {
        return Err(damaged("it lists more layers than a chain may have"));
    }
    let mut ids = Vec::new();
    for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let id = ObjectId::from_hex(line).ok().filter(|id| id.kind() == hash);
        ids.push(id.ok_or_else(|| damaged("a line is not a checksum"))?);
    }
    if ids.is_empty() || ids.len() > MAX_LAYERS {
        return Err(damaged("it lists no layer, or more than a chain may have"));
    }
    if ids.iter().collect::<HashSet<_>>().len() != ids.len() {
        return Err(damaged("it lists a layer twice"));
    }
    Ok(Some(ids))
}
