//! Notes of commits: what their projects say, and what people say of them (docs/metadata.md).
//!
//! ```text
//! push ── consequence: kick ── run ── one repository at a time on one thread
//!                                 write    pushes whose notes are missing → new commits → notes → refs, together
//! ```
//!
//! Which pushes are done is a row of the database, written after the refs have moved; what a stop left is done after
//! the next start, and the same commits get the same notes.

mod write;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::write::NotesWriteError;
use super::lfs::LargeFiles;
use super::repos::{RepoError, Repos};
use super::transfer::Transfer;
use crate::db::{Db, RefChange};
use crate::git::ObjectId;
use crate::git::snapshot::Snapshot;
use crate::git::work::Work;
use crate::ids::{PushId, RepoId};
use crate::names::RepoAddress;

/// The notes that programs read.
pub const NOTES_REF: &str = "refs/notes/logic";
/// The notes that people read.
pub const SUMMARY_REF: &str = "refs/notes/logic-summary";

/// Trees without a project that are remembered.
const TREES_KEPT: u64 = 200_000;
/// Pause before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Writes notes. Cheap to clone.
#[derive(Clone)]
pub struct CommitNotes {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    transfer: Transfer,
    repos: Repos,
    large_files: LargeFiles,
    queue: Mutex<Queue>,
    /// Trees in which no project lies.
    without_project: moka::sync::Cache<ObjectId, ()>,
    more: Notify,
    /// One writer for each repository.
    writing: Mutex<HashMap<RepoId, Arc<Mutex<()>>>>,
}

#[derive(Default)]
struct Queue {
    waiting: HashSet<RepoId>,
    /// Pushes somebody waits for, with where the summary goes.
    asked: HashMap<PushId, SyncSender<String>>,
}

/// Waits for what is said of one push.
pub(in crate::service) struct Summary {
    from: Receiver<String>,
    inner: Arc<Inner>,
    push: PushId,
}

impl Summary {
    /// The lines, if they come within `patience`. Blocks.
    pub(in crate::service) fn wait(self, patience: Duration) -> Option<String> {
        self.from.recv_timeout(patience).ok()
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        self.inner.lock().asked.remove(&self.push);
    }
}

/// What [`CommitNotes::write`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotesReport {
    /// Commits that were looked at.
    pub commits: usize,
    /// Of these, those that have a note now.
    pub noted: usize,
}

impl CommitNotes {
    /// `large_files` has what projects keep in Git LFS.
    pub fn new(db: Db, transfer: Transfer, repos: Repos, large_files: LargeFiles) -> Self {
        Self {
            inner: Arc::new(Inner {
                db,
                transfer,
                repos,
                large_files,
                queue: Mutex::default(),
                without_project: moka::sync::Cache::new(TREES_KEPT),
                more: Notify::new(),
                writing: Mutex::default(),
            }),
        }
    }

    /// Whether there may be something to say of a push. Where there is not, nobody needs to wait, and nothing is to be
    /// done. Blocks.
    pub(in crate::service) fn may_say(&self, snapshot: &Snapshot, moved: &[RefChange], options: &[String]) -> bool {
        self.inner.may_say(snapshot, moved, options).unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "It cannot be told whether a push brings music"
            );
            true
        })
    }

    /// A push into `repo` is closed.
    pub(in crate::service) fn kick(&self, repo: RepoId) {
        self.inner.lock().waiting.insert(repo);
        self.inner.more.notify_one();
    }

    /// What is said of `push` will be told to the caller. To be asked for before the kick.
    pub(in crate::service) fn ask(&self, push: PushId) -> Summary {
        let (to, from) = sync_channel(1);
        self.inner.lock().asked.insert(push, to);
        Summary {
            from,
            inner: Arc::clone(&self.inner),
            push,
        }
    }

    /// Writes notes after pushes until `shutdown`; first what an earlier run left.
    pub async fn run(&self, shutdown: CancellationToken) {
        match self.inner.db.repos_to_note().await {
            Ok(repos) => self.inner.lock().waiting.extend(repos),
            Err(error) => tracing::warn!(%error, "It cannot be told which commits have no notes yet"),
        }
        self.inner.more.notify_one();
        let stopping = Arc::new(AtomicBool::new(false));
        tokio::spawn({
            let (shutdown, stopping) = (shutdown.clone(), Arc::clone(&stopping));
            async move {
                shutdown.cancelled().await;
                stopping.store(true, Ordering::Relaxed);
            }
        });
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.more.notified() => {}
            }
            loop {
                let next = {
                    let mut queue = self.inner.lock();
                    let next = queue.waiting.iter().next().copied();
                    next.inspect(|repo| {
                        queue.waiting.remove(repo);
                    })
                };
                let (Some(repo), false) = (next, shutdown.is_cancelled()) else {
                    break;
                };
                let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
                let work = Work::new(Arc::clone(&stopping), None);
                let done = tokio::task::spawn_blocking(move || inner.write_pushes(&handle, repo, &work));
                match done.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(repo.id = %repo, error = &error as &dyn std::error::Error,
                            "Notes cannot be written now; it is tried again");
                        let (notes, stop) = (self.clone(), shutdown.clone());
                        tokio::spawn(async move {
                            tokio::select! {
                                () = stop.cancelled() => {}
                                () = tokio::time::sleep(AGAIN_AFTER) => notes.kick(repo),
                            }
                        });
                    }
                    Err(panic) => tracing::error!(repo.id = %repo, %panic, "Writing notes panicked"),
                }
            }
        }
    }

    /// Writes the notes of all commits that branches and tags reach: those that have none, or with `all` every one
    /// anew; what people said stays.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Unreadable`].
    pub async fn write(&self, address: &RepoAddress, all: bool) -> Result<NotesReport, RepoError> {
        let repo = self.inner.repos.find(address).await?;
        let (inner, handle, id) = (Arc::clone(&self.inner), Handle::current(), repo.id);
        let done =
            tokio::task::spawn_blocking(move || inner.write_all(&handle, id, all).map_err(|error| error.to_string()));
        let cause = match done.await {
            Ok(Ok(report)) => return Ok(report),
            Ok(Err(cause)) => cause,
            Err(ended) => ended.to_string(),
        };
        Err(RepoError::Unreadable {
            repo: repo.address,
            cause,
        })
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while the notes of one repository are written.
    fn writer(&self, repo: RepoId) -> Arc<Mutex<()>> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.retain(|_, one| Arc::strong_count(one) > 1);
        Arc::clone(writing.entry(repo).or_default())
    }
}

type Written<T> = Result<T, NotesWriteError>;
