//! Push rows: what a push will change is durable before refs move, and the row is closed after.
//!
//! The rows are the repository's reflog, and every consequence of a push runs from its row. Changes
//! that stock git made on disk get rows too, without a person.

use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite};

use super::Db;
use super::error::DbError;
use super::locks::{touch_locks, version_in};
use super::row::Columns;
use super::writer::WriteTx;
use crate::ids::{GitId, LockId, PushId, RepoId, TokenId, UserId};
use crate::names::OwnerName;

/// Most bytes of push options that are kept in a row; further options are left out.
pub const MAX_PUSH_OPTIONS_BYTES: usize = 64 << 10;

/// Refs stored by one statement. Five values each stay far below SQLite's 32,766.
const REFS_PER_STATEMENT: usize = 500;

/// One ref that a push wants to change. An id of `None` means that the ref is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefChange {
    /// Full name, `refs/…`, as git has it.
    pub name: Vec<u8>,
    /// Where it is.
    pub old: Option<GitId>,
    /// Where it shall be.
    pub new: Option<GitId>,
}

/// Whether a push is under way or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushState {
    /// Its refs may or may not have moved.
    Open,
    /// What was applied is known.
    Done,
}

impl std::str::FromStr for PushState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "open" => Ok(Self::Open),
            "done" => Ok(Self::Done),
            _ => Err(()),
        }
    }
}

/// A push that is about to move refs.
#[derive(Clone, Debug)]
pub struct NewPush {
    /// The repository.
    pub repo: RepoId,
    /// Who pushes.
    pub user: UserId,
    /// Their name; stays in the row when the account goes.
    pub pusher: OwnerName,
    /// With which token.
    pub token: Option<TokenId>,
    /// From which network address.
    pub address: String,
    /// All refs move together or none does.
    pub atomic: bool,
    /// Push options as text.
    pub options: Vec<String>,
    /// The version of the repository's locks that the push looked at; `None` if it looked at none.
    pub locks_version: Option<i64>,
    /// Locks of the pusher that go once a ref has moved, each with the place of that ref in the push.
    pub releases: Vec<(usize, LockId)>,
}

/// What became of [`Db::begin_push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginPush {
    /// The row is durable: refs may move now.
    Begun(PushId),
    /// The repository was deleted in the meantime; nothing was stored.
    RepoGone,
    /// The repository was archived in the meantime; nothing was stored.
    Archived,
    /// Somebody got a lock in the meantime; nothing was stored.
    LocksChanged,
}

/// What became of [`Db::finish_push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishPush {
    /// Closed.
    Done,
    /// It was closed before; nothing was changed.
    AlreadyDone,
    /// There is no such push.
    Unknown,
    /// The number of results is not the number of refs; nothing was changed.
    WrongCount {
        /// How many refs the push has.
        refs: u64,
    },
}

