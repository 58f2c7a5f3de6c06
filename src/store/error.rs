//! What can go wrong with a database, as far as a caller would act on it.

use std::fmt;
use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr};
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
    /// A row with the same key is stored already. Doing it all again finds that row.
    DuplicateKey,
    /// The database refused what it was told, or holds what we cannot read.
    Refused,
}

impl StoreFailure {
    /// Whether another transaction was faster, so that doing it all again may go well.
    pub fn is_conflict(self) -> bool {
        matches!(self, Self::Conflict | Self::DuplicateKey)
    }

    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "database_unavailable",
            Self::Conflict => "database_conflict",
            Self::DuplicateKey => "database_duplicate_key",
            Self::Refused => "database_refused",
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
enum Cause {
    #[error("{}", text_of(.0))]
    Database(Arc<DbErr>),
    #[error("{0}")]
    Ours(String),
    #[error(
        "a newer billhook has brought it up to date ({0}): run that one, or restore the backup from before the upgrade"
    )]
    Newer(String),
    #[error("it is being filled by `billhook migrate --from`, which has not finished: run that again")]
    HalfCopied,
}

impl StoreError {
    /// A row that the domain cannot read: somebody else wrote it.
    pub(super) fn unreadable(what: impl fmt::Display) -> Self {
        Self { failure: StoreFailure::Refused, cause: Cause::Ours(what.to_string()) }
    }

    /// The transaction lost a race that it can only win by starting again.
    pub(crate) fn lost_race(what: &str) -> Self {
        Self { failure: StoreFailure::Conflict, cause: Cause::Ours(what.to_owned()) }
    }

    /// Rows that were to be inserted are stored already, by a transaction that was faster.
    pub(super) fn duplicate_key(what: &str) -> Self {
        Self { failure: StoreFailure::DuplicateKey, cause: Cause::Ours(what.to_owned()) }
    }

    /// A connection that is of no more use.
    pub(super) fn broken(what: &str) -> Self {
        Self { failure: StoreFailure::Unavailable, cause: Cause::Ours(what.to_owned()) }
    }

    /// The database cannot be opened.
    pub(super) fn unreachable(why: String) -> Self {
        Self { failure: StoreFailure::Unavailable, cause: Cause::Ours(why) }
    }

    /// The database has had a migration that this build does not know.
    pub(super) fn newer(migration: String) -> Self {
        Self { failure: StoreFailure::Refused, cause: Cause::Newer(migration) }
    }

    /// The database is being filled from another one.
    pub(super) fn half_copied() -> Self {
        Self { failure: StoreFailure::Refused, cause: Cause::HalfCopied }
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
            StoreFailure::DuplicateKey => f.write_str("a row with the same key is stored already")?,
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
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else { return None };
    let RuntimeErr::SqlxError(cause) = cause else { return None };
    cause.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// What the database said, without the words that the drivers put around it.
fn text_of(error: &DbErr) -> String {
    let cause = match error {
        DbErr::ConnectionAcquire(_) => return "it gave no connection in time".to_owned(),
        DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause) => cause,
        _ => return error.to_string(),
    };
    match cause {
        RuntimeErr::SqlxError(cause) => match &**cause {
            sqlx::Error::Database(said) => match said.code() {
                Some(code) => format!("{} (code {code})", said.message()),
                None => said.message().to_owned(),
            },
            sqlx::Error::Io(error) => format!("the connection broke: {error}"),
            cause => cause.to_string(),
        },
        RuntimeErr::Internal(text) => text.clone(),
    }
}

/// PostgreSQL's codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>): 23505 is a duplicate key; of the
/// classes, 40 means that the transaction was rolled back, 22 that the data is wrong, 23 that it violates another
/// constraint. SQLite's extended codes 1555 and 2067 are a duplicate key, of the primary key and of another one; its primary
/// codes (<https://www.sqlite.org/rescode.html>) are 18 too big, 19 constraint, 20 mismatch.
fn classify_code(error: &dyn DatabaseError) -> StoreFailure {
    let code = error.code().unwrap_or_default();
    match (code.len(), code.get(..2).unwrap_or_default()) {
        (5, "23") if code == "23505" => StoreFailure::DuplicateKey,
        (5, "40") => StoreFailure::Conflict,
        (5, "22" | "23") => StoreFailure::Refused,
        (5, _) => StoreFailure::Unavailable,
        _ => match code.parse::<u32>() {
            Ok(1555 | 2067) => StoreFailure::DuplicateKey,
            Ok(code) if matches!(code & 0xff, 18..=20) => StoreFailure::Refused,
            _ => StoreFailure::Unavailable,
        },
    }
}
