//! Which chunks a person need not bring to a repository: those of its own set, of the sets of other repositories
//! that they name and may read, and those they have brought already.

use sqlx::{Row as _, SqliteConnection};

use super::Db;
use super::error::DbError;
use super::large_files::{Hash, NewPack, array, insert_packs};
use super::row::Columns as _;
use crate::ids::{RepoId, UserId};

/// Chunks that one statement is about.
const AT_ONCE: usize = 8192;

/// Whose chunks count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The repository that they are brought to.
    pub repo: RepoId,
    /// The person.
    pub user: UserId,
    /// Other repositories whose chunks count; that the person may read them is for the caller to see.
    pub with: Vec<RepoId>,
}

/// Notes which chunks a new object has: each once, sorted.
pub(super) async fn insert_object_chunks(
    conn: &mut SqliteConnection,
    oid: &Hash,
    chunks: &[Hash],
) -> Result<(), DbError> {
    for some in chunks.chunks(AT_ONCE) {
        let done = sqlx::query(
            "INSERT INTO lfs_object_chunks (oid, chunk)
             SELECT $1, c.chunk FROM json_each($2) j JOIN lfs_chunks c ON c.chunk = unhex(j.value)",
        )
        .bind(oid.as_slice())
        .bind(array(some))
        .execute(&mut *conn)
        .await?;
        if done.rows_affected() != some.len() as u64 {
            return Err(DbError::Vanished);
        }
        super::collecting::hold(conn, &array(some)).await?;
    }
    Ok(())
}

impl Db {
    /// The places of those chunks that the person has to bring. Chunks that are sorted are found faster.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn missing_chunks(&self, holder: &Holder, chunks: &[Hash]) -> Result<Vec<usize>, DbError> {
        let now_us = self.now_us();
        let mut conn = self.read().await?;
        let mut missing = Vec::new();
        for (number, some) in chunks.chunks(AT_ONCE).enumerate() {
            let rows = sqlx::query(
                "WITH RECURSIVE n (place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM n WHERE place < $5)
                 SELECT place FROM n
                 WHERE NOT EXISTS (SELECT 1 FROM lfs_repo_chunks s
                                   WHERE s.repo_id = $2 AND s.chunk = substr($1, place * 32 + 1, 32))
                   AND NOT EXISTS (SELECT 1 FROM lfs_brought b
                                   WHERE b.chunk = substr($1, place * 32 + 1, 32) AND b.repo_id = $2
                                     AND b.user_id = $3 AND b.until_us > $4)",
            )
            // One value, cut by the statement: text of so many ids takes longer to read than to look them up.
            .bind(some.as_flattened())
            .bind(holder.repo.as_bytes().as_slice())
            .bind(holder.user.as_bytes().as_slice())
            .bind(now_us)
            .bind(i64::try_from(some.len()).unwrap_or(i64::MAX) - 1)
            .fetch_all(&mut *conn)
            .await?;
            let mut left: Vec<usize> = Vec::with_capacity(rows.len());
            for row in &rows {
                left.push(usize::try_from(row.int("place")?).map_err(|_| DbError::Unreadable("place"))?);
            }
            for repo in &holder.with {
                if left.is_empty() {
                    break;
                }
                left = not_in_set(&mut conn, *repo, some, left).await?;
            }
            missing.extend(left.into_iter().map(|place| number * AT_ONCE + place));
        }
        Ok(missing)
    }

    /// Makes chunks count as brought by this person to this repository until `until_us`: those of `packs`, which
    /// lie in the store, and others that are stored. `chunks` are all of them, each once. Tells the keys of those
    /// packs that nobody needs; `None` if the repository or the person is gone.
    ///
    /// # Errors
    /// [`DbError::Vanished`] if a chunk that was stored is not any more; [`DbError`] if the database fails.
    pub async fn bring_chunks(
        &self,
        (repo, user): (RepoId, UserId),
        until_us: i64,
        packs: Vec<NewPack>,
        chunks: Vec<Hash>,
    ) -> Result<Option<Vec<String>>, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let found = sqlx::query("SELECT 1 FROM repos r, users u WHERE r.id = $1 AND u.id = $2")
                    .bind(repo.as_bytes().as_slice())
                    .bind(user.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                if found.is_none() {
                    return Ok(None);
                }
                let (_, unneeded) = insert_packs(tx.conn, &packs, None, tx.now_us).await?;
                for some in chunks.chunks(AT_ONCE) {
                    let done = sqlx::query(
                        "INSERT INTO lfs_brought (chunk, repo_id, user_id, until_us)
                         SELECT c.chunk, $2, $3, $4 FROM json_each($1) j JOIN lfs_chunks c ON c.chunk = unhex(j.value)
                         WHERE true
                         ON CONFLICT DO UPDATE SET until_us = max(until_us, $4)",
                    )
                    .bind(array(some))
                    .bind(repo.as_bytes().as_slice())
                    .bind(user.as_bytes().as_slice())
                    .bind(until_us)
                    .execute(&mut *tx.conn)
                    .await?;
                    if done.rows_affected() != some.len() as u64 {
                        return Err(DbError::Vanished);
                    }
                }
                Ok(Some(unneeded))
            })
        })
        .await
    }

    /// Forgets who brought what, where its time is over. Tells how many rows went.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn forget_brought(&self) -> Result<u64, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM lfs_brought WHERE until_us <= $1")
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

/// Those of the places in `left` whose chunk is not in the set of a repository.
async fn not_in_set(
    conn: &mut SqliteConnection,
    repo: RepoId,
    chunks: &[Hash],
    left: Vec<usize>,
) -> Result<Vec<usize>, DbError> {
    let hashes: Vec<Hash> = left.iter().map(|&place| chunks[place]).collect();
    let rows = sqlx::query(
        "SELECT j.key FROM json_each($1) j
         WHERE NOT EXISTS (SELECT 1 FROM lfs_repo_chunks s WHERE s.repo_id = $2 AND s.chunk = unhex(j.value))",
    )
    .bind(array(&hashes))
    .bind(repo.as_bytes().as_slice())
    .fetch_all(&mut *conn)
    .await?;
    let mut still = Vec::with_capacity(rows.len());
    for row in &rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)?)
            .ok()
            .and_then(|place| left.get(place));
        still.push(*place.ok_or(DbError::Unreadable("place"))?);
    }
    Ok(still)
}
