//! Large files: objects, chunks, chunk packs, and which repository has what.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Db;
use super::chunk_sets::insert_object_chunks;
use super::damage;
use super::error::DbError;
use super::row::Columns;
use super::sounds::{self, SoundRow};
use crate::ids::{RepoId, UserId};

/// A hash that names an object or a chunk.
pub type Hash = [u8; 32];

/// Where a frame lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// The key of its pack.
    pub key: String,
    /// Where its payload begins in the pack, in bytes.
    pub start: u64,
    /// Length of the payload, in bytes.
    pub stored_bytes: u32,
    /// Length of what it holds, in bytes.
    pub raw_bytes: u32,
    /// The tag of its codec.
    pub codec: u8,
}

/// Where a recipe lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipePlace {
    /// Here.
    Here(Vec<u8>),
    /// In a pack.
    InPack(FramePlace),
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// What makes it.
    pub recipe: RecipePlace,
}

/// A chunk that a new pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// Its name.
    pub chunk: Hash,
    /// Where its payload begins in the pack, in bytes.
    pub start: u32,
    /// Length of the payload, in bytes.
    pub stored_bytes: u32,
    /// Its length, in bytes.
    pub raw_bytes: u32,
    /// The tag of its codec.
    pub codec: u8,
}

/// A pack that lies in the store and has no row yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPack {
    /// Its key.
    pub key: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub sha256: Hash,
    /// The chunks in it.
    pub chunks: Vec<NewChunk>,
}

/// The recipe of a new object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewRecipe {
    /// A short one.
    Here(Vec<u8>),
    /// A long one, in this one of the new packs.
    InPack {
        /// Which of the new packs.
        pack: usize,
        /// Where: the name counts for nothing.
        frame: NewChunk,
    },
}

/// An object whose bytes lie in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// Its name.
    pub oid: Hash,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Packs that were written for it.
    pub packs: Vec<NewPack>,
    /// What makes it.
    pub recipe: NewRecipe,
    /// The chunks that it has, each once, sorted.
    pub chunks: Vec<Hash>,
    /// What it is as sound, if it is an audio file.
    pub sound: Option<SoundRow>,
}

/// Who may be told of what other repositories have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The person.
    pub user: UserId,
    /// Only this repository, whatever the person may read.
    pub is_for_one_repo: bool,
}

pub(super) fn hash(row: &SqliteRow, column: &'static str) -> Result<Hash, DbError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| DbError::Unreadable(column))
}

pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, DbError> {
    T::try_from(row.int(column)?).map_err(|_| DbError::Unreadable(column))
}

pub(super) fn object(row: &SqliteRow) -> Result<ObjectRow, DbError> {
    let recipe = match row.try_get::<Option<Vec<u8>>, _>("recipe")? {
        Some(recipe) => RecipePlace::Here(recipe),
        None => RecipePlace::InPack(place(row)?),
    };
    Ok(ObjectRow {
        size_bytes: number(row, "size_bytes")?,
        recipe,
    })
}

pub(super) fn place(row: &SqliteRow) -> Result<FramePlace, DbError> {
    Ok(FramePlace {
        key: row.text("key")?,
        start: number(row, "start")?,
        stored_bytes: number(row, "stored_bytes")?,
        raw_bytes: number(row, "raw_bytes")?,
        codec: number(row, "codec")?,
    })
}

/// Hashes as one parameter: a JSON array of hexadecimal text.
pub(super) fn array(hashes: &[Hash]) -> String {
    let mut text = String::with_capacity(hashes.len() * 67 + 2);
    text.push('[');
    for (number, hash) in hashes.iter().enumerate() {
        text.push_str(if number == 0 { "\"" } else { ",\"" });
        hash.iter().for_each(|byte| {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        });
        text.push('"');
    }
    text.push(']');
    text
}

async fn linked_in(conn: &mut SqliteConnection, repo: RepoId, hashes: &str) -> Result<HashMap<Hash, u64>, DbError> {
    let rows = sqlx::query(
        "SELECT o.oid, o.size_bytes FROM json_each($2) j
         JOIN lfs_links l ON l.repo_id = $1 AND l.oid = unhex(j.value)
         JOIN lfs_objects o ON o.oid = l.oid",
    )
    .bind(repo.as_bytes().as_slice())
    .bind(hashes)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| Ok((hash(row, "oid")?, number(row, "size_bytes")?)))
        .collect()
}

