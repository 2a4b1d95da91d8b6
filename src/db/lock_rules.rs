//! What holds for the locks of a repository.

use serde::Serialize;
use sqlx::SqliteConnection;

use super::Db;
use super::error::DbError;
use super::locks::{LockRow, us};
use super::row::Columns;
use crate::ids::RepoId;

/// After so long without a heartbeat or a push of its holder a lock is stale, in seconds.
const STALE_AFTER_SECS: u64 = 12 * 60 * 60;

/// What holds for the locks of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockRules {
    /// A lock is good for the branch that it was taken on only.
    pub per_branch: bool,
    /// After so long without a heartbeat or a push of its holder a lock is stale, in seconds.
    pub stale_after_secs: u64,
    /// After so long without a heartbeat or a push of its holder a lock is gone, in seconds; 0 is never.
    pub expire_after_secs: u64,
    /// A lock that is not kept goes after a push of what it is about.
    pub release_after_push: bool,
}

impl Default for LockRules {
    fn default() -> Self {
        Self {
            per_branch: false,
            stale_after_secs: STALE_AFTER_SECS,
            expire_after_secs: 0,
            release_after_push: false,
        }
    }
}

impl LockRules {
    /// Whether its holder seems to have left this lock behind.
    pub fn is_stale(&self, lock: &LockRow, now_us: i64) -> bool {
        lock.touched_at_us.saturating_add(us(self.stale_after_secs)) <= now_us
    }
}

/// The rules of one repository.
pub(super) async fn rules_in(conn: &mut SqliteConnection, repo: RepoId) -> Result<LockRules, DbError> {
    let row = sqlx::query(
        "SELECT scope, stale_after_secs, expire_after_secs, release_after_push FROM lock_rules WHERE repo_id = $1",
    )
    .bind(repo.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    let mut rules = LockRules::default();
    if let Some(row) = row {
        if let Some(scope) = row.text_or_null("scope")? {
            rules.per_branch = scope == "branch";
        }
        if let Some(secs) = row.int_or_null("stale_after_secs")? {
            rules.stale_after_secs = secs.unsigned_abs();
        }
        if let Some(secs) = row.int_or_null("expire_after_secs")? {
            rules.expire_after_secs = secs.unsigned_abs();
        }
        if let Some(releases) = row.int_or_null("release_after_push")? {
            rules.release_after_push = releases != 0;
        }
    }
    Ok(rules)
}

impl Db {
    /// What holds for the locks of a repository.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn lock_rules(&self, repo: RepoId) -> Result<LockRules, DbError> {
        let mut conn = self.read().await?;
        rules_in(&mut conn, repo).await
    }
}
