//! Statements written as SQL, for the hot path: one text for each database, which can be pasted into its shell.

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use serde::de::DeserializeOwned;

use super::{StoreError, Transaction};

/// One statement in the dialect of each database.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) postgres: &'static str,
    pub(super) sqlite: &'static str,
}

impl Sql {
    /// The statement with its parameters, in the order of their numbers.
    pub(super) fn bind(&self, backend: DbBackend, values: impl IntoIterator<Item = Value>) -> Statement {
        let text = if backend == DbBackend::Sqlite { self.sqlite } else { self.postgres };
        Statement::from_sql_and_values(backend, text, values)
    }
}

impl Transaction {
    /// The row of a statement that always returns one.
    pub(super) async fn query_one_row(&self, statement: Statement) -> Result<QueryResult, StoreError> {
        let row = self.db.query_one_raw(statement).await?;
        row.ok_or_else(|| StoreError::unreadable("the database returned no row"))
    }
}

/// A list as one parameter: `= ANY($1)` in PostgreSQL, `IN (SELECT value FROM json_each(?1))` in SQLite. With a parameter
/// for each element there would be a prepared statement for each length.
pub(super) fn list<T: Into<String>>(backend: DbBackend, elements: impl IntoIterator<Item = T>) -> Value {
    let elements: Vec<String> = elements.into_iter().map(Into::into).collect();
    if backend == DbBackend::Sqlite {
        serde_json::json!(elements).to_string().into()
    } else {
        elements.into()
    }
}

/// Reads a column that holds rows of a table as a JSON array.
pub(super) fn json_rows<T: DeserializeOwned>(row: &QueryResult, column: &str) -> Result<Vec<T>, StoreError> {
    let json: String = row.try_get("", column)?;
    serde_json::from_str(&json).map_err(|error| StoreError::unreadable(format_args!("{column}: {error}")))
}