async fn damaged_of(conn: &mut SqliteConnection, hashes: &str) -> Result<HashSet<Hash>, DbError> {
    let rows =
        sqlx::query("SELECT DISTINCT d.oid FROM json_each($1) j JOIN lfs_damaged_objects d ON d.oid = unhex(j.value)")
            .bind(hashes)
            .fetch_all(&mut *conn)
            .await?;
    rows.iter().map(|row| hash(row, "oid")).collect()
}

async fn link(conn: &mut SqliteConnection, repo: RepoId, oid: &Hash, now_us: i64) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO lfs_links (repo_id, oid, linked_at_us, last_have_us) VALUES ($1, $2, $3, $3)
         ON CONFLICT DO UPDATE SET last_have_us = $3",
    )
    .bind(repo.as_bytes().as_slice())
    .bind(oid.as_slice())
    .bind(now_us)
    .execute(&mut *conn)
    .await?;
    Ok(())
}

impl Db {
    /// Which of these objects the repository has, with their sizes in bytes.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn linked_objects(&self, repo: RepoId, oids: &[Hash]) -> Result<HashMap<Hash, u64>, DbError> {
        let mut conn = self.read().await?;
        linked_in(&mut conn, repo, &array(oids)).await
    }

    /// The same before an upload: what another repository has that the person may read counts and is linked
    /// here, and everything that is told of is held from now on, for a push may follow that relies on it.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn have_objects(
        &self,
        repo: RepoId,
        sight: Sight,
        oids: Vec<Hash>,
    ) -> Result<HashMap<Hash, u64>, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let hashes = array(&oids);
                let mut have = linked_in(tx.conn, repo, &hashes).await?;
                // What is damaged has to be brought again.
                let damaged = damaged_of(tx.conn, &hashes).await?;
                have.retain(|oid, _| !damaged.contains(oid));
                sqlx::query(
                    "UPDATE lfs_links SET last_have_us = $3
                     WHERE repo_id = $1 AND oid IN (SELECT unhex(value) FROM json_each($2))",
                )
                .bind(repo.as_bytes().as_slice())
                .bind(&hashes)
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                let missing: Vec<Hash> = oids.iter().filter(|oid| !have.contains_key(*oid)).copied().collect();
                if missing.is_empty() || sight.is_for_one_repo {
                    return Ok(have);
                }
                let rows = sqlx::query(
                    "SELECT o.oid, o.size_bytes FROM json_each($1) j
                     JOIN lfs_objects o ON o.oid = unhex(j.value)
                     WHERE NOT EXISTS (SELECT 1 FROM lfs_damaged_objects d WHERE d.oid = o.oid) AND EXISTS (
                         SELECT 1 FROM lfs_links l
                         JOIN repos r ON r.id = l.repo_id
                         LEFT JOIN members m ON m.repo_id = r.id AND m.user_id = $2
                         WHERE l.oid = o.oid
                           AND (r.owner_id = $2 OR m.user_id IS NOT NULL OR r.visibility IN ('public', 'internal')))",
                )
                .bind(array(&missing))
                .bind(sight.user.as_bytes().as_slice())
                .fetch_all(&mut *tx.conn)
                .await?;
                for row in &rows {
                    let (oid, size_bytes) = (hash(row, "oid")?, number(row, "size_bytes")?);
                    link(tx.conn, repo, &oid, tx.now_us).await?;
                    have.insert(oid, size_bytes);
                }
                Ok(have)
            })
        })
        .await
    }

    /// An object that the repository has.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn linked_object(&self, repo: RepoId, oid: &Hash) -> Result<Option<ObjectRow>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT o.size_bytes, o.recipe, p.key, o.recipe_start AS start, o.recipe_stored_bytes AS stored_bytes,
                    o.recipe_raw_bytes AS raw_bytes, o.recipe_codec AS codec
             FROM lfs_links l
             JOIN lfs_objects o ON o.oid = l.oid
             LEFT JOIN lfs_packs p ON p.id = o.recipe_pack_id
             WHERE l.repo_id = $1 AND l.oid = $2",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(oid.as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        row.as_ref().map(object).transpose()
    }

    /// Which of these chunks are in the store; those that are known to be damaged are not.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn stored_chunks(&self, chunks: &[Hash]) -> Result<HashSet<Hash>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT c.chunk FROM json_each($1) j JOIN lfs_chunks c ON c.chunk = unhex(j.value)
             WHERE NOT EXISTS (SELECT 1 FROM lfs_damaged_chunks d WHERE d.chunk = c.chunk)",
        )
        .bind(array(chunks))
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(|row| hash(row, "chunk")).collect()
    }

    /// Where these chunks lie.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn chunk_places(&self, chunks: &[Hash]) -> Result<HashMap<Hash, FramePlace>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT c.chunk, p.key, c.start, c.stored_bytes, c.raw_bytes, c.codec
             FROM json_each($1) j
             JOIN lfs_chunks c ON c.chunk = unhex(j.value)
             JOIN lfs_packs p ON p.id = c.pack_id",
        )
        .bind(array(chunks))
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(|row| Ok((hash(row, "chunk")?, place(row)?))).collect()
    }

    /// Makes an object count whose chunks are all in the store, and links it to a repository. Tells the keys of
    /// those of its packs that nobody needs, since somebody else brought the same in the meantime; `None` if the
    /// repository is gone.
    ///
    /// # Errors
    /// [`DbError::Vanished`] if a chunk is not stored any more; [`DbError`] if the database fails.
    pub async fn insert_object(&self, repo: RepoId, new: NewObject) -> Result<Option<Vec<String>>, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let found = sqlx::query("SELECT 1 FROM repos WHERE id = $1")
                    .bind(repo.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                if found.is_none() {
                    return Ok(None);
                }
                let is_known = sqlx::query("SELECT 1 FROM lfs_objects WHERE oid = $1")
                    .bind(new.oid.as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?
                    .is_some();
                let is_mended = is_known && !damaged_of(tx.conn, &array(&[new.oid])).await?.is_empty();
                if is_known && !is_mended {
                    if let Some(sound) = &new.sound {
                        sounds::insert(tx.conn, &new.oid, sound, tx.now_us).await?;
                    }
                    link(tx.conn, repo, &new.oid, tx.now_us).await?;
                    return Ok(Some(new.packs.into_iter().map(|pack| pack.key).collect()));
                }
                let with_recipe = match &new.recipe {
                    NewRecipe::InPack { pack, .. } => Some(*pack),
                    NewRecipe::Here(_) => None,
                };
                let (recipe_pack, unneeded) = insert_packs(tx.conn, &new.packs, with_recipe, tx.now_us).await?;
                let (here, frame) = match &new.recipe {
                    NewRecipe::Here(recipe) => (Some(recipe.as_slice()), None),
                    NewRecipe::InPack { frame, .. } => (None, Some(frame)),
                };
                sqlx::query(
                    "INSERT INTO lfs_objects (oid, size_bytes, recipe, recipe_pack_id, recipe_start, recipe_stored_bytes,
                                              recipe_raw_bytes, recipe_codec, created_at_us)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                     ON CONFLICT (oid) DO UPDATE SET
                         recipe = excluded.recipe, recipe_pack_id = excluded.recipe_pack_id,
                         recipe_start = excluded.recipe_start, recipe_stored_bytes = excluded.recipe_stored_bytes,
                         recipe_raw_bytes = excluded.recipe_raw_bytes, recipe_codec = excluded.recipe_codec",
                )
                .bind(new.oid.as_slice())
                .bind(i64::try_from(new.size_bytes).unwrap_or(i64::MAX))
                .bind(here)
                .bind(recipe_pack)
                .bind(frame.map(|frame| i64::from(frame.start)))
                .bind(frame.map(|frame| i64::from(frame.stored_bytes)))
                .bind(frame.map(|frame| i64::from(frame.raw_bytes)))
                .bind(frame.map(|frame| i64::from(frame.codec)))
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                // Before the link, which brings them into the set of the repository.
                if !is_known {
                    insert_object_chunks(tx.conn, &new.oid, &new.chunks).await?;
                }
                if is_mended {
                    damage::recipe_mended(tx.conn, &new.oid).await?;
                }
                if let Some(sound) = &new.sound {
                    sounds::insert(tx.conn, &new.oid, sound, tx.now_us).await?;
                }
                link(tx.conn, repo, &new.oid, tx.now_us).await?;
                Ok(Some(unneeded))
            })
        })
        .await
    }

    /// Notes that an upload made this repository, which stays empty until a push follows.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn note_made_repo(&self, repo: RepoId) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO lfs_made_repos (repo_id, made_at_us) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                    .bind(repo.as_bytes().as_slice())
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Repositories that uploads made before `before_us` and that are still noted; they are not noted any more.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn take_made_repos(&self, before_us: i64) -> Result<Vec<RepoId>, DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                let rows = sqlx::query("DELETE FROM lfs_made_repos WHERE made_at_us < $1 RETURNING repo_id")
                    .bind(before_us)
                    .fetch_all(&mut *tx.conn)
                    .await?;
                rows.iter().map(|row| row.repo_id("repo_id")).collect()
            })
        })
        .await
    }
}

