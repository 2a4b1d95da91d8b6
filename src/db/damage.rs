//! Large files of which the store has lost bytes: noted by checks, mended by the next upload.

use sqlx::SqliteConnection;

use super::Db;
use super::error::DbError;
use super::large_files::{FramePlace, Hash, ObjectRow, array, hash, object, place};
use super::row::Columns as _;
use crate::ids::RepoId;

/// The row of an object with what `object` reads of it.
const OBJECTS: &str = "SELECT o.oid, o.size_bytes, o.recipe, p.key, o.recipe_start AS start,
        o.recipe_stored_bytes AS stored_bytes, o.recipe_raw_bytes AS raw_bytes, o.recipe_codec AS codec
 FROM lfs_objects o LEFT JOIN lfs_packs p ON p.id = o.recipe_pack_id ";

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Chunks whose bytes are not what they were, and what is wrong.
    pub chunks: Vec<(Hash, String)>,
    /// Objects that need such a chunk; `None`: their recipe is damaged.
    pub objects: Vec<(Hash, Option<Hash>)>,
}

/// Whether any damage is known.
pub(super) async fn is_any(conn: &mut SqliteConnection) -> Result<bool, DbError> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM lfs_damaged_chunks) OR EXISTS (SELECT 1 FROM lfs_damaged_objects) AS found",
    );
    row.fetch_one(conn).await?.flag("found")
}

/// Forgets that these chunks are damaged: they have been brought again.
pub(super) async fn mended(conn: &mut SqliteConnection, chunks: &[Hash]) -> Result<(), DbError> {
    let hashes = array(chunks);
    for sql in [
        "DELETE FROM lfs_damaged_objects WHERE chunk IN (SELECT unhex(value) FROM json_each($1))",
        "DELETE FROM lfs_damaged_chunks WHERE chunk IN (SELECT unhex(value) FROM json_each($1))",
    ] {
        sqlx::query(sql).bind(&hashes).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Forgets that the recipe of this object is damaged.
pub(super) async fn recipe_mended(conn: &mut SqliteConnection, oid: &Hash) -> Result<(), DbError> {
    sqlx::query("DELETE FROM lfs_damaged_objects WHERE oid = $1 AND chunk = x''")
        .bind(oid.as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

impl Db {
    /// Notes damage. Uploads bring such chunks again from now on.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn note_damage(&self, damage: Damage) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                for (chunk, what) in &damage.chunks {
                    sqlx::query(
                        "INSERT INTO lfs_damaged_chunks (chunk, what, found_at_us)
                         SELECT chunk, $2, $3 FROM lfs_chunks WHERE chunk = $1 ON CONFLICT DO NOTHING",
                    )
                    .bind(chunk.as_slice())
                    .bind(what.as_str())
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                }
                for (oid, chunk) in &damage.objects {
                    sqlx::query(
                        "INSERT INTO lfs_damaged_objects (oid, chunk, found_at_us)
                         SELECT oid, $2, $3 FROM lfs_objects WHERE oid = $1 ON CONFLICT DO NOTHING",
                    )
                    .bind(oid.as_slice())
                    .bind(chunk.as_ref().map_or(&[][..], |chunk| chunk.as_slice()))
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Forgets damage of an object that was found whole.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn forget_damage(&self, oid: Hash, chunks: Vec<Hash>) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                mended(tx.conn, &chunks).await?;
                recipe_mended(tx.conn, &oid).await
            })
        })
        .await
    }

    /// All objects by name, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn object_page(&self, after: Option<&Hash>, limit: u32) -> Result<Vec<(Hash, ObjectRow)>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{OBJECTS} WHERE o.oid > $1 ORDER BY o.oid LIMIT $2"
        )))
        .bind(after.map_or(&[][..], |oid| oid.as_slice()))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(|row| Ok((hash(row, "oid")?, object(row)?))).collect()
    }

    /// Objects whose recipe lies in a pack.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn recipes_in(&self, pack_id: i64) -> Result<Vec<(Hash, ObjectRow)>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{OBJECTS} WHERE o.recipe_pack_id = $1")))
            .bind(pack_id)
            .fetch_all(&mut *conn)
            .await?;
        rows.iter().map(|row| Ok((hash(row, "oid")?, object(row)?))).collect()
    }

    /// Chunks that lie in the pack under a key.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn chunks_under(&self, key: &str) -> Result<Vec<(Hash, FramePlace)>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT c.chunk, p.key, c.start, c.stored_bytes, c.raw_bytes, c.codec
             FROM lfs_chunks c JOIN lfs_packs p ON p.id = c.pack_id WHERE p.key = $1 ORDER BY c.start",
        )
        .bind(key)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(|row| Ok((hash(row, "chunk")?, place(row)?))).collect()
    }

    /// Repositories that have an object.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn linking_repos(&self, oid: &Hash) -> Result<Vec<RepoId>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query("SELECT repo_id FROM lfs_links WHERE oid = $1")
            .bind(oid.as_slice())
            .fetch_all(&mut *conn)
            .await?;
        rows.iter().map(|row| row.repo_id("repo_id")).collect()
    }
}
