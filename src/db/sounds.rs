//! What large files are as sound.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection};

use super::Db;
use super::error::DbError;
use super::large_files::{Hash, array, hash};
use super::row::Columns as _;
use crate::ids::RepoId;

/// What one object is as sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoundRow {
    /// Its sound hash, if it has one.
    pub sound: Option<Hash>,
    /// Facts as JSON (docs/metadata.md).
    pub facts: String,
    /// Which reader read it.
    pub reader_version: u32,
}

/// Notes it for an object that has a row. What a newer reader read stays.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    oid: &Hash,
    row: &SoundRow,
    now_us: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO lfs_sounds (oid, sound, facts, reader_version, read_at_us) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (oid) DO UPDATE SET sound = $2, facts = $3, reader_version = $4, read_at_us = $5
         WHERE reader_version < $4",
    )
    .bind(oid.as_slice())
    .bind(row.sound.as_ref().map(|sound| sound.as_slice()))
    .bind(row.facts.as_str())
    .bind(i64::from(row.reader_version))
    .bind(now_us)
    .execute(conn)
    .await?;
    Ok(())
}

impl Db {
    /// What those of these objects are that the repository has and that are sound.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn linked_sounds(&self, repo: RepoId, oids: &[Hash]) -> Result<HashMap<Hash, SoundRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT s.oid, s.sound, s.facts, s.reader_version FROM json_each($2) j
             JOIN lfs_links l ON l.repo_id = $1 AND l.oid = unhex(j.value)
             JOIN lfs_sounds s ON s.oid = l.oid",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(array(oids))
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                let sound = match row.try_get::<Option<Vec<u8>>, _>("sound")? {
                    Some(_) => Some(hash(row, "sound")?),
                    None => None,
                };
                let read = SoundRow {
                    sound,
                    facts: row.try_get("facts")?,
                    reader_version: u32::try_from(row.int("reader_version")?).unwrap_or(0),
                };
                Ok((hash(row, "oid")?, read))
            })
            .collect()
    }
}
