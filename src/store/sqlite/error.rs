//! What SQLite says, as an error of the driver that sea-orm knows: so one table tells what can be done about it.

use std::{borrow::Cow, error::Error as StdError, sync::Arc};

use sea_orm::{DbErr, RuntimeErr};
use sqlx::error::{DatabaseError, ErrorKind};

/// What SQLite refused, with its extended result code.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLite's code {code})")]
struct Refusal {
    message: String,
    code: i32,
}

/// Of what is not SQLite's, a row that cannot be read for one, nothing is told but its kind: it may show a value.
#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
pub(super) fn to_db_err(error: &rusqlite::Error) -> DbErr {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(cause, message) => {
            (cause.extended_code, message.clone().unwrap_or_else(|| cause.to_string()))
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.clone()),
        rusqlite::Error::ToSqlConversionFailure(cause) => return DbErr::Custom(cause.to_string()),
        _ => return DbErr::Custom("a row of SQLite could not be read".to_owned()),
    };
    let refusal = sqlx::Error::Database(Box::new(Refusal { message, code }));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(refusal)))
}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        match self.code {
            rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY => {
                ErrorKind::UniqueViolation
            }
            _ => ErrorKind::Other,
        }
    }
}
