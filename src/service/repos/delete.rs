//! Removing repositories, and what interrupted work left behind.

use super::disk::{self, blocking};
use super::{RepoError, Repos};
use crate::db::{By, RepoRow};
use crate::ids::RepoId;
use crate::names::RepoAddress;

/// Rows of old pushes that are removed in one write, so that nobody's push waits long.
const ROWS_PER_STEP: u32 = 5_000;

impl Repos {
    /// Deletes a repository: nobody finds it from the moment its row is gone; then its folder and
    /// its push rows follow. If that is interrupted, [`Repos::sweep`] finishes it.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`]; [`RepoError::Disk`] if the folder stays behind,
    /// where nobody reaches it.
    pub async fn delete(&self, address: &RepoAddress, by: By) -> Result<(), RepoError> {
        let repo = self.exactly(address).await?;
        let Some(row) = self.db.delete_repo(repo.id, by).await? else {
            return Err(RepoError::NoRepo(repo.address));
        };
        self.clear(&row).await
    }

    /// Deletes a repository that was made for a push, if nothing got into it; otherwise does nothing.
    ///
    /// # Errors
    /// [`RepoError::Disk`] if the folder stays behind, where nobody reaches it.
    pub async fn remove_empty(&self, id: RepoId) -> Result<(), RepoError> {
        match self.db.delete_unused_repo(id, By::Server).await? {
            Some(row) => self.clear(&row).await,
            None => Ok(()),
        }
    }

    /// Finishes what was interrupted: removes folders that nobody reaches and push rows of deleted
    /// repositories. For the start of the server.
    ///
    /// # Errors
    /// [`RepoError::Disk`], [`RepoError::Db`].
    pub async fn sweep(&self) -> Result<(), RepoError> {
        let repos_dir = self.repos_dir.clone();
        let removed = blocking("clear the folder of repositories", move || disk::sweep(&repos_dir)).await?;
        if removed > 0 {
            tracing::info!("Removed {removed} unfinished or deleted repositories");
        }
        for repo in self.db.deleted_repos_with_pushes().await? {
            self.remove_pushes(repo).await?;
        }
        Ok(())
    }

    async fn clear(&self, row: &RepoRow) -> Result<(), RepoError> {
        let (repos_dir, folder) = (self.repos_dir.clone(), self.path(row));
        blocking("remove the folder of the repository", move || {
            disk::remove(&repos_dir, &folder)
        })
        .await?;
        self.remove_pushes(row.id).await
    }

    async fn remove_pushes(&self, repo: RepoId) -> Result<(), RepoError> {
        while self.db.remove_pushes_of_deleted(repo, ROWS_PER_STEP).await? > 0 {}
        Ok(())
    }
}
