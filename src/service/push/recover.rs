//! What a start does about pushes that the last run left in the middle.
//!
//! Runs before the first request, since what it removes a running push would miss.

use std::path::Path;
use std::sync::Arc;

use bstr::BString;
use tokio::runtime::Handle;

use super::consequences::{self, Pushed};
use super::{Inner, Pushes};
use crate::db::{DbError, FinishPush, PushRow, RefChange};
use crate::git::receive_pack::{self, RefUpdate};
use crate::git::{ObjectId, maintenance};
use crate::ids::GitId;
use crate::names::RepoAddress;
use crate::service::repos::RepoError;
use crate::service::transfer::{TransferError, snapshot};

/// Refs of a push that are read at once.
const REFS_PER_READ: u32 = 10_000;
/// Repositories that are listed at once.
const REPOS_PER_READ: u32 = 1000;

/// Why a start cannot settle what the last run left behind.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A repository cannot be listed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Pushes {
    /// Removes what pushes left on disk, settles open rows by what the refs say, and removes
    /// repositories that a push made and nothing got into.
    ///
    /// One repository that cannot be read does not keep the others from being served: it is logged.
    ///
    /// # Errors
    /// [`RecoverError`] when the database fails.
    pub async fn recover(&self) -> Result<(), RecoverError> {
        self.sweep().await?;
        for row in self.inner.db.open_pushes(None).await? {
            let inner = Arc::clone(&self.inner);
            let handle = Handle::current();
            let id = row.id;
            let settled = tokio::task::spawn_blocking(move || inner.settle(&handle, &row)).await;
            match settled {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(push.id = %id, error = &error as &(dyn std::error::Error + 'static),
                        "A push of the last run cannot be settled now");
                }
                Err(panic) => tracing::error!(push.id = %id, %panic, "Settling a push panicked"),
            }
        }
        self.unmake_empty().await
    }

    /// Removes quarantines and locks of the last run.
    async fn sweep(&self) -> Result<(), RecoverError> {
        let mut after: Option<RepoAddress> = None;
        loop {
            let rows = self.inner.repos.list(None, after.as_ref(), REPOS_PER_READ).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.address.clone());
            let paths: Vec<_> = rows.iter().map(|row| self.inner.repos.path(row)).collect();
            let swept = tokio::task::spawn_blocking(move || paths.iter().for_each(|path| sweep_one(path)));
            if let Err(panic) = swept.await {
                tracing::error!(%panic, "Removing leftovers panicked");
            }
        }
    }

    /// Removes repositories whose first push a crash ended before anything got in.
    async fn unmake_empty(&self) -> Result<(), RecoverError> {
        for id in self.inner.made.marked() {
            let Some(row) = self.inner.db.repo_by_id(id).await? else {
                self.inner.made.unmark(id);
                continue;
            };
            let (inner, path) = (Arc::clone(&self.inner), self.inner.repos.path(&row));
            let is_empty = tokio::task::spawn_blocking(move || {
                let repository = inner.transfer.open(&path, false)?;
                Ok::<_, TransferError>(snapshot(&repository)?.refs.all().is_empty())
            })
            .await;
            if matches!(is_empty, Ok(Ok(true))) {
                tracing::info!(repository = %row.address, "A push that made this repository was cut off; it is removed");
                self.inner.transfer.forget(&self.inner.repos.path(&row));
                self.inner.repos.remove_empty(id).await?;
            }
            self.inner.made.unmark(id);
        }
        Ok(())
    }
}

fn sweep_one(path: &Path) {
    if let Err(error) = receive_pack::sweep(path) {
        tracing::warn!(path = %path.display(), %error, "Leftovers of pushes cannot be removed");
    }
    if let Err(error) = maintenance::sweep(path) {
        tracing::warn!(path = %path.display(), %error, "Leftovers of maintenance cannot be removed");
    }
}

/// Why one push cannot be settled.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("the row cannot be closed: {0:?}")]
    NotClosed(FinishPush),
}

impl Inner {
    /// Finds out what became of one push, runs its consequences and closes its row. May block.
    fn settle(&self, handle: &Handle, row: &PushRow) -> Result<(), SettleError> {
        let Some(repo) = handle.block_on(self.db.repo_by_id(row.repo))? else {
            return Ok(());
        };
        let mut refs: Vec<RefChange> = Vec::new();
        loop {
            let after = u32::try_from(refs.len()).ok().and_then(|count| count.checked_sub(1));
            let page = handle.block_on(self.db.push_refs(row.id, after, REFS_PER_READ))?;
            if page.is_empty() {
                break;
            }
            refs.extend(page.into_iter().map(|found| RefChange {
                name: found.name,
                old: found.old,
                new: found.new,
            }));
        }
        let repository = self.transfer.open(&self.repos.path(&repo), repo.trust_hooks)?;
        let hash = snapshot(&repository)?.hash();
        let id = |id: Option<GitId>| {
            id.and_then(|id| ObjectId::try_from(id.as_bytes()).ok())
                .unwrap_or_else(|| hash.null())
        };
        let updates: Vec<RefUpdate> = refs
            .iter()
            .map(|change| RefUpdate {
                name: BString::from(change.name.clone()),
                old: id(change.old),
                new: id(change.new),
            })
            .collect();
        let applied = receive_pack::settle(&repository, &updates, row.atomic);
        let moved: Vec<RefChange> = refs
            .into_iter()
            .zip(&applied)
            .filter(|(_, applied)| **applied)
            .map(|(change, _)| change)
            .collect();
        tracing::info!(push.id = %row.id, repository = %repo.address, refs = applied.len(), moved = moved.len(),
            "A push of the last run is settled: {} of {} refs had moved", moved.len(), applied.len());
        if !moved.is_empty() {
            consequences::run(&Pushed {
                handle,
                db: &self.db,
                id: row.id,
                repo: row.repo,
                repository: &repository,
                pusher: row.pusher.as_deref().unwrap_or("nobody"),
                applied: &moved,
            });
        }
        match handle.block_on(self.db.finish_push(row.id, applied))? {
            FinishPush::Done | FinishPush::AlreadyDone => Ok(()),
            other => Err(SettleError::NotClosed(other)),
        }
    }
}
