//! Rows of people.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;

use super::Db;
use super::audit::{self, By};
use super::error::DbError;
use super::row::Columns;
use super::writer::WriteTx;
use crate::ids::UserId;
use crate::names::{OwnerName, RepoAddress, RepoName};

/// Repositories that a refused removal names at most.
const NAMED_REPOS: usize = 20;

/// A person, without the hash of the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserRow {
    /// Identity; stays when everything else changes.
    pub id: UserId,
    /// Name, and the name of the space of their repositories.
    pub name: OwnerName,
    /// May do everything everywhere.
    pub is_site_admin: bool,
    /// May not sign in.
    pub is_disabled: bool,
    /// Raised at every change of the account; what was remembered under an older one is void.
    pub auth_version: i64,
    /// When the account was made, in microseconds since 1970.
    pub created_at_us: i64,
}

/// A person to be stored.
#[derive(Clone)]
pub struct NewUser {
    /// Name; must be free whatever its case.
    pub name: OwnerName,
    /// argon2id, as a PHC string.
    pub password_hash: String,
    /// May do everything everywhere.
    pub is_site_admin: bool,
}

/// What became of [`Db::insert_user`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertUser {
    /// Stored.
    Done(UserRow),
    /// Somebody has the name; nothing was stored.
    NameTaken,
}

/// What became of [`Db::remove_user`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoveUser {
    /// Removed; so many repositories went to the heir.
    Done {
        /// Repositories that changed their owner.
        transferred: u64,
    },
    /// There is no such person (any more).
    Gone,
    /// The heir does not exist (any more).
    HeirGone,
    /// Repositories are owned and there is no heir; nothing was changed.
    OwnsRepos {
        /// The first of them, by name.
        first: Vec<RepoAddress>,
        /// How many there are.
        total: u64,
    },
    /// The heir has repositories of the same names; nothing was changed.
    NamesTaken(Vec<RepoName>),
}

pub(super) fn user(row: &SqliteRow) -> Result<UserRow, DbError> {
    Ok(UserRow {
        id: row.user_id("id")?,
        name: OwnerName::stored(row.text("name")?),
        is_site_admin: row.flag("is_site_admin")?,
        is_disabled: row.flag("is_disabled")?,
        auth_version: row.int("auth_version")?,
        created_at_us: row.int("created_at_us")?,
    })
}

