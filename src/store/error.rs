//! What can go wrong with a database, as far as a caller would act on it.

use std::fmt;
use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr, SqlErr};
use sqlx::error::DatabaseError;

/// A failure of the database, classified. The cause is for the log alone.
#[derive(Clone, thiserror::Error)]
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

impl StoreFailure {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "database_unavailable",
            Self::Conflict => "database_conflict",
            Self::Refused => "database_refused",
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Database(Arc<DbErr>),
    #[error("{0}")]
    Ours(String),
    #[error(
        "a newer billhook has brought it up to date ({0}): run that one, or restore the backup from before the upgrade"
    )]
    Newer(String),
}

impl StoreError {
    /// A row that the domain cannot read: somebody else wrote it.
    pub(super) fn unreadable(what: impl fmt::Display) -> Self {
        Self { failure: StoreFailure::Refused, cause: Cause::Ours(what.to_string()) }
    }

    /// The transaction lost a race that it can only win by starting again.
    pub(super) fn lost_race(what: &str) -> Self {
        Self { failure: StoreFailure::Conflict, cause: Cause::Ours(what.to_owned()) }
    }

    /// A connection that is of no more use.
    pub(super) fn broken(what: &str) -> Self {
        Self { failure: StoreFailure::Unavailable, cause: Cause::Ours(what.to_owned()) }
    }

    /// The database has had a migration that this build does not know.
    pub(super) fn newer(migration: String) -> Self {
        Self { failure: StoreFailure::Refused, cause: Cause::Newer(migration) }
    }

    /// What a caller would act on.
    pub fn failure(&self) -> StoreFailure {
        self.failure
    }
}

/// As for people: the drivers' own `Debug` shows the values that were being written.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({self})")
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
        Self { failure: classify(&error), cause: Cause::Database(Arc::new(error)) }
    }
}

/// Of a connection that is not SeaORM's.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))).into()
    }
}

/// What is not known to be the fault of what we wrote is taken for the database's own trouble: an event that is sent
/// again has lost nothing, one that is put aside for good may have.
pub(super) fn classify(error: &DbErr) -> StoreFailure {
    if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return StoreFailure::Conflict;
    }
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            cause.as_database_error().map_or(StoreFailure::Unavailable, classify_code)
        }
        DbErr::Type(_) | DbErr::Json(_) => StoreFailure::Refused,
        _ => StoreFailure::Unavailable,
    }
}

/// The database's own code of a failure: PostgreSQL's SQLSTATE or SQLite's result code.
pub(super) fn code_of(error: &DbErr) -> Option<String> {
    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return None;
    };
    cause.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// PostgreSQL's classes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>): 40 the transaction was
/// rolled back, 22 the data is wrong, 23 it breaks a constraint. SQLite's primary codes
/// (<https://www.sqlite.org/rescode.html>): 18 too big, 19 constraint, 20 mismatch.
fn classify_code(error: &dyn DatabaseError) -> StoreFailure {
    let code = error.code().unwrap_or_default();
    match (code.len(), code.get(..2).unwrap_or_default()) {
        (5, "40") => StoreFailure::Conflict,
        (5, "22" | "23") => StoreFailure::Refused,
        (5, _) => StoreFailure::Unavailable,
        _ => match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(18..=20) => StoreFailure::Refused,
            _ => StoreFailure::Unavailable,
        },
    }
}
