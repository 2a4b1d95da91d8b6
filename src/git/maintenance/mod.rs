//! Keeps a repository fast and small: joins packs, makes the clone pack and what helps to find
//! objects, and prunes what nothing reaches.
//!
//! ```text
//! survey    what is due, from a look at the folder
//! lock      one at a time, git gc included          guard   what pushes rely on stays
//! roots ─ order ─ pack_writer    what is reached, in which order, written down
//! join      small packs and loose objects become one pack
//! arrange   clone pack · what only other refs reach · unreachable objects (cruft, prune)
//! bitmaps, indexes               what helps to find objects in them
//! remove    what lies in new packs by now
//! ```
//!
//! Every step can be repeated, and one that is killed leaves the repository whole: new files are made
//! in a quarantine folder, synced and renamed into place before anything old is removed. Stock git may
//! repack the same repository meanwhile; a pack that vanishes lets a step begin again.

mod arrange;
mod bitmaps;
mod cruft;
mod deltas;
mod guard;
mod indexes;
mod join;
mod lock;
mod order;
mod own;
mod pack_writer;
mod prune;
mod remove;
mod roots;
mod state;
mod survey;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix::ObjectId;

pub use self::guard::{GuardError, PruneGuard, PushGuard};
pub(in crate::git) use self::lock::LOCK_FILE;
pub use self::lock::{LockError, MaintenanceLock};
pub use self::own::Role;
pub use self::remove::sweep as sweep_rests;
pub use self::state::State;
pub use self::survey::{Due, PackFile, Survey};
use super::advertise::offers_bundle_uri;
use super::bitmap::BitmapWriteError;
use super::bundle::{self, BundleError};
use super::commit_graph::{self, CommitGraph, GraphLayout, GraphPos, WriteError as GraphError};
use super::index_pack::IndexError;
use super::midx::MidxWriteError;
use super::object_store::StoreError;
use super::ref_transaction::{self, PackRefsError};
use super::snapshot::{OpenError, Repository, Snapshot};
use super::walk::WalkError;
use super::work::{Stopped, Tick};
use crate::config::{GitSettings, MaintenanceSettings};

/// How often a step begins again because stock git repacked meanwhile.
const MAX_TRIES: usize = 5;

/// At start: removes what a maintenance that was killed left in the repository at `git_dir`, unless
/// another one is at work there.
///
/// # Errors
/// The disk's.
pub fn sweep(git_dir: &Path) -> io::Result<()> {
    match MaintenanceLock::take(git_dir, false, &mut || Ok(())) {
        Ok(_lock) => remove::sweep(git_dir),
        Err(LockError::Busy | LockError::StockGit { .. } | LockError::Stopped(_)) => Ok(()),
        Err(LockError::Io { source, .. }) => Err(source),
    }
}

/// What one maintenance is to do.
pub struct MaintenanceOptions<'a> {
    /// Limits and grace time.
    pub settings: &'a MaintenanceSettings,
    /// What counts where a repository's own configuration is silent.
    pub git: &'a GitSettings,
    /// Puts everything in order even where little is due.
    pub is_full: bool,
    /// Refs have moved since it was looked at last.
    pub is_pushed_to: bool,
    /// Searches for new deltas while everything is put in order.
    pub with_deltas: bool,
    /// Only tells what would be done.
    pub is_dry_run: bool,
    /// Waits for another maintenance of the same repository instead of failing.
    pub wait: bool,
    /// Ids that the server's records keep: what clients may still ask for, what open pushes bring.
    pub keep: &'a [ObjectId],
    /// Repositories that borrow objects from this one.
    pub borrowers: &'a [String],
}

/// What one step did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// Its name: `refs`, `packs`, `unreachable`, `bitmap`, `multi-pack-index`, `commit-graph`, `bundle`.
    pub step: &'static str,
    /// Whether anything changed, or would.
    pub is_changed: bool,
    /// What it did, a sentence without a full stop.
    pub what: String,
}