impl Db {
    /// Stores a person.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn insert_user(&self, new: NewUser, by: By) -> Result<InsertUser, DbError> {
        let id = UserId::new();
        self.write(move |mut tx| {
            Box::pin(async move {
                let inserted = sqlx::query(
                    "INSERT INTO users
                         (id, name, name_key, password_hash, is_site_admin, created_at_us)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (name_key) DO NOTHING",
                )
                .bind(id.as_bytes().as_slice())
                .bind(new.name.as_str())
                .bind(new.name.key())
                .bind(new.password_hash)
                .bind(new.is_site_admin)
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                if inserted.rows_affected() == 0 {
                    return Ok(InsertUser::NameTaken);
                }
                let detail = if new.is_site_admin { "administrator" } else { "" };
                audit::note(&mut tx, &by, "user.add", new.name.as_str(), detail).await?;
                Ok(InsertUser::Done(UserRow {
                    id,
                    name: new.name,
                    is_site_admin: new.is_site_admin,
                    is_disabled: false,
                    auth_version: 1,
                    created_at_us: tx.now_us,
                }))
            })
        })
        .await
    }

    /// Finds a person by name, whatever its case.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn user_by_name(&self, name: &OwnerName) -> Result<Option<UserRow>, DbError> {
        Ok(self.user_with_password(name).await?.map(|(row, _)| row))
    }

    /// Finds a person by name, with the hash of the password (argon2id, PHC string).
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn user_with_password(&self, name: &OwnerName) -> Result<Option<(UserRow, String)>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT id, name, is_site_admin, is_disabled, auth_version, created_at_us, password_hash
             FROM users WHERE name_key = $1",
        )
        .bind(name.key())
        .fetch_optional(&mut *conn)
        .await?;
        row.map(|row| Ok((user(&row)?, row.text("password_hash")?))).transpose()
    }

    /// Finds a person by identity.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<UserRow>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT id, name, is_site_admin, is_disabled, auth_version, created_at_us
             FROM users WHERE id = $1",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        row.as_ref().map(user).transpose()
    }

    /// People in the order of their names, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn list_users(&self, after: Option<&OwnerName>, limit: u32) -> Result<Vec<UserRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT id, name, is_site_admin, is_disabled, auth_version, created_at_us
             FROM users WHERE name_key > $1 ORDER BY name_key LIMIT $2",
        )
        .bind(after.map(OwnerName::key).unwrap_or_default())
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(user).collect()
    }

    /// Whether there is anybody; `false` means a first start.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn has_users(&self) -> Result<bool, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query("SELECT 1 FROM users LIMIT 1")
            .fetch_optional(&mut *conn)
            .await?;
        Ok(row.is_some())
    }

    /// Stores a new password hash; `false` if there is no such person.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_password(&self, user: UserId, password_hash: String, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE users SET password_hash = $2, auth_version = auth_version + 1
                     WHERE id = $1",
                )
                .bind(user.as_bytes().as_slice())
                .bind(password_hash)
                .execute(&mut *tx.conn)
                .await?;
                note_user(&mut tx, user, &by, "user.passwd").await?;
                Ok(changed.rows_affected() > 0)
            })
        })
        .await
    }

    /// Lets a person sign in no longer, or again; `false` if there is no such person.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_disabled(&self, user: UserId, is_disabled: bool, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE users SET is_disabled = $2, auth_version = auth_version + 1
                     WHERE id = $1",
                )
                .bind(user.as_bytes().as_slice())
                .bind(is_disabled)
                .execute(&mut *tx.conn)
                .await?;
                let action = if is_disabled { "user.disable" } else { "user.enable" };
                note_user(&mut tx, user, &by, action).await?;
                Ok(changed.rows_affected() > 0)
            })
        })
        .await
    }

    /// Removes a person with their tokens and memberships. What they own goes to `heir`, and the old
    /// addresses keep answering; their pushes keep their name.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn remove_user(&self, user: UserId, heir: Option<UserId>, by: By) -> Result<RemoveUser, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(leaving) = user_in(&mut tx, user).await? else {
                    return Ok(RemoveUser::Gone);
                };
                let total = count_owned(&mut tx, user).await?;
                if total > 0 {
                    let Some(heir) = heir else {
                        let first = first_owned(&mut tx, &leaving).await?;
                        return Ok(RemoveUser::OwnsRepos { first, total });
                    };
                    let Some(heir) = user_in(&mut tx, heir).await? else {
                        return Ok(RemoveUser::HeirGone);
                    };
                    let taken = names_in_both(&mut tx, user, heir.id).await?;
                    if !taken.is_empty() {
                        return Ok(RemoveUser::NamesTaken(taken));
                    }
                    transfer_all(&mut tx, &leaving, &heir).await?;
                }
                sqlx::query("DELETE FROM users WHERE id = $1")
                    .bind(user.as_bytes().as_slice())
                    .execute(&mut *tx.conn)
                    .await?;
                let detail = format!("{total} repositories transferred");
                audit::note(&mut tx, &by, "user.remove", leaving.name.as_str(), &detail).await?;
                Ok(RemoveUser::Done { transferred: total })
            })
        })
        .await
    }
}

async fn note_user(tx: &mut WriteTx<'_>, user: UserId, by: &By, action: &str) -> Result<(), DbError> {
    if let Some(row) = user_in(tx, user).await? {
        audit::note(tx, by, action, row.name.as_str(), "").await?;
    }
    Ok(())
}

