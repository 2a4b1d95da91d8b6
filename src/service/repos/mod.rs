//! Repositories: made, adopted, found, renamed, closed, deleted.
//!
//! A repository is a folder and a row; the row says where the folder is. It is made in the order
//! folder, row, and removed in the order row, folder, so that a row always has its folder. A crash in
//! between leaves a folder without a row, which nobody can reach.
//!
//! The folder stays where it was made, whatever the repository is called later: see
//! [`crate::db::RepoRow::dir`].

mod adopt;
mod content;
mod delete;
mod disk;
mod make;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{GitSettings, RepoSettings};
use crate::db::{By, Db, DbError, RenameRepo, RepoRow, UserRow, Visibility};
use crate::names::{OwnerName, RepoAddress, RepoName};

pub use crate::git::repo_init::ObjectFormat;
pub use content::{CheckReport, MadeBundle};
pub use make::MadeRepo;

/// Why nothing was changed; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is no such repository.
    #[error("there is no repository {0}; `auxin repo list` shows all")]
    NoRepo(RepoAddress),
    /// The address is an old one. What changes a repository wants the one of today.
    #[error("{old} is called {new} now; use that address")]
    Renamed {
        /// As it was given.
        old: RepoAddress,
        /// As it is.
        new: RepoAddress,
    },
    /// Nobody has the name.
    #[error("there is no user {0}; `auxin user list` shows all")]
    NoOwner(OwnerName),
    /// The address is taken.
    #[error("there is a repository {0} already; choose another name")]
    NameTaken(RepoAddress),
    /// The folder is not a repository that can be served; the text says why.
    #[error("{} cannot be used as a repository: {why}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The folder serves another repository.
    #[error("{} is served already; `auxin repo list` shows all", .0.display())]
    AlreadyServed(PathBuf),
    /// The setting is no name of a branch.
    #[error("the setting repo.default_branch is `{0}`, which no branch can be called; correct it in auxin.toml")]
    BadDefaultBranch(String),
    /// There is no such branch.
    #[error("{repo} has no branch {branch}; push it first")]
    NoBranch {
        /// The repository.
        repo: RepoAddress,
        /// The branch.
        branch: String,
    },
    /// The folder of a repository cannot be read.
    #[error("the repository {repo} cannot be read: {cause}")]
    Unreadable {
        /// The repository.
        repo: RepoAddress,
        /// What git's side says.
        cause: String,
    },
    /// The disk refused.
    #[error("the server could not {doing}: {cause}")]
    Disk {
        /// Such as `make the folder of the repository`.
        doing: &'static str,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The database refused. What it said is for the log.
    #[error("the server's database did not answer; the server's log says why")]
    Db(#[from] DbError),
}

/// A repository with everything that is known of it without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepoDetails {
    /// Its row.
    #[serde(flatten)]
    pub repo: RepoRow,
    /// Its folder.
    pub path: PathBuf,
    /// Old addresses that still answer.
    pub old_addresses: Vec<RepoAddress>,
}

/// Repositories. Cloning shares everything.
#[derive(Clone)]
pub struct Repos {
    db: Db,
    repos_dir: PathBuf,
    default_branch: String,
    default_visibility: Visibility,
    default_format: ObjectFormat,
    limits: GitSettings,
}

impl Repos {
    /// `repos_dir` is the folder in which the folders of repositories are.
    ///
    /// A `repo.default_visibility` that is none counts as private, a `repo.default_object_format` as
    /// SHA-1; the settings are checked where they are read.
    pub fn new(db: Db, repos_dir: &Path, settings: &RepoSettings) -> Self {
        Self {
            db,
            repos_dir: repos_dir.to_owned(),
            default_branch: settings.default_branch.clone(),
            default_visibility: settings.default_visibility.parse().unwrap_or(Visibility::Private),
            default_format: settings.default_object_format.parse().unwrap_or_default(),
            limits: GitSettings::default(),
        }
    }

    /// With the limits on single objects of `[git]` for imports, instead of the defaults.
    #[must_use]
    pub fn with_limits(mut self, limits: &GitSettings) -> Self {
        self.limits = limits.clone();
        self
    }

