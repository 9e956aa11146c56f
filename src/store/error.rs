//! What can go wrong with the database, by what the caller can do about it.

use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr};

/// A failure of the database. What the driver says stays in the source, for the log; it may name tables
/// and addresses, never a value: statements are bound and their parameters are not in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer, or is full, or has no connection free in time.
    #[error("the database is unavailable")]
    Unavailable(#[source] Arc<DbErr>),
    /// Its connection was lost before anything was committed: the same one may succeed on another.
    #[error("the connection to the database was lost")]
    Interrupted(#[source] Arc<DbErr>),
    /// Another transaction was in the way: the same one may succeed if it is run again.
    #[error("the transaction met another one")]
    Contended(#[source] Arc<DbErr>),
    /// A row that our own rules do not allow.
    #[error("the database holds a row that breaks the rule: {0}")]
    Inconsistent(&'static str),
    /// It refused what we asked of it.
    #[error("the database refused a statement")]
    Refused(#[source] Arc<DbErr>),
    /// It could not be opened or its schema could not be brought up to date.
    #[error("{0}")]
    Setup(String),
    /// What was to be done in a transaction panicked: a bug, told by the panic hook.
    #[error("an operation panicked in its transaction")]
    Panicked,
}

impl Error {
    /// The task that was to do it has ended: the server is stopping.
    pub(super) fn stopped() -> Self {
        Self::Unavailable(Arc::new(DbErr::Custom("the store has stopped".to_owned())))
    }

    /// Whether no connection was to be had in time.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if matches!(**cause, DbErr::ConnectionAcquire(_)))
    }

    /// What a failed commit says. A lost connection leaves open whether it was done, so that it must not be
    /// done again.
    pub(super) fn of_commit(error: DbErr) -> Self {
        if is_lost(&error) { Self::Unavailable(Arc::new(error)) } else { Self::from(error) }
    }

    /// What a failed statement says that is a transaction by itself. A lost connection leaves open whether it was
    /// done, unless there was none yet, or the server takes no writes.
    pub(super) fn of_statement(error: DbErr) -> Self {
        if is_duplicate(&error) {
            // Under the same idempotency key another server was faster
            Self::Contended(Arc::new(error))
        } else if matches!(error, DbErr::Conn(_)) || is_read_only(&error) {
            Self::from(error)
        } else {
            Self::of_commit(error)
        }
    }
}

/// Errors after which a transaction may be run again from its beginning.
pub trait Transient {
    /// Whether the transaction that failed with this may be run again.
    fn is_transient(&self) -> bool;

    /// Whether that is so because its connection was lost.
    fn is_interrupted(&self) -> bool;
}

impl Transient for Error {
    fn is_transient(&self) -> bool {
        match self {
            Self::Contended(_) | Self::Interrupted(_) => true,
            Self::Unavailable(_)
            | Self::Inconsistent(_)
            | Self::Refused(_)
            | Self::Setup(_)
            | Self::Panicked => false,
        }
    }

    fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted(_))
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let class = classify(&error);
        let error = Arc::new(error);
        match class {
            Class::Unavailable => Self::Unavailable(error),
            Class::Interrupted => Self::Interrupted(error),
            Class::Contended => Self::Contended(error),
            Class::Refused => Self::Refused(error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Unavailable,
    Interrupted,
    Contended,
    Refused,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's enum is long; what is not named is a refusal"
)]
fn classify(error: &DbErr) -> Class {
    match error {
        _ if is_lost(error) => Class::Interrupted,
        DbErr::ConnectionAcquire(_) => Class::Unavailable,
        _ => driver_error(error).map_or(Class::Refused, classify_driver),
    }
}

/// Whether a connection is of no more use: cut off, or ended by PostgreSQL (SQLSTATE 57P..: it shut down, it
/// crashed, the session was idle too long), or to a server that takes no writes (25006), which others do.
pub(super) fn is_lost(error: &DbErr) -> bool {
    // So the driver calls it when somebody hangs up before a word was said: a proxy that knows of no server
    if matches!(error, DbErr::Conn(RuntimeErr::SqlxError(cause)) if matches!(**cause, sqlx::Error::Protocol(_)))
    {
        return true;
    }
    let Some(cause) = driver_error(error) else { return false };
    let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(cause, sqlx::Error::Io(_))
        || is_read_only(error)
        || code.is_some_and(|code| code.starts_with("57P"))
}

/// Whether the server took no writes, so that nothing was done.
fn is_read_only(error: &DbErr) -> bool {
    let database = driver_error(error).and_then(sqlx::Error::as_database_error);
    database.and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "25006")
}

/// Whether another transaction was in the way.
pub(super) fn is_contended(error: &DbErr) -> bool {
    classify(error) == Class::Contended
}

/// Whether a row of the same key was there already (SQLSTATE 23505).
fn is_duplicate(error: &DbErr) -> bool {
    let database = driver_error(error).and_then(sqlx::Error::as_database_error);
    database.is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is long")]
fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Some(cause),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
fn classify_driver(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(cause) => cause.code().map_or(Class::Refused, |code| classify_code(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Class::Unavailable,
        _ => Class::Refused,
    }
}

/// PostgreSQL: SQLSTATE classes 08 (connection), 53 (resources), 57 (operator intervention) and the
/// codes 40001, 40P01 (serialization, deadlock), 40003 (nobody knows whether it was done). SQLite: primary result
/// codes 5 and 6 (busy, locked), 10 (I/O), 13 (full), 14 (cannot open); sqlx gives extended codes in decimal, whose
/// low byte is the primary one.
fn classify_code(code: &str) -> Class {
    match code {
        "40001" | "40P01" => return Class::Contended,
        "40003" => return Class::Unavailable,
        _ => {}
    }
    if code.len() == 5 {
        return match code.get(..2) {
            Some("08" | "53" | "57") => Class::Unavailable,
            _ => Class::Refused,
        };
    }
    match code.parse::<u32>().map(|number| number & 0xff) {
        Ok(5 | 6 | 10 | 13 | 14) => Class::Unavailable,
        _ => Class::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_the_caller_can_do() {
        for code in ["40001", "40P01"] {
            assert_eq!(classify_code(code), Class::Contended, "{code}");
        }
        for code in ["08006", "53300", "57014", "40003", "5", "517", "10", "778", "13", "14"] {
            assert_eq!(classify_code(code), Class::Unavailable, "{code}");
        }
        for code in ["23505", "42P01", "1", "1555", "2067", ""] {
            assert_eq!(classify_code(code), Class::Refused, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_known_by_its_error() {
        let io = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let lost = DbErr::Query(RuntimeErr::SqlxError(Arc::new(io())));
        assert!(matches!(Error::from(lost), Error::Interrupted(_)));
        let lost = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(io())));
        assert!(matches!(Error::of_commit(lost), Error::Unavailable(_)), "it may have been done");
        let lost = DbErr::Query(RuntimeErr::SqlxError(Arc::new(io())));
        assert!(matches!(Error::of_statement(lost), Error::Unavailable(_)), "it may have been done");
        let never_there = DbErr::Conn(RuntimeErr::SqlxError(Arc::new(io())));
        assert!(matches!(Error::of_statement(never_there), Error::Interrupted(_)), "it was not begun");
        let no_connection = DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout);
        assert!(matches!(Error::from(no_connection), Error::Unavailable(_)), "it was waited for already");
    }
}
