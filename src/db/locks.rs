//! Rows of locks: taking, listing and releasing.
//!
//! One row is one lock, and one unique index keeps two from being taken for one path. Everything that
//! decides is read in the transaction that writes. Who gets a lock raises the version of the repository's
//! locks; a push names the version that it looked at when it stores its row, so one of the two sees the other.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Db;
use super::audit::By;
use super::clock::US_PER_SEC;
use super::error::DbError;
use super::lock_rules::{LockRules, rules_in};
use super::repos::note_repo;
use super::row::Columns;
use super::writer::WriteTx;
use crate::ids::{LockId, PushId, RepoId, UserId};
use crate::names::OwnerName;

/// Expired locks that one taking removes.
const EXPIRED_PER_TAKING: u32 = 100;

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// Identity.
    pub id: LockId,
    /// Its place in the order of taking; the cursor of [`Db::list_locks`].
    pub seq: i64,
    /// The file or folder as it was given.
    pub path: String,
    /// The file or folder that it is about, folded.
    pub covers_key: String,
    /// The only branch that it is good for, as a full ref name.
    pub branch: Option<String>,
    /// Who holds it.
    pub holder: UserId,
    /// Their name.
    pub holder_name: OwnerName,
    /// When it was taken, in microseconds since 1970.
    pub locked_at_us: i64,
    /// The last heartbeat or push of its holder, in microseconds since 1970.
    pub touched_at_us: i64,
    /// What for.
    pub reason: Option<String>,
    /// On which machine the work is done.
    pub machine: Option<String>,
    /// It stays after a push of its path.
    pub is_kept: bool,
}

/// A lock to be taken.
#[derive(Clone, Debug)]
pub struct NewLock {
    /// The repository.
    pub repo: RepoId,
    /// The file or folder as it was given.
    pub path: String,
    /// The same, folded.
    pub path_key: String,
    /// What the lock is about, folded.
    pub covers_key: String,
    /// `covers_key` and all folders that it lies in.
    pub lies_in: Vec<String>,
    /// The branch that it is taken on, as a full ref name; counts where locks are per branch.
    pub branch: Option<String>,
    /// Who takes it.
    pub holder: UserId,
    /// Their name.
    pub holder_name: OwnerName,
    /// What for.
    pub reason: Option<String>,
    /// On which machine the work is done.
    pub machine: Option<String>,
    /// It stays after a push of its path.
    pub is_kept: bool,
}

/// What became of [`Db::take_lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeLock {
    /// Taken.
    Taken(LockRow),
    /// This one is in the way.
    Held(LockRow),
    /// The repository has as many locks as it may have.
    Full,
    /// The repository or the person is gone.
    Gone,
}

/// Whose lock may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One's own.
    Own,
    /// One's own, and of others those that are stale.
    Stale,
    /// Everybody's.
    All,
}

/// What became of [`Db::release_lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseLock {
    /// Released.
    Released(LockRow),
    /// There is no such lock (any more).
    Gone,
    /// It is somebody else's and out of reach.
    Foreign(LockRow),
}

/// The locks that matter for a push.
#[derive(Clone, Debug)]
pub struct PushLocks {
    /// The version of the repository's locks that this is.
    pub version: i64,
    /// What holds for them.
    pub rules: LockRules,
    /// Those of others, and the pusher's own if they go after a push.
    pub locks: Vec<LockRow>,
}

/// Which locks are listed; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct LockFilter {
    /// Of this path, folded.
    pub path_key: Option<String>,
    /// With this identity.
    pub id: Option<LockId>,
    /// Good for this branch, as a full ref name.
    pub branch: Option<String>,
    /// Not of this person.
    pub not_of: Option<UserId>,
    /// Taken after the one with this place in the order.
    pub after: i64,
    /// Most that are returned.
    pub limit: u32,
}

/// Columns of a [`LockRow`], of locks that have not expired; `$1` is the repository and `$2` the time.
macro_rules! live_locks {
    ($where:literal) => {
        concat!(
            "SELECT l.id, l.seq, l.path, l.covers_key, l.branch, l.user_id, u.name AS holder, l.locked_at_us,
                    l.touched_at_us, l.reason, l.machine, l.is_kept
             FROM locks l JOIN users u ON u.id = l.user_id
             LEFT JOIN lock_rules r ON r.repo_id = l.repo_id
             WHERE l.repo_id = $1
               AND (COALESCE(r.expire_after_secs, 0) = 0 OR l.touched_at_us + r.expire_after_secs * 1000000 > $2) ",
            $where
        )
    };
}

