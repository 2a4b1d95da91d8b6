//! What is done with a lock that is held: heartbeat, keeping, handing over, stealing, asking for it.

use super::Db;
use super::LockRules;
use super::audit::By;
use super::error::DbError;
use super::lock_rules::{LockRulesChange, rules_in};
use super::locks::{LockRow, Reach, is_within, lock_in, raise_version};
use super::repos::note_repo;
use super::row::Columns;
use super::writer::WriteTx;
use crate::ids::{LockId, RepoId, UserId};
use crate::names::OwnerName;

/// Most people who may ask for one lock.
const ASKS_MAX: i64 = 100;

/// What is to be done with a lock.
#[derive(Clone, Debug)]
pub enum LockAct {
    /// Its holder works with it.
    Touch,
    /// It stays after a push, or no longer.
    Keep(bool),
    /// It gets another holder, as its holder wants.
    HandOver {
        /// Who.
        to: UserId,
        /// Their name.
        to_name: OwnerName,
    },
    /// It gets another holder, whom its holder was not asked about.
    Steal {
        /// Their name.
        by_name: OwnerName,
        /// What for.
        reason: Option<String>,
        /// On which machine the work is done.
        machine: Option<String>,
    },
    /// Somebody asks its holder for it.
    Ask {
        /// What they say.
        note: String,
    },
}

/// What became of [`Db::act_on_lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActOnLock {
    /// The lock as it was, and as it is.
    Done(Box<(LockRow, LockRow)>),
    /// There is no such lock (any more).
    Gone,
    /// It is somebody else's and out of reach.
    Foreign(LockRow),
    /// It is one's own already.
    Own(LockRow),
    /// The person is gone, or too many have asked.
    Refused,
}

/// Somebody who asked for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockAsk {
    /// Who.
    pub name: OwnerName,
    /// What they said.
    pub note: String,
    /// When, in microseconds since 1970.
    pub asked_at_us: i64,
}

impl Db {
    /// Does something with a lock of somebody's: of others as far as `reach` goes.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn act_on_lock(
        &self,
        repo: RepoId,
        id: LockId,
        (user, by): (UserId, By),
        reach: Reach,
        act: LockAct,
    ) -> Result<ActOnLock, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(was) = lock_in(&mut *tx.conn, repo, id, tx.now_us).await? else {
                    return Ok(ActOnLock::Gone);
                };
                let is_own = was.holder == user;
                match (&act, is_own) {
                    (LockAct::Steal { .. } | LockAct::Ask { .. }, true) => return Ok(ActOnLock::Own(was)),
                    (LockAct::Ask { .. }, false) => {}
                    (_, true) => {}
                    (_, false) if !is_within(&mut tx, repo, &was, reach).await? => return Ok(ActOnLock::Foreign(was)),
                    (_, false) => {}
                }
                let mut now_id = id;
                match act {
                    LockAct::Touch => set_touched(&mut tx, was.seq).await?,
                    LockAct::Keep(is_kept) => {
                        sqlx::query("UPDATE locks SET is_kept = $2, touched_at_us = $3 WHERE seq = $1")
                            .bind(was.seq)
                            .bind(is_kept)
                            .bind(tx.now_us)
                            .execute(&mut *tx.conn)
                            .await?;
                        let action = if is_kept { "lock.keep" } else { "lock.keep-no-longer" };
                        note_repo(&mut tx, repo, &by, action, &was.path).await?;
                    }
                    LockAct::HandOver { to, to_name } => {
                        now_id = give(&mut tx, was.seq, to, None, None).await?;
                        let detail = format!("{} of {} to {to_name}", was.path, was.holder_name);
                        note_repo(&mut tx, repo, &by, "lock.hand-over", &detail).await?;
                        raise_version(&mut tx, repo).await?;
                    }
                    LockAct::Steal {
                        by_name,
                        reason,
                        machine,
                    } => {
                        now_id = give(&mut tx, was.seq, user, reason, machine).await?;
                        let detail = format!("{} of {} by {by_name}", was.path, was.holder_name);
                        note_repo(&mut tx, repo, &by, "lock.steal", &detail).await?;
                        raise_version(&mut tx, repo).await?;
                    }
                    LockAct::Ask { note } => {
                        if !ask(&mut tx, was.seq, user, &note).await? {
                            return Ok(ActOnLock::Refused);
                        }
                        note_repo(
                            &mut tx,
                            repo,
                            &by,
                            "lock.ask",
                            &format!("{} of {}", was.path, was.holder_name),
                        )
                        .await?;
                    }
                }
                let now = lock_in(&mut *tx.conn, repo, now_id, tx.now_us).await?;
                Ok(now.map_or(ActOnLock::Refused, |now| ActOnLock::Done(Box::new((was, now)))))
            })
        })
        .await
    }

    /// Who asked for a lock, the first one first.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn lock_asks(&self, lock: &LockRow) -> Result<Vec<LockAsk>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT u.name, a.note, a.asked_at_us FROM lock_asks a JOIN users u ON u.id = a.user_id
             WHERE a.lock_seq = $1 ORDER BY a.asked_at_us, u.name_key LIMIT $2",
        )
        .bind(lock.seq)
        .bind(ASKS_MAX)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(LockAsk {
                    name: OwnerName::stored(row.text("name")?),
                    note: row.text("note")?,
                    asked_at_us: row.int("asked_at_us")?,
                })
            })
            .collect()
    }

    /// Changes what holds for the locks of a repository; `None` if it is gone.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_lock_rules(
        &self,
        repo: RepoId,
        change: LockRulesChange,
        by: By,
    ) -> Result<Option<LockRules>, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                if !note_repo(&mut tx, repo, &by, "lock.rules", &change.to_string()).await? {
                    return Ok(None);
                }
                let secs = |secs: Option<u64>| secs.map(|secs| i64::try_from(secs).unwrap_or(i64::MAX));
                sqlx::query(
                    "INSERT INTO lock_rules (repo_id, scope, outdated, stale_after_secs, expire_after_secs, release_after_push)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (repo_id) DO UPDATE SET
                         scope = COALESCE(excluded.scope, scope),
                         outdated = COALESCE(excluded.outdated, outdated),
                         stale_after_secs = COALESCE(excluded.stale_after_secs, stale_after_secs),
                         expire_after_secs = COALESCE(excluded.expire_after_secs, expire_after_secs),
                         release_after_push = COALESCE(excluded.release_after_push, release_after_push)",
                )
                .bind(repo.as_bytes().as_slice())
                .bind(change.per_branch.map(|per_branch| if per_branch { "branch" } else { "repository" }))
                .bind(change.outdated.map(|outdated| outdated.as_str()))
                .bind(secs(change.stale_after_secs))
                .bind(secs(change.expire_after_secs))
                .bind(change.release_after_push)
                .execute(&mut *tx.conn)
                .await?;
                Ok(Some(rules_in(&mut *tx.conn, repo).await?))
            })
        })
        .await
    }
}

