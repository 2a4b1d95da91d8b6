//! Reading push rows: the reflog, what is open, and where refs were.

use sqlx::sqlite::SqliteRow;

use super::Db;
use super::error::DbError;
use super::pushes::PushState;
use super::row::Columns;
use crate::ids::{GitId, PushId, RepoId, UserId};

/// Most ids that [`Db::moved_old_ids`] returns; older moves are left out.
pub const MAX_MOVED_IDS: u32 = 200_000;

/// A push, or a change that was found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRow {
    /// Identity.
    pub id: PushId,
    /// Its place in the order of beginning; the cursor of [`Db::list_pushes`].
    pub seq: i64,
    /// The repository.
    pub repo: RepoId,
    /// Who pushed, while the account exists.
    pub user: Option<UserId>,
    /// Their name at that time; `None` is a change that was found on disk.
    pub pusher: Option<String>,
    /// From which network address.
    pub address: Option<String>,
    /// All refs moved together or none did.
    pub atomic: bool,
    /// Push options.
    pub options: Vec<String>,
    /// Whether it is over.
    pub state: PushState,
    /// When it began, in microseconds since 1970.
    pub started_at_us: i64,
    /// When it was closed, in microseconds since 1970.
    pub finished_at_us: Option<i64>,
}

/// One ref of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRefRow {
    /// Its place among the refs of the push; the cursor of [`Db::push_refs`].
    pub ord: u32,
    /// Full name, as git has it.
    pub name: Vec<u8>,
    /// Where it was; `None` is absent.
    pub old: Option<GitId>,
    /// Where it should be; `None` is absent.
    pub new: Option<GitId>,
    /// Whether it moved; `None` while the push is open.
    pub applied: Option<bool>,
}

/// A page of [`Db::list_pushes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPage {
    /// Newest first.
    pub rows: Vec<PushRow>,
    /// Pass it as `before` for the next page; `None` at the end.
    pub next: Option<i64>,
}

/// Where the last applied change left a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRef {
    /// Full name, as git has it.
    pub name: Vec<u8>,
    /// Its id.
    pub id: GitId,
}

/// An id that a ref had before it moved or was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedRef {
    /// Full name, as git has it; whether the ref is hidden is the caller's to know.
    pub name: Vec<u8>,
    /// Where it was.
    pub old: GitId,
}

fn push(row: &SqliteRow) -> Result<PushRow, DbError> {
    Ok(PushRow {
        id: row.push_id("id")?,
        seq: row.int("seq")?,
        repo: row.repo_id("repo_id")?,
        user: row.user_id_or_null("user_id")?,
        pusher: row.text_or_null("pusher")?,
        address: row.text_or_null("address")?,
        atomic: row.flag("is_atomic")?,
        options: serde_json::from_str(&row.text("options")?).map_err(|_| DbError::Unreadable("options"))?,
        state: row.word("state")?,
        started_at_us: row.int("started_at_us")?,
        finished_at_us: row.int_or_null("finished_at_us")?,
    })
}

