//! What a transaction writes, in one statement of several: the way to the database and back takes longer than most of them.

use std::sync::atomic::Ordering;

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::{StoreError, Transaction};

/// Statements that write, none of which depends on what another has written or writes to a row of another's: PostgreSQL
/// carries them out in any order, and each sees the tables as they were before.
#[derive(Debug)]
pub(super) struct Writes {
    backend: DbBackend,
    statements: Vec<String>,
    values: Vec<Value>,
    rows: usize,
}

impl Writes {
    fn to(backend: DbBackend) -> Self {
        Self { backend, statements: Vec::new(), values: Vec::new(), rows: 0 }
    }

    /// The database that they are for.
    pub(super) fn backend(&self) -> DbBackend {
        self.backend
    }

    /// The number that the next value has in its statement.
    pub(super) fn next_place(&self) -> usize {
        self.values.len() + 1
    }

    /// Adds a statement that is to write so many rows, and, on PostgreSQL, to return as many.
    pub(super) fn add(&mut self, sql: String, rows: usize, values: Vec<Value>) {
        self.statements.push(sql);
        self.rows += rows;
        self.values.extend(values);
    }

    /// All of them as one.
    fn sql(&self) -> String {
        if self.backend == DbBackend::Sqlite {
            return self.statements.join("; ");
        }
        let name = |index: usize| format!("w{index}");
        let parts = self.statements.iter().enumerate();
        let parts = parts.map(|(index, sql)| format!("{} AS MATERIALIZED ({sql})", name(index)));
        let counts =
            (0..self.statements.len()).map(|index| format!("(SELECT COUNT(*) FROM {})", name(index)));
        let (parts, counts) = (parts.collect::<Vec<_>>().join(", "), counts.collect::<Vec<_>>().join(" + "));
        format!("WITH {parts} SELECT {counts}")
    }
}

impl Transaction {
    /// For what is to be written; nothing yet.
    pub(super) fn writes(&self) -> Writes {
        Writes::to(self.db.get_database_backend())
    }

    /// Writes all of it. If a row was kept that was to be inserted, another transaction was faster, and all of this one must be
    /// undone: it has decided with that row in mind.
    pub(super) async fn carry_out(&self, writes: Writes) -> Result<(), StoreError> {
        if writes.statements.is_empty() {
            return Ok(());
        }
        let statement = Statement::from_sql_and_values(writes.backend, writes.sql(), writes.values);
        let written = if writes.backend == DbBackend::Sqlite {
            self.db.execute_raw(statement).await?.rows_affected()
        } else {
            let counted = self.db.query_one_raw(statement).await?;
            let counted = counted.ok_or_else(|| StoreError::unreadable("nothing was counted"))?;
            counted.try_get_by_index::<i64>(0)?.unsigned_abs()
        };
        self.rows.fetch_add(writes.rows, Ordering::Relaxed);
        if written == writes.rows as u64 {
            Ok(())
        } else {
            let lost = format!("of {} rows {written} were written, the others elsewhere", writes.rows);
            Err(StoreError::duplicate_key(&lost))
        }
    }
}

#[cfg(test)]
mod tests {
    use entity::lease;
    use sea_orm::ActiveValue::Set;

    use super::*;
    use crate::store::StoreFailure;
    use crate::store::connect::tests::empty_sqlite;
    use crate::store::insert::Existing;

    fn lease(name: &str) -> lease::ActiveModel {
        lease::ActiveModel { name: Set(name.to_owned()), token: Set("a".to_owned()), expires_at_ms: Set(1) }
    }

    #[test]
    fn several_statements_are_one() {
        let writes = |backend| {
            let mut writes = Writes::to(backend);
            for value in ["a", "b"] {
                writes.add(format!("INSERT {}", writes.next_place()), 1, vec![value.into()]);
            }
            (writes.sql(), writes.values, writes.rows)
        };
        let values = vec![Value::from("a"), Value::from("b")];
        assert_eq!(writes(DbBackend::Sqlite), ("INSERT 1; INSERT 2".to_owned(), values.clone(), 2));
        let postgres = "WITH w0 AS MATERIALIZED (INSERT 1), w1 AS MATERIALIZED (INSERT 2) \
                        SELECT (SELECT COUNT(*) FROM w0) + (SELECT COUNT(*) FROM w1)";
        assert_eq!(writes(DbBackend::Postgres), (postgres.to_owned(), values, 2));
    }

    #[tokio::test]
    async fn a_row_that_is_there_already_is_a_lost_race() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        let transaction = store.begin().await.expect("it begins");
        let new = Existing::Kept { key: lease::Column::Name };
        for (names, is_new) in [(["a", "b"], true), (["b", "c"], false)] {
            let mut writes = transaction.writes();
            writes.insert(names.map(lease), &new).expect("rows");
            let made = transaction.carry_out(writes).await;
            let expected = if is_new { Ok(()) } else { Err(StoreFailure::DuplicateKey) };
            assert_eq!(made.map_err(|error| error.failure()), expected);
        }
    }
}
