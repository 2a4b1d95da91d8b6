//! Keeping and collecting large files: figures, marks, damage, removal.

use sqlx::Row as _;

use super::Db;
use super::error::DbError;
use super::large_files::{Hash, ObjectRow, hash, number, object};
use super::row::Columns as _;
use crate::ids::RepoId;

/// Bytes that a pack takes beside its frames: magic, fan-out, trailer (docs/storage.md).
const PACK_FRAME_BYTES: u64 = 8 + 1024 + 40;
/// Bytes that a frame takes beside its payload: its row in the index.
const INDEX_ROW_BYTES: u64 = 48;

/// An object that a repository has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedObject {
    /// Its name.
    pub oid: Hash,
    /// What it is.
    pub row: ObjectRow,
    /// The last mark found no ref that needs it, and nobody has been told of it for the grace time.
    pub is_unreached: bool,
    /// It is known to be damaged.
    pub is_damaged: bool,
}

/// A pack that has a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// Its number.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub sha256: Hash,
}

/// Sums over the whole store, in bytes unless they are counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSums {
    /// Sizes of the objects, each counted for every repository that has it.
    pub logical: u64,
    /// Lengths of the chunks that are not known to be unneeded.
    pub raw: u64,
    /// The same as they are stored.
    pub stored: u64,
    /// What packs take beyond what is needed of them, and packs that wait for removal.
    pub collectable: u64,
    /// Lengths of all packs that have a row.
    pub packs: u64,
    /// How many objects there are.
    pub object_count: u64,
    /// How many chunks.
    pub chunk_count: u64,
    /// How many packs.
    pub pack_count: u64,
    /// How many chunks are known to be damaged.
    pub damaged_chunk_count: u64,
    /// How many objects need such a chunk.
    pub damaged_object_count: u64,
}

impl Db {
    /// Objects of a repository by name, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn linked_page(
        &self,
        repo: RepoId,
        after: Option<&Hash>,
        limit: u32,
    ) -> Result<Vec<LinkedObject>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT o.oid, o.size_bytes, o.recipe, p.key, o.recipe_start AS start,
                    o.recipe_stored_bytes AS stored_bytes, o.recipe_raw_bytes AS raw_bytes, o.recipe_codec AS codec,
                    EXISTS (SELECT 1 FROM lfs_unreached_links u
                            WHERE u.repo_id = l.repo_id AND u.oid = l.oid AND u.since_us > l.last_have_us) AS unreached,
                    EXISTS (SELECT 1 FROM lfs_damaged_objects d WHERE d.oid = l.oid) AS damaged
             FROM lfs_links l
             JOIN lfs_objects o ON o.oid = l.oid
             LEFT JOIN lfs_packs p ON p.id = o.recipe_pack_id
             WHERE l.repo_id = $1 AND l.oid > $2
             ORDER BY l.oid LIMIT $3",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(after.map_or(&[][..], |oid| oid.as_slice()))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(LinkedObject {
                    oid: hash(row, "oid")?,
                    row: object(row)?,
                    is_unreached: row.flag("unreached")?,
                    is_damaged: row.flag("damaged")?,
                })
            })
            .collect()
    }

    /// Packs that have a row, at most `limit`, beginning behind the number `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn pack_page(&self, after: i64, limit: u32) -> Result<Vec<PackRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query("SELECT id, key, bytes, sha256 FROM lfs_packs WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *conn)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(PackRow {
                    id: row.int("id")?,
                    key: row.text("key")?,
                    bytes: number(row, "bytes")?,
                    sha256: hash(row, "sha256")?,
                })
            })
            .collect()
    }

    /// Sums over the whole store. Reads every row of a chunk.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn store_sums(&self) -> Result<StoreSums, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT logical.bytes AS logical, live.raw, live.stored, live.number AS live_number,
                    chunks.number AS chunk_number, packs.bytes AS packs, packs.number AS pack_number,
                    recipes.bytes AS recipes, recipes.number AS recipe_number, objects.number AS object_number,
                    dead.bytes AS dead, bad_chunks.number AS bad_chunk_number, bad_objects.number AS bad_object_number
             FROM (SELECT COALESCE(SUM(o.size_bytes), 0) AS bytes
                   FROM lfs_links l JOIN lfs_objects o ON o.oid = l.oid) logical,
                  (SELECT COALESCE(SUM(raw_bytes), 0) AS raw, COALESCE(SUM(stored_bytes), 0) AS stored,
                          COUNT(*) AS number
                   FROM lfs_chunks c
                   WHERE NOT EXISTS (SELECT 1 FROM lfs_unneeded_chunks u WHERE u.chunk = c.chunk)) live,
                  (SELECT COUNT(*) AS number FROM lfs_chunks) chunks,
                  (SELECT COALESCE(SUM(bytes), 0) AS bytes, COUNT(*) AS number FROM lfs_packs) packs,
                  (SELECT COALESCE(SUM(recipe_stored_bytes), 0) AS bytes, COUNT(recipe_pack_id) AS number
                   FROM lfs_objects) recipes,
                  (SELECT COUNT(*) AS number FROM lfs_objects) objects,
                  (SELECT COALESCE(SUM(bytes), 0) AS bytes FROM lfs_dead_packs) dead,
                  (SELECT COUNT(*) AS number FROM lfs_damaged_chunks) bad_chunks,
                  (SELECT COUNT(DISTINCT oid) AS number FROM lfs_damaged_objects) bad_objects",
        )
        .fetch_one(&mut *conn)
        .await?;
        let get = |column| number::<u64>(&row, column);
        let (stored, packs, pack_count) = (get("stored")?, get("packs")?, get("pack_number")?);
        let needed = stored
            + get("recipes")?
            + (get("live_number")? + get("recipe_number")?) * INDEX_ROW_BYTES
            + pack_count * PACK_FRAME_BYTES;
        Ok(StoreSums {
            logical: get("logical")?,
            raw: get("raw")?,
            stored,
            collectable: packs.saturating_sub(needed) + get("dead")?,
            packs,
            object_count: get("object_number")?,
            chunk_count: get("chunk_number")?,
            pack_count,
            damaged_chunk_count: get("bad_chunk_number")?,
            damaged_object_count: get("bad_object_number")?,
        })
    }

    /// What SQLite says is wrong with its file; empty if nothing is. Reads all of it, changes nothing.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn file_errors(&self) -> Result<Vec<String>, DbError> {
        let mut conn = self.read().await?;
        let mut errors = Vec::new();
        for row in sqlx::query("PRAGMA quick_check").fetch_all(&mut *conn).await? {
            let text: String = row.try_get(0)?;
            if text != "ok" {
                errors.push(text);
            }
        }
        let orphans =
            sqlx::query("SELECT \"table\" AS name, COUNT(*) AS number FROM pragma_foreign_key_check GROUP BY 1")
                .fetch_all(&mut *conn)
                .await?;
        for row in &orphans {
            let (name, count) = (row.text("name")?, row.int("number")?);
            errors.push(format!("{count} rows of {name} point to rows that are not there"));
        }
        Ok(errors)
    }
}
