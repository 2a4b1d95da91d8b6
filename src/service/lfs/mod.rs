//! Large files over the Git LFS API.
//!
//! ```text
//! batch     what a client may get or has to bring
//! ingest    an upload is cut, encoded and packed while it streams in; it counts once its hash is right
//! sounds    what it is as sound, found in the same pass
//! recipes   from the row of an object to its recipe
//! read      an object is put together from its chunks, any part of it
//! import    a repository of this machine is copied with its large files
//! grants    tokens of the chunked transfer
//! packs     chunk packs that clients bring, proven before they count
//! proofs    which chunks a client has to bring, and whether a recipe makes its object
//! chunked   recipes and chunks as they lie in the store, for clients that put files together themselves
//! ```
//!
//! A hash is not a right: an object is there for a repository only if a row links the two, and such a row comes
//! from bytes that somebody brought, or from another repository that the same person may read.

mod batch;
mod chunked;
mod grants;
mod import;
mod ingest;
mod packs;
mod proofs;
mod read;
mod recipes;
mod sounds;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lfs_protocol::Oid;
use lfs_protocol::codec::DecodeError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::batch::Batch;
pub use self::grants::Grant;
pub use self::import::{ImportError, ImportSource, ImportedFiles, MissingFile};
pub use self::read::LargeObject;
pub(in crate::service) use self::recipes::recipe_of;
use super::access::Opened;
use super::links::Links;
use super::push::Push;
use super::repos::{RepoError, Repos};
use super::sign_in::SignedIn;
use super::transfer::{Answer, CallerKey, Errors, Incoming, Kind, Transfer, TransferError};
use crate::config::Settings;
pub use crate::db::Holder;
use crate::db::{Db, DbError, US_PER_SEC};
use crate::ids::RepoId;
use crate::storage::{StorageError, Store};

/// Why a large file cannot be taken or given. The sentences are for the person at the client, except those of
/// failures of this server.
#[derive(Debug, thiserror::Error)]
pub enum LfsError {
    /// Not the name of an object.
    #[error("An object is named by 64 lower-case hexadecimal digits.")]
    BadName,
    /// The repository has no such object.
    #[error(
        "There is no large file {0} in this repository. Push it again from a clone that has it: git lfs push --all"
    )]
    NoObject(Oid),
    /// Larger than this server takes.
    #[error("The file has {size_bytes} bytes; this server takes at most {limit_bytes} (lfs.max_object_bytes).")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
        /// What is taken.
        limit_bytes: u64,
    },
    /// The bytes are not those that were announced.
    #[error("{oid}: {what}. Nothing was kept; push again.")]
    WrongBytes {
        /// What was announced.
        oid: Oid,
        /// What is wrong.
        what: String,
    },
    /// The size of an object is another one.
    #[error("{oid} has {found_bytes} bytes here, not {asked_bytes}.")]
    OtherSize {
        /// The object.
        oid: Oid,
        /// What it has.
        found_bytes: u64,
        /// What was asked for.
        asked_bytes: u64,
    },
    /// The request is not as the API wants it.
    #[error("{0}")]
    BadRequest(String),
    /// More objects than one request may name.
    #[error("The request names {found} objects; this server takes {limit} at once (lfs.max_batch_objects).")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Large files are switched off.
    #[error("This server keeps no large files (setting lfs.enabled). Ask its administrator.")]
    SwitchedOff,
    /// A body is longer than it may be.
    #[error("The body of this request is longer than {max_bytes} bytes, which is the limit{setting}.")]
    TooLong {
        /// The limit, in bytes.
        max_bytes: u64,
        /// The setting that makes it, in brackets; empty where the format does.
        setting: &'static str,
    },
    /// The token of a chunked transfer is not good.
    #[error("The token of this transfer {0}. Run git lfs again.")]
    BadToken(&'static str),
    /// The repository was deleted while the file came.
    #[error("The repository was deleted while the file came.")]
    Gone,
    /// The person has to bring chunks first.
    #[error("{missing} chunks of this file are not here yet. Send them first: git lfs does so when it is run again.")]
    MissingChunks {
        /// How many.
        missing: usize,
    },
    /// A chunk was removed between question and answer.
    #[error("A chunk that this file builds on was removed just now. Run git lfs again.")]
    Vanished,
    /// A chunk pack that is not what it should be.
    #[error("The chunk pack is refused: {0}. Nothing of it was kept; send it again.")]
    BadPack(String),
    /// Nobody is proving this object.
    #[error("Nothing is known of an upload of {0}. Send its recipe again.")]
    NotProving(Oid),
    /// A repository could not be made for it.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A chunk in the store is not what it was.
    #[error("{oid} is damaged in the store: {what}")]
    Damaged {
        /// The object.
        oid: Oid,
        /// What is wrong.
        what: String,
    },
    /// The database failed.
    #[error(transparent)]
    Db(DbError),
    /// The object store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<DbError> for LfsError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Vanished => Self::Vanished,
            error => Self::Db(error),
        }
    }
}

