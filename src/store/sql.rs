//! Statements of the hot path, written as SQL that can be pasted into the database's shell.

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use serde::de::DeserializeOwned;

use super::{StoreError, Transaction};

/// A statement in both dialects.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) postgres: &'static str,
    pub(super) sqlite: &'static str,
}

impl Sql {
    /// Takes the parameters in the order of their numbers.
    pub(super) fn bind(&self, backend: DbBackend, values: impl IntoIterator<Item = Value>) -> Statement {
        let text = if backend == DbBackend::Sqlite { self.sqlite } else { self.postgres };
        Statement::from_sql_and_values(backend, text, values)
    }
}

impl Transaction {
    /// For a statement that always returns a row.
    pub(super) async fn query_one_row(&self, statement: Statement) -> Result<QueryResult, StoreError> {
        let row = self.db.query_one_raw(statement).await?;
        row.ok_or_else(|| StoreError::rejected("the database returned no row"))
    }
}

/// A list as one parameter: `= ANY($1)` in PostgreSQL, `IN (SELECT value FROM json_each(?1))` in
/// SQLite. With one parameter per element, each length of the list would need a prepared statement
/// of its own.
pub(super) fn list<T: Into<String>>(backend: DbBackend, elements: impl IntoIterator<Item = T>) -> Value {
    let elements: Vec<String> = elements.into_iter().map(Into::into).collect();
    if backend == DbBackend::Sqlite {
        serde_json::json!(elements).to_string().into()
    } else {
        elements.into()
    }
}

/// Reads a column with a JSON array of rows.
pub(super) fn json_rows<T: DeserializeOwned>(row: &QueryResult, column: &str) -> Result<Vec<T>, StoreError> {
    let json: String = row.try_get("", column)?;
    serde_json::from_str(&json).map_err(|error| StoreError::rejected(format_args!("{column}: {error}")))
}