/// Reads a person within a write, so that nothing can come between.
pub(super) async fn user_in(tx: &mut WriteTx<'_>, id: UserId) -> Result<Option<UserRow>, DbError> {
    let row = sqlx::query(
        "SELECT id, name, is_site_admin, is_disabled, auth_version, created_at_us
         FROM users WHERE id = $1",
    )
    .bind(id.as_bytes().as_slice())
    .fetch_optional(&mut *tx.conn)
    .await?;
    row.as_ref().map(user).transpose()
}

async fn count_owned(tx: &mut WriteTx<'_>, user: UserId) -> Result<u64, DbError> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM repos WHERE owner_id = $1")
        .bind(user.as_bytes().as_slice())
        .fetch_one(&mut *tx.conn)
        .await?;
    Ok(row.int("total")?.unsigned_abs())
}

async fn first_owned(tx: &mut WriteTx<'_>, owner: &UserRow) -> Result<Vec<RepoAddress>, DbError> {
    let rows = sqlx::query("SELECT name FROM repos WHERE owner_id = $1 ORDER BY name_key LIMIT $2")
        .bind(owner.id.as_bytes().as_slice())
        .bind(NAMED_REPOS as i64)
        .fetch_all(&mut *tx.conn)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(RepoAddress {
                owner: owner.name.clone(),
                name: RepoName::stored(row.text("name")?),
            })
        })
        .collect()
}

async fn names_in_both(tx: &mut WriteTx<'_>, one: UserId, other: UserId) -> Result<Vec<RepoName>, DbError> {
    let rows = sqlx::query(
        "SELECT a.name FROM repos a JOIN repos b ON b.name_key = a.name_key
         WHERE a.owner_id = $1 AND b.owner_id = $2 AND a.id <> b.id
         ORDER BY a.name_key LIMIT $3",
    )
    .bind(one.as_bytes().as_slice())
    .bind(other.as_bytes().as_slice())
    .bind(NAMED_REPOS as i64)
    .fetch_all(&mut *tx.conn)
    .await?;
    rows.iter().map(|row| Ok(RepoName::stored(row.text("name")?))).collect()
}

async fn transfer_all(tx: &mut WriteTx<'_>, from: &UserRow, to: &UserRow) -> Result<(), DbError> {
    // The new addresses are used now, so whatever answered there as an old address stops.
    sqlx::query(
        "DELETE FROM repo_aliases WHERE owner_key = $2
         AND name_key IN (SELECT name_key FROM repos WHERE owner_id = $1)",
    )
    .bind(from.id.as_bytes().as_slice())
    .bind(to.name.key())
    .execute(&mut *tx.conn)
    .await?;
    sqlx::query(
        "INSERT INTO repo_aliases (owner_key, name_key, owner, name, repo_id, created_at_us)
         SELECT $2, name_key, $3, name, id, $4 FROM repos WHERE owner_id = $1
         ON CONFLICT (owner_key, name_key)
         DO UPDATE SET repo_id = excluded.repo_id, created_at_us = excluded.created_at_us",
    )
    .bind(from.id.as_bytes().as_slice())
    .bind(from.name.key())
    .bind(from.name.as_str())
    .bind(tx.now_us)
    .execute(&mut *tx.conn)
    .await?;
    // An owner is not also a member.
    sqlx::query(
        "DELETE FROM members WHERE user_id = $2
         AND repo_id IN (SELECT id FROM repos WHERE owner_id = $1)",
    )
    .bind(from.id.as_bytes().as_slice())
    .bind(to.id.as_bytes().as_slice())
    .execute(&mut *tx.conn)
    .await?;
    sqlx::query("UPDATE repos SET owner_id = $2 WHERE owner_id = $1")
        .bind(from.id.as_bytes().as_slice())
        .bind(to.id.as_bytes().as_slice())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
