//! Rows of access tokens.

use sqlx::sqlite::SqliteRow;

use super::Db;
use super::audit::{self, By};
use super::clock::US_PER_SEC;
use super::error::DbError;
use super::kinds::Scope;
use super::row::Columns;
use super::users::{UserRow, user_in};
use crate::ids::{RepoId, TokenId, UserId};
use crate::names::OwnerName;

/// An access token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Identity.
    pub id: TokenId,
    /// Whose rights it carries.
    pub user_id: UserId,
    /// What its owner calls it; may be empty.
    pub label: String,
    /// How much of its owner's rights it carries.
    pub scope: Scope,
    /// The only repository it is good for.
    pub repo_id: Option<RepoId>,
    /// When it stops working, in microseconds since 1970.
    pub expires_at_us: Option<i64>,
    /// When it was made, in microseconds since 1970.
    pub created_at_us: i64,
    /// When it was last used, give or take the setting `auth.token_last_use_secs`.
    pub last_used_at_us: Option<i64>,
    /// When it was revoked, in microseconds since 1970.
    pub revoked_at_us: Option<i64>,
}

/// An access token to be stored.
#[derive(Clone)]
pub struct NewToken {
    /// Whose rights it carries.
    pub user_id: UserId,
    /// What its owner calls it; may be empty.
    pub label: String,
    /// SHA-256 of the secret.
    pub secret_sha256: [u8; 32],
    /// How much of its owner's rights it carries.
    pub scope: Scope,
    /// The only repository it is good for.
    pub repo_id: Option<RepoId>,
    /// For how long it works, in seconds from now; `None` is for ever.
    pub lifetime_secs: Option<u64>,
}

fn token(row: &SqliteRow) -> Result<TokenRow, DbError> {
    Ok(TokenRow {
        id: row.token_id("token_id")?,
        user_id: row.user_id("user_id")?,
        label: row.text("label")?,
        scope: row.word("scope")?,
        repo_id: row.repo_id_or_null("repo_id")?,
        expires_at_us: row.int_or_null("expires_at_us")?,
        created_at_us: row.int("token_created_at_us")?,
        last_used_at_us: row.int_or_null("last_used_at_us")?,
        revoked_at_us: row.int_or_null("revoked_at_us")?,
    })
}

