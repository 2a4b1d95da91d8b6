//! One repository as it is at one moment: refs, objects and configuration that fit together.
//!
//! A request takes one [`Snapshot`] and works on it without locks; pushes, maintenance and stock git
//! on the same disk only make the next request see a newer one.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bstr::BString;
use gix::hash::{Kind, ObjectId};

use super::commit_graph::{CommitGraph, GraphStamp};
use super::object_store::{FileStamp, ObjectKind, ObjectStore, Pos, Reader, StoreError};
use super::refs::{Head, Peeled, RawRef, Ref, RefFiles, Refs};
use super::repo_config::{BadConfig, RepoConfig};
use super::upload_pack::Answers;
use super::walk::{Bits, WalkError, Walker};
use super::work::Tick;

/// Decoded objects larger than this are refused: what needs decoding is history, folders and deltas.
const MAX_OBJECT_BYTES: usize = 256 << 20;
/// Memory for delta bases while refs are peeled, in bytes.
const PEEL_CACHE_BYTES: usize = 4 << 20;
/// Memory for delta bases while reachability is computed, in bytes.
const WALK_CACHE_BYTES: usize = 64 << 20;
/// Where the refs lie that put other objects in the place of some.
const REPLACE_REFS: &[u8] = b"refs/replace/";
/// Refs up to which bitmaps tell sooner what they reach than a walk through recent commits.
const FEW_REFS: usize = 2048;
/// See [`super::refs`]: a younger time stamp may hide a change.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// Why a repository cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no bare repository at this place.
    #[error("{}: not a bare Git repository", .0.display())]
    NotARepository(PathBuf),
    /// Its configuration cannot be used.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// Its refs or objects cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One bare repository on disk; shared by all requests on it.
pub struct Repository {
    path: PathBuf,
    trusts_config: bool,
    answers: Option<Arc<Answers>>,
    state: Mutex<State>,
}

struct State {
    files: RefFiles,
    config_stamp: Option<FileStamp>,
    pack_stamp: Option<FileStamp>,
    /// The pack folder's time stamp was old enough when it was read to tell any later change.
    is_pack_settled: bool,
    /// What changed on disk was looked at, but no snapshot was made of it yet.
    is_behind: bool,
    graph: GraphFiles,
    snapshot: Option<Arc<Snapshot>>,
}

/// The commit-graph, and what its files were like when it was opened.
struct GraphFiles {
    objects_dir: PathBuf,
    hash: Kind,
    stamp: GraphStamp,
    graph: Option<Arc<CommitGraph>>,
}

impl GraphFiles {
    fn new(objects_dir: PathBuf, hash: Kind) -> Self {
        Self {
            objects_dir,
            hash,
            stamp: GraphStamp::default(),
            graph: None,
        }
    }

    /// Opens the graph anew if its files were replaced; tells whether they were.
    fn refresh(&mut self) -> bool {
        let stamp = GraphStamp::read(&self.objects_dir);
        if stamp == self.stamp {
            return false;
        }
        self.graph = CommitGraph::open_or_warn(&self.objects_dir, self.hash, self.graph.as_deref()).map(Arc::new);
        self.stamp = stamp;
        true
    }
}

/// One repository as it is at one moment.
pub struct Snapshot {
    /// Its refs.
    pub refs: Refs,
    /// Its objects.
    pub objects: Arc<ObjectStore>,
    /// Its configuration.
    pub config: Arc<RepoConfig>,
    /// Commits whose parents the repository itself lacks (git's `shallow` file).
    pub shallow: Vec<ObjectId>,
    may_use_graph: bool,
    /// Answers that were made of this and other snapshots.
    pub(super) answers: Option<Arc<Answers>>,
    number: u64,
    reach: Mutex<Reach>,
}

/// Number of the next snapshot of this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// What the visible refs reach, computed when first asked for.
#[derive(Default)]
struct Reach {
    commits: Option<Arc<Bits>>,
    objects: Option<Arc<Bits>>,
}