impl Db {
    /// Stores a push with all its refs as open; returns once that is durable.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn begin_push(&self, push: NewPush, refs: Vec<RefChange>) -> Result<BeginPush, DbError> {
        let id = PushId::new();
        self.write(move |mut tx| {
            Box::pin(async move {
                let repo = sqlx::query("SELECT is_archived FROM repos WHERE id = $1")
                    .bind(push.repo.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                let Some(repo) = repo else {
                    return Ok(BeginPush::RepoGone);
                };
                if repo.flag("is_archived")? {
                    return Ok(BeginPush::Archived);
                }
                if let Some(version) = push.locks_version {
                    if version != version_in(&mut *tx.conn, push.repo).await? {
                        return Ok(BeginPush::LocksChanged);
                    }
                    touch_locks(&mut tx, push.repo, push.user).await?;
                }
                // An account that was removed in the meantime leaves its name only.
                let user = sqlx::query("SELECT id FROM users WHERE id = $1")
                    .bind(push.user.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                let seq = sqlx::query(
                    "INSERT INTO pushes (id, repo_id, user_id, pusher, token_id, address,
                                         is_atomic, options, state, started_at_us)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9) RETURNING seq",
                )
                .bind(id.as_bytes().as_slice())
                .bind(push.repo.as_bytes().as_slice())
                .bind(user.map(|_| push.user.as_bytes().as_slice()))
                .bind(push.pusher.as_str())
                .bind(push.token.as_ref().map(|token| token.as_bytes().as_slice()))
                .bind(push.address.as_str())
                .bind(push.atomic)
                .bind(options_json(push.options))
                .bind(tx.now_us)
                .fetch_one(&mut *tx.conn)
                .await?
                .int("seq")?;
                insert_refs(&mut tx, seq, &refs, None).await?;
                insert_releases(&mut tx, seq, &push.releases).await?;
                Ok(BeginPush::Begun(id))
            })
        })
        .await
    }

    /// Closes a push: `applied` says for each ref, in the order of [`Db::begin_push`], whether it
    /// moved.
    ///
    /// # Errors
    /// [`DbError`] if the database fails; the push stays open.
    pub async fn finish_push(&self, push: PushId, applied: Vec<bool>) -> Result<FinishPush, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let row = sqlx::query(
                    "SELECT seq, repo_id, state,
                            (SELECT COUNT(*) FROM push_refs WHERE push_seq = seq) AS refs
                     FROM pushes WHERE id = $1",
                )
                .bind(push.as_bytes().as_slice())
                .fetch_optional(&mut *tx.conn)
                .await?;
                let Some(row) = row else {
                    return Ok(FinishPush::Unknown);
                };
                if row.word::<PushState>("state")? == PushState::Done {
                    return Ok(FinishPush::AlreadyDone);
                }
                let refs = row.int("refs")?.unsigned_abs();
                if refs != applied.len() as u64 {
                    return Ok(FinishPush::WrongCount { refs });
                }
                let (seq, repo) = (row.int("seq")?, row.repo_id("repo_id")?);
                mark_applied(&mut tx, seq, &applied).await?;
                sqlx::query("UPDATE pushes SET state = 'done', finished_at_us = $2 WHERE seq = $1")
                    .bind(seq)
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                remember_refs(&mut tx, repo, seq).await?;
                sqlx::query("DELETE FROM push_releases WHERE push_seq = $1")
                    .bind(seq)
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(FinishPush::Done)
            })
        })
        .await
    }

    /// Stores changes that were found on disk, as a push that is done and has no person. Returns how
    /// many were stored, and the row if there are any.
    ///
    /// A change is left out when the last known id of its ref is not its `old` (another caller was
    /// faster) or when an open push names the ref (it is about to say so itself). So the call may be
    /// repeated, and racing callers store each change once.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn record_disk_changes(
        &self,
        repo: RepoId,
        changes: Vec<RefChange>,
    ) -> Result<Option<(PushId, u64)>, DbError> {
        if changes.is_empty() {
            return Ok(None);
        }
        let id = PushId::new();
        self.write(move |mut tx| {
            Box::pin(async move {
                let found = sqlx::query("SELECT 1 FROM repos WHERE id = $1")
                    .bind(repo.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                if found.is_none() {
                    return Ok(None);
                }
                let seq = sqlx::query(
                    "INSERT INTO pushes (id, repo_id, is_atomic, state, started_at_us, finished_at_us)
                     VALUES ($1, $2, 0, 'done', $3, $3) RETURNING seq",
                )
                .bind(id.as_bytes().as_slice())
                .bind(repo.as_bytes().as_slice())
                .bind(tx.now_us)
                .fetch_one(&mut *tx.conn)
                .await?
                .int("seq")?;
                insert_refs(&mut tx, seq, &changes, Some(true)).await?;
                let dropped = drop_known_changes(&mut tx, repo, seq).await?;
                let stored = (changes.len() as u64).saturating_sub(dropped);
                if stored == 0 {
                    sqlx::query("DELETE FROM pushes WHERE seq = $1")
                        .bind(seq)
                        .execute(&mut *tx.conn)
                        .await?;
                    return Ok(None);
                }
                remember_refs(&mut tx, repo, seq).await?;
                Ok(Some((id, stored)))
            })
        })
        .await
    }

    /// Removes at most `limit` rows of the pushes of a deleted repository and returns how many it
    /// removed; 0 means that none are left. In steps, so that deleting a repository with a long
    /// history delays nobody's push. Does nothing while the repository exists.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn remove_pushes_of_deleted(&self, repo: RepoId, limit: u32) -> Result<u64, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let found = sqlx::query("SELECT 1 FROM repos WHERE id = $1")
                    .bind(repo.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                if found.is_some() {
                    return Ok(0);
                }
                for statement in [
                    "DELETE FROM push_refs WHERE (push_seq, ord) IN (
                         SELECT x.push_seq, x.ord FROM pushes p
                         JOIN push_refs x ON x.push_seq = p.seq
                         WHERE p.repo_id = $1 LIMIT $2)",
                    "DELETE FROM pushes WHERE seq IN (
                         SELECT seq FROM pushes WHERE repo_id = $1 LIMIT $2)",
                    "DELETE FROM known_refs WHERE repo_id = $1 AND name IN (
                         SELECT name FROM known_refs WHERE repo_id = $1 LIMIT $2)",
                ] {
                    let removed = sqlx::query(statement)
                        .bind(repo.as_bytes().as_slice())
                        .bind(limit)
                        .execute(&mut *tx.conn)
                        .await?
                        .rows_affected();
                    if removed > 0 {
                        return Ok(removed);
                    }
                }
                Ok(0)
            })
        })
        .await
    }
}

/// Push options as a JSON array of text, cut after [`MAX_PUSH_OPTIONS_BYTES`].
fn options_json(options: Vec<String>) -> String {
    let mut room = MAX_PUSH_OPTIONS_BYTES;
    let kept: Vec<String> = options
        .into_iter()
        .take_while(|option| {
            let fits = option.len() < room;
            room = room.saturating_sub(option.len() + 1);
            fits
        })
        .collect();
    serde_json::Value::from(kept).to_string()
}

