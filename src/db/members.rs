//! Rows of memberships.

use super::Db;
use super::audit::By;
use super::error::DbError;
use super::kinds::Role;
use super::repos::note_repo;
use super::row::Columns;
use super::users::user_in;
use crate::ids::{RepoId, UserId};
use crate::names::OwnerName;
use serde::Serialize;

/// A member of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberRow {
    /// Who.
    pub user_id: UserId,
    /// Their name.
    pub name: OwnerName,
    /// What they are to the repository; never [`Role::Owner`].
    pub role: Role,
    /// Since when, in microseconds since 1970.
    pub added_at_us: i64,
}

impl Db {
    /// Makes a person a member, or changes their role; `false` if the person or the repository is
    /// gone. The caller sees to it that the owner is not made a member.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_member(&self, repo: RepoId, user: UserId, role: Role, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(member) = user_in(&mut tx, user).await? else {
                    return Ok(false);
                };
                let detail = format!("{} {role}", member.name);
                if !note_repo(&mut tx, repo, &by, "member.add", &detail).await? {
                    return Ok(false);
                }
                sqlx::query(
                    "INSERT INTO members (repo_id, user_id, role, added_at_us)
                     VALUES ($1, $2, $3, $4)
                     ON CONFLICT (repo_id, user_id) DO UPDATE SET role = excluded.role",
                )
                .bind(repo.as_bytes().as_slice())
                .bind(user.as_bytes().as_slice())
                .bind(role.as_str())
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                Ok(true)
            })
        })
        .await
    }

    /// Ends a membership; `false` if there was none.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn remove_member(&self, repo: RepoId, user: UserId, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let removed = sqlx::query("DELETE FROM members WHERE repo_id = $1 AND user_id = $2")
                    .bind(repo.as_bytes().as_slice())
                    .bind(user.as_bytes().as_slice())
                    .execute(&mut *tx.conn)
                    .await?;
                if removed.rows_affected() == 0 {
                    return Ok(false);
                }
                if let Some(member) = user_in(&mut tx, user).await? {
                    note_repo(&mut tx, repo, &by, "member.remove", member.name.as_str()).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    /// The members of a repository by name, at most `limit`, beginning behind `after`.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn list_members(
        &self,
        repo: RepoId,
        after: Option<&OwnerName>,
        limit: u32,
    ) -> Result<Vec<MemberRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT m.user_id, u.name, m.role, m.added_at_us
             FROM members m JOIN users u ON u.id = m.user_id
             WHERE m.repo_id = $1 AND u.name_key > $2 ORDER BY u.name_key LIMIT $3",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(after.map(OwnerName::key).unwrap_or_default())
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(MemberRow {
                    user_id: row.user_id("user_id")?,
                    name: OwnerName::stored(row.text("name")?),
                    role: row.word("role")?,
                    added_at_us: row.int("added_at_us")?,
                })
            })
            .collect()
    }
}
