//! Making repositories.

use std::io;
use std::path::Path;

use super::disk::{self, blocking};
use super::{RepoError, Repos};
use crate::db::{By, InsertRepo, NewRepo, RepoRow, UserRow, Visibility};
use crate::git::import;
use crate::git::repo_init::{self, InitError, ObjectFormat};
use crate::ids::RepoId;
use crate::names::RepoAddress;
use crate::service::access::Opened;
use crate::service::sign_in::SignedIn;

/// The repository that a push goes to.
#[derive(Clone, Debug)]
pub struct MadeRepo {
    /// It, opened for its owner.
    pub repo: Opened,
    /// It was made just now; otherwise somebody was faster.
    pub is_new: bool,
}

/// What [`Repos::put_in_place`] stores.
pub(super) struct Wanted {
    pub id: RepoId,
    pub owner: UserRow,
    pub address: RepoAddress,
    pub visibility: Visibility,
}

fn disk_error(cause: io::Error) -> RepoError {
    RepoError::Disk {
        doing: "make the folder of the repository",
        cause,
    }
}

impl Repos {
    /// Makes an empty repository; without a `format` that of the settings.
    ///
    /// # Errors
    /// [`RepoError::NoOwner`], [`RepoError::NameTaken`].
    pub async fn create(
        &self,
        address: &RepoAddress,
        visibility: Visibility,
        format: Option<ObjectFormat>,
        by: By,
    ) -> Result<RepoRow, RepoError> {
        let wanted = Wanted {
            id: RepoId::new(),
            owner: self.owner(&address.owner).await?,
            address: address.clone(),
            visibility,
        };
        let format = format.unwrap_or(self.default_format);
        let init = self.init();
        self.make_with(wanted, by, move |folder| init(folder, format)).await
    }

