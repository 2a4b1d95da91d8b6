//! Opening the file: settings of its connections, upgrades, and the copy before an upgrade.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqlSafeStr, SqliteConnection};

use super::BUSY_TIMEOUT_SECS;
use super::clock::Clock;
use super::error::DbError;

/// Copies that are kept of the database as it was before upgrades.
pub const COPIES_KEPT: usize = 3;

/// What stands between the name of the database and the version in the name of a copy.
const COPY_MARK: &str = ".before-";

/// The write-ahead log is cut back to this size after a large transaction, in bytes.
const WAL_KEPT_BYTES: &str = "67108864";

/// Every migration, in order. The text is part of the program; a released one is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "accounts repositories pushes",
        include_str!("../../migrations/sqlite/0001_accounts_repositories_pushes.sql"),
    ),
    (
        2,
        "large files",
        include_str!("../../migrations/sqlite/0002_large_files.sql"),
    ),
    (3, "sounds", include_str!("../../migrations/sqlite/0003_sounds.sql")),
    (4, "locks", include_str!("../../migrations/sqlite/0004_locks.sql")),
    (5, "keeping", include_str!("../../migrations/sqlite/0005_keeping.sql")),
    (
        6,
        "chunk sets",
        include_str!("../../migrations/sqlite/0006_chunk_sets.sql"),
    ),
    (7, "releases", include_str!("../../migrations/sqlite/0007_releases.sql")),
    (8, "notes", include_str!("../../migrations/sqlite/0008_notes.sql")),
];

pub(super) fn migrations() -> Vec<Migration> {
    MIGRATIONS
        .iter()
        .map(|(version, description, sql)| migration(*version, description, sql))
        .collect()
}

pub(super) fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(
        version,
        description.into(),
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    )
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(BUSY_TIMEOUT_SECS))
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

pub(super) fn write_options(path: &Path) -> SqliteConnectOptions {
    options(path)
}

/// A connection for reading opens the file for writing too, which WAL needs, but refuses to change it.
pub(super) fn read_options(path: &Path) -> SqliteConnectOptions {
    options(path).pragma("query_only", "ON")
}

/// Opens the writing connection, brings the file up to date and reads the instance id.
pub(super) async fn prepare(
    path: &Path,
    clock: &Clock,
    migrations: Vec<Migration>,
    is_in_use: &(dyn Fn() -> bool + Send + Sync),
) -> Result<(SqliteConnection, String), DbError> {
    let failed_to_open = |cause: io::Error| DbError::Open {
        path: path.to_owned(),
        cause: Arc::new(cause),
    };
    // Processes that start at once do this one after the other: SQLite does not wait for another
    // that turns a new file into one with a write-ahead log, and only one may upgrade.
    let (file, lock) = (path.to_owned(), sibling(path, ".upgrade-lock"));
    let guard = blocking(move || {
        let guard = OpenOptions::new().create(true).truncate(false).write(true).open(lock)?;
        guard.lock()?;
        make_private(&file)?;
        Ok(guard)
    })
    .await
    .map_err(failed_to_open)?;
    let mut conn = write_options(path).connect().await.map_err(|error| DbError::Open {
        path: path.to_owned(),
        cause: Arc::new(error),
    })?;
    if let Some(upgrade) = pending(&mut conn, path, &migrations).await? {
        if upgrade.from > 0 {
            if is_in_use() {
                return Err(DbError::Older { path: path.to_owned() });
            }
            copy_before(&mut conn, path, upgrade.to_first, clock).await?;
        }
        Migrator::with_migrations(migrations)
            .run(&mut conn)
            .await
            .map_err(|error| DbError::Upgrade {
                path: path.to_owned(),
                cause: Arc::new(error),
            })?;
    }
    drop(guard);

    let instance_id = instance_id(&mut conn).await?;
    Ok((conn, instance_id))
}

/// What an upgrade would do.
struct Upgrade {
    /// The version of the file; 0 if it is new.
    from: i64,
    /// The first migration that is missing in it.
    to_first: i64,
}