    /// The folder of a repository.
    pub fn path(&self, repo: &RepoRow) -> PathBuf {
        self.repos_dir.join(&repo.dir)
    }

    /// Finds a repository by its address or by an old one.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`].
    pub async fn find(&self, address: &RepoAddress) -> Result<RepoRow, RepoError> {
        let found = self.db.find_repo(address, None).await?;
        found
            .map(|found| found.repo)
            .ok_or_else(|| RepoError::NoRepo(address.clone()))
    }

    /// Everything that is known of a repository without reading it.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`].
    pub async fn show(&self, address: &RepoAddress) -> Result<RepoDetails, RepoError> {
        let repo = self.find(address).await?;
        Ok(RepoDetails {
            path: self.path(&repo),
            old_addresses: self.db.old_addresses(repo.id).await?,
            repo,
        })
    }

    /// Repositories by address, of one owner or of all, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`RepoError::NoOwner`].
    pub async fn list(
        &self,
        owner: Option<&OwnerName>,
        after: Option<&RepoAddress>,
        limit: u32,
    ) -> Result<Vec<RepoRow>, RepoError> {
        let owner = match owner {
            Some(name) => Some(self.owner(name).await?.id),
            None => None,
        };
        Ok(self.db.list_repos(owner, after, limit).await?)
    }

    /// Gives a repository another name in the same space. The old address keeps answering until the
    /// name is used again.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`], [`RepoError::NameTaken`].
    pub async fn rename(&self, address: &RepoAddress, new_name: RepoName, by: By) -> Result<RepoRow, RepoError> {
        let repo = self.exactly(address).await?;
        match self.db.rename_repo(repo.id, new_name.clone(), by).await? {
            RenameRepo::Done(row) => Ok(row),
            RenameRepo::Gone => Err(RepoError::NoRepo(repo.address)),
            RenameRepo::NameTaken => Err(RepoError::NameTaken(RepoAddress {
                owner: repo.address.owner,
                name: new_name,
            })),
        }
    }

    /// Changes who may see a repository; counts with the next request.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`].
    pub async fn set_visibility(&self, address: &RepoAddress, visibility: Visibility, by: By) -> Result<(), RepoError> {
        let repo = self.exactly(address).await?;
        let done = self.db.set_visibility(repo.id, visibility, by).await?;
        done.then_some(()).ok_or(RepoError::NoRepo(repo.address))
    }

    /// Refuses every push from the next one on.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`].
    pub async fn archive(&self, address: &RepoAddress, by: By) -> Result<(), RepoError> {
        self.set_archived(address, true, by).await
    }

    /// Accepts pushes again.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`].
    pub async fn unarchive(&self, address: &RepoAddress, by: By) -> Result<(), RepoError> {
        self.set_archived(address, false, by).await
    }

    async fn set_archived(&self, address: &RepoAddress, is_archived: bool, by: By) -> Result<(), RepoError> {
        let repo = self.exactly(address).await?;
        let done = self.db.set_archived(repo.id, is_archived, by).await?;
        done.then_some(()).ok_or(RepoError::NoRepo(repo.address))
    }

    /// Trusts the hooks in a repository's folder and the includes of its git config, or no longer.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Renamed`].
    pub async fn trust_hooks(&self, address: &RepoAddress, trust_hooks: bool, by: By) -> Result<(), RepoError> {
        let repo = self.exactly(address).await?;
        let done = self.db.set_trust_hooks(repo.id, trust_hooks, by).await?;
        done.then_some(()).ok_or(RepoError::NoRepo(repo.address))
    }

    /// Finds a repository by its address of today, so that a slip of memory changes nothing.
    async fn exactly(&self, address: &RepoAddress) -> Result<RepoRow, RepoError> {
        let repo = self.find(address).await?;
        if repo.address != *address {
            return Err(RepoError::Renamed {
                old: address.clone(),
                new: repo.address,
            });
        }
        Ok(repo)
    }

    async fn owner(&self, name: &OwnerName) -> Result<UserRow, RepoError> {
        let row = self.db.user_by_name(name).await?;
        row.ok_or_else(|| RepoError::NoOwner(name.clone()))
    }
}

#[cfg(test)]
mod tests;