async fn insert_releases(tx: &mut WriteTx<'_>, seq: i64, releases: &[(usize, LockId)]) -> Result<(), DbError> {
    for (ord, lock) in releases {
        sqlx::query("INSERT INTO push_releases (push_seq, ord, lock_id) VALUES ($1, $2, $3)")
            .bind(seq)
            .bind(i64::try_from(*ord).unwrap_or(i64::MAX))
            .bind(lock.as_bytes().as_slice())
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

async fn insert_refs(tx: &mut WriteTx<'_>, seq: i64, refs: &[RefChange], applied: Option<bool>) -> Result<(), DbError> {
    // The text of a full statement is the same each time, so it is prepared once.
    let mut full_text: Option<String> = None;
    for (batch_index, batch) in refs.chunks(REFS_PER_STATEMENT).enumerate() {
        let text = match &full_text {
            Some(text) if batch.len() == REFS_PER_STATEMENT => text.clone(),
            _ => insert_refs_text(batch.len()),
        };
        if batch.len() == REFS_PER_STATEMENT && full_text.is_none() {
            full_text = Some(text.clone());
        }
        // Only numbers of placeholders make the text.
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(seq).bind(applied);
        for (index, change) in batch.iter().enumerate() {
            query = query
                .bind((batch_index * REFS_PER_STATEMENT + index) as i64)
                .bind(change.name.as_slice())
                .bind(change.old.as_ref().map(GitId::as_bytes))
                .bind(change.new.as_ref().map(GitId::as_bytes));
        }
        query.execute(&mut *tx.conn).await?;
    }
    Ok(())
}

/// An INSERT for `rows` refs; `$1` is the push and `$2` whether they are applied.
fn insert_refs_text(rows: usize) -> String {
    use std::fmt::Write;
    let mut text = String::from("INSERT INTO push_refs (push_seq, applied, ord, name, old_id, new_id) VALUES ");
    for row in 0..rows {
        let first = 3 + row * 4;
        let comma = if row == 0 { "" } else { ", " };
        write!(
            text,
            "{comma}($1, $2, ${}, ${}, ${}, ${})",
            first,
            first + 1,
            first + 2,
            first + 3
        )
        .expect("writing to a String does not fail");
    }
    text
}

async fn mark_applied(tx: &mut WriteTx<'_>, seq: i64, applied: &[bool]) -> Result<(), DbError> {
    // Mostly all or none: set the larger part with one statement and name only the smaller part.
    let moved = applied.iter().filter(|applied| **applied).count();
    let mostly = moved * 2 >= applied.len();
    sqlx::query("UPDATE push_refs SET applied = $2 WHERE push_seq = $1")
        .bind(seq)
        .bind(mostly)
        .execute(&mut *tx.conn)
        .await?;
    let others: Vec<i64> = (0_i64..)
        .zip(applied)
        .filter(|(_, applied)| **applied != mostly)
        .map(|(ord, _)| ord)
        .collect();
    for batch in others.chunks(REFS_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE push_refs SET applied = ");
        query.push_bind(!mostly);
        query.push(" WHERE push_seq = ").push_bind(seq);
        query.push(" AND ord IN (");
        let mut list = query.separated(", ");
        for ord in batch {
            list.push_bind(*ord);
        }
        query.push(")");
        query.build().execute(&mut *tx.conn).await?;
    }
    Ok(())
}

/// Takes the applied changes of a push into `known_refs`. Pushes to one ref began in the order in
/// which they moved it, as each names the id that the one before it left; so the highest `push_seq`
/// is the latest, in whatever order the rows are closed.
async fn remember_refs(tx: &mut WriteTx<'_>, repo: RepoId, seq: i64) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO known_refs (repo_id, name, id, push_seq)
         SELECT $1, name, new_id, push_seq FROM push_refs WHERE push_seq = $2 AND applied = 1
         ON CONFLICT (repo_id, name)
         DO UPDATE SET id = excluded.id, push_seq = excluded.push_seq
         WHERE excluded.push_seq >= known_refs.push_seq",
    )
    .bind(repo.as_bytes().as_slice())
    .bind(seq)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Removes from a row of disk changes what is known already or is an open push's to tell.
async fn drop_known_changes(tx: &mut WriteTx<'_>, repo: RepoId, seq: i64) -> Result<u64, DbError> {
    let dropped = sqlx::query(
        "DELETE FROM push_refs WHERE push_seq = $2 AND (
             (SELECT k.id FROM known_refs k WHERE k.repo_id = $1 AND k.name = push_refs.name)
                 IS NOT push_refs.old_id
             OR name IN (SELECT o.name FROM pushes p JOIN push_refs o ON o.push_seq = p.seq
                         WHERE p.repo_id = $1 AND p.state = 'open'))",
    )
    .bind(repo.as_bytes().as_slice())
    .bind(seq)
    .execute(&mut *tx.conn)
    .await?;
    Ok(dropped.rows_affected())
}
