//! Taking over a bare repository that lies on this machine.

use std::path::{Path, PathBuf};

use super::disk::blocking;
use super::make::Wanted;
use super::{RepoError, Repos};
use crate::db::{By, InsertRepo, RepoRow, Visibility};
use crate::git::object_store::borrows_by_relative_path;
use crate::git::snapshot::Repository;
use crate::ids::RepoId;
use crate::names::RepoAddress;

impl Repos {
    /// Moves a bare repository into the data folder and serves it. Its hooks do not run and its
    /// config's includes are not followed until [`Repos::trust_hooks`] says so.
    ///
    /// # Errors
    /// [`RepoError::Unusable`] if `path` is not a bare repository on the same file system,
    /// [`RepoError::AlreadyServed`], [`RepoError::NameTaken`], [`RepoError::NoOwner`].
    pub async fn adopt(
        &self,
        path: &Path,
        address: &RepoAddress,
        visibility: Visibility,
        by: By,
    ) -> Result<RepoRow, RepoError> {
        let owner = self.owner(&address.owner).await?;
        let found = self.db.find_repo(address, None).await?;
        if found.is_some_and(|found| found.renamed_from.is_none()) {
            return Err(RepoError::NameTaken(address.clone()));
        }
        let given = path.to_owned();
        let unusable = |why: String| RepoError::Unusable {
            path: given.clone(),
            why,
        };
        let (given_path, repos_dir) = (path.to_owned(), self.repos_dir.clone());
        let checked = tokio::task::spawn_blocking(move || check(&given_path, &repos_dir)).await;
        let folder = checked
            .unwrap_or_else(|ended| Err(ended.to_string()))
            .map_err(unusable)?;
        let wanted = Wanted {
            id: RepoId::new(),
            owner,
            address: address.clone(),
            visibility,
        };
        if let Some(dir) = self.dir_of(&folder).await? {
            // It lies among the others already, so it stays where it is.
            return match self.store(&wanted, &dir, by).await? {
                InsertRepo::Done(row) => Ok(row),
                InsertRepo::DirTaken => Err(RepoError::AlreadyServed(given)),
                InsertRepo::NameTaken => Err(RepoError::NameTaken(wanted.address)),
                InsertRepo::OwnerGone => Err(RepoError::NoOwner(wanted.address.owner)),
            };
        }
        match self.put_in_place(&folder, wanted, by).await {
            Err(RepoError::Disk { cause, .. }) if cause.kind() == std::io::ErrorKind::CrossesDevices => {
                Err(RepoError::Unusable {
                    path: given,
                    why:
                        "it lies on another file system than the data folder; use `auxin repo import`, which copies it"
                            .to_owned(),
                })
            }
            other => other,
        }
    }

    /// The folder as rows have it, if it lies below `repos/`.
    async fn dir_of(&self, folder: &Path) -> Result<Option<String>, RepoError> {
        let repos_dir = self.repos_dir.clone();
        let repos_dir = blocking("find the folder of repositories", move || repos_dir.canonicalize()).await?;
        let below = folder.strip_prefix(repos_dir).ok();
        Ok(below.and_then(Path::to_str).map(str::to_owned))
    }
}

/// Whether the folder can be taken over; its canonical path if so, else why not.
fn check(path: &Path, repos_dir: &Path) -> Result<PathBuf, String> {
    let folder = path.canonicalize().map_err(|error| error.to_string())?;
    let repos_dir = repos_dir.canonicalize().map_err(|error| error.to_string())?;
    if repos_dir.starts_with(&folder) {
        return Err("the data folder lies in it".to_owned());
    }
    if folder.join(".git").exists() || folder.file_name().is_some_and(|name| name == ".git") {
        return Err("it belongs to a working copy; use `auxin repo import`, which copies it".to_owned());
    }
    Repository::open(&folder, false).map_err(|error| error.to_string())?;
    let stays = folder.starts_with(&repos_dir);
    if !stays && borrows_by_relative_path(&folder.join("objects")).map_err(|error| error.to_string())? {
        return Err(
            "it borrows objects from another repository by a relative path (objects/info/alternates), which ends \
             when it is moved; use `auxin repo import`, which copies them"
                .to_owned(),
        );
    }
    Ok(folder)
}
