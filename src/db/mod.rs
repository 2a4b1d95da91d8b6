//! The database: people, tokens, repositories, rights and pushes; the only place with SQL.
//!
//! The interface is a set of *operations* on [`Db`], each with plain types. Nothing of SQL or of
//! SQLite shows through, so that PostgreSQL can be a second implementation of the same operations:
//! placeholders are `$1`, ids are bytes, times are microseconds from the database's [`Clock`].
//!
//! **Reading** uses a few connections side by side; each sees what was committed before it began.
//! **Writing** goes through one task that owns one connection (module `writer`): operations that wait
//! at the same time share one `BEGIN IMMEDIATE` … `COMMIT` and one flush to disk, and nobody gets
//! an answer before that flush. Other processes, such as a command beside a running server, write
//! to the same file in the same way and are seen by the very next read.

mod audit;
mod change_stamp;
mod chunk_sets;
mod clock;
mod collecting;
mod damage;
mod error;
mod keeping;
mod kinds;
mod large_files;
mod lock_acts;
mod lock_rules;
mod locks;
mod members;
mod notes;
mod open;
mod protected;
mod pushes;
mod pushes_read;
mod repos;
mod row;
mod sounds;
mod tokens;
mod users;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::SqlitePool;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::Sqlite;

pub use audit::{AuditRow, By};
pub use change_stamp::ChangeStamp;
pub use chunk_sets::Holder;
pub use clock::{Clock, ManualClock, US_PER_SEC};
pub use collecting::{KeptChunk, Unlinked};
pub use damage::Damage;
pub use error::DbError;
pub use keeping::{LinkedObject, PackRow, StoreSums};
pub use kinds::{BadKind, Role, Scope, Visibility};
pub use large_files::{FramePlace, Hash, NewChunk, NewObject, NewPack, NewRecipe, ObjectRow, RecipePlace, Sight};
pub use lock_acts::{ActOnLock, LockAct, LockAsk};
pub use lock_rules::{LockRules, LockRulesChange, Outdated};
pub use locks::{LockFilter, LockRow, NewLock, PushLocks, Reach, ReleaseLock, TakeLock};
pub use members::MemberRow;
pub use notes::PushToNote;
pub use open::COPIES_KEPT;
pub use protected::ProtectedBranch;
pub use pushes::{BeginPush, FinishPush, MAX_PUSH_OPTIONS_BYTES, NewPush, PushState, RefChange};
pub use pushes_read::{KnownRef, MAX_MOVED_IDS, MovedRef, PushPage, PushRefRow, PushRow};
pub use repos::{FoundRepo, InsertRepo, NewRepo, RenameRepo, RepoRow};
pub use sounds::SoundRow;
pub use tokens::{NewToken, TokenRow};
pub use users::{InsertUser, NewUser, RemoveUser, UserRow};

use change_stamp::Watch;
use writer::{WriteTx, Writer};

/// Connections for reading, each with a thread of its own.
const READ_CONNECTIONS: u32 = 8;

/// How long a write waits for another process to finish its own, in seconds.
pub const BUSY_TIMEOUT_SECS: u64 = 30;

/// The open database. Cloning is cheap and shares everything.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    reads: SqlitePool,
    writer: Writer,
    clock: Clock,
    instance_id: String,
    path: PathBuf,
    /// Begun by the first that asks for a stamp; `None` if that failed.
    watch: tokio::sync::OnceCell<Option<Watch>>,
}

impl Db {
    /// Opens the database file at `path`, making it when it is missing and bringing it up to date.
    ///
    /// Before an existing database is changed, a copy is put beside it; the last [`COPIES_KEPT`]
    /// copies are kept. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// - [`DbError::Newer`]: a later version of the program has used this file; nothing is touched.
    /// - [`DbError::Open`], [`DbError::Upgrade`]: the sentence names file and cause.
    pub async fn open(path: &Path, clock: Clock) -> Result<Self, DbError> {
        Self::open_with(path, clock, open::migrations(), &|| false).await
    }

    /// Like [`Db::open`], but does not touch a file of an older version while `is_in_use` says that
    /// somebody who may know no other version is using it.
    ///
    /// # Errors
    /// [`DbError::Older`] then, and those of [`Db::open`].
    pub async fn open_beside(
        path: &Path,
        clock: Clock,
        is_in_use: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Self, DbError> {
        Self::open_with(path, clock, open::migrations(), is_in_use).await
    }

    async fn open_with(
        path: &Path,
        clock: Clock,
        migrations: Vec<sqlx::migrate::Migration>,
        is_in_use: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Self, DbError> {
        let (connection, instance_id) = open::prepare(path, &clock, migrations, is_in_use).await?;
        let writer = Writer::start(connection, open::write_options(path), clock.clone());
        let reads = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(std::time::Duration::from_secs(BUSY_TIMEOUT_SECS))
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(open::read_options(path));
        Ok(Self {
            inner: Arc::new(Inner {
                reads,
                writer,
                clock,
                instance_id,
                path: path.to_owned(),
                watch: tokio::sync::OnceCell::new(),
            }),
        })
    }

    /// The time of the database, in microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.inner.clock.now_us()
    }

    /// The clock behind [`Db::now_us`].
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Made at random when the database was made: tells one installation from another.
    pub fn instance_id(&self) -> &str {
        &self.inner.instance_id
    }

    /// Asks both sides whether they work: reads a row, and sends an empty transaction through the
    /// writer.
    ///
    /// # Errors
    /// What an ordinary operation would answer now.
    pub async fn check(&self) -> Result<(), DbError> {
        let mut connection = self.read().await?;
        sqlx::query("SELECT value FROM meta WHERE key = 'instance_id'")
            .fetch_one(&mut *connection)
            .await?;
        drop(connection);
        self.write(|_| Box::pin(async { Ok(()) })).await
    }

    /// Finishes waiting writes and closes the file. Later operations answer [`DbError::Closed`].
    pub async fn close(&self) {
        if let Some(Some(watch)) = self.inner.watch.get() {
            watch.close().await;
        }
        self.inner.writer.close().await;
        self.inner.reads.close().await;
    }

    /// How many commits the writer has made: what grouping saves can be seen here.
    pub fn commit_count(&self) -> u64 {
        self.inner.writer.commit_count()
    }

    async fn read(&self) -> Result<PoolConnection<Sqlite>, DbError> {
        Ok(self.inner.reads.acquire().await?)
    }

    /// Runs one write operation; returns after its transaction is durable.
    async fn write<T, F>(&self, op: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(WriteTx<'c>) -> futures::future::BoxFuture<'c, Result<T, DbError>> + Send + 'static,
    {
        self.inner.writer.run(op).await
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db")
            .field("instance_id", &self.inner.instance_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
