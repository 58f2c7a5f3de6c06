//! What can go wrong with a database, as far as a caller would act on it.

use std::fmt;

use sea_orm::{DbErr, RuntimeErr, SqlErr};
use sqlx::error::DatabaseError;

/// A failure of the database, classified. The cause is for the log alone.
#[derive(Debug, thiserror::Error)]
pub struct StoreError {
    failure: StoreFailure,
    #[source]
    cause: Cause,
}

/// What a caller would act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFailure {
    /// The database cannot be reached, is shutting down, or cannot write. Another time it may.
    Unavailable,
    /// Another transaction was in the way. Doing it all again may go well.
    Conflict,
    /// The database refused what it was told, or holds what we cannot read.
    Refused,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Database(DbErr),
    #[error("{0}")]
    Unreadable(String),
}

impl StoreError {
    /// A row that the domain cannot read: somebody else wrote it.
    pub(super) fn unreadable(what: impl fmt::Display) -> Self {
        Self { failure: StoreFailure::Refused, cause: Cause::Unreadable(what.to_string()) }
    }

    /// The transaction lost a race that it can only win by starting again.
    pub(super) fn lost_race(what: &str) -> Self {
        Self { failure: StoreFailure::Conflict, cause: Cause::Unreadable(what.to_owned()) }
    }

    /// What a caller would act on.
    pub fn failure(&self) -> StoreFailure {
        self.failure
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            StoreFailure::Unavailable => f.write_str("the database is not available")?,
            StoreFailure::Conflict => f.write_str("another transaction was in the way")?,
            StoreFailure::Refused => f.write_str("the database refused")?,
        }
        write!(f, ": {}", self.cause)
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self { failure: classify(&error), cause: Cause::Database(error) }
    }
}

fn classify(error: &DbErr) -> StoreFailure {
    if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return StoreFailure::Conflict;
    }
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => StoreFailure::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            classify_sqlx(cause)
        }
        _ => StoreFailure::Refused,
    }
}

fn classify_sqlx(error: &sqlx::Error) -> StoreFailure {
    match error {
        sqlx::Error::Database(error) => classify_code(error.as_ref()),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => StoreFailure::Unavailable,
        _ => StoreFailure::Refused,
    }
}

/// PostgreSQL's classes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>): 40 the transaction was
/// rolled back, 08 connection, 25006 read only, 53 resources, 57 operator, 58 system. SQLite's primary codes
/// (<https://www.sqlite.org/rescode.html>): 5 busy, 6 locked, 8 read only, 10 I/O, 13 full, 14 cannot open.
fn classify_code(error: &dyn DatabaseError) -> StoreFailure {
    let code = error.code().unwrap_or_default();
    if let ("40", 5) = (code.get(..2).unwrap_or_default(), code.len()) {
        return StoreFailure::Conflict;
    }
    let postgres_down = code.len() == 5
        && (code == "25006" || ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)));
    let sqlite_down = code.len() < 5
        && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14));
    if postgres_down || sqlite_down { StoreFailure::Unavailable } else { StoreFailure::Refused }
}