/// Makes packs and their chunks count. Gives the row of the one with a recipe, and the keys of those that nobody
/// needs, since all their chunks are known; these have no row.
pub(super) async fn insert_packs(
    conn: &mut SqliteConnection,
    packs: &[NewPack],
    with_recipe: Option<usize>,
    now_us: i64,
) -> Result<(Option<i64>, Vec<String>), DbError> {
    let mut unneeded = Vec::new();
    let mut recipe_pack = None;
    let has_damage = damage::is_any(conn).await?;
    for (number, pack) in packs.iter().enumerate() {
        let id = insert_pack(conn, pack, now_us).await?;
        let mut used = 0;
        for chunk in &pack.chunks {
            used += insert_chunk(conn, id, chunk, has_damage).await?;
        }
        if with_recipe == Some(number) {
            recipe_pack = Some(id);
        } else if used == 0 {
            sqlx::query("DELETE FROM lfs_packs WHERE id = $1")
                .bind(id)
                .execute(&mut *conn)
                .await?;
            unneeded.push(pack.key.clone());
        }
    }
    if has_damage {
        let brought: Vec<Hash> = packs
            .iter()
            .flat_map(|pack| &pack.chunks)
            .map(|chunk| chunk.chunk)
            .collect();
        damage::mended(conn, &brought).await?;
    }
    Ok((recipe_pack, unneeded))
}

