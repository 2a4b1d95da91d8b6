//! Rows of protected branches.

use super::Db;
use super::audit::By;
use super::error::DbError;
use super::repos::note_repo;
use super::row::Columns;
use crate::ids::RepoId;
use serde::Serialize;

/// A rule for the branches whose names match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProtectedBranch {
    /// A branch name, or several with `*`; what matches is decided in `service::protection`.
    pub pattern: String,
    /// They may not be moved to a commit that does not contain the old one.
    pub no_force: bool,
    /// They may not be deleted.
    pub no_delete: bool,
}

impl Db {
    /// Stores a rule, in place of one with the same pattern; `false` if the repository is gone or
    /// has `max_rules` already.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_protected_branch(
        &self,
        repo: RepoId,
        rule: ProtectedBranch,
        max_rules: u32,
        by: By,
    ) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let count = sqlx::query(
                    "SELECT COUNT(*) AS rules FROM protected_branches
                     WHERE repo_id = $1 AND pattern <> $2",
                )
                .bind(repo.as_bytes().as_slice())
                .bind(rule.pattern.as_str())
                .fetch_one(&mut *tx.conn)
                .await?
                .int("rules")?;
                if count >= i64::from(max_rules)
                    || !note_repo(&mut tx, repo, &by, "branch.protect", &rule.pattern).await?
                {
                    return Ok(false);
                }
                sqlx::query(
                    "INSERT INTO protected_branches (repo_id, pattern, no_force, no_delete)
                     VALUES ($1, $2, $3, $4)
                     ON CONFLICT (repo_id, pattern)
                     DO UPDATE SET no_force = excluded.no_force, no_delete = excluded.no_delete",
                )
                .bind(repo.as_bytes().as_slice())
                .bind(rule.pattern.as_str())
                .bind(rule.no_force)
                .bind(rule.no_delete)
                .execute(&mut *tx.conn)
                .await?;
                Ok(true)
            })
        })
        .await
    }

    /// Removes a rule; `false` if there was none.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn remove_protected_branch(&self, repo: RepoId, pattern: String, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let removed = sqlx::query("DELETE FROM protected_branches WHERE repo_id = $1 AND pattern = $2")
                    .bind(repo.as_bytes().as_slice())
                    .bind(pattern.as_str())
                    .execute(&mut *tx.conn)
                    .await?;
                if removed.rows_affected() == 0 {
                    return Ok(false);
                }
                note_repo(&mut tx, repo, &by, "branch.unprotect", &pattern).await
            })
        })
        .await
    }

    /// The rules of a repository, by pattern.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn protected_branches(&self, repo: RepoId) -> Result<Vec<ProtectedBranch>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT pattern, no_force, no_delete FROM protected_branches
             WHERE repo_id = $1 ORDER BY pattern",
        )
        .bind(repo.as_bytes().as_slice())
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ProtectedBranch {
                    pattern: row.text("pattern")?,
                    no_force: row.flag("no_force")?,
                    no_delete: row.flag("no_delete")?,
                })
            })
            .collect()
    }
}
