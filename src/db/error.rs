//! What can go wrong with the database.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;

use super::BUSY_TIMEOUT_SECS;

/// A failed operation. Nothing of it was stored, unless the variant says otherwise. Never shown to
/// a client as it is; operators read it in the log and on the terminal.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    /// Another process held the database all the time.
    #[error("the database is busy: another process has been writing to it for {BUSY_TIMEOUT_SECS} seconds; try again")]
    Busy,
    /// The file was last used by a later version of the program.
    #[error(
        "the database {} has version {found}, this program knows versions up to {known}: start the \
         newer program, or restore the copy that was made before the upgrade", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The highest version that this program knows.
        known: i64,
    },
    /// The file is older than this program, and somebody else is using it as it is.
    #[error(
        "the database {} is of an older version, and a server of that version is using it: stop that \
         server, start this program as the server, then try again", path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened.
    #[error("the database {} cannot be opened: {cause}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Arc<dyn StdError + Send + Sync>,
    },
    /// Bringing the file up to date failed; it is as it was.
    #[error("the database {} could not be brought up to date: {cause}", path.display())]
    Upgrade {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Arc<dyn StdError + Send + Sync>,
    },
    /// A chunk that a new object builds on is not stored any more; the client has to bring it.
    #[error("a chunk that was stored was removed just now")]
    Vanished,
    /// A stored value makes no sense to this program.
    #[error("the database holds a value that cannot be read: {0}")]
    Unreadable(&'static str),
    /// The database was closed, or its writer has ended.
    #[error("the database is closed")]
    Closed,
    /// Too many operations wait already; only for operations that may be dropped.
    #[error("too many writes are waiting")]
    QueueFull,
    /// Anything else: a full disk, a damaged file, a failed statement.
    #[error("the database failed: {0}")]
    Failed(Arc<dyn StdError + Send + Sync>),
}

/// SQLite's primary result code for "another connection is writing".
const SQLITE_BUSY: u32 = 5;

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolClosed => return Self::Closed,
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::Database(database) => {
                let code = database.code().and_then(|code| code.parse::<u32>().ok());
                // the lower byte of an extended code is the primary code
                if code.is_some_and(|code| code & 0xff == SQLITE_BUSY) {
                    return Self::Busy;
                }
            }
            _ => {}
        }
        Self::Failed(Arc::new(error))
    }
}
