//! Notices what stock git changed on disk, so that it gets a row like any push.
//!
//! What a repository's refs were when last looked at is kept as a snapshot; comparing two snapshots
//! costs a walk over two sorted lists and no query. Only the first look after a start compares with
//! the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::db::{Db, DbError, KnownRef, RefChange};
use crate::git::refs::Refs;
use crate::git::snapshot::{OpenError, Repository, Snapshot};
use crate::ids::{GitId, RepoId};

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The repository cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What every repository's refs were when last looked at.
pub(super) struct Notices {
    db: Db,
    seen: moka::sync::Cache<RepoId, Arc<Mutex<Option<Arc<Snapshot>>>>>,
}

impl Notices {
    pub(super) fn new(db: Db, max_open: usize) -> Self {
        Self {
            db,
            seen: moka::sync::Cache::new(max_open.max(1) as u64),
        }
    }

    /// Whether `snapshot` is what was seen last. Never waits.
    pub(super) fn has_seen(&self, repo: RepoId, snapshot: &Arc<Snapshot>) -> bool {
        self.seen.get(&repo).is_some_and(|seen| {
            // Somebody who is looking right now sees this snapshot or a later one.
            seen.try_lock().map_or(true, |seen| {
                seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, snapshot))
            })
        })
    }

    /// Looks at a repository's refs and stores what changed since the last look, other than by
    /// pushes, as a push of nobody. May block; one look at a time per repository.
    ///
    /// # Errors
    /// [`NoticeError`]; the next look will see the same changes.
    pub(super) fn look(&self, handle: &Handle, repo: RepoId, repository: &Repository) -> Result<(), NoticeError> {
        let seen = self.seen.get_with(repo, Arc::default);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changes;
        let now;
        match &*seen {
            Some(before) => {
                now = repository.snapshot()?;
                if Arc::ptr_eq(before, &now) {
                    return Ok(());
                }
                changes = between(&before.refs, &now.refs);
            }
            None => {
                // First what is known, then the disk: a push in between moves both, in this order,
                // and the database sorts it out.
                let known = handle.block_on(self.db.last_known_refs(repo))?;
                now = repository.snapshot()?;
                changes = since(&known, &now.refs);
            }
        }
        self.store(handle, repo, changes)?;
        *seen = Some(now);
        Ok(())
    }

    /// Takes the moves of a push that is over for seen; whatever else changed is stored.
    ///
    /// # Errors
    /// [`NoticeError`]; the next look will see the same changes.
    pub(super) fn advance(
        &self,
        handle: &Handle,
        repo: RepoId,
        repository: &Repository,
        own: &[RefChange],
    ) -> Result<(), NoticeError> {
        let Some(seen) = self.seen.get(&repo) else {
            return Ok(());
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = &*seen else {
            return Ok(());
        };
        let now = repository.snapshot()?;
        let mut changes = between(&before.refs, &now.refs);
        let own: HashMap<&[u8], &RefChange> = own.iter().map(|own| (own.name.as_slice(), own)).collect();
        changes.retain(|change| own.get(change.name.as_slice()) != Some(&change));
        self.store(handle, repo, changes)?;
        *seen = Some(now);
        Ok(())
    }

    fn store(&self, handle: &Handle, repo: RepoId, changes: Vec<RefChange>) -> Result<(), DbError> {
        if changes.is_empty() {
            return Ok(());
        }
        let stored = handle.block_on(self.db.record_disk_changes(repo, changes))?;
        if let Some((push, count)) = stored {
            tracing::info!(push.id = %push, repo.id = %repo, refs = count,
                "{count} refs were changed on disk, not by a push");
        }
        Ok(())
    }

    /// Waits for a look that is under way, so that none that began earlier takes the moves of a push
    /// whose row it could not know for somebody else's.
    pub(super) fn wait(&self, repo: RepoId) {
        if let Some(seen) = self.seen.get(&repo) {
            drop(seen.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// What differs between two lists of refs, both sorted by name.
fn between(before: &Refs, after: &Refs) -> Vec<RefChange> {
    let known: Vec<KnownRef> = before
        .all()
        .iter()
        .filter(|known| known.symref.is_none())
        .filter_map(|known| {
            Some(KnownRef {
                name: known.name.to_vec(),
                id: GitId::from_bytes(known.target.as_bytes()).ok()??,
            })
        })
        .collect();
    since(&known, after)
}

/// What differs between the last known ids and the refs on disk.
fn since(known: &[KnownRef], disk: &Refs) -> Vec<RefChange> {
    let mut gone: HashMap<&[u8], GitId> = known.iter().map(|known| (known.name.as_slice(), known.id)).collect();
    let mut changes = Vec::new();
    for found in disk.all().iter().filter(|found| found.symref.is_none()) {
        let Ok(Some(id)) = GitId::from_bytes(found.target.as_bytes()) else {
            continue;
        };
        let old = gone.remove(found.name.as_slice());
        if old != Some(id) {
            changes.push(RefChange {
                name: found.name.to_vec(),
                old,
                new: Some(id),
            });
        }
    }
    let mut removed: Vec<RefChange> = gone
        .into_iter()
        .map(|(name, old)| RefChange {
            name: name.to_vec(),
            old: Some(old),
            new: None,
        })
        .collect();
    changes.append(&mut removed);
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}