impl Db {
    /// Finds a push.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn push_by_id(&self, id: PushId) -> Result<Option<PushRow>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT id, seq, repo_id, user_id, pusher, address, is_atomic, options, state,
                    started_at_us, finished_at_us
             FROM pushes WHERE id = $1",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        row.as_ref().map(push).transpose()
    }

    /// The pushes of one repository, or of all, that were begun and not closed, oldest first. Those
    /// of deleted repositories are left out.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn open_pushes(&self, repo: Option<RepoId>) -> Result<Vec<PushRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = match &repo {
            Some(repo) => {
                sqlx::query(
                    "SELECT id, seq, repo_id, user_id, pusher, address, is_atomic, options, state,
                            started_at_us, finished_at_us
                     FROM pushes WHERE repo_id = $1 AND state = 'open' ORDER BY seq",
                )
                .bind(repo.as_bytes().as_slice())
                .fetch_all(&mut *conn)
                .await?
            }
            None => {
                sqlx::query(
                    "SELECT id, seq, repo_id, user_id, pusher, address, is_atomic, options, state,
                            started_at_us, finished_at_us
                     FROM pushes WHERE state = 'open' AND repo_id IN (SELECT id FROM repos)
                     ORDER BY seq",
                )
                .fetch_all(&mut *conn)
                .await?
            }
        };
        rows.iter().map(push).collect()
    }

    /// The pushes of a repository, newest first, at most `limit`, beginning behind the cursor.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn list_pushes(&self, repo: RepoId, before: Option<i64>, limit: u32) -> Result<PushPage, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT id, seq, repo_id, user_id, pusher, address, is_atomic, options, state,
                    started_at_us, finished_at_us
             FROM pushes WHERE repo_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        let rows: Vec<PushRow> = rows.iter().map(push).collect::<Result<_, _>>()?;
        let full = rows.len() as u64 == u64::from(limit);
        let next = rows.last().filter(|_| full).map(|row| row.seq);
        Ok(PushPage { rows, next })
    }

    /// The refs of a push in the order of its commands, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn push_refs(&self, push: PushId, after: Option<u32>, limit: u32) -> Result<Vec<PushRefRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT r.ord, r.name, r.old_id, r.new_id, r.applied
             FROM pushes p JOIN push_refs r ON r.push_seq = p.seq
             WHERE p.id = $1 AND r.ord > $2 ORDER BY r.ord LIMIT $3",
        )
        .bind(push.as_bytes().as_slice())
        .bind(after.map_or(-1, i64::from))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PushRefRow {
                    ord: u32::try_from(row.int("ord")?).map_err(|_| DbError::Unreadable("ord"))?,
                    name: row.bytes("name")?,
                    old: row.git_id("old_id")?,
                    new: row.git_id("new_id")?,
                    applied: row.int_or_null("applied")?.map(|applied| applied != 0),
                })
            })
            .collect()
    }

    /// The ids that refs had before moves that were closed at `since_us` or later, and those that
    /// open pushes are moving away from: what a client may still ask for within the grace time.
    /// Newest first, at most [`MAX_MOVED_IDS`]; an id comes as often as it was left.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn moved_old_ids(&self, repo: RepoId, since_us: i64) -> Result<Vec<MovedRef>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT r.name, r.old_id FROM (
                 SELECT seq FROM pushes WHERE repo_id = $1 AND finished_at_us >= $2
                 UNION ALL
                 SELECT seq FROM pushes WHERE repo_id = $1 AND state = 'open'
             ) p
             JOIN push_refs r ON r.push_seq = p.seq
             WHERE r.old_id IS NOT NULL AND (r.applied IS NULL OR r.applied = 1)
             ORDER BY p.seq DESC LIMIT $3",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(since_us)
        .bind(MAX_MOVED_IDS)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(MovedRef {
                    name: row.bytes("name")?,
                    old: row.git_id("old_id")?.ok_or(DbError::Unreadable("old_id"))?,
                })
            })
            .collect()
    }

    /// The ids that open pushes give to refs: what they bring may not be named by any ref yet. At most
    /// [`MAX_MOVED_IDS`].
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn open_new_ids(&self, repo: RepoId) -> Result<Vec<GitId>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT r.new_id FROM pushes p JOIN push_refs r ON r.push_seq = p.seq
             WHERE p.repo_id = $1 AND p.state = 'open' AND r.new_id IS NOT NULL LIMIT $2",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(MAX_MOVED_IDS)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| row.git_id("new_id")?.ok_or(DbError::Unreadable("new_id")))
            .collect()
    }

    /// Where the last applied changes left the refs of a repository, by name. Refs that differ on
    /// disk were changed by stock git, or by a push that is open.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn last_known_refs(&self, repo: RepoId) -> Result<Vec<KnownRef>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT name, id FROM known_refs
             WHERE repo_id = $1 AND id IS NOT NULL ORDER BY name",
        )
        .bind(repo.as_bytes().as_slice())
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(KnownRef {
                    name: row.bytes("name")?,
                    id: row.git_id("id")?.ok_or(DbError::Unreadable("id"))?,
                })
            })
            .collect()
    }

    /// Whether a closed push, or a change on disk that was noticed, left a branch in `repo` that
    /// nobody deleted since.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn has_known_branch(&self, repo: RepoId) -> Result<bool, DbError> {
        let mut conn = self.read().await?;
        // '0' is what follows '/' in the order of bytes.
        let row = sqlx::query(
            "SELECT 1 FROM known_refs
             WHERE repo_id = $1 AND name >= $2 AND name < $3 AND id IS NOT NULL LIMIT 1",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(b"refs/heads/".as_slice())
        .bind(b"refs/heads0".as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        Ok(row.is_some())
    }

    /// Deleted repositories whose push rows are not all removed yet, as after a stop in between.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn deleted_repos_with_pushes(&self) -> Result<Vec<RepoId>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT repo_id FROM pushes WHERE repo_id NOT IN (SELECT id FROM repos)
             UNION
             SELECT repo_id FROM known_refs WHERE repo_id NOT IN (SELECT id FROM repos)",
        )
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(|row| row.repo_id("repo_id")).collect()
    }
}
