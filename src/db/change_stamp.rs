//! Telling, for the price of two system calls, that nobody has changed the database.
//!
//! SQLite in WAL mode begins the file `-shm` with a header, twice over, that every commit of every
//! process rewrites: a counter of changes, the length of the log, a checksum over all its frames and
//! two salts that are new whenever the log begins anew (SQLite, "WAL-mode File Format", section 2.1).
//! By comparing these 48 bytes with those of its last read, a connection of SQLite itself decides
//! whether the pages that it has in memory still count (`walIndexTryHdr`). What was read here after a
//! stamp was taken therefore holds for as long as the stamp stays the same.
//!
//! Three things make that exact:
//! - A connection of our own stays open (`anchor`). While it does, no process may delete or cut the
//!   file, leave WAL mode, or keep the header in memory of its own (`locking_mode=EXCLUSIVE`).
//! - The file is the one that stands at its path, and the bytes come from the same pages of memory
//!   that SQLite writes to (`MAP_SHARED`). A read in the midst of a write gives two copies that differ,
//!   or bytes that no finished header has: no stamp, or one that never comes again.
//! - The header of an empty log has no salts and can come back after a crash; it gives no stamp.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{Db, open};

/// One copy of the header, in bytes.
const HEADER_BYTES: usize = 48;

/// The only version of the header that there is, in the byte order of the machine.
const HEADER_VERSION: u32 = 3_007_000;

/// Where the header says that it is filled in.
const IS_INIT_AT: usize = 12;

/// Where the salts of the log are in the header.
const SALTS: std::ops::Range<usize> = 32..40;

/// Files that a process keeps open at most; a server has one, a process of tests a few.
const KEPT_OPEN_MAX: usize = 256;

/// The state of the database at one moment. As long as [`Db::change_stamp`] answers the same,
/// everything that was read after it was taken is still so.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChangeStamp([u8; HEADER_BYTES]);

impl ChangeStamp {
    /// From the beginning of the file; `None` unless it is a finished header of a log with salts.
    fn from_headers(bytes: &[u8; 2 * HEADER_BYTES]) -> Option<Self> {
        let (first, second) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let is_whole = first.as_slice() == second
            && first[..4] == HEADER_VERSION.to_ne_bytes()
            && first[IS_INIT_AT] == 1
            && first[SALTS].iter().any(|byte| *byte != 0);
        is_whole.then_some(Self(*first))
    }
}

impl std::fmt::Debug for ChangeStamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Device and inode.
type Identity = (u64, u64);

/// Reads stamps of one database.
pub(super) struct Watch {
    path: PathBuf,
    identity: Identity,
    file: &'static File,
    anchor: tokio::sync::Mutex<Option<SqliteConnection>>,
    is_closed: AtomicBool,
    has_warned: AtomicBool,
}

impl Watch {
    /// Begins to watch the database at `path`, which `options` open.
    pub async fn start(path: &Path, options: SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let mut anchor = options.connect().await?;
        // The first read is what takes the locks; they stay until the connection is closed.
        sqlx::query("SELECT value FROM meta WHERE key = 'instance_id'")
            .fetch_one(&mut anchor)
            .await?;
        // SQLite follows symbolic links before it names the files beside the database.
        let path = open::sibling(&std::fs::canonicalize(path)?, "-shm");
        let (identity, file) = keep_open(&path)?;
        Ok(Self {
            path,
            identity,
            file,
            anchor: tokio::sync::Mutex::new(Some(anchor)),
            is_closed: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
        })
    }

    /// The stamp of this moment; `None` if there is none to be had.
    pub fn stamp(&self) -> Option<ChangeStamp> {
        if self.is_closed.load(Ordering::Acquire) {
            return None;
        }
        match self.headers() {
            Ok(bytes) => ChangeStamp::from_headers(&bytes),
            Err(error) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "{} cannot be read ({error}); signing in asks the database at each request",
                        self.path.display()
                    );
                }
                None
            }
        }
    }

    fn headers(&self) -> io::Result<[u8; 2 * HEADER_BYTES]> {
        if identity(&std::fs::metadata(&self.path)?) != self.identity {
            return Err(io::Error::other("another file has taken its place"));
        }
        let mut bytes = [0; 2 * HEADER_BYTES];
        read_start(self.file, &mut bytes)?;
        Ok(bytes)
    }

    /// Gives no more stamps and closes the connection.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(anchor) = self.anchor.lock().await.take()
            && let Err(error) = anchor.close().await
        {
            tracing::debug!(%error, "A connection to the database was not closed cleanly");
        }
    }
}

impl Db {
    /// What stays the same for as long as nobody, in whatever process, changes the database. Whoever
    /// takes it *before* reading may use what was read until another answer comes. Costs some
    /// microseconds, where a read costs hundreds.
    ///
    /// `None` says that this cannot be told now, and that everything must be read afresh.
    pub async fn change_stamp(&self) -> Option<ChangeStamp> {
        let watch = self.inner.watch.get_or_init(|| self.start_watch()).await;
        watch.as_ref()?.stamp()
    }

    async fn start_watch(&self) -> Option<Watch> {
        if self.inner.reads.is_closed() {
            return None;
        }
        let path = &self.inner.path;
        let watch = match Watch::start(path, open::read_options(path)).await {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(
                    "Changes of {} cannot be watched ({error}); signing in asks the database at each request",
                    path.display()
                );
                return None;
            }
        };
        if watch.stamp().is_none() {
            // After a start the log is empty, and there are no stamps before the first commit.
            let queued = self.inner.writer.run_later(|tx| {
                Box::pin(async move {
                    for sql in [
                        "INSERT INTO meta (key, value) VALUES ('first_commit', '')",
                        "DELETE FROM meta WHERE key = 'first_commit'",
                    ] {
                        sqlx::query(sql).execute(&mut *tx.conn).await?;
                    }
                    Ok(())
                })
            });
            if let Err(error) = queued {
                tracing::debug!(%error, "Stamps begin with the next commit");
            }
        }
        Some(watch)
    }
}

/// Opens a file for reading and never closes it.
///
/// When a process closes any handle of a file, it loses every POSIX lock that it has on that file,
/// and the locks of SQLite are of this kind ("How To Corrupt An SQLite Database File", section 2.2).
/// So there is one handle for each file, whoever asks, and it stays.
fn keep_open(path: &Path) -> io::Result<(Identity, &'static File)> {
    static KEPT: Mutex<Vec<(Identity, &'static File)>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = identity(&std::fs::metadata(path)?);
    if let Some(found) = kept.iter().find(|(identity, _)| *identity == wanted) {
        return Ok(*found);
    }
    if kept.len() >= KEPT_OPEN_MAX {
        return Err(io::Error::other(format!("{KEPT_OPEN_MAX} others are open already")));
    }
    let file: &'static File = Box::leak(Box::new(File::open(path)?));
    let opened = (identity(&file.metadata()?), file);
    kept.push(opened);
    Ok(opened)
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(unix)]
fn read_start(file: &File, into: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, 0)
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

#[cfg(not(unix))]
fn read_start(_: &File, _: &mut [u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests;
