//! Wiring: from settings and a data folder to the services, once for the server, the commands and
//! the tests.

use std::sync::Arc;

use crate::config::{Settings, StoreSettings};
use crate::data_folder::{DataFolder, DataFolderError};
use crate::db::{Clock, Db, DbError};
use crate::service::push::RecoverError;
use crate::service::{
    Access, Accounts, CommitNotes, Fetches, Keeping, LargeFiles, Links, Locks, Members, Music, Protection, PushedTo,
    Pushes, Repos, Tokens, Transfer, Upkeep,
};
use crate::storage::{StorageError, Store};

/// The secret that short-lived links are signed with, in `secrets/`.
const SIGNING_KEY: &str = "signing-key";

/// The secret that nonces of signed pushes are made by, in `secrets/`.
const NONCE_SEED: &str = "push-nonce-seed";

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataFolderError),
    /// The database cannot be used.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The object store cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Everything the outer layers need. Cloning is cheap and shares everything.
#[derive(Clone)]
pub struct App {
    /// The settings, with `server.public_url` filled in.
    pub config: Arc<Settings>,
    /// Where everything lies.
    pub data: DataFolder,
    /// The database.
    pub db: Db,
    /// People, and signing in.
    pub accounts: Accounts,
    /// Access tokens.
    pub tokens: Tokens,
    /// Repositories.
    pub repos: Repos,
    /// Who else may use a repository.
    pub members: Members,
    /// Protected branches.
    pub protection: Protection,
    /// From an address to a repository that the caller may use.
    pub access: Access,
    /// Short-lived signed links.
    pub links: Links,
    /// Fetches.
    pub fetches: Fetches,
    /// Pushes and their rows.
    pub pushes: Pushes,
    /// Large files.
    pub large_files: LargeFiles,
    /// Locks on files and folders.
    pub locks: Locks,
    /// What is in commits as music.
    pub music: Music,
    /// Notes of commits.
    pub notes: CommitNotes,
    /// Keeping and collecting large files.
    pub keeping: Keeping,
    /// Care for repositories.
    pub upkeep: Upkeep,
}

impl App {
    /// Opens the database (making and upgrading it as needed) and builds the services. Must be
    /// called within a tokio runtime. Works beside a running server.
    ///
    /// An empty `server.public_url` becomes the address in `server.listen`; who knows a better one
    /// (the port that was really bound) fills it in before.
    ///
    /// # Errors
    /// [`OpenError`]; its sentences name what to do.
    pub async fn open(settings: Settings, data: DataFolder) -> Result<Self, OpenError> {
        let db = Db::open(&data.database(), Clock::system()).await?;
        Self::with_db(settings, data, db)
    }

    /// Like [`App::open`], for a command: it does not upgrade the database while an older server is
    /// using it.
    ///
    /// # Errors
    /// [`OpenError`]; its sentences name what to do.
    pub async fn open_beside(settings: Settings, data: DataFolder) -> Result<Self, OpenError> {
        let db = Db::open_beside(&data.database(), Clock::system(), &|| data.is_served()).await?;
        Self::with_db(settings, data, db)
    }

    fn with_db(mut settings: Settings, data: DataFolder, db: Db) -> Result<Self, OpenError> {
        settings.server.public_url = settings.server.base_url(settings.server.listen);
        let signing_key = data.secret(SIGNING_KEY)?;
        let nonce_seed = match settings.git.push_certificates {
            true => Some(data.secret(NONCE_SEED)?.to_vec()),
            false => None,
        };
        let repos_dir = data.repos();
        let config = Arc::new(settings);
        let settings = &*config;
        let repos = Repos::new(db.clone(), &repos_dir, &settings.repo).with_limits(&settings.git);
        let access = Access::new(db.clone(), repos_dir, &settings.server.public_url, &settings.repo);
        let transfer = Transfer::new(config.clone(), &data.tmp());
        let pushed_to = PushedTo::default();
        let store = open_store(&settings.store, &data)?;
        let links = Links::new(&signing_key, db.clock().clone());
        let large_files = LargeFiles::new(
            config.clone(),
            db.clone(),
            store.clone(),
            transfer.clone(),
            repos.clone(),
            links.clone(),
        );
        let notes = CommitNotes::new(db.clone(), transfer.clone(), repos.clone(), large_files.clone());
        let pushes = Pushes::new(
            config.clone(),
            db.clone(),
            access.clone(),
            transfer.clone(),
            repos.clone(),
            pushed_to.clone(),
            notes.clone(),
            &data.cache(),
            nonce_seed,
        );
        let keeping = Keeping::new(config.clone(), db.clone(), store, repos.clone());
        let locks = Locks::new(config.clone(), db.clone(), transfer.clone());
        let upkeep = Upkeep::new(config.clone(), db.clone(), transfer.clone(), repos.clone(), pushed_to);
        Ok(Self {
            accounts: Accounts::new(db.clone(), &settings.auth),
            tokens: Tokens::new(db.clone()),
            repos,
            members: Members::new(db.clone()),
            protection: Protection::new(db.clone()),
            access,
            links,
            music: Music::new(transfer.clone(), large_files.clone()),
            fetches: Fetches::new(transfer, pushes.clone()),
            pushes,
            large_files,
            locks,
            notes,
            keeping,
            upkeep,
            config,
            data,
            db,
        })
    }

    /// Finishes or undoes what the last run left in the middle. For a server, before its first
    /// request; nobody else may be serving this folder.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn recover(&self) -> Result<(), RecoverError> {
        self.repos.sweep().await?;
        if let Err(error) = self.large_files.sweep().await {
            // It costs space and nothing else.
            tracing::warn!(%error, "What a killed server was writing cannot be removed from the store now");
        }
        if let Err(error) = self.keeping.claim_store().await {
            tracing::warn!(%error, "The object store cannot be claimed now; nothing is collected until it can");
        }
        self.pushes.recover().await
    }

    /// Finishes what is being written and lets go of the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

/// The bucket of the settings, or else the data folder's own store.
fn open_store(settings: &StoreSettings, data: &DataFolder) -> Result<Store, StorageError> {
    if settings.url.is_empty() {
        return Store::on_disk(&data.store());
    }
    Store::in_bucket(settings)
}
