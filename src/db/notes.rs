//! Which pushes notes are still to be written for.

use super::Db;
use super::error::DbError;
use super::pushes::RefChange;
use super::row::Columns as _;
use crate::ids::{PushId, RepoId};

/// Pushes that are handed out at once.
const PUSHES_PER_READ: u32 = 200;
/// With so many refs no further push is added.
const REFS_PER_READ: usize = 50_000;

/// A push whose commits may need notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushToNote {
    /// Identity.
    pub id: PushId,
    /// Its place in the order of beginning.
    pub seq: i64,
    /// Who pushed; `None` is a change that was found on disk.
    pub pusher: Option<String>,
    /// Push options.
    pub options: Vec<String>,
    /// When it was closed, in microseconds since 1970.
    pub at_us: i64,
    /// The refs that moved.
    pub moved: Vec<RefChange>,
}

impl Db {
    /// The oldest pushes of a repository whose notes are not written. One that began after a push that is still
    /// open waits for it.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn pushes_to_note(&self, repo: RepoId) -> Result<Vec<PushToNote>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT id, seq, pusher, options, finished_at_us FROM pushes
             WHERE repo_id = $1 AND state = 'done'
               AND seq > COALESCE((SELECT push_seq FROM notes_done WHERE repo_id = $1), 0)
               AND seq < COALESCE((SELECT MIN(seq) FROM pushes WHERE repo_id = $1 AND state = 'open'), 9223372036854775807)
             ORDER BY seq LIMIT $2",
        )
        .bind(repo.as_bytes().as_slice())
        .bind(PUSHES_PER_READ)
        .fetch_all(&mut *conn)
        .await?;
        let (mut pushes, mut refs) = (Vec::new(), 0);
        for row in rows {
            let seq = row.int("seq")?;
            let options = serde_json::from_str(&row.text("options")?).map_err(|_| DbError::Unreadable("options"))?;
            let mut push = PushToNote {
                id: row.push_id("id")?,
                seq,
                pusher: row.text_or_null("pusher")?,
                options,
                at_us: row.int("finished_at_us")?,
                moved: Vec::new(),
            };
            let moved = sqlx::query(
                "SELECT name, old_id, new_id FROM push_refs WHERE push_seq = $1 AND applied = 1 ORDER BY ord",
            )
            .bind(seq)
            .fetch_all(&mut *conn)
            .await?;
            for row in moved {
                push.moved.push(RefChange {
                    name: row.bytes("name")?,
                    old: row.git_id("old_id")?,
                    new: row.git_id("new_id")?,
                });
            }
            refs += push.moved.len();
            pushes.push(push);
            if refs >= REFS_PER_READ {
                break;
            }
        }
        Ok(pushes)
    }

    /// Notes of all pushes up to this one are written.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn set_noted(&self, repo: RepoId, push_seq: i64) -> Result<(), DbError> {
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO notes_done (repo_id, push_seq) SELECT id, $2 FROM repos WHERE id = $1
                     ON CONFLICT (repo_id) DO UPDATE SET push_seq = MAX(push_seq, excluded.push_seq)",
                )
                .bind(repo.as_bytes().as_slice())
                .bind(push_seq)
                .execute(&mut *tx.conn)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Repositories with pushes whose notes are not written.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn repos_to_note(&self) -> Result<Vec<RepoId>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT r.id FROM repos r LEFT JOIN notes_done n ON n.repo_id = r.id
             WHERE (SELECT MAX(seq) FROM pushes WHERE repo_id = r.id AND state = 'done') > COALESCE(n.push_seq, 0)",
        )
        .fetch_all(&mut *conn)
        .await?;
        rows.iter().map(|row| row.repo_id("id")).collect()
    }
}