fn lock(row: &SqliteRow) -> Result<LockRow, DbError> {
    Ok(LockRow {
        id: LockId::from_bytes(&row.bytes("id")?).map_err(|_| DbError::Unreadable("id"))?,
        seq: row.int("seq")?,
        path: row.text("path")?,
        covers_key: row.text("covers_key")?,
        branch: Some(row.text("branch")?).filter(|branch| !branch.is_empty()),
        holder: row.user_id("user_id")?,
        holder_name: OwnerName::stored(row.text("holder")?),
        locked_at_us: row.int("locked_at_us")?,
        touched_at_us: row.int("touched_at_us")?,
        reason: row.text_or_null("reason")?,
        machine: row.text_or_null("machine")?,
        is_kept: row.flag("is_kept")?,
    })
}

/// The lock with this identity, unless it has expired.
pub(super) async fn lock_in(
    conn: &mut SqliteConnection,
    repo: RepoId,
    id: LockId,
    now_us: i64,
) -> Result<Option<LockRow>, DbError> {
    let row = sqlx::query(live_locks!("AND l.id = $3"))
        .bind(repo.as_bytes().as_slice())
        .bind(now_us)
        .bind(id.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(lock).transpose()
}

/// Notes that somebody got a lock: a push that has looked at the locks must look again.
pub(super) async fn raise_version(tx: &mut WriteTx<'_>, repo: RepoId) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO lock_versions (repo_id, version) VALUES ($1, 1)
         ON CONFLICT (repo_id) DO UPDATE SET version = version + 1",
    )
    .bind(repo.as_bytes().as_slice())
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// The version of a repository's locks.
pub(super) async fn version_in(conn: &mut SqliteConnection, repo: RepoId) -> Result<i64, DbError> {
    let row = sqlx::query("SELECT version FROM lock_versions WHERE repo_id = $1")
        .bind(repo.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?;
    row.map_or(Ok(0), |row| row.int("version"))
}

/// Notes that somebody works with their locks; those that have expired stay so.
pub(super) async fn touch_locks(tx: &mut WriteTx<'_>, repo: RepoId, user: UserId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE locks SET touched_at_us = $3 WHERE repo_id = $1 AND user_id = $2 AND touched_at_us + COALESCE(
             (SELECT NULLIF(expire_after_secs, 0) * 1000000 FROM lock_rules r WHERE r.repo_id = $1), $3) > $3",
    )
    .bind(repo.as_bytes().as_slice())
    .bind(user.as_bytes().as_slice())
    .bind(tx.now_us)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// The lock that keeps `new` from being taken: one on the same path, or somebody else's that is about what
/// the new one is about, or about a part of it, or about more.
async fn in_the_way(
    conn: &mut SqliteConnection,
    new: &NewLock,
    branch: &str,
    now_us: i64,
) -> Result<Option<LockRow>, DbError> {
    let row = sqlx::query(live_locks!(
        "AND (l.branch = '' OR $3 = '' OR l.branch = $3)
         AND (l.path_key = $4 OR (l.user_id <> $5 AND (
                  l.covers_key IN (SELECT value FROM json_each($6))
                  OR (l.covers_key > $7 || '/' AND l.covers_key < $7 || '0'))))
         ORDER BY l.path_key <> $4, l.seq LIMIT 1"
    ))
    .bind(new.repo.as_bytes().as_slice())
    .bind(now_us)
    .bind(branch)
    .bind(new.path_key.as_str())
    .bind(new.holder.as_bytes().as_slice())
    .bind(serde_json::Value::from(new.lies_in.clone()).to_string())
    .bind(new.covers_key.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(lock).transpose()
}

fn branch_of<'n>(new: &'n NewLock, rules: &LockRules) -> &'n str {
    match rules.per_branch {
        true => new.branch.as_deref().unwrap_or_default(),
        false => "",
    }
}

