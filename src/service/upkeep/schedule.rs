//! When the server looks at a repository.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Due, Pace, Survey, Upkeep, UpkeepRequest};
use crate::db::RepoRow;
use crate::git::maintenance::{LockError, MaintenanceError};
use crate::ids::RepoId;
use crate::names::RepoAddress;
use crate::service::repos::RepoError;

/// Repositories that are listed at once.
const REPOS_PER_READ: u32 = 1000;
/// How long after a push its repository is looked at: more pushes may follow.
const AFTER_PUSH: Duration = Duration::from_secs(2);
/// Repositories with pushes that are remembered; the look at all of them finds the others.
const MAX_WAITING: usize = 10_000;

/// Repositories that were pushed to. Cloning shares everything.
#[derive(Clone, Default)]
pub struct PushedTo {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
}

#[derive(Default)]
struct Waiting {
    /// Not looked at since.
    unseen: HashSet<RepoId>,
    /// Not put in order since.
    unordered: HashSet<RepoId>,
}

impl PushedTo {
    /// Refs of `repo` have moved.
    pub fn note(&self, repo: RepoId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.unordered.len() < MAX_WAITING {
            waiting.unseen.insert(repo);
            waiting.unordered.insert(repo);
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Whether refs have moved since the repository was put in order.
    pub(super) fn is_waiting(&self, repo: RepoId) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.unordered.contains(&repo)
    }

    fn take(&self) -> Vec<RepoId> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut waiting.unseen).into_iter().collect()
    }

    fn is_ordered(&self, repo: RepoId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.unordered.remove(&repo);
    }
}

impl Upkeep {
    /// Cares for all repositories until `shutdown`; then returns as soon as what is at work has stopped.
    pub async fn run(&self, shutdown: CancellationToken) {
        if !self.inner.config.maintenance.enabled {
            return;
        }
        let every = Duration::from_secs(self.inner.config.maintenance.check_secs);
        // The first requests after a start should not have to share.
        let mut next_check = Instant::now() + every.min(Duration::from_secs(60));
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next_check) => {
                    self.look_at_all(&shutdown).await;
                    next_check = Instant::now() + every;
                }
                () = self.inner.pushed_to.more.notified() => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(AFTER_PUSH) => {}
                    }
                    for repo in self.inner.pushed_to.take() {
                        match self.inner.db.repo_by_id(repo).await {
                            Ok(Some(row)) => self.look_at(row, &shutdown).await,
                            Ok(None) => self.inner.pushed_to.is_ordered(repo),
                            Err(error) => tracing::warn!(repo.id = %repo, %error, "A repository cannot be cared for now"),
                        }
                    }
                }
            }
        }
    }

    async fn look_at_all(&self, shutdown: &CancellationToken) {
        let mut after: Option<RepoAddress> = None;
        while !shutdown.is_cancelled() {
            let rows = match self.inner.repos.list(None, after.as_ref(), REPOS_PER_READ).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(%error, "Repositories cannot be cared for now");
                    return;
                }
            };
            let Some(last) = rows.last() else { return };
            after = Some(last.address.clone());
            for row in rows {
                self.look_at(row, shutdown).await;
            }
        }
    }

    /// Looks at one repository and does what is due.
    async fn look_at(&self, row: RepoRow, shutdown: &CancellationToken) {
        if shutdown.is_cancelled() {
            return;
        }
        let _turn = self.inner.turn.lock().await;
        let (address, id) = (row.address.clone(), row.id);
        match self.care_for(row, shutdown.clone()).await {
            Ok(()) => {}
            Err(Trouble::Repo(error)) => {
                tracing::warn!(repository = %address, %error, "A repository cannot be cared for now")
            }
            Err(Trouble::Maintenance(error)) if error.is_stop() => {}
            Err(Trouble::Maintenance(MaintenanceError::Lock(
                error @ (LockError::Busy | LockError::StockGit { .. }),
            ))) => {
                tracing::info!(repository = %address, %error, "Maintenance is left to somebody else");
            }
            Err(Trouble::Maintenance(error)) => {
                let is_gone = matches!(self.inner.db.repo_by_id(id).await, Ok(None));
                if !is_gone {
                    tracing::error!(repository = %address, error = &error as &(dyn std::error::Error + 'static),
                        "Maintenance failed; the repository is whole and served as before");
                }
            }
        }
    }

    async fn care_for(&self, row: RepoRow, shutdown: CancellationToken) -> Result<(), Trouble> {
        let path = self.inner.repos.path(&row);
        let (settings, is_pushed_to) = (
            self.inner.config.maintenance.clone(),
            self.inner.pushed_to.is_waiting(row.id),
        );
        let look = move || Survey::of(&path).map(|survey| (survey.due(&settings, is_pushed_to), survey.lacks_bundle()));
        let (due, lacks_bundle) = blocking(look).await?.map_err(|source| MaintenanceError::Io {
            path: self.inner.repos.path(&row),
            source,
        })?;
        // Whether one repository offers bundles by its own configuration is looked at only when something is due.
        let is_bundle_due = lacks_bundle && self.inner.config.git.bundle_uri;
        if due == Due::Nothing && !is_bundle_due {
            return Ok(());
        }
        let needs = self.inner.needs_of(&row).await?;
        let inner = Arc::clone(&self.inner);
        let (id, address) = (row.id, row.address.clone());
        let report = blocking(move || {
            let mut pace = Pace::new(shutdown, inner.transfer.clone(), inner.config.maintenance.cpu_percent);
            inner.maintain(&row, &needs, UpkeepRequest::default(), false, &mut || pace.tick())
        })
        .await??;
        if due == Due::Order {
            self.inner.pushed_to.is_ordered(id);
        }
        for step in report.steps.iter().filter(|step| step.is_changed) {
            tracing::info!(repository = %address, step = step.step, "Maintenance of {address}: {}", step.what);
        }
        Ok(())
    }
}

/// Why a repository was not cared for.
enum Trouble {
    Repo(RepoError),
    Maintenance(MaintenanceError),
}

impl From<RepoError> for Trouble {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl From<MaintenanceError> for Trouble {
    fn from(error: MaintenanceError) -> Self {
        Self::Maintenance(error)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|ended| {
        Trouble::Maintenance(MaintenanceError::Io {
            path: "maintenance".into(),
            source: std::io::Error::other(ended),
        })
    })
}
