//! What lies in a repository's folder: its default branch, and whether it is whole.

use std::sync::Arc;

use bstr::{BStr, ByteSlice};

use super::{RepoError, Repos};
use crate::db::{By, RepoRow};
use crate::git::bundle;
use crate::git::check;
use crate::git::ref_transaction::set_head;
use crate::git::refs::Head;
use crate::git::repo_init::ObjectFormat;
use crate::git::snapshot::{Repository, Snapshot};
use crate::names::RepoAddress;

pub use crate::git::bundle::MadeBundle;
pub use crate::git::check::CheckReport;

const BRANCHES: &str = "refs/heads/";

impl Repos {
    /// The branch that a clone checks out, without `refs/heads/`; `None` if `HEAD` names a commit.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Unreadable`].
    pub async fn default_branch(&self, address: &RepoAddress) -> Result<Option<String>, RepoError> {
        let repo = self.find(address).await?;
        self.read(&repo, |repository| {
            let snapshot = repository.snapshot().map_err(|error| error.to_string())?;
            Ok(match snapshot.refs.head() {
                Head::Symbolic { branch, .. } => {
                    let short = branch.strip_prefix(BRANCHES.as_bytes()).unwrap_or(branch);
                    Some(short.to_str_lossy().into_owned())
                }
                Head::Detached(_) => None,
            })
        })
        .await
    }

    /// The hash function of its ids.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Unreadable`].
    pub async fn object_format(&self, address: &RepoAddress) -> Result<ObjectFormat, RepoError> {
        let repo = self.find(address).await?;
        self.read(&repo, |repository| {
            let snapshot = repository.snapshot().map_err(|error| error.to_string())?;
            Ok(ObjectFormat::of(snapshot.hash()))
        })
        .await
    }

    /// Sets the branch that a clone checks out. It must exist, unless there is no branch at all.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`], [`RepoError::NoBranch`],
    /// [`RepoError::Unreadable`].
    pub async fn set_default_branch(&self, address: &RepoAddress, branch: &str, by: By) -> Result<(), RepoError> {
        let repo = self.exactly(address).await?;
        let short = branch.strip_prefix(BRANCHES).unwrap_or(branch).to_owned();
        let full = format!("{BRANCHES}{short}");
        let is_set = self
            .read(&repo, move |repository| {
                let snapshot = repository.snapshot().map_err(|error| error.to_string())?;
                let is_there = snapshot.refs.find(BStr::new(&full)).is_some();
                let has_none = snapshot.refs.with_prefix(BRANCHES.as_bytes()).is_empty();
                if !is_there && !has_none {
                    return Ok(false);
                }
                set_head(repository.path(), BStr::new(&full)).map_err(|error| error.to_string())?;
                Ok(true)
            })
            .await?;
        if !is_set {
            return Err(RepoError::NoBranch {
                repo: repo.address,
                branch: short.escape_debug().to_string(),
            });
        }
        let subject = repo.address.to_string();
        Ok(self.db.note_change(by, "repo.default-branch", subject, short).await?)
    }

    /// Checks every object and ref of a repository; changes nothing. Takes as long as reading it does.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`]; [`RepoError::Unreadable`] if the check itself cannot go on. Damage is in
    /// the report.
    pub async fn fsck(&self, address: &RepoAddress) -> Result<CheckReport, RepoError> {
        let repo = self.find(address).await?;
        self.read(&repo, |repository| {
            check::check(repository, &mut || Ok(())).map_err(|error| error.to_string())
        })
        .await
    }

    /// Makes a bundle of what fetches may see, unless the newest one is still right; `None` if no bundle
    /// can be made of that.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`]; [`RepoError::Unreadable`] if it cannot be done.
    pub async fn bundle(&self, address: &RepoAddress) -> Result<Option<MadeBundle>, RepoError> {
        let repo = self.find(address).await?;
        self.read(&repo, |repository| {
            let folder = bundle::folder(repository.path());
            bundle::make(repository, &folder, &mut || Ok(())).map_err(|error| error.to_string())
        })
        .await
    }

    /// Works on a repository as it is now, where that may block.
    ///
    /// # Errors
    /// [`RepoError::Unreadable`] if it cannot be read.
    pub(in crate::service) async fn with_snapshot<T: Send + 'static>(
        &self,
        repo: &RepoRow,
        work: impl FnOnce(&Snapshot) -> Result<T, String> + Send + 'static,
    ) -> Result<T, RepoError> {
        let read = self.read(repo, |repository| {
            work(&*repository.snapshot().map_err(|error| error.to_string())?)
        });
        read.await
    }

    /// Opens the repository and works on it where that may block.
    async fn read<T: Send + 'static>(
        &self,
        repo: &RepoRow,
        work: impl FnOnce(&Arc<Repository>) -> Result<T, String> + Send + 'static,
    ) -> Result<T, RepoError> {
        let (path, trust) = (self.path(repo), repo.trust_hooks);
        let done = tokio::task::spawn_blocking(move || {
            let repository = Repository::open(&path, trust).map_err(|error| error.to_string())?;
            work(&repository)
        })
        .await;
        done.unwrap_or_else(|ended| Err(ended.to_string()))
            .map_err(|cause| RepoError::Unreadable {
                repo: repo.address.clone(),
                cause,
            })
    }
}