/// What a maintenance did.
#[derive(Clone, Debug, Default)]
pub struct MaintenanceReport {
    /// Step by step.
    pub steps: Vec<StepReport>,
    /// The folder before.
    pub before: Survey,
    /// The folder after.
    pub after: Survey,
}

impl MaintenanceReport {
    fn did(&mut self, step: &'static str, what: impl Into<String>) {
        self.steps.push(StepReport {
            step,
            is_changed: true,
            what: what.into(),
        });
    }

    fn left(&mut self, step: &'static str, what: impl Into<String>) {
        self.steps.push(StepReport {
            step,
            is_changed: false,
            what: what.into(),
        });
    }

    /// Whether anything changed, or would.
    pub fn is_changed(&self) -> bool {
        self.steps.iter().any(|step| step.is_changed)
    }
}

/// Why a repository could not be maintained. What was done before is done, and the repository is whole.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// Somebody else is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its objects cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its history cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// Its refs cannot be packed.
    #[error(transparent)]
    Refs(#[from] PackRefsError),
    /// A new pack could not be indexed.
    #[error("a new pack could not be indexed")]
    Index(#[from] IndexError),
    /// A bitmap could not be written.
    #[error(transparent)]
    Bitmap(#[from] BitmapWriteError),
    /// The multi-pack-index could not be written.
    #[error(transparent)]
    MultiPackIndex(#[from] MidxWriteError),
    /// The commit-graph could not be written.
    #[error(transparent)]
    CommitGraph(#[from] GraphError),
    /// A bundle could not be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Pushes cannot be held off.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A new pack does not hold what it should.
    #[error("a new pack holds {found} objects instead of {expected}; nothing was removed")]
    Incomplete {
        /// Objects that should be in it.
        expected: u32,
        /// Objects that are.
        found: u32,
    },
    /// The disk is too full to write anew what is there.
    #[error(
        "it needs {needed_bytes} bytes for new packs and there are {free_bytes} free, of which {spare_bytes} are to stay free \
         (maintenance.min_free_bytes); nothing was changed"
    )]
    DiskFull {
        /// Size of what is written before anything is removed, in bytes.
        needed_bytes: u64,
        /// What is free, in bytes.
        free_bytes: u64,
        /// What is to stay free, in bytes.
        spare_bytes: u64,
    },
    /// A file could not be worked on.
    #[error("{}: cannot be worked on", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl MaintenanceError {
    /// Whether somebody asked for the end of the work, so that nothing is wrong.
    pub fn is_stop(&self) -> bool {
        matches!(
            self,
            Self::Stopped(Stopped::Cancelled)
                | Self::Walk(WalkError::Stopped(Stopped::Cancelled))
                | Self::Lock(LockError::Stopped(_))
                | Self::Guard(GuardError::Stopped(_))
                | Self::Index(IndexError::Stopped(Stopped::Cancelled))
                | Self::Bundle(BundleError::Walk(WalkError::Stopped(Stopped::Cancelled)))
        )
    }

    /// Whether it may come from stock git that repacked under our hands.
    fn may_be_a_move(&self) -> bool {
        match self {
            Self::Store(_) | Self::Open(OpenError::Store(_)) => true,
            Self::Walk(WalkError::Missing(_) | WalkError::Store(_)) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// Does what is due in one repository; fetches and pushes go on meanwhile.
///
/// # Errors
/// [`MaintenanceError`]
pub fn maintain(
    repository: &Repository,
    options: &MaintenanceOptions<'_>,
    tick: Tick<'_>,
) -> Result<MaintenanceReport, MaintenanceError> {
    let git_dir = repository.path();
    let look = || {
        Survey::of(git_dir).map_err(|source| MaintenanceError::Io {
            path: git_dir.to_owned(),
            source,
        })
    };
    if options.is_dry_run {
        let before = look()?;
        let mut report = MaintenanceReport {
            after: before.clone(),
            before,
            ..MaintenanceReport::default()
        };
        foretell(repository, options, &mut report)?;
        return Ok(report);
    }
    let _lock = MaintenanceLock::take(git_dir, options.wait, tick)?;
    remove::sweep(git_dir).map_err(|source| MaintenanceError::Io {
        path: git_dir.to_owned(),
        source,
    })?;
    let mut report = MaintenanceReport {
        before: look()?,
        ..MaintenanceReport::default()
    };
    pack_refs(repository, &mut report)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let steps = report.steps.len();
        match objects(repository, options, &mut report, tick) {
            Err(error) if error.may_be_a_move() && attempt < MAX_TRIES => {
                tracing::info!(repository = %git_dir.display(), %error, "packs changed during maintenance; it begins again");
                report.steps.truncate(steps);
            }
            done => break done?,
        }
    }
    commit_graph(repository, &mut report, tick)?;
    report.after = look()?;
    bundle(repository, options, &mut report, tick)?;
    Ok(report)
}

/// Makes the bundle anew with the clone pack, and where there is none yet. In between it falls behind: a
/// client fetches the rest, and a whole history is not written for each small push.
fn bundle(
    repository: &Repository,
    options: &MaintenanceOptions<'_>,
    report: &mut MaintenanceReport,
    tick: Tick<'_>,
) -> Result<(), MaintenanceError> {
    let snapshot = repository.snapshot()?;
    if !offers_bundle_uri(&snapshot, options.git) || !snapshot.config.bundle_lines.is_empty() {
        return Ok(());
    }
    let Some(clone) = report.after.clone_pack() else {
        report.left("bundle", "none: the repository is small");
        return Ok(());
    };
    let is_same = report.before.state.clone_pack == report.after.state.clone_pack;
    if is_same && !report.after.lacks_bundle() {
        report.left("bundle", "it stays until the clone pack is made anew");
        return Ok(());
    }
    check_disk(&repository.objects_dir(), clone.bytes, options.settings)?;
    match bundle::make(repository, &bundle::folder(repository.path()), tick) {
        // Whoever asked for it has it.
        Err(error @ BundleError::Busy) => report.left("bundle", error.to_string()),
        Err(error) => return Err(error.into()),
        Ok(None) => report.left("bundle", "none can be made of what fetches may see"),
        Ok(Some(made)) if made.is_new => report.did(
            "bundle",
            format!("{} and {} bytes", counted(made.refs, "ref"), made.len_bytes),
        ),
        Ok(Some(_)) => report.left("bundle", "it is up to date"),
    }
    Ok(())
}

/// Adds what the commit-graph lacks.
fn commit_graph(
    repository: &Repository,
    report: &mut MaintenanceReport,
    tick: Tick<'_>,
) -> Result<(), MaintenanceError> {
    let objects_dir = repository.objects_dir();
    let mut snapshot = repository.reload()?;
    // Stock git may have pruned commits that the graph lists, which its fsck then calls damage.
    if let Ok(Some(graph)) = CommitGraph::open(&objects_dir, snapshot.hash(), None)
        && lists_what_is_gone(&graph, &snapshot)
    {
        indexes::remove_commit_graph(&objects_dir)?;
        snapshot = repository.reload()?;
    }
    let written = match commit_graph::write(&snapshot, &objects_dir, GraphLayout::Chain, tick) {
        // It helps and is not needed; whoever else writes it does that, too.
        Err(error @ (GraphError::Busy(_) | GraphError::Replaced)) => {
            report.left("commit-graph", error.to_string());
            return Ok(());
        }
        written => written?,
    };
    match written {
        None => report.left("commit-graph", "none: git keeps none of such a repository"),
        Some(graph) if graph.is_changed => {
            report.did(
                "commit-graph",
                format!(
                    "{} added, {} in all",
                    counted(graph.new_commits as usize, "commit"),
                    graph.commits
                ),
            );
        }
        Some(graph) => report.left("commit-graph", format!("it has all {} commits", graph.commits)),
    }
    Ok(())
}

fn lists_what_is_gone(graph: &CommitGraph, snapshot: &Snapshot) -> bool {
    let ids = (0..graph.len()).filter_map(|position| graph.id(GraphPos(position)));
    ids.into_iter().any(|id| !snapshot.objects.contains(id))
}

/// What is due with objects.
fn objects(
    repository: &Repository,
    options: &MaintenanceOptions<'_>,
    report: &mut MaintenanceReport,
    tick: Tick<'_>,
) -> Result<(), MaintenanceError> {
    let survey = Survey::of(repository.path()).map_err(|source| MaintenanceError::Io {
        path: repository.path().to_owned(),
        source,
    })?;
    if survey.packs.iter().any(|pack| pack.role == Role::Promisor) {
        report.left(
            "packs",
            "it is a partial clone of another repository: its packs stay as they are",
        );
        return Ok(());
    }
    match survey.due(options.settings, options.is_pushed_to) {
        _ if options.is_full => arrange::arrange(repository, options, &survey, report, tick),
        Due::Order => arrange::arrange(repository, options, &survey, report, tick),
        Due::Joining => join::join(repository, options, &survey, report, tick),
        Due::Nothing => {
            report.left("packs", "nothing is due");
            Ok(())
        }
    }
}

/// Tells what would be done.
fn foretell(
    repository: &Repository,
    options: &MaintenanceOptions<'_>,
    report: &mut MaintenanceReport,
) -> Result<(), MaintenanceError> {
    let git_dir = repository.path();
    match ref_transaction::loose_refs_due(git_dir)? {
        0 => report.left("refs", "packed-refs stays as it is"),
        count => report.did("refs", format!("{count} loose refs would go into packed-refs")),
    }
    let survey = &report.before;
    let due = match survey.due(options.settings, options.is_pushed_to) {
        _ if options.is_full => Due::Order,
        due => due,
    };
    let plain = survey.plain_packs().count();
    let (beside, loose) = (survey.objects_beside(), survey.loose_objects);
    match due {
        Due::Nothing => report.left("packs", "nothing is due"),
        Due::Joining => report.did(
            "packs",
            format!("the smaller ones of {plain} packs and {loose} loose objects would be joined"),
        ),
        Due::Order => report.did(
            "packs",
            format!(
                "everything would be put in order: {beside} objects lie beside the clone pack, in {plain} packs and {loose} loose files"
            ),
        ),
    }
    Ok(())
}

fn pack_refs(repository: &Repository, report: &mut MaintenanceReport) -> Result<(), MaintenanceError> {
    let git_dir = repository.path();
    if ref_transaction::loose_refs_due(git_dir)? == 0 {
        report.left("refs", "packed-refs stays as it is");
        return Ok(());
    }
    let snapshot = repository.snapshot()?;
    let packed = ref_transaction::pack_loose_refs(git_dir, &snapshot)?;
    report.did("refs", format!("{packed} loose refs went into packed-refs"));
    Ok(())
}

/// Ends the maintenance where what is written before anything is removed does not fit on the disk.
fn check_disk(objects_dir: &Path, needed_bytes: u64, settings: &MaintenanceSettings) -> Result<(), MaintenanceError> {
    let free = rustix::fs::statvfs(objects_dir).map_err(|error| MaintenanceError::Io {
        path: objects_dir.to_owned(),
        source: error.into(),
    })?;
    let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
    if free_bytes < needed_bytes.saturating_add(settings.min_free_bytes) {
        return Err(MaintenanceError::DiskFull {
            needed_bytes,
            free_bytes,
            spare_bytes: settings.min_free_bytes,
        });
    }
    Ok(())
}

/// How long an unreachable object is kept.
fn grace(settings: &MaintenanceSettings) -> Duration {
    Duration::from_secs(u64::from(settings.grace_days) * 24 * 60 * 60)
}

/// `1 pack`, `2 packs`.
fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
