//! Large files after they came: how much there is, whether it is whole, and what may go.
//!
//! ```text
//! check     large files are read, from refs to bytes
//! collect   what nothing needs goes
//! figures   how many bytes a repository, or the store, has and saves
//! doctor    whether database, repositories and store are as they should be
//! ```
//!
//! Nothing here runs within a request.

mod check;
mod collect;
mod doctor;
mod figures;

use std::sync::Arc;

pub use self::check::{FilesReport, Problem, Subset};
pub use self::collect::{Collect, Collected, RemovedFile};
pub use self::doctor::Finding;
pub use self::figures::Figures;
use super::lfs::LfsError;
use super::repos::{RepoError, Repos};
use crate::config::Settings;
use crate::db::{Db, DbError};
use crate::storage::{StorageError, Store};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeepingError {
    /// The store belongs to another server.
    #[error(
        "the object store belongs to the server {found}, this database to {expected}; give the server the store and the database that belong together"
    )]
    ForeignStore {
        /// Instance id in the store.
        found: String,
        /// Instance id in the database.
        expected: String,
    },
    /// The store belongs to nobody.
    #[error("the object store says of no server that it belongs to it; start the server once, which claims it")]
    UnclaimedStore,
    /// The store is full and the database knows of nothing.
    #[error(
        "the database knows of no large file, but the object store holds some; restore the database that belongs to it. Nothing was removed"
    )]
    EmptyDatabase,
    /// There is no backup.
    #[error(
        "there is no backup of this server yet; make one (docs/operations.md, Backup), then say once that you have it: auxin gc --without-backup. Nothing was removed"
    )]
    NoBackup,
    /// A repository cannot be read.
    #[error("it cannot be told which large files a repository needs, so nothing was removed")]
    Mark(#[source] Box<RepoError>),
    /// The work ended in the middle.
    #[error("the check was broken off")]
    Ended,
    /// The repository is not there.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A large file cannot be read.
    #[error(transparent)]
    Lfs(#[from] LfsError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The object store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Keeps large files. Cheap to clone.
#[derive(Clone)]
pub struct Keeping {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Settings>,
    db: Db,
    store: Store,
    repos: Repos,
}

impl Keeping {
    /// `store` is where chunk packs lie.
    pub fn new(config: Arc<Settings>, db: Db, store: Store, repos: Repos) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                db,
                store,
                repos,
            }),
        }
    }

    /// Writes into the store to which server it belongs, unless it belongs to one. A store with packs is
    /// claimed only by a database that knows packs. For the start of a server.
    ///
    /// # Errors
    /// [`KeepingError::ForeignStore`], [`KeepingError::Db`], [`KeepingError::Storage`].
    pub async fn claim_store(&self) -> Result<(), KeepingError> {
        let (db, store) = (&self.inner.db, &self.inner.store);
        let expected = db.instance_id();
        match store.identity().await? {
            Some(found) if found == expected => return Ok(()),
            Some(found) => {
                return Err(KeepingError::ForeignStore {
                    found,
                    expected: expected.to_owned(),
                });
            }
            None => {}
        }
        if db.pack_page(0, 1).await?.is_empty() {
            let mut has_packs = false;
            store.list(|_| has_packs = true).await?;
            if has_packs {
                return Ok(());
            }
        }
        Ok(store.claim(expected).await?)
    }
}
