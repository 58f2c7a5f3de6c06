//! [`StoreError`]: a failed operation on the database, classified by what the caller can do about it.
//!
//! A SeaORM error becomes a `StoreError` at the `?` of a store method, where [`classify`] gives it
//! its [`StoreErrorKind`]. The store's own checks create one with the constructor of the same name.
//! From there on:
//!
//! - `Conflict` and `DuplicateKey`: [`retry_on_conflict`](super::retry_on_conflict()) runs the
//!   transaction again. If the conflict remains, the API returns 503. Ingest applies the batch
//!   event by event, and returns 503 for one that still conflicts.
//! - `Rejected`: the API returns 500. Ingest applies the batch event by event and stores the faulty
//!   one as `failed`.
//! - `Unavailable`: the API and the webhook return 503.

use std::fmt;
use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr};
use sqlx::error::DatabaseError;

#[derive(Clone, thiserror::Error)]
pub struct StoreError {
    kind: StoreErrorKind,
    #[source]
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The database cannot be reached, is shutting down, or cannot write. Trying later may work.
    Unavailable,
    /// Another transaction was faster. Running this one again may work.
    Conflict,
    /// A row with the same key exists. Running the transaction again finds that row.
    DuplicateKey,
    /// The database does not accept the data, or contains data that this build cannot read.
    Rejected,
}

impl StoreErrorKind {
    pub fn is_conflict(self) -> bool {
        matches!(self, Self::Conflict | Self::DuplicateKey)
    }

    /// The name in logs and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "database_unavailable",
            Self::Conflict => "database_conflict",
            Self::DuplicateKey => "database_duplicate_key",
            Self::Rejected => "database_refused",
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
enum Cause {
    #[error("{}", text_of(.0))]
    Database(Arc<DbErr>),
    #[error("{0}")]
    Message(String),
}

impl StoreError {
    fn new(kind: StoreErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, cause: Cause::Message(message.to_string()) }
    }

    pub(super) fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(StoreErrorKind::Unavailable, message)
    }

    pub(crate) fn conflict(message: impl fmt::Display) -> Self {
        Self::new(StoreErrorKind::Conflict, message)
    }

    pub(super) fn duplicate_key(message: impl fmt::Display) -> Self {
        Self::new(StoreErrorKind::DuplicateKey, message)
    }

    pub(super) fn rejected(message: impl fmt::Display) -> Self {
        Self::new(StoreErrorKind::Rejected, message)
    }

    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

/// Like `Display`: the drivers' `Debug` output contains the values that were being written.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({self})")
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StoreErrorKind::Unavailable => "the database is not available",
            StoreErrorKind::Conflict => "conflict with another transaction",
            StoreErrorKind::DuplicateKey => "a row with the same key exists",
            StoreErrorKind::Rejected => "the database refused",
        };
        write!(f, "{kind}: {}", self.cause)
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self { kind: classify(&error), cause: Cause::Database(Arc::new(error)) }
    }
}

/// For connections that sqlx opened without SeaORM.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))).into()
    }
}

/// An unknown error counts as `Unavailable`: Stripe then sends the event again. `Rejected` would
/// store it as `failed`.
pub(super) fn classify(error: &DbErr) -> StoreErrorKind {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            cause.as_database_error().map_or(StoreErrorKind::Unavailable, classify_code)
        }
        DbErr::Type(_) | DbErr::Json(_) => StoreErrorKind::Rejected,
        _ => StoreErrorKind::Unavailable,
    }
}

/// PostgreSQL's SQLSTATE or SQLite's result code.
pub(super) fn code_of(error: &DbErr) -> Option<String> {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else { return None };
    let RuntimeErr::SqlxError(cause) = cause else { return None };
    cause.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// The database's message without the text that SeaORM and sqlx add.
fn text_of(error: &DbErr) -> String {
    let cause = match error {
        DbErr::ConnectionAcquire(_) => return "timed out waiting for a connection".to_owned(),
        DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause) => cause,
        _ => return error.to_string(),
    };
    match cause {
        RuntimeErr::SqlxError(cause) => match &**cause {
            sqlx::Error::Database(error) => match error.code() {
                Some(code) => format!("{} (code {code})", error.message()),
                None => error.message().to_owned(),
            },
            sqlx::Error::Io(error) => format!("connection lost: {error}"),
            cause => cause.to_string(),
        },
        RuntimeErr::Internal(text) => text.clone(),
    }
}

/// PostgreSQL (<https://www.postgresql.org/docs/current/errcodes-appendix.html>): 23505 is a
/// duplicate key. Class 40 is a transaction rollback, 22 invalid data, 23 another violated
/// constraint.
///
/// SQLite (<https://www.sqlite.org/rescode.html>): the extended codes 1555 (primary key) and 2067
/// (unique index) are duplicate keys. The primary codes 18 to 20 are too big, constraint and
/// mismatch.
fn classify_code(error: &dyn DatabaseError) -> StoreErrorKind {
    let code = error.code().unwrap_or_default();
    match (code.len(), code.get(..2).unwrap_or_default()) {
        (5, "23") if code == "23505" => StoreErrorKind::DuplicateKey,
        (5, "40") => StoreErrorKind::Conflict,
        (5, "22" | "23") => StoreErrorKind::Rejected,
        (5, _) => StoreErrorKind::Unavailable,
        _ => match code.parse::<u32>() {
            Ok(1555 | 2067) => StoreErrorKind::DuplicateKey,
            Ok(code) if matches!(code & 0xff, 18..=20) => StoreErrorKind::Rejected,
            _ => StoreErrorKind::Unavailable,
        },
    }
}
