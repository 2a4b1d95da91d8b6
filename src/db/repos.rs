//! Rows of repositories and of their old addresses.
//!
//! # Where a repository lies on disk
//! `dir` is a path below `repos/`, chosen when the repository is made (`anna/song.git`, lower case)
//! and **never changed**: renaming a repository or giving it to somebody else changes rows only.
//! So a rename is one transaction, with nothing on disk that a crash could leave half done; transfers
//! that are running go on undisturbed; and a rename that only changes case works on file systems
//! that ignore it. When the folder of a wanted name is taken by a repository that was called so
//! before, the new one gets `~` and a part of its id added; `~` cannot occur in a name.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;

use super::Db;
use super::audit::{self, By};
use super::error::DbError;
use super::kinds::{Role, Visibility};
use super::row::Columns;
use super::users::user_in;
use super::writer::WriteTx;
use crate::ids::{RepoId, UserId};
use crate::names::{OwnerName, RepoAddress, RepoName};

/// Most old addresses that are shown of one repository.
const OLD_ADDRESSES_SHOWN: u32 = 1000;

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepoRow {
    /// Identity; stays when everything else changes.
    pub id: RepoId,
    /// Whose space it is in.
    pub owner_id: UserId,
    /// Where it is found now.
    pub address: RepoAddress,
    /// Its folder below `repos/`, with `/` between segments.
    pub dir: String,
    /// Who may see it without being a member.
    pub visibility: Visibility,
    /// Nobody may push.
    pub is_archived: bool,
    /// Its hooks and the includes of its git config are trusted.
    pub trust_hooks: bool,
    /// When it was made, in microseconds since 1970.
    pub created_at_us: i64,
}

/// A repository to be stored.
#[derive(Clone, Debug)]
pub struct NewRepo {
    /// Identity.
    pub id: RepoId,
    /// Whose space it is in.
    pub owner_id: UserId,
    /// Its name there; must be free whatever its case.
    pub name: RepoName,
    /// Its folder below `repos/`.
    pub dir: String,
    /// Who may see it without being a member.
    pub visibility: Visibility,
}

/// What became of [`Db::insert_repo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertRepo {
    /// Stored; an old address of the same name stopped answering.
    Done(RepoRow),
    /// There is a repository of this name; nothing was stored.
    NameTaken,
    /// Another repository lies in this folder; nothing was stored.
    DirTaken,
    /// The owner is gone; nothing was stored.
    OwnerGone,
}

/// What became of [`Db::rename_repo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenameRepo {
    /// Renamed; the old address keeps answering.
    Done(RepoRow),
    /// The name is taken; nothing was changed.
    NameTaken,
    /// There is no such repository (any more).
    Gone,
}

/// A repository as one caller finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRepo {
    /// The repository.
    pub repo: RepoRow,
    /// What the caller is to it: its owner, a member, or neither.
    pub role: Option<Role>,
    /// The old address it was found by.
    pub renamed_from: Option<RepoAddress>,
}

fn repo(row: &SqliteRow) -> Result<RepoRow, DbError> {
    Ok(RepoRow {
        id: row.repo_id("id")?,
        owner_id: row.user_id("owner_id")?,
        address: RepoAddress {
            owner: OwnerName::stored(row.text("owner")?),
            name: RepoName::stored(row.text("name")?),
        },
        dir: row.text("dir")?,
        visibility: row.word("visibility")?,
        is_archived: row.flag("is_archived")?,
        trust_hooks: row.flag("trust_hooks")?,
        created_at_us: row.int("created_at_us")?,
    })
}