impl Repository {
    /// Opens the bare repository at `path`.
    ///
    /// `trusts_config`: an administrator trusts its configuration's includes and its hooks.
    ///
    /// # Errors
    /// [`OpenError`] if it is none, or uses a format that is not supported.
    pub fn open(path: &Path, trusts_config: bool) -> Result<Arc<Self>, OpenError> {
        Self::open_with(path, trusts_config, None)
    }

    /// Like [`Repository::open`]; answers to fetches are remembered in `answers`.
    ///
    /// # Errors
    /// [`OpenError`] if it is none, or uses a format that is not supported.
    pub fn open_with(path: &Path, trusts_config: bool, answers: Option<Arc<Answers>>) -> Result<Arc<Self>, OpenError> {
        if !path.join("HEAD").is_file() || !path.join("objects").is_dir() || !path.join("refs").is_dir() {
            return Err(OpenError::NotARepository(path.to_owned()));
        }
        let config = RepoConfig::read(&path.join("config"), trusts_config)?;
        let repository = Self {
            path: path.to_owned(),
            trusts_config,
            answers,
            state: Mutex::new(State {
                files: RefFiles::new(path, config.object_hash()),
                config_stamp: None,
                pack_stamp: None,
                is_pack_settled: false,
                is_behind: false,
                graph: GraphFiles::new(path.join("objects"), config.object_hash()),
                snapshot: None,
            }),
        };
        repository.snapshot()?;
        Ok(Arc::new(repository))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its own object folder.
    pub fn objects_dir(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Whether an administrator trusts its hooks and its configuration's includes.
    pub fn trusts_config(&self) -> bool {
        self.trusts_config
    }

    /// The repository as it is now. Costs a few `stat` calls when nothing changed.
    ///
    /// # Errors
    /// [`OpenError`] if it cannot be read.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, OpenError> {
        self.look(false)
    }

    /// Like [`Repository::snapshot`], but looks for new objects even where no time stamp tells of
    /// any: after a miss.
    ///
    /// # Errors
    /// [`OpenError`] if it cannot be read.
    pub fn reload(&self) -> Result<Arc<Snapshot>, OpenError> {
        self.look(true)
    }

    fn look(&self, reload_objects: bool) -> Result<Arc<Snapshot>, OpenError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        // Refs first: objects are written before the refs that name them, so objects that are
        // listed later hold all that these refs name.
        let was_behind = std::mem::replace(&mut state.is_behind, true);
        let refs_changed = state.files.refresh()? || was_behind;
        let config_path = self.path.join("config");
        let config_stamp = FileStamp::read(&config_path);
        let pack_stamp = FileStamp::read(&self.path.join("objects/pack"));
        let mut previous = state.snapshot.clone();
        // An old graph is as right as a new one, so that of a snapshot may change while it is used.
        if state.graph.refresh()
            && let Some(snapshot) = &previous
        {
            snapshot.use_graph(&state.graph);
        }
        let config_changed = previous.is_none() || config_stamp != state.config_stamp;
        let packs_changed =
            reload_objects || previous.is_none() || !state.is_pack_settled || pack_stamp != state.pack_stamp;
        if let (Some(snapshot), false, false, false) = (&previous, refs_changed, config_changed, packs_changed) {
            state.is_behind = false;
            return Ok(snapshot.clone());
        }
        let config = match &previous {
            Some(snapshot) if !config_changed => snapshot.config.clone(),
            _ => Arc::new(RepoConfig::read(&config_path, self.trusts_config)?),
        };
        if config.object_hash() != state.files.hash() {
            // Another repository lies here than before: nothing known of the old one holds.
            state.files = RefFiles::new(&self.path, config.object_hash());
            state.files.refresh()?;
            state.graph = GraphFiles::new(self.objects_dir(), config.object_hash());
            state.graph.refresh();
            previous = None;
        }
        let objects = match &previous {
            Some(snapshot) if !packs_changed => snapshot.objects.clone(),
            _ => self.open_objects(&config, previous.as_deref())?,
        };
        let is_same_store = previous
            .as_ref()
            .is_some_and(|snapshot| same_content(&snapshot.objects, &objects));
        state.is_pack_settled = pack_stamp
            .as_ref()
            .and_then(FileStamp::modified)
            .is_some_and(|modified| {
                SystemTime::now()
                    .duration_since(modified)
                    .is_ok_and(|age| age > CLOCK_TICK)
            });
        state.pack_stamp = pack_stamp;
        state.config_stamp = config_stamp;
        if let (Some(snapshot), true, false, false) = (&previous, is_same_store, refs_changed, config_changed) {
            state.is_behind = false;
            return Ok(snapshot.clone());
        }
        let (head, raw) = state.files.collect()?;
        let snapshot = Arc::new(self.assemble(head, raw, objects, config, previous.as_deref(), packs_changed)?);
        snapshot.use_graph(&state.graph);
        state.snapshot = Some(snapshot.clone());
        state.is_behind = false;
        Ok(snapshot)
    }