/// Removes locks that have expired, the one on this path first.
async fn remove_expired(tx: &mut WriteTx<'_>, new: &NewLock, rules: &LockRules) -> Result<(), DbError> {
    if rules.expire_after_secs == 0 {
        return Ok(());
    }
    let expired = sqlx::query(
        "DELETE FROM locks WHERE seq IN (
             SELECT seq FROM locks WHERE repo_id = $1 AND touched_at_us <= $2
             ORDER BY path_key <> $3, seq LIMIT $4)
         RETURNING path, user_id",
    )
    .bind(new.repo.as_bytes().as_slice())
    .bind(tx.now_us.saturating_sub(us(rules.expire_after_secs)))
    .bind(new.path_key.as_str())
    .bind(EXPIRED_PER_TAKING)
    .fetch_all(&mut *tx.conn)
    .await?;
    for row in expired {
        note_repo(tx, new.repo, &By::Server, "lock.expire", &row.text("path")?).await?;
    }
    Ok(())
}

/// Seconds as microseconds.
pub(super) fn us(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(US_PER_SEC)
}

impl Db {
    /// Takes a lock, unless one is in the way or the repository has `max_locks`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn take_lock(&self, new: NewLock, max_locks: u32) -> Result<TakeLock, DbError> {
        // Where many ask for one lock, all but one hear it without waiting for their turn to write.
        {
            let mut conn = self.read().await?;
            let rules = rules_in(&mut conn, new.repo).await?;
            if let Some(held) = in_the_way(&mut conn, &new, branch_of(&new, &rules), self.now_us()).await? {
                return Ok(TakeLock::Held(held));
            }
        }
        let id = LockId::new();
        self.write(move |mut tx| {
            Box::pin(async move {
                let rules = rules_in(&mut *tx.conn, new.repo).await?;
                let branch = branch_of(&new, &rules);
                if let Some(held) = in_the_way(&mut *tx.conn, &new, branch, tx.now_us).await? {
                    return Ok(TakeLock::Held(held));
                }
                remove_expired(&mut tx, &new, &rules).await?;
                let count = sqlx::query("SELECT COUNT(*) AS locks FROM locks WHERE repo_id = $1")
                    .bind(new.repo.as_bytes().as_slice())
                    .fetch_one(&mut *tx.conn)
                    .await?
                    .int("locks")?;
                if count >= i64::from(max_locks) {
                    return Ok(TakeLock::Full);
                }
                let by = By::User(new.holder_name.clone());
                let holder = sqlx::query("SELECT 1 FROM users WHERE id = $1")
                    .bind(new.holder.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                if holder.is_none() || !note_repo(&mut tx, new.repo, &by, "lock.take", &new.path).await? {
                    return Ok(TakeLock::Gone);
                }
                sqlx::query(
                    "INSERT INTO locks (id, repo_id, branch, path, path_key, covers_key, user_id, locked_at_us,
                                        touched_at_us, reason, machine, is_kept)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)",
                )
                .bind(id.as_bytes().as_slice())
                .bind(new.repo.as_bytes().as_slice())
                .bind(branch)
                .bind(new.path.as_str())
                .bind(new.path_key.as_str())
                .bind(new.covers_key.as_str())
                .bind(new.holder.as_bytes().as_slice())
                .bind(tx.now_us)
                .bind(new.reason.as_deref())
                .bind(new.machine.as_deref())
                .bind(new.is_kept)
                .execute(&mut *tx.conn)
                .await?;
                raise_version(&mut tx, new.repo).await?;
                let taken = lock_in(&mut *tx.conn, new.repo, id, tx.now_us).await?;
                taken.map(TakeLock::Taken).ok_or(DbError::Unreadable("id"))
            })
        })
        .await
    }

    /// Releases a lock if it is within `reach` of `user`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn release_lock(
        &self,
        repo: RepoId,
        id: LockId,
        user: UserId,
        reach: Reach,
        by: By,
    ) -> Result<ReleaseLock, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(found) = lock_in(&mut *tx.conn, repo, id, tx.now_us).await? else {
                    return Ok(ReleaseLock::Gone);
                };
                let is_own = found.holder == user;
                if !is_own && !is_within(&mut tx, repo, &found, reach).await? {
                    return Ok(ReleaseLock::Foreign(found));
                }
                remove_lock(&mut tx, found.seq).await?;
                let (action, detail) = match is_own {
                    true => ("lock.release", found.path.clone()),
                    false => ("lock.force-release", format!("{} of {}", found.path, found.holder_name)),
                };
                note_repo(&mut tx, repo, &by, action, &detail).await?;
                Ok(ReleaseLock::Released(found))
            })
        })
        .await
    }

    /// Locks in the order of taking.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn list_locks(&self, repo: RepoId, filter: &LockFilter) -> Result<Vec<LockRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(live_locks!(
            "AND ($3 IS NULL OR l.path_key = $3)
             AND ($4 IS NULL OR l.id = $4)
             AND ($5 IS NULL OR l.branch = '' OR l.branch = $5)
             AND ($6 IS NULL OR l.user_id <> $6)
             AND l.seq > $7 ORDER BY l.seq LIMIT $8"
        ))
        .bind(repo.as_bytes().as_slice())
        .bind(self.now_us())
        .bind(filter.path_key.as_deref())
        .bind(filter.id.as_ref().map(|id| id.as_bytes().as_slice()))
        .bind(filter.branch.as_deref())
        .bind(filter.not_of.as_ref().map(|user| user.as_bytes().as_slice()))
        .bind(filter.after)
        .bind(filter.limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(lock).collect()
    }

    /// The locks that matter for a push of `user`, with their version as [`Db::begin_push`] compares it.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn push_locks(&self, repo: RepoId, user: UserId) -> Result<PushLocks, DbError> {
        let mut conn = self.read().await?;
        // First the version: a lock that comes between the two makes the push look again.
        let version = version_in(&mut conn, repo).await?;
        let rules = rules_in(&mut conn, repo).await?;
        let rows = sqlx::query(live_locks!("AND ($3 OR l.user_id <> $4)"))
            .bind(repo.as_bytes().as_slice())
            .bind(self.now_us())
            .bind(rules.release_after_push)
            .bind(user.as_bytes().as_slice())
            .fetch_all(&mut *conn)
            .await?;
        let locks: Result<Vec<_>, _> = rows.iter().map(lock).collect();
        Ok(PushLocks {
            version,
            rules,
            locks: locks?,
        })
    }

    /// Releases the locks of its pusher that a push releases, as far as the refs named `moved` go. Returns their paths.
    ///
    /// Does nothing the second time: a lock that was taken again is another one.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn release_pushed_locks(&self, push: PushId, moved: Vec<Vec<u8>>) -> Result<Vec<String>, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT DISTINCT p.repo_id, p.user_id, f.name, r.lock_id
                     FROM pushes p JOIN push_releases r ON r.push_seq = p.seq
                     JOIN push_refs f ON f.push_seq = r.push_seq AND f.ord = r.ord
                     WHERE p.id = $1 AND p.user_id IS NOT NULL ORDER BY r.ord, r.lock_id",
                )
                .bind(push.as_bytes().as_slice())
                .fetch_all(&mut *tx.conn)
                .await?;
                let mut paths = Vec::new();
                for row in rows {
                    let (repo, user, name) = (row.repo_id("repo_id")?, row.user_id("user_id")?, row.bytes("name")?);
                    if !moved.contains(&name) {
                        continue;
                    }
                    let id = LockId::from_bytes(&row.bytes("lock_id")?);
                    let id = id.map_err(|_| DbError::Unreadable("lock_id"))?;
                    let Some(found) = lock_in(&mut *tx.conn, repo, id, tx.now_us).await? else {
                        continue;
                    };
                    if found.holder == user && !found.is_kept {
                        remove_lock(&mut tx, found.seq).await?;
                        let by = By::User(found.holder_name);
                        note_repo(&mut tx, repo, &by, "lock.release-after-push", &found.path).await?;
                        paths.push(found.path);
                    }
                }
                Ok(paths)
            })
        })
        .await
    }

    /// The lock with this identity.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn lock_by_id(&self, repo: RepoId, id: LockId) -> Result<Option<LockRow>, DbError> {
        let mut conn = self.read().await?;
        lock_in(&mut conn, repo, id, self.now_us()).await
    }
}

/// Whether somebody else's lock is within `reach`, by what holds in this transaction.
pub(super) async fn is_within(
    tx: &mut WriteTx<'_>,
    repo: RepoId,
    lock: &LockRow,
    reach: Reach,
) -> Result<bool, DbError> {
    Ok(match reach {
        Reach::Own => false,
        Reach::All => true,
        Reach::Stale => rules_in(&mut *tx.conn, repo).await?.is_stale(lock, tx.now_us),
    })
}

pub(super) async fn remove_lock(tx: &mut WriteTx<'_>, seq: i64) -> Result<(), DbError> {
    sqlx::query("DELETE FROM locks WHERE seq = $1")
        .bind(seq)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