/// Compares the file with the migrations; `None` if it is up to date.
async fn pending(
    conn: &mut SqliteConnection,
    path: &Path,
    migrations: &[Migration],
) -> Result<Option<Upgrade>, DbError> {
    let known = migrations.iter().map(|m| m.version).max().unwrap_or(0);
    let found = if has_table(conn, "_sqlx_migrations").await? {
        sqlx::query("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
            .fetch_one(&mut *conn)
            .await?
            .try_get::<i64, _>(0)?
    } else {
        0
    };
    if found > known {
        return Err(DbError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(migrations
        .iter()
        .map(|m| m.version)
        .filter(|version| *version > found)
        .min()
        .map(|to_first| Upgrade { from: found, to_first }))
}

async fn has_table(conn: &mut SqliteConnection, name: &str) -> Result<bool, DbError> {
    let row = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

async fn instance_id(conn: &mut SqliteConnection) -> Result<String, DbError> {
    let fresh = uuid::Uuid::now_v7().to_string();
    sqlx::query("INSERT INTO meta (key, value) VALUES ('instance_id', $1) ON CONFLICT (key) DO NOTHING")
        .bind(fresh)
        .execute(&mut *conn)
        .await?;
    let row = sqlx::query("SELECT value FROM meta WHERE key = 'instance_id'")
        .fetch_one(conn)
        .await?;
    Ok(row.try_get(0)?)
}

/// Copies the database beside itself, as `NAME.before-VERSION-TIME`, durable before it returns, and
/// removes all but the newest [`COPIES_KEPT`] copies.
async fn copy_before(conn: &mut SqliteConnection, path: &Path, version: i64, clock: &Clock) -> Result<(), DbError> {
    let upgrade_failed = |cause: io::Error| DbError::Upgrade {
        path: path.to_owned(),
        cause: Arc::new(cause),
    };
    let unfinished = sibling(path, ".copying");
    let target = unfinished.clone();
    blocking(move || {
        remove_if_there(&target)?;
        make_private(&target) // VACUUM INTO accepts an empty file and keeps its mode
    })
    .await
    .map_err(upgrade_failed)?;
    let text = unfinished
        .to_str()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8"))
        .map_err(upgrade_failed)?
        .to_owned();
    sqlx::query("VACUUM INTO $1")
        .bind(text)
        .execute(conn)
        .await
        .map_err(|error| DbError::Upgrade {
            path: path.to_owned(),
            cause: Arc::new(error),
        })?;

    let time = DateTime::<Utc>::from_timestamp_micros(clock.now_us()).unwrap_or_default();
    let stamp = time.format("%Y%m%dT%H%M%S%6fZ");
    let copy = sibling(path, &format!("{COPY_MARK}{version:04}-{stamp}"));
    let database = path.to_owned();
    blocking(move || {
        File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, &copy)?;
        let folder = folder_of(&database);
        File::open(&folder)?.sync_all()?;
        tracing::info!("Copied the database to {} before its upgrade", copy.display());
        remove_old_copies(&database, &folder)
    })
    .await
    .map_err(upgrade_failed)
}

fn remove_old_copies(database: &Path, folder: &Path) -> io::Result<()> {
    let mark = format!("{}{COPY_MARK}", file_name(database));
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // the part after the last `-` is the time, which sorts as text
        if name.starts_with(&mark)
            && let Some((_, time)) = name.rsplit_once('-')
        {
            copies.push((time.to_owned(), entry.path()));
        }
    }
    copies.sort();
    let surplus = copies.len().saturating_sub(COPIES_KEPT);
    for (_, path) in copies.into_iter().take(surplus) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Makes an empty file that only this user can read, unless there is a file.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The file beside `path` whose name is the same with `ending` added.
pub(super) fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_file_is_part_of_the_program_and_numbers_follow_each_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let names: Vec<_> = MIGRATIONS
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{}.sql", name.replace(' ', "_")))
            .collect();
        assert_eq!(files, names);
        for (index, (version, ..)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(*version, index as i64 + 1);
        }
    }
}