impl Db {
    /// Stores a repository. Its folder must exist already.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn insert_repo(&self, new: NewRepo, by: By) -> Result<InsertRepo, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(owner) = user_in(&mut tx, new.owner_id).await? else {
                    return Ok(InsertRepo::OwnerGone);
                };
                if name_taken(&mut tx, new.owner_id, &new.name, new.id).await? {
                    return Ok(InsertRepo::NameTaken);
                }
                let inserted = sqlx::query(
                    "INSERT INTO repos
                         (id, owner_id, name, name_key, dir, visibility, created_at_us)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT (dir) DO NOTHING",
                )
                .bind(new.id.as_bytes().as_slice())
                .bind(new.owner_id.as_bytes().as_slice())
                .bind(new.name.as_str())
                .bind(new.name.key())
                .bind(new.dir.as_str())
                .bind(new.visibility.as_str())
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                if inserted.rows_affected() == 0 {
                    return Ok(InsertRepo::DirTaken);
                }
                let row = RepoRow {
                    id: new.id,
                    owner_id: new.owner_id,
                    address: RepoAddress {
                        owner: owner.name,
                        name: new.name,
                    },
                    dir: new.dir,
                    visibility: new.visibility,
                    is_archived: false,
                    trust_hooks: false,
                    created_at_us: tx.now_us,
                };
                drop_alias(&mut tx, &row.address).await?;
                let subject = row.address.to_string();
                audit::note(&mut tx, &by, "repo.create", &subject, row.visibility.as_str()).await?;
                Ok(InsertRepo::Done(row))
            })
        })
        .await
    }

    /// Finds a repository by its address or by an old one, with the role of `caller` in it. Says
    /// nothing about whether the caller may see it.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn find_repo(&self, address: &RepoAddress, caller: Option<UserId>) -> Result<Option<FoundRepo>, DbError> {
        let caller_bytes = caller.as_ref().map(|user| user.as_bytes().as_slice());
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT r.id, r.owner_id, r.name, r.dir, r.visibility, r.is_archived, r.trust_hooks,
                    r.created_at_us, o.name AS owner, m.role
             FROM users o
             JOIN repos r ON r.owner_id = o.id
             LEFT JOIN members m ON m.repo_id = r.id AND m.user_id = $3
             WHERE o.name_key = $1 AND r.name_key = $2",
        )
        .bind(address.owner.key())
        .bind(address.name.key())
        .bind(caller_bytes)
        .fetch_optional(&mut *conn)
        .await?;
        if let Some(row) = row {
            return Ok(Some(found(&row, caller, None)?));
        }
        let row = sqlx::query(
            "SELECT r.id, r.owner_id, r.name, r.dir, r.visibility, r.is_archived, r.trust_hooks,
                    r.created_at_us, o.name AS owner, m.role,
                    a.owner AS old_owner, a.name AS old_name
             FROM repo_aliases a
             JOIN repos r ON r.id = a.repo_id
             JOIN users o ON o.id = r.owner_id
             LEFT JOIN members m ON m.repo_id = r.id AND m.user_id = $3
             WHERE a.owner_key = $1 AND a.name_key = $2",
        )
        .bind(address.owner.key())
        .bind(address.name.key())
        .bind(caller_bytes)
        .fetch_optional(&mut *conn)
        .await?;
        row.map(|row| {
            let old = RepoAddress {
                owner: OwnerName::stored(row.text("old_owner")?),
                name: RepoName::stored(row.text("old_name")?),
            };
            found(&row, caller, Some(old))
        })
        .transpose()
    }

    /// Finds a repository by identity.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn repo_by_id(&self, id: RepoId) -> Result<Option<RepoRow>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT r.id, r.owner_id, r.name, r.dir, r.visibility, r.is_archived, r.trust_hooks,
                    r.created_at_us, o.name AS owner
             FROM repos r JOIN users o ON o.id = r.owner_id WHERE r.id = $1",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        row.as_ref().map(repo).transpose()
    }

    /// The old addresses at which a repository still answers.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn old_addresses(&self, id: RepoId) -> Result<Vec<RepoAddress>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT owner, name FROM repo_aliases WHERE repo_id = $1 ORDER BY owner_key, name_key LIMIT $2",
        )
        .bind(id.as_bytes().as_slice())
        .bind(OLD_ADDRESSES_SHOWN)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RepoAddress {
                    owner: OwnerName::stored(row.text("owner")?),
                    name: RepoName::stored(row.text("name")?),
                })
            })
            .collect()
    }

    /// Whether a repository lies in the folder `dir` below `repos/`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn repo_dir_in_use(&self, dir: &str) -> Result<bool, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query("SELECT 1 FROM repos WHERE dir = $1")
            .bind(dir)
            .fetch_optional(&mut *conn)
            .await?;
        Ok(row.is_some())
    }

    /// Repositories in the order of their addresses, of one owner or of all, at most `limit`,
    /// beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn list_repos(
        &self,
        owner: Option<UserId>,
        after: Option<&RepoAddress>,
        limit: u32,
    ) -> Result<Vec<RepoRow>, DbError> {
        let (after_owner, after_name) = after
            .map(|address| (address.owner.key(), address.name.key()))
            .unwrap_or_default();
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT r.id, r.owner_id, r.name, r.dir, r.visibility, r.is_archived, r.trust_hooks,
                    r.created_at_us, o.name AS owner
             FROM users o JOIN repos r ON r.owner_id = o.id
             WHERE ($1 IS NULL OR r.owner_id = $1) AND (o.name_key, r.name_key) > ($2, $3)
             ORDER BY o.name_key, r.name_key LIMIT $4",
        )
        .bind(owner.as_ref().map(|owner| owner.as_bytes().as_slice()))
        .bind(after_owner)
        .bind(after_name)
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(repo).collect()
    }

    /// Gives a repository another name in the same space. The old address keeps answering until a
    /// repository takes it; a change of case alone leaves no old address.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn rename_repo(&self, id: RepoId, new_name: RepoName, by: By) -> Result<RenameRepo, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(mut row) = repo_in(&mut tx, id).await? else {
                    return Ok(RenameRepo::Gone);
                };
                if name_taken(&mut tx, row.owner_id, &new_name, id).await? {
                    return Ok(RenameRepo::NameTaken);
                }
                let old = row.address.clone();
                row.address.name = new_name;
                if old != row.address {
                    sqlx::query(
                        "INSERT INTO repo_aliases
                             (owner_key, name_key, owner, name, repo_id, created_at_us)
                         VALUES ($1, $2, $3, $4, $5, $6)
                         ON CONFLICT (owner_key, name_key)
                         DO UPDATE SET repo_id = excluded.repo_id,
                                       created_at_us = excluded.created_at_us",
                    )
                    .bind(old.owner.key())
                    .bind(old.name.key())
                    .bind(old.owner.as_str())
                    .bind(old.name.as_str())
                    .bind(id.as_bytes().as_slice())
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                }
                drop_alias(&mut tx, &row.address).await?;
                sqlx::query("UPDATE repos SET name = $2, name_key = $3 WHERE id = $1")
                    .bind(id.as_bytes().as_slice())
                    .bind(row.address.name.as_str())
                    .bind(row.address.name.key())
                    .execute(&mut *tx.conn)
                    .await?;
                let detail = format!("to {}", row.address);
                audit::note(&mut tx, &by, "repo.rename", &old.to_string(), &detail).await?;
                Ok(RenameRepo::Done(row))
            })
        })
        .await
    }

    /// Changes who may see a repository; `false` if there is no such repository.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_visibility(&self, id: RepoId, visibility: Visibility, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                sqlx::query("UPDATE repos SET visibility = $2 WHERE id = $1")
                    .bind(id.as_bytes().as_slice())
                    .bind(visibility.as_str())
                    .execute(&mut *tx.conn)
                    .await?;
                note_repo(&mut tx, id, &by, "repo.visibility", visibility.as_str()).await
            })
        })
        .await
    }

    /// Closes a repository for pushes, or opens it again; `false` if there is no such repository.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_archived(&self, id: RepoId, is_archived: bool, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                sqlx::query("UPDATE repos SET is_archived = $2 WHERE id = $1")
                    .bind(id.as_bytes().as_slice())
                    .bind(is_archived)
                    .execute(&mut *tx.conn)
                    .await?;
                let action = if is_archived { "repo.archive" } else { "repo.unarchive" };
                note_repo(&mut tx, id, &by, action, "").await
            })
        })
        .await
    }

    /// Trusts the hooks and the git config of a repository, or no longer; `false` if there is no
    /// such repository.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_trust_hooks(&self, id: RepoId, trust_hooks: bool, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                sqlx::query("UPDATE repos SET trust_hooks = $2 WHERE id = $1")
                    .bind(id.as_bytes().as_slice())
                    .bind(trust_hooks)
                    .execute(&mut *tx.conn)
                    .await?;
                let detail = if trust_hooks { "yes" } else { "no" };
                note_repo(&mut tx, id, &by, "repo.trust-hooks", detail).await
            })
        })
        .await
    }

    /// Removes a repository with its members, tokens, protected branches and old addresses, and
    /// returns its row; `None` if there is no such repository. Its folder is the caller's to remove
    /// afterwards; its push rows are removed by [`Db::remove_pushes_of_deleted`].
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn delete_repo(&self, id: RepoId, by: By) -> Result<Option<RepoRow>, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(row) = repo_in(&mut tx, id).await? else {
                    return Ok(None);
                };
                remove(&mut tx, &row, &by).await?;
                Ok(Some(row))
            })
        })
        .await
    }

    /// Removes a repository that was made for a push, if nothing has got into it; returns its row.
    /// `None` if it is gone, or if a push has moved a ref in it or is under way.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn delete_unused_repo(&self, id: RepoId, by: By) -> Result<Option<RepoRow>, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(row) = repo_in(&mut tx, id).await? else {
                    return Ok(None);
                };
                let used = sqlx::query(
                    "SELECT 1 FROM pushes p WHERE p.repo_id = $1 AND (p.state = 'open' OR EXISTS (
                         SELECT 1 FROM push_refs r WHERE r.push_seq = p.seq AND r.applied = 1))
                     LIMIT 1",
                )
                .bind(id.as_bytes().as_slice())
                .fetch_optional(&mut *tx.conn)
                .await?;
                if used.is_some() {
                    return Ok(None);
                }
                remove(&mut tx, &row, &by).await?;
                Ok(Some(row))
            })
        })
        .await
    }
}