    /// Makes the repository that a push of `pusher` goes to, with this identity, in the pusher's own
    /// space, in the pusher's object format and with the visibility of the settings. If somebody is faster, it is theirs that the
    /// push goes to: of two pushes at once both go into one repository.
    ///
    /// # Errors
    /// [`RepoError`]; its sentence may be shown to the pusher.
    pub async fn create_for_push(
        &self,
        id: RepoId,
        pusher: &SignedIn,
        address: &RepoAddress,
        format: ObjectFormat,
    ) -> Result<MadeRepo, RepoError> {
        let owner = self.db.user_by_id(pusher.id).await?;
        let wanted = Wanted {
            id,
            owner: owner.ok_or_else(|| RepoError::NoOwner(pusher.name.clone()))?,
            address: RepoAddress {
                owner: pusher.name.clone(),
                name: address.name.clone(),
            },
            visibility: self.default_visibility,
        };
        let (by, init) = (By::User(pusher.name.clone()), self.init());
        match self.make_with(wanted, by, move |folder| init(folder, format)).await {
            Ok(row) => Ok(MadeRepo {
                repo: Opened::by_owner(row, &self.repos_dir, Vec::new()),
                is_new: true,
            }),
            Err(RepoError::NameTaken(address)) => {
                let row = self.exactly(&address).await?;
                let protected = self.db.protected_branches(row.id).await?;
                Ok(MadeRepo {
                    repo: Opened::by_owner(row, &self.repos_dir, protected),
                    is_new: false,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Copies a repository of this machine, bare or a working copy, and serves the copy. Nothing of
    /// the source runs, and neither its hooks nor its config come along.
    ///
    /// # Errors
    /// [`RepoError::NoOwner`], [`RepoError::NameTaken`], [`RepoError::Unusable`].
    pub async fn import(
        &self,
        path: &Path,
        address: &RepoAddress,
        visibility: Visibility,
        by: By,
    ) -> Result<RepoRow, RepoError> {
        let wanted = Wanted {
            id: RepoId::new(),
            owner: self.owner(&address.owner).await?,
            address: address.clone(),
            visibility,
        };
        let (init, source, limits) = (self.init(), path.to_owned(), self.limits.clone());
        self.make_with(wanted, by, move |target| {
            let unusable = |error: import::ImportError| RepoError::Unusable {
                path: source.clone(),
                why: error.to_string(),
            };
            init(target, import::object_format(&source).map_err(unusable)?)?;
            let copied = import::import(&source, target, &limits).map_err(unusable)?;
            tracing::info!(
                objects = copied.objects,
                refs = copied.refs,
                "Imported {}",
                source.display()
            );
            Ok(())
        })
        .await
    }

    /// Makes an empty folder of a repository.
    fn init(&self) -> impl FnOnce(&Path, ObjectFormat) -> Result<(), RepoError> + Send + 'static {
        let branch = self.default_branch.clone();
        move |folder, format| {
            repo_init::init(folder, &branch, format).map_err(|error| match error {
                InitError::BadBranch(branch) => RepoError::BadDefaultBranch(branch),
                InitError::Exists(_) => disk_error(io::Error::from(io::ErrorKind::AlreadyExists)),
                InitError::Io { source, .. } => disk_error(source),
            })
        }
    }

    /// Makes a folder with `make`, puts it in its place and stores the row, in this order. Nothing is
    /// left of it if the name is taken, even when it was taken in the meantime.
    pub(super) async fn make_with<F>(&self, wanted: Wanted, by: By, make: F) -> Result<RepoRow, RepoError>
    where
        F: FnOnce(&Path) -> Result<(), RepoError> + Send + 'static,
    {
        let found = self.db.find_repo(&wanted.address, None).await?;
        if found.is_some_and(|found| found.renamed_from.is_none()) {
            return Err(RepoError::NameTaken(wanted.address));
        }
        let aside = disk::aside(&self.repos_dir, wanted.id);
        let folder = aside.clone();
        let made = tokio::task::spawn_blocking(move || make(&folder)).await;
        let made = made.unwrap_or_else(|ended| Err(disk_error(io::Error::other(ended))));
        let stored = match made {
            Ok(()) => self.put_in_place(&aside, wanted, by).await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            let repos_dir = self.repos_dir.clone();
            if let Err(error) = blocking("remove a folder", move || disk::remove(&repos_dir, &aside)).await {
                tracing::warn!(%error, "A folder that was made in vain stays behind");
            }
        }
        stored
    }

    /// Moves a finished folder to its place and stores the row. On failure the folder is where it was.
    pub(super) async fn put_in_place(&self, folder: &Path, wanted: Wanted, by: By) -> Result<RepoRow, RepoError> {
        for dir in disk::dirs(&wanted.address, wanted.id) {
            if self.db.repo_dir_in_use(&dir).await? {
                continue;
            }
            let (from, repos_dir, to) = (folder.to_owned(), self.repos_dir.clone(), dir.clone());
            if !blocking("put the repository in its place", move || {
                disk::put(&from, &repos_dir, &to)
            })
            .await?
            {
                continue;
            }
            let stored = self.store(&wanted, &dir, by.clone()).await;
            if let Ok(InsertRepo::Done(row)) = stored {
                return Ok(row);
            }
            let (from, to) = (self.repos_dir.join(&dir), folder.to_owned());
            blocking("move the repository back", move || std::fs::rename(from, to)).await?;
            match stored? {
                InsertRepo::NameTaken => return Err(RepoError::NameTaken(wanted.address)),
                InsertRepo::OwnerGone => return Err(RepoError::NoOwner(wanted.address.owner)),
                InsertRepo::DirTaken | InsertRepo::Done(_) => {}
            }
        }
        Err(RepoError::Disk {
            doing: "find a folder for the repository",
            cause: io::Error::from(io::ErrorKind::AlreadyExists),
        })
    }

    pub(super) async fn store(&self, wanted: &Wanted, dir: &str, by: By) -> Result<InsertRepo, RepoError> {
        let new = NewRepo {
            id: wanted.id,
            owner_id: wanted.owner.id,
            name: wanted.address.name.clone(),
            dir: dir.to_owned(),
            visibility: wanted.visibility,
        };
        Ok(self.db.insert_repo(new, by).await?)
    }
}