async fn set_touched(tx: &mut WriteTx<'_>, seq: i64) -> Result<(), DbError> {
    sqlx::query("UPDATE locks SET touched_at_us = $2 WHERE seq = $1")
        .bind(seq)
        .bind(tx.now_us)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Gives a lock to somebody. It gets another identity, so that its former holder cannot release it by mistake;
/// who asked for it has to ask again.
async fn give(
    tx: &mut WriteTx<'_>,
    seq: i64,
    to: UserId,
    reason: Option<String>,
    machine: Option<String>,
) -> Result<LockId, DbError> {
    let id = LockId::new();
    sqlx::query(
        "UPDATE locks SET id = $2, user_id = $3, locked_at_us = $4, touched_at_us = $4, reason = $5, machine = $6,
                          is_kept = 0
         WHERE seq = $1",
    )
    .bind(seq)
    .bind(id.as_bytes().as_slice())
    .bind(to.as_bytes().as_slice())
    .bind(tx.now_us)
    .bind(reason)
    .bind(machine)
    .execute(&mut *tx.conn)
    .await?;
    sqlx::query("DELETE FROM lock_asks WHERE lock_seq = $1")
        .bind(seq)
        .execute(&mut *tx.conn)
        .await?;
    Ok(id)
}

/// Notes that somebody asks for a lock, in place of what they said before; `false` if too many have.
async fn ask(tx: &mut WriteTx<'_>, seq: i64, user: UserId, note: &str) -> Result<bool, DbError> {
    let others = sqlx::query("SELECT COUNT(*) AS asks FROM lock_asks WHERE lock_seq = $1 AND user_id <> $2")
        .bind(seq)
        .bind(user.as_bytes().as_slice())
        .fetch_one(&mut *tx.conn)
        .await?
        .int("asks")?;
    if others >= ASKS_MAX {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO lock_asks (lock_seq, user_id, note, asked_at_us) VALUES ($1, $2, $3, $4)
         ON CONFLICT (lock_seq, user_id) DO UPDATE SET note = excluded.note, asked_at_us = excluded.asked_at_us",
    )
    .bind(seq)
    .bind(user.as_bytes().as_slice())
    .bind(note)
    .bind(tx.now_us)
    .execute(&mut *tx.conn)
    .await?;
    Ok(true)
}
