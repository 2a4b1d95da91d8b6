//! What holds for the locks of a repository.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::Db;
use super::error::DbError;
use super::locks::{LockRow, us};
use super::row::Columns;
use crate::ids::RepoId;

/// After so long without a heartbeat or a push of its holder a lock is stale, in seconds.
const STALE_AFTER_SECS: u64 = 12 * 60 * 60;

/// What happens to a lock on a version of a file that is not the newest of its branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outdated {
    /// It is taken, and the one who takes it is told.
    #[default]
    Warn,
    /// It is not taken.
    Refuse,
    /// Nobody looks.
    Allow,
}

impl Outdated {
    /// The word, as in requests and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }
}

/// What of the rules is to be changed; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRulesChange {
    /// See [`LockRules::per_branch`].
    pub per_branch: Option<bool>,
    /// See [`LockRules::outdated`].
    pub outdated: Option<Outdated>,
    /// See [`LockRules::stale_after_secs`].
    pub stale_after_secs: Option<u64>,
    /// See [`LockRules::expire_after_secs`].
    pub expire_after_secs: Option<u64>,
    /// See [`LockRules::release_after_push`].
    pub release_after_push: Option<bool>,
}

impl fmt::Display for LockRulesChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.per_branch.map(|value| format!("per_branch {value}")),
            self.outdated.map(|value| format!("outdated {}", value.as_str())),
            self.stale_after_secs.map(|value| format!("stale_after_secs {value}")),
            self.expire_after_secs.map(|value| format!("expire_after_secs {value}")),
            self.release_after_push
                .map(|value| format!("release_after_push {value}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// What holds for the locks of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockRules {
    /// A lock is good for the branch that it was taken on only.
    pub per_branch: bool,
    /// What happens to a lock on a version that is not the newest.
    pub outdated: Outdated,
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
            outdated: Outdated::default(),
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
        "SELECT scope, outdated, stale_after_secs, expire_after_secs, release_after_push FROM lock_rules
         WHERE repo_id = $1",
    )
    .bind(repo.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    let mut rules = LockRules::default();
    if let Some(row) = row {
        if let Some(scope) = row.text_or_null("scope")? {
            rules.per_branch = scope == "branch";
        }
        if let Some(word) = row.text_or_null("outdated")? {
            rules.outdated = match word.as_str() {
                "warn" => Outdated::Warn,
                "refuse" => Outdated::Refuse,
                "allow" => Outdated::Allow,
                _ => return Err(DbError::Unreadable("outdated")),
            };
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