    fn open_objects(&self, config: &RepoConfig, previous: Option<&Snapshot>) -> Result<Arc<ObjectStore>, StoreError> {
        ObjectStore::open(
            &self.objects_dir(),
            config.object_hash(),
            &[],
            previous.map(|snapshot| &*snapshot.objects),
            MAX_OBJECT_BYTES,
        )
        .map(Arc::new)
    }

    fn assemble(
        &self,
        head: Head,
        raw: Vec<RawRef>,
        mut objects: Arc<ObjectStore>,
        config: Arc<RepoConfig>,
        previous: Option<&Snapshot>,
        is_fresh: bool,
    ) -> Result<Snapshot, OpenError> {
        let known: HashMap<&BString, &Ref> = previous
            .map(|snapshot| snapshot.refs.all().iter().map(|known| (&known.name, known)).collect())
            .unwrap_or_default();
        let is_known = |raw: &RawRef| known.get(&raw.name).is_some_and(|known| known.target == raw.target);
        // Loose objects may have been listed while they were written, in any order: one that is here
        // says nothing of those it needs.
        let is_whole = |position: Pos| objects.locate(position).is_some();
        let lacks = |raw: &RawRef| !is_known(raw) && !objects.position(&raw.target).is_some_and(is_whole);
        if !is_fresh && raw.iter().any(lacks) {
            objects = self.open_objects(&config, previous)?;
        }
        let mut reader = objects.reader(PEEL_CACHE_BYTES);
        let mut all = Vec::with_capacity(raw.len());
        for raw in raw {
            let peeled = match (known.get(&raw.name), raw.peeled) {
                (Some(known), _) if known.target == raw.target => known.peeled,
                (_, Peeled::Known(peeled)) if objects.contains(&raw.target) => peeled,
                _ => match peel(&mut reader, &raw) {
                    Ok(Some(peeled)) => peeled,
                    Ok(None) => {
                        tracing::warn!(r#ref = %raw.name, repository = %self.path.display(),
                            "a ref names an object that is not here and is left out");
                        continue;
                    }
                    // One damaged object must not keep people from everything else.
                    Err(error @ StoreError::Damaged { .. }) => {
                        tracing::error!(r#ref = %raw.name, repository = %self.path.display(), %error,
                            "a ref names a damaged object and is left out");
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            all.push(Ref {
                name: raw.name,
                target: raw.target,
                peeled,
                symref: raw.symref,
            });
        }
        drop(reader);
        let head = match head {
            Head::Symbolic { branch, target } => Head::Symbolic {
                branch,
                target: target.filter(|target| objects.contains(target)),
            },
            detached => detached,
        };
        let shallow = read_shallow(&self.path.join("shallow"), objects.hash())?;
        let is_replaced = all.iter().any(|known| known.name.starts_with(REPLACE_REFS));
        let has_grafts = fs::metadata(self.path.join("info/grafts")).is_ok_and(|grafts| grafts.len() > 0);
        Ok(Snapshot {
            refs: Refs::new(head, all),
            objects,
            config,
            may_use_graph: shallow.is_empty() && !is_replaced && !has_grafts,
            shallow,
            answers: self.answers.clone(),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            reach: Mutex::default(),
        })
    }
}

/// Whether two views hold the same files, so that nothing computed on one is stale on the other.
fn same_content(a: &ObjectStore, b: &ObjectStore) -> bool {
    std::ptr::eq(a, b)
        || (a.len() == b.len()
            && a.has_loose_of(b)
            && a.has_bitmaps_of(b)
            && a.packs().len() == b.packs().len()
            && a.packs().iter().zip(b.packs()).all(|(a, b)| Arc::ptr_eq(a, b)))
}

/// What the object of a ref names in the end if it is a tag; outer `None` if it is not here.
fn peel(reader: &mut Reader<'_>, raw: &RawRef) -> Result<Option<Option<ObjectId>>, StoreError> {
    Ok(match reader.header(&raw.target)? {
        None => None,
        Some((ObjectKind::Tag, _)) => reader.peel(&raw.target)?.map(|(id, _)| Some(id)),
        Some(_) => Some(None),
    })
}

fn read_shallow(path: &Path, hash: Kind) -> Result<Vec<ObjectId>, StoreError> {
    match fs::read(path) {
        Ok(content) => content
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let id = ObjectId::from_hex(line).ok().filter(|id| id.kind() == hash);
                id.ok_or_else(|| StoreError::damaged(path.display(), "a line is not an object id"))
            })
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(StoreError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

impl Snapshot {
    /// The hash function of its ids.
    pub fn hash(&self) -> Kind {
        self.objects.hash()
    }

    /// Whether a commit-graph of the repository is read and written. As in git it is not where
    /// history is shallow, grafted, or has replaced objects.
    pub fn may_use_graph(&self) -> bool {
        self.may_use_graph
    }

    fn use_graph(&self, files: &GraphFiles) {
        self.objects
            .set_graph(files.graph.clone().filter(|_| self.may_use_graph));
    }

    /// Its number: no other snapshot of this process has it, so what was computed on this one is found
    /// by it and is never taken for that of another.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether fetches may see this ref.
    pub fn is_visible(&self, name: &[u8]) -> bool {
        !self.config.hidden_from_upload(name)
    }

    /// The ids that fetches are told of: visible refs, and `HEAD` unless its branch is hidden.
    pub fn visible_tips(&self) -> Vec<ObjectId> {
        let mut tips: Vec<ObjectId> = self
            .refs
            .all()
            .iter()
            .filter(|known| self.is_visible(&known.name))
            .map(|known| known.target)
            .collect();
        match self.refs.head() {
            Head::Detached(id) if self.is_visible(b"HEAD") && self.objects.contains(id) => tips.push(*id),
            _ => {}
        }
        tips.sort_unstable();
        tips.dedup();
        tips
    }

    /// Every id a ref names, hidden ones included.
    pub fn all_tips(&self) -> Vec<ObjectId> {
        let mut tips: Vec<ObjectId> = self.refs.all().iter().map(|known| known.target).collect();
        if let Head::Detached(id) = self.refs.head() {
            tips.push(*id);
        }
        tips.sort_unstable();
        tips.dedup();
        tips
    }

    /// Tells of each commit whether the visible refs or `extra_tips` reach it. Ids of other objects
    /// and of absent ones are not reached.
    ///
    /// The visible refs' commits are walked once per snapshot.
    ///
    /// # Errors
    /// [`WalkError`] if history is damaged or the work is stopped.
    pub fn reachable_commits(
        &self,
        ids: &[ObjectId],
        extra_tips: &[ObjectId],
        tick: Tick<'_>,
    ) -> Result<Vec<bool>, WalkError> {
        let mut bits = self.commits_of_visible(tick)?;
        let extra_tips = self.present(extra_tips);
        if !extra_tips.is_empty() {
            let mut walker = Walker::new(&self.objects, &self.shallow, WALK_CACHE_BYTES);
            walker.add_commits(&extra_tips, Arc::make_mut(&mut bits), tick)?;
        }
        Ok(self.look_up(ids, &bits))
    }

    /// Tells of each object whether the visible refs or `extra_tips` reach it.
    ///
    /// The visible refs' objects are walked once per snapshot.
    ///
    /// # Errors
    /// [`WalkError`] if history is damaged or the work is stopped.
    pub fn reachable(&self, ids: &[ObjectId], extra_tips: &[ObjectId], tick: Tick<'_>) -> Result<Vec<bool>, WalkError> {
        // Most ids that are asked for are commits, and commits are cheap to walk.
        let as_commits = self.reachable_commits(ids, extra_tips, tick)?;
        if as_commits.iter().all(|is_reached| *is_reached) {
            return Ok(as_commits);
        }
        let mut bits = self.objects_of_visible(tick)?;
        let extra_tips = self.present(extra_tips);
        if !extra_tips.is_empty() {
            let mut walker = Walker::new(&self.objects, &self.shallow, WALK_CACHE_BYTES);
            walker.add_closure(&extra_tips, Arc::make_mut(&mut bits), tick)?;
        }
        Ok(self.look_up(ids, &bits))
    }

    /// Whether [`Snapshot::reachable_commits`] is answered without a walk, or with a short one.
    pub fn knows_reachable_commits(&self) -> bool {
        if self.refs.all().len() <= FEW_REFS && self.shallow.is_empty() && self.objects.bitmaps().is_some() {
            return true;
        }
        let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        reach.commits.is_some()
    }

    /// Whether [`Snapshot::reachable`] is answered without a walk, or with one through the newest
    /// commits only.
    pub fn knows_reachable_objects(&self) -> bool {
        if self.shallow.is_empty() && self.objects.bitmaps().is_some() {
            return true;
        }
        let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        reach.objects.is_some()
    }

    /// Old tips may be pruned by now.
    fn present(&self, ids: &[ObjectId]) -> Vec<ObjectId> {
        ids.iter().filter(|id| self.objects.contains(id)).copied().collect()
    }

    fn look_up(&self, ids: &[ObjectId], bits: &Bits) -> Vec<bool> {
        ids.iter()
            .map(|id| self.objects.position(id).is_some_and(|position| bits.has(position)))
            .collect()
    }

    fn commits_of_visible(&self, tick: Tick<'_>) -> Result<Arc<Bits>, WalkError> {
        if let Some(bits) = &self.reach.lock().unwrap_or_else(PoisonError::into_inner).commits {
            return Ok(bits.clone());
        }
        let mut walker = Walker::new(&self.objects, &self.shallow, WALK_CACHE_BYTES);
        let tips = self.visible_tips();
        let bits = match walker.bitmaps() {
            Some(bitmaps) => walker.commits_covered(bitmaps, &tips, tick)?,
            None => {
                let mut bits = Bits::new(self.objects.len());
                walker.add_commits(&tips, &mut bits, tick)?;
                bits
            }
        };
        let bits = Arc::new(bits);
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).commits = Some(bits.clone());
        Ok(bits)
    }

    fn objects_of_visible(&self, tick: Tick<'_>) -> Result<Arc<Bits>, WalkError> {
        if let Some(bits) = &self.reach.lock().unwrap_or_else(PoisonError::into_inner).objects {
            return Ok(bits.clone());
        }
        let mut bits = Bits::new(self.objects.len());
        Walker::new(&self.objects, &self.shallow, WALK_CACHE_BYTES).add_closure(
            &self.visible_tips(),
            &mut bits,
            tick,
        )?;
        let bits = Arc::new(bits);
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).objects = Some(bits.clone());
        Ok(bits)
    }
}