async fn insert_pack(conn: &mut SqliteConnection, pack: &NewPack, now_us: i64) -> Result<i64, DbError> {
    // One that was taken for a leftover of a crash is about to be removed.
    let dead = sqlx::query("SELECT 1 FROM lfs_dead_packs WHERE key = $1").bind(pack.key.as_str());
    if dead.fetch_optional(&mut *conn).await?.is_some() {
        return Err(DbError::Vanished);
    }
    let row =
        sqlx::query("INSERT INTO lfs_packs (key, bytes, sha256, created_at_us) VALUES ($1, $2, $3, $4) RETURNING id")
            .bind(pack.key.as_str())
            .bind(i64::try_from(pack.bytes).unwrap_or(i64::MAX))
            .bind(pack.sha256.as_slice())
            .bind(now_us)
            .fetch_one(&mut *conn)
            .await?;
    row.int("id")
}

/// Tells how many rows use the pack now: none if the chunk is known and not damaged.
async fn insert_chunk(
    conn: &mut SqliteConnection,
    pack: i64,
    chunk: &NewChunk,
    has_damage: bool,
) -> Result<u64, DbError> {
    let done = sqlx::query(match has_damage {
        false => {
            "INSERT INTO lfs_chunks (chunk, pack_id, start, stored_bytes, raw_bytes, codec)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
        }
        true => {
            "INSERT INTO lfs_chunks (chunk, pack_id, start, stored_bytes, raw_bytes, codec)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (chunk) DO UPDATE SET pack_id = $2, start = $3, stored_bytes = $4, raw_bytes = $5, codec = $6
             WHERE EXISTS (SELECT 1 FROM lfs_damaged_chunks d WHERE d.chunk = $1)"
        }
    })
    .bind(chunk.chunk.as_slice())
    .bind(pack)
    .bind(i64::from(chunk.start))
    .bind(i64::from(chunk.stored_bytes))
    .bind(i64::from(chunk.raw_bytes))
    .bind(i64::from(chunk.codec))
    .execute(&mut *conn)
    .await?;
    Ok(done.rows_affected())
}
