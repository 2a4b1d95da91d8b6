//! Reading columns into domain types.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::DbError;
use crate::ids::{GitId, PushId, RepoId, TokenId, UserId};

/// Columns by name, as domain types. A value that does not fit is [`DbError::Unreadable`]: the file
/// was edited by hand or is damaged.
pub(super) trait Columns {
    fn text(&self, column: &'static str) -> Result<String, DbError>;
    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, DbError>;
    fn int(&self, column: &'static str) -> Result<i64, DbError>;
    fn int_or_null(&self, column: &'static str) -> Result<Option<i64>, DbError>;
    fn flag(&self, column: &'static str) -> Result<bool, DbError>;
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, DbError>;
    fn git_id(&self, column: &'static str) -> Result<Option<GitId>, DbError>;
    fn user_id(&self, column: &'static str) -> Result<UserId, DbError>;
    fn user_id_or_null(&self, column: &'static str) -> Result<Option<UserId>, DbError>;
    fn repo_id(&self, column: &'static str) -> Result<RepoId, DbError>;
    fn repo_id_or_null(&self, column: &'static str) -> Result<Option<RepoId>, DbError>;
    fn token_id(&self, column: &'static str) -> Result<TokenId, DbError>;
    fn push_id(&self, column: &'static str) -> Result<PushId, DbError>;
    /// One of a closed set of words.
    fn word<T: std::str::FromStr>(&self, column: &'static str) -> Result<T, DbError>;
    fn word_or_null<T: std::str::FromStr>(&self, column: &'static str) -> Result<Option<T>, DbError>;
}

impl Columns for SqliteRow {
    fn text(&self, column: &'static str) -> Result<String, DbError> {
        Ok(self.try_get(column)?)
    }

    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, DbError> {
        Ok(self.try_get(column)?)
    }

    fn int(&self, column: &'static str) -> Result<i64, DbError> {
        Ok(self.try_get(column)?)
    }

    fn int_or_null(&self, column: &'static str) -> Result<Option<i64>, DbError> {
        Ok(self.try_get(column)?)
    }

    fn flag(&self, column: &'static str) -> Result<bool, DbError> {
        Ok(self.int(column)? != 0)
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, DbError> {
        Ok(self.try_get(column)?)
    }

    fn git_id(&self, column: &'static str) -> Result<Option<GitId>, DbError> {
        match self.try_get::<Option<&[u8]>, _>(column)? {
            None => Ok(None),
            Some(bytes) => GitId::from_bytes(bytes).map_err(|_| DbError::Unreadable(column)),
        }
    }

    fn user_id(&self, column: &'static str) -> Result<UserId, DbError> {
        UserId::from_bytes(self.try_get(column)?).map_err(|_| DbError::Unreadable(column))
    }

    fn user_id_or_null(&self, column: &'static str) -> Result<Option<UserId>, DbError> {
        self.try_get::<Option<&[u8]>, _>(column)?
            .map(|bytes| UserId::from_bytes(bytes).map_err(|_| DbError::Unreadable(column)))
            .transpose()
    }

    fn repo_id(&self, column: &'static str) -> Result<RepoId, DbError> {
        RepoId::from_bytes(self.try_get(column)?).map_err(|_| DbError::Unreadable(column))
    }

    fn repo_id_or_null(&self, column: &'static str) -> Result<Option<RepoId>, DbError> {
        self.try_get::<Option<&[u8]>, _>(column)?
            .map(|bytes| RepoId::from_bytes(bytes).map_err(|_| DbError::Unreadable(column)))
            .transpose()
    }

    fn token_id(&self, column: &'static str) -> Result<TokenId, DbError> {
        TokenId::from_bytes(self.try_get(column)?).map_err(|_| DbError::Unreadable(column))
    }

    fn push_id(&self, column: &'static str) -> Result<PushId, DbError> {
        PushId::from_bytes(self.try_get(column)?).map_err(|_| DbError::Unreadable(column))
    }

    fn word<T: std::str::FromStr>(&self, column: &'static str) -> Result<T, DbError> {
        self.try_get::<&str, _>(column)?
            .parse()
            .map_err(|_| DbError::Unreadable(column))
    }

    fn word_or_null<T: std::str::FromStr>(&self, column: &'static str) -> Result<Option<T>, DbError> {
        self.try_get::<Option<&str>, _>(column)?
            .map(|text| text.parse().map_err(|_| DbError::Unreadable(column)))
            .transpose()
    }
}
