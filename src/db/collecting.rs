//! Collecting large files: marks, and removal in the order links, objects, chunks, packs.

use sqlx::{Executor as _, Row as _};

use super::Db;
use super::error::DbError;
use super::large_files::{Hash, array, hash, number};
use super::row::Columns as _;
use crate::ids::RepoId;

/// How long a key that was removed is remembered, in microseconds: longer than any upload lasts.
const REMEMBERED_US: i64 = 90 * 86_400_000_000;

/// Links that two marks found unreached, and of which nobody has been told since the first, nor for the grace time.
const RIPE_LINKS: &str = "SELECT l.repo_id, l.oid FROM lfs_unreached_links u
    JOIN lfs_links l ON l.repo_id = u.repo_id AND l.oid = u.oid
    WHERE u.since_us <= $1 AND l.last_have_us < $2 AND l.last_have_us < u.since_us
      AND NOT EXISTS (SELECT 1 FROM lfs_marked m WHERE m.repo_id = l.repo_id AND m.oid = l.oid)";

/// What was removed from the rows of links and objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unlinked {
    /// Which repository does not have which object any more, with its size in bytes.
    pub links: Vec<(RepoId, Hash, u64)>,
    /// How many objects no repository has any more.
    pub objects: u64,
    /// Links that were marked for the first time.
    pub first_marks: u64,
}

/// A chunk as collection sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptChunk {
    /// Its name.
    pub chunk: Hash,
    /// What it takes, in bytes.
    pub stored_bytes: u64,
    /// When a mark found first that nothing needs it.
    pub unneeded_since_us: Option<i64>,
    /// When its pack came.
    pub stored_at_us: i64,
}