impl LfsError {
    fn damaged(oid: Oid, what: &DecodeError) -> Self {
        Self::Damaged {
            oid,
            what: what.to_string(),
        }
    }

    /// Whether the server is to blame.
    pub(in crate::service) fn is_ours(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Db(_) | Self::Storage(_))
    }
}

/// Takes and gives large files. Cheap to clone.
#[derive(Clone)]
pub struct LargeFiles {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Settings>,
    db: Db,
    store: Store,
    transfer: Transfer,
    repos: Repos,
    links: Links,
    proofs: proofs::Proofs,
}

impl LargeFiles {
    /// `store` is where chunk packs lie; `links` signs the tokens of chunked transfers.
    pub fn new(config: Arc<Settings>, db: Db, store: Store, transfer: Transfer, repos: Repos, links: Links) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                db,
                store,
                transfer,
                repos,
                links,
                proofs: proofs::Proofs::default(),
            }),
        }
    }

    /// Takes the bytes of an object of `size_bytes` for a repository, and answers when they are durable.
    ///
    /// # Errors
    /// [`TransferError::Lfs`] and those of every transfer; then nothing is kept.
    pub async fn upload(
        &self,
        push: &Push,
        repo: RepoId,
        (oid, size_bytes): (Oid, u64),
        incoming: Incoming,
    ) -> Result<Answer, TransferError> {
        self.inner.check_on()?;
        let limit_bytes = self.inner.config.lfs.max_object_bytes;
        if size_bytes > limit_bytes {
            return Err(LfsError::TooLarge {
                size_bytes,
                limit_bytes,
            }
            .into());
        }
        let admitted = self.inner.transfer.admit(CallerKey::User(push.by.id))?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let coding = incoming.coding;
        let work = move |tools: super::transfer::Tools<'_>| {
            let exceeded = super::transfer::coding::Exceeded::default();
            // One byte more tells that there are too many.
            let most = size_bytes.saturating_add(1);
            let mut input = super::transfer::coding::decoded(tools.input, coding, most, &exceeded);
            ingest::take(&inner, &handle, repo, (oid, size_bytes), &mut *input, tools.work)
        };
        let body = Some(incoming.body);
        self.inner
            .transfer
            .run(Kind::LargeFile, Errors::BreakOff, admitted, body, work)
            .await
    }

    /// Whether the repository has this object with this size.
    ///
    /// # Errors
    /// [`LfsError::NoObject`], [`LfsError::OtherSize`].
    pub async fn verify(&self, repo: RepoId, oid: Oid, size_bytes: u64) -> Result<(), LfsError> {
        self.inner.check_on()?;
        let found = self.inner.db.linked_objects(repo, &[*oid.as_bytes()]).await?;
        match found.get(oid.as_bytes()) {
            None => Err(LfsError::NoObject(oid)),
            Some(&found_bytes) if found_bytes != size_bytes => Err(LfsError::OtherSize {
                oid,
                found_bytes,
                asked_bytes: size_bytes,
            }),
            Some(_) => Ok(()),
        }
    }

    /// Removes what a killed server was writing. For the start of the server.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sweep(&self) -> io::Result<()> {
        let store = self.inner.store.clone();
        let swept = tokio::task::spawn_blocking(move || store.sweep()).await;
        swept.unwrap_or_else(|ended| Err(io::Error::other(ended)))
    }

    /// Removes what uploads left behind, now and then, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let every = Duration::from_secs(self.inner.config.repo.empty_grace_secs.min(3600));
        while !shutdown.is_cancelled() {
            if let Err(error) = self.remove_unfilled().await {
                tracing::warn!(%error, "Repositories that no push has filled cannot be removed now");
            }
            if let Err(error) = self.inner.db.forget_brought().await {
                tracing::warn!(%error, "What people brought long ago cannot be forgotten now");
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(every) => {}
            }
        }
        self.inner.proofs.stop();
    }

    /// Removes repositories that an upload made long ago and that no push ever filled.
    ///
    /// # Errors
    /// [`RepoError`]
    async fn remove_unfilled(&self) -> Result<(), RepoError> {
        let grace_us = i64::try_from(self.inner.config.repo.empty_grace_secs)
            .unwrap_or(i64::MAX)
            .saturating_mul(US_PER_SEC);
        let before_us = self.inner.db.now_us().saturating_sub(grace_us);
        for repo in self.inner.db.take_made_repos(before_us).await? {
            // One that a push has filled stays.
            self.inner.repos.remove_empty(repo).await?;
        }
        Ok(())
    }
}

impl Inner {
    fn check_on(&self) -> Result<(), LfsError> {
        match self.config.lfs.enabled {
            true => Ok(()),
            false => Err(LfsError::SwitchedOff),
        }
    }
}

/// Whether a person's token is good for one repository only.
pub(super) fn is_for_one_repo(by: &SignedIn) -> bool {
    by.token.as_ref().is_some_and(|token| token.repo.is_some())
}

/// The address below which the LFS API of a repository is.
fn api_of(config: &Settings, repo: &Opened) -> String {
    format!("{}/{}.git/info/lfs", config.server.public_url, repo.address)
}