impl Db {
    /// Stores a token; `None` if its owner or its repository is gone.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn insert_token(&self, new: NewToken, by: By) -> Result<Option<TokenRow>, DbError> {
        let id = TokenId::new();
        self.write(move |mut tx| {
            Box::pin(async move {
                let Some(owner) = user_in(&mut tx, new.user_id).await? else {
                    return Ok(None);
                };
                if let Some(repo) = new.repo_id {
                    let found = sqlx::query("SELECT 1 FROM repos WHERE id = $1")
                        .bind(repo.as_bytes().as_slice())
                        .fetch_optional(&mut *tx.conn)
                        .await?;
                    if found.is_none() {
                        return Ok(None);
                    }
                }
                let expires_at_us = new.lifetime_secs.map(|secs| {
                    let us = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(US_PER_SEC);
                    tx.now_us.saturating_add(us)
                });
                sqlx::query(
                    "INSERT INTO tokens (id, user_id, label, secret_sha256, scope, repo_id,
                                         expires_at_us, created_at_us)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(id.as_bytes().as_slice())
                .bind(new.user_id.as_bytes().as_slice())
                .bind(new.label.as_str())
                .bind(new.secret_sha256.as_slice())
                .bind(new.scope.as_str())
                .bind(new.repo_id.as_ref().map(|repo| repo.as_bytes().as_slice()))
                .bind(expires_at_us)
                .bind(tx.now_us)
                .execute(&mut *tx.conn)
                .await?;
                let detail = format!("{id} {}", new.scope);
                audit::note(&mut tx, &by, "token.create", owner.name.as_str(), &detail).await?;
                Ok(Some(TokenRow {
                    id,
                    user_id: new.user_id,
                    label: new.label,
                    scope: new.scope,
                    repo_id: new.repo_id,
                    expires_at_us,
                    created_at_us: tx.now_us,
                    last_used_at_us: None,
                    revoked_at_us: None,
                }))
            })
        })
        .await
    }

    /// Finds a token by the SHA-256 of its secret, with its owner; expired and revoked ones too.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn token_by_secret(&self, secret_sha256: &[u8; 32]) -> Result<Option<(TokenRow, UserRow)>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT t.id AS token_id, t.user_id, t.label, t.scope, t.repo_id, t.expires_at_us,
                    t.created_at_us AS token_created_at_us, t.last_used_at_us, t.revoked_at_us,
                    u.id, u.name, u.is_site_admin, u.is_disabled, u.auth_version, u.created_at_us
             FROM tokens t JOIN users u ON u.id = t.user_id
             WHERE t.secret_sha256 = $1",
        )
        .bind(secret_sha256.as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        row.map(|row| Ok((token(&row)?, super::users::user(&row)?))).transpose()
    }

    /// Finds a token by its id; expired and revoked ones too.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn token_by_id(&self, id: TokenId) -> Result<Option<TokenRow>, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query(
            "SELECT id AS token_id, user_id, label, scope, repo_id, expires_at_us,
                    created_at_us AS token_created_at_us, last_used_at_us, revoked_at_us
             FROM tokens WHERE id = $1",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_optional(&mut *conn)
        .await?;
        row.map(|row| token(&row)).transpose()
    }

    /// Whether a token was revoked, or is gone with its owner.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn is_token_revoked(&self, id: TokenId) -> Result<bool, DbError> {
        let mut conn = self.read().await?;
        let row = sqlx::query("SELECT 1 FROM tokens WHERE id = $1 AND revoked_at_us IS NULL")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *conn)
            .await?;
        Ok(row.is_none())
    }

    /// The tokens of one person, or of everybody, oldest first, at most `limit`, with the names of
    /// their owners. Expired and revoked ones too.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn list_tokens(&self, user: Option<UserId>, limit: u32) -> Result<Vec<(TokenRow, OwnerName)>, DbError> {
        let mut conn = self.read().await?;
        let rows = sqlx::query(
            "SELECT t.id AS token_id, t.user_id, t.label, t.scope, t.repo_id, t.expires_at_us,
                    t.created_at_us AS token_created_at_us, t.last_used_at_us, t.revoked_at_us,
                    u.name
             FROM tokens t JOIN users u ON u.id = t.user_id
             WHERE $1 IS NULL OR t.user_id = $1
             ORDER BY t.id LIMIT $2",
        )
        .bind(user.as_ref().map(|user| user.as_bytes().as_slice()))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        rows.iter()
            .map(|row| Ok((token(row)?, OwnerName::stored(row.text("name")?))))
            .collect()
    }

    /// Revokes a token; `false` if there is no such token. Revoking twice is as good as once.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn revoke_token(&self, id: TokenId, by: By) -> Result<bool, DbError> {
        self.write(move |mut tx| {
            Box::pin(async move {
                let owner = sqlx::query("SELECT u.name FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id = $1")
                    .bind(id.as_bytes().as_slice())
                    .fetch_optional(&mut *tx.conn)
                    .await?;
                let Some(owner) = owner else {
                    return Ok(false);
                };
                sqlx::query("UPDATE tokens SET revoked_at_us = COALESCE(revoked_at_us, $2) WHERE id = $1")
                    .bind(id.as_bytes().as_slice())
                    .bind(tx.now_us)
                    .execute(&mut *tx.conn)
                    .await?;
                let owner = owner.text("name")?;
                audit::note(&mut tx, &by, "token.revoke", &owner, &id.to_string()).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Notes that a token was used now, unless a use within the last `at_most_every_secs` is noted
    /// already. Returns at once; the note is lost when the server stops or writes pile up.
    ///
    /// # Errors
    /// [`DbError::QueueFull`] if it was dropped, [`DbError::Closed`].
    pub fn note_token_use(&self, id: TokenId, at_most_every_secs: u64) -> Result<(), DbError> {
        self.inner.writer.run_later(move |tx| {
            Box::pin(async move {
                let gap_us = i64::try_from(at_most_every_secs)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(US_PER_SEC);
                sqlx::query(
                    "UPDATE tokens SET last_used_at_us = $2
                     WHERE id = $1 AND (last_used_at_us IS NULL OR last_used_at_us <= $3)",
                )
                .bind(id.as_bytes().as_slice())
                .bind(tx.now_us)
                .bind(tx.now_us.saturating_sub(gap_us))
                .execute(&mut *tx.conn)
                .await?;
                Ok(())
            })
        })
    }
}