impl Db {
    /// A fact about this database.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn fact(&self, key: &'static str) -> Result<Option<String>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query("SELECT value FROM meta WHERE key = $1")
            .bind(key)
            .fetch_optional(&mut *conn)
            .await?;
        row.map(|row| row.text("value")).transpose()
    }

    /// Sets it.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_fact(&self, key: &'static str, value: String) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2")
                    .bind(key)
                    .bind(value)
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// From which ids a repository has been read for pointers.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn marked_tips(&self, repo: RepoId) -> Result<Vec<Vec<u8>>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query("SELECT tip FROM lfs_marked_tips WHERE repo_id = $1")
            .bind(repo.as_bytes().as_slice())
            .fetch_all(&mut *conn)
            .await?;
        rows.iter().map(|row| row.bytes("tip")).collect()
    }

    /// Notes what `tips` need: `oids` beside what was noted before, or, if `is_all`, nothing else.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn mark(&self, repo: RepoId, is_all: bool, tips: Vec<Vec<u8>>, oids: Vec<Hash>) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let id = repo.as_bytes().as_slice();
                if is_all {
                    let clear = sqlx::query("DELETE FROM lfs_marked WHERE repo_id = $1").bind(id);
                    clear.execute(&mut *tx.conn).await?;
                }
                sqlx::query(
                    "INSERT INTO lfs_marked (repo_id, oid)
                     SELECT r.id, unhex(j.value) FROM repos r, json_each($2) j WHERE r.id = $1 ON CONFLICT DO NOTHING",
                )
                .bind(id)
                .bind(array(&oids))
                .execute(&mut *tx.conn)
                .await?;
                let clear = sqlx::query("DELETE FROM lfs_marked_tips WHERE repo_id = $1").bind(id);
                clear.execute(&mut *tx.conn).await?;
                for tip in &tips {
                    sqlx::query(
                        "INSERT INTO lfs_marked_tips (repo_id, tip) SELECT id, $2 FROM repos WHERE id = $1
                         ON CONFLICT DO NOTHING",
                    )
                    .bind(id)
                    .bind(tip.as_slice())
                    .execute(&mut *tx.conn)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Removes links that two marks found unreached, the first before `ripe_us`, and of which nobody has been told
    /// since `held_us`; then objects without links; then marks for the first time. A dry run only tells.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn unlink(&self, ripe_us: i64, held_us: i64, is_dry_run: bool) -> Result<Unlinked, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.conn.execute("SAVEPOINT collecting").await?;
                let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
                    "SELECT r.repo_id, r.oid, o.size_bytes FROM ({RIPE_LINKS}) r JOIN lfs_objects o ON o.oid = r.oid"
                )))
                .bind(ripe_us)
                .bind(held_us)
                .fetch_all(&mut *tx.conn)
                .await?;
                let mut unlinked = Unlinked::default();
                for row in &rows {
                    let link = (row.repo_id("repo_id")?, hash(row, "oid")?, number(row, "size_bytes")?);
                    sqlx::query("DELETE FROM lfs_links WHERE repo_id = $1 AND oid = $2")
                        .bind(link.0.as_bytes().as_slice())
                        .bind(link.1.as_slice())
                        .execute(&mut *tx.conn)
                        .await?;
                    unlinked.links.push(link);
                }
                let removed = tx
                    .conn
                    .execute("DELETE FROM lfs_objects WHERE oid NOT IN (SELECT oid FROM lfs_links)")
                    .await?;
                unlinked.objects = removed.rows_affected();
                tx.conn
                    .execute(
                        "DELETE FROM lfs_unreached_links WHERE EXISTS (
                             SELECT 1 FROM lfs_links l WHERE l.repo_id = lfs_unreached_links.repo_id
                               AND l.oid = lfs_unreached_links.oid AND l.last_have_us >= lfs_unreached_links.since_us)
                         OR EXISTS (
                             SELECT 1 FROM lfs_marked m WHERE m.repo_id = lfs_unreached_links.repo_id
                               AND m.oid = lfs_unreached_links.oid)",
                    )
                    .await?;
                let noted = sqlx::query(
                    "INSERT INTO lfs_unreached_links (repo_id, oid, since_us)
                     SELECT l.repo_id, l.oid, $1 FROM lfs_links l
                     WHERE l.last_have_us < $2
                       AND NOT EXISTS (SELECT 1 FROM lfs_marked m WHERE m.repo_id = l.repo_id AND m.oid = l.oid)
                     ON CONFLICT DO NOTHING",
                )
                .bind(tx.now_us)
                .bind(held_us)
                .execute(&mut *tx.conn)
                .await?;
                unlinked.first_marks = noted.rows_affected();
                if is_dry_run {
                    tx.conn.execute("ROLLBACK TO collecting").await?;
                }
                tx.conn.execute("RELEASE collecting").await?;
                Ok(unlinked)
            })
        })
        .await
    }

    /// Chunks by name, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn chunk_page(&self, after: Option<&Hash>, limit: u32) -> Result<Vec<KeptChunk>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT c.chunk, c.stored_bytes, u.since_us, p.created_at_us FROM lfs_chunks c
             JOIN lfs_packs p ON p.id = c.pack_id
             LEFT JOIN lfs_unneeded_chunks u ON u.chunk = c.chunk
             WHERE c.chunk > $1 ORDER BY c.chunk LIMIT $2",
        )
        .bind(after.map_or(&[][..], |chunk| chunk.as_slice()))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(KeptChunk {
                    chunk: hash(row, "chunk")?,
                    stored_bytes: number(row, "stored_bytes")?,
                    unneeded_since_us: row.int_or_null("since_us")?,
                    stored_at_us: row.int("created_at_us")?,
                })
            })
            .collect()
    }

    /// Takes the first mark off chunks that are needed, marks others for the first time, and removes the rows of
    /// those that were marked before `ripe_us` and not needed by anything since. Tells how many were removed.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn settle_chunks(
        &self,
        needed: Vec<Hash>,
        unneeded: Vec<Hash>,
        remove: Vec<Hash>,
        ripe_us: i64,
    ) -> Result<u64, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query("DELETE FROM lfs_unneeded_chunks WHERE chunk IN (SELECT unhex(value) FROM json_each($1))")
                    .bind(array(&needed))
                    .execute(&mut *tx.conn)
                    .await?;
                // Whatever came to need one in the meantime has taken its first mark off.
                let removed = sqlx::query(
                    "DELETE FROM lfs_chunks WHERE chunk IN (
                         SELECT u.chunk FROM json_each($1) j JOIN lfs_unneeded_chunks u ON u.chunk = unhex(j.value)
                         WHERE u.since_us <= $2
                           AND NOT EXISTS (SELECT 1 FROM lfs_brought b WHERE b.chunk = u.chunk AND b.until_us > $3))",
                )
                .bind(array(&remove))
                .bind(ripe_us)
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                sqlx::query(
                    "INSERT INTO lfs_unneeded_chunks (chunk, since_us)
                     SELECT c.chunk, $2 FROM json_each($1) j JOIN lfs_chunks c ON c.chunk = unhex(j.value)
                     WHERE 1 ON CONFLICT DO NOTHING",
                )
                .bind(array(&unneeded))
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                Ok(removed.rows_affected())
            })
        })
        .await
    }

    /// Packs in which nothing lies any more lose their rows and wait for removal, as do those of `strays` (key and
    /// length) that have no row. Tells how many. A dry run only tells.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn condemn_packs(&self, strays: Vec<(String, u64)>, is_dry_run: bool) -> Result<u64, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.conn.execute("SAVEPOINT collecting").await?;
                let done = sqlx::query(
                    "INSERT INTO lfs_dead_packs (key, bytes, since_us)
                     SELECT p.key, p.bytes, $1 FROM lfs_packs p
                     WHERE NOT EXISTS (SELECT 1 FROM lfs_chunks c WHERE c.pack_id = p.id)
                       AND NOT EXISTS (SELECT 1 FROM lfs_objects o WHERE o.recipe_pack_id = p.id)",
                )
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                let mut count = done.rows_affected();
                tx.conn
                    .execute("DELETE FROM lfs_packs WHERE key IN (SELECT key FROM lfs_dead_packs)")
                    .await?;
                for (key, bytes) in &strays {
                    let done = sqlx::query(
                        "INSERT INTO lfs_dead_packs (key, bytes, since_us)
                         SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM lfs_packs WHERE key = $1)
                         ON CONFLICT (key) DO UPDATE SET bytes = $2 WHERE bytes = 0",
                    )
                    .bind(key.as_str())
                    .bind(i64::try_from(*bytes).unwrap_or(i64::MAX).max(1))
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                    count += done.rows_affected();
                }
                if is_dry_run {
                    tx.conn.execute("ROLLBACK TO collecting").await?;
                }
                tx.conn.execute("RELEASE collecting").await?;
                Ok(count)
            })
        })
        .await
    }

    /// Packs that wait for removal since before `ripe_us`, with their lengths in bytes.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn dead_packs(&self, ripe_us: i64) -> Result<Vec<(String, u64)>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query("SELECT key, bytes FROM lfs_dead_packs WHERE bytes > 0 AND since_us <= $1")
            .bind(ripe_us)
            .fetch_all(&mut *conn)
            .await?;
        rows.iter()
            .map(|row| Ok((row.text("key")?, number(row, "bytes")?)))
            .collect()
    }

    /// Notes that a pack is gone. Its key is remembered for a while, so that nothing late gives it a row.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn pack_is_gone(&self, key: String) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query("UPDATE lfs_dead_packs SET bytes = 0 WHERE key = $1")
                    .bind(key)
                    .execute(&mut *tx.conn)
                    .await?;
                sqlx::query("DELETE FROM lfs_dead_packs WHERE bytes = 0 AND since_us < $1")
                    .bind(tx.now_us.saturating_sub(REMEMBERED_US))
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Every key that has a row, or had one lately and is removed.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn is_known_pack(&self, key: &str) -> Result<bool, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM lfs_packs WHERE key = $1) AS found")
            .bind(key)
            .fetch_one(&mut *conn)
            .await?;
        Ok(row.try_get("found")?)
    }
}

/// Takes first marks off chunks that something has come to need.
pub(super) async fn hold(conn: &mut sqlx::SqliteConnection, hashes: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM lfs_unneeded_chunks WHERE chunk IN (SELECT unhex(value) FROM json_each($1))")
        .bind(hashes)
        .execute(conn)
        .await?;
    Ok(())
}