fn found(row: &SqliteRow, caller: Option<UserId>, renamed_from: Option<RepoAddress>) -> Result<FoundRepo, DbError> {
    let repo = repo(row)?;
    let role = if caller == Some(repo.owner_id) {
        Some(Role::Owner)
    } else {
        row.word_or_null("role")?
    };
    Ok(FoundRepo {
        repo,
        role,
        renamed_from,
    })
}

/// Reads a repository within a write, so that nothing can come between.
pub(super) async fn repo_in(tx: &mut WriteTx<'_>, id: RepoId) -> Result<Option<RepoRow>, DbError> {
    let row = sqlx::query(
        "SELECT r.id, r.owner_id, r.name, r.dir, r.visibility, r.is_archived, r.trust_hooks,
                r.created_at_us, o.name AS owner
         FROM repos r JOIN users o ON o.id = r.owner_id WHERE r.id = $1",
    )
    .bind(id.as_bytes().as_slice())
    .fetch_optional(&mut *tx.conn)
    .await?;
    row.as_ref().map(repo).transpose()
}

async fn remove(tx: &mut WriteTx<'_>, row: &RepoRow, by: &By) -> Result<(), DbError> {
    sqlx::query("DELETE FROM repos WHERE id = $1")
        .bind(row.id.as_bytes().as_slice())
        .execute(&mut *tx.conn)
        .await?;
    audit::note(tx, by, "repo.delete", &row.address.to_string(), "").await
}

/// Whether a repository other than `except` has the name.
async fn name_taken(tx: &mut WriteTx<'_>, owner: UserId, name: &RepoName, except: RepoId) -> Result<bool, DbError> {
    let row = sqlx::query("SELECT 1 FROM repos WHERE owner_id = $1 AND name_key = $2 AND id <> $3")
        .bind(owner.as_bytes().as_slice())
        .bind(name.key())
        .bind(except.as_bytes().as_slice())
        .fetch_optional(&mut *tx.conn)
        .await?;
    Ok(row.is_some())
}

async fn drop_alias(tx: &mut WriteTx<'_>, address: &RepoAddress) -> Result<(), DbError> {
    sqlx::query("DELETE FROM repo_aliases WHERE owner_key = $1 AND name_key = $2")
        .bind(address.owner.key())
        .bind(address.name.key())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Notes a change of a repository; `false` if there is no such repository.
pub(super) async fn note_repo(
    tx: &mut WriteTx<'_>,
    id: RepoId,
    by: &By,
    action: &str,
    detail: &str,
) -> Result<bool, DbError> {
    let Some(row) = repo_in(tx, id).await? else {
        return Ok(false);
    };
    audit::note(tx, by, action, &row.address.to_string(), detail).await?;
    Ok(true)
}
