//! Who changed accounts and rights. A row is written in the transaction of the change itself.

use serde::Serialize;
use std::fmt;

use super::Db;
use super::error::DbError;
use super::row::Columns;
use super::writer::WriteTx;
use crate::names::OwnerName;

/// Who makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A command on the server's machine; whoever can run it may do everything.
    Command,
    /// The server itself, at its first start or as part of a push.
    Server,
    /// A person who is signed in.
    User(OwnerName),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command => f.write_str("command"),
            Self::Server => f.write_str("server"),
            Self::User(name) => write!(f, "user {name}"),
        }
    }
}

/// One change of an account or a right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// Who: `command`, `server` or `user NAME`.
    pub actor: String,
    /// What, such as `user.disable` or `member.add`.
    pub action: String,
    /// To whom or what, such as `anna` or `anna/song`.
    pub subject: String,
    /// With what, such as `ben write`; never a secret.
    pub detail: String,
}

/// Notes a change in the transaction that makes it.
pub(super) async fn note(
    tx: &mut WriteTx<'_>,
    by: &By,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO audit (at_us, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)")
        .bind(tx.now_us)
        .bind(by.to_string())
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

impl Db {
    /// The newest `limit` changes, newest first.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn recent_audit(&self, limit: u32) -> Result<Vec<AuditRow>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query("SELECT at_us, actor, action, subject, detail FROM audit ORDER BY seq DESC LIMIT $1")
            .bind(limit)
            .fetch_all(&mut *conn)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditRow {
                    at_us: row.int("at_us")?,
                    actor: row.text("actor")?,
                    action: row.text("action")?,
                    subject: row.text("subject")?,
                    detail: row.text("detail")?,
                })
            })
            .collect()
    }

    /// Notes a change that is not stored in the database itself.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn note_change(
        &self,
        by: By,
        action: &'static str,
        subject: String,
        detail: String,
    ) -> Result<(), DbError> {
        self.write(move |mut tx| Box::pin(async move { note(&mut tx, &by, action, &subject, &detail).await }))
            .await
    }
}
