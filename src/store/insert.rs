//! Inserting rows, however many, with one statement of one form: they come as one JSON array, which the database takes apart.
//! With a place for each value there would be a statement for each number of rows, to be prepared and kept.

use sea_orm::sea_query::{ColumnType, Value};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, Statement,
};
use serde::Serialize;

use super::{StoreError, Transaction};

/// What is done about a row that is there already.
#[derive(Debug)]
pub(super) enum Existing<C> {
    /// It fails the statement.
    Refused,
    /// It stays as it is.
    Kept { key: C },
    /// These of its columns are written over, and one may go up by one.
    Changed { key: C, columns: Vec<C>, raised: Option<C> },
}

impl Transaction {
    /// Inserts rows all of which set the same columns.
    pub(super) async fn insert<A: ActiveModelTrait>(
        &self,
        rows: impl IntoIterator<Item = A>,
        existing: Existing<<A::Entity as EntityTrait>::Column>,
    ) -> Result<(), StoreError> {
        self.insert_counted(rows, existing).await.map(|_| ())
    }

    /// Inserts rows that are not there, or has lost a race if one is there after all.
    pub(super) async fn insert_new<A: ActiveModelTrait>(
        &self,
        key: <A::Entity as EntityTrait>::Column,
        rows: Vec<A>,
        lost: &'static str,
    ) -> Result<(), StoreError> {
        let expected = rows.len() as u64;
        let inserted = self.insert_counted(rows, Existing::Kept { key }).await?;
        if inserted == expected { Ok(()) } else { Err(StoreError::lost_race(lost)) }
    }

    /// Returns how many were inserted or changed.
    async fn insert_counted<A: ActiveModelTrait>(
        &self,
        rows: impl IntoIterator<Item = A>,
        existing: Existing<<A::Entity as EntityTrait>::Column>,
    ) -> Result<u64, StoreError> {
        let Some(rows) = Rows::of(rows)? else { return Ok(0) };
        let backend = self.db.get_database_backend();
        let sql = statement::<A::Entity>(backend, &rows.columns, &existing);
        let statement = Statement::from_sql_and_values(backend, sql, rows.values()?);
        Ok(self.db.execute_raw(statement).await?.rows_affected())
    }
}

/// Rows on their way: the values of each in the order of the columns, and all their bytes one after the other.
struct Rows<C> {
    columns: Vec<C>,
    cells: Vec<Vec<Cell>>,
    bytes: Vec<u8>,
}

/// A value as JSON, or where its bytes are.
#[derive(Serialize)]
#[serde(untagged)]
enum Cell {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(String),
    Bytes { from: usize, length: usize },
}

impl<C: ColumnTrait> Rows<C> {
    /// None if there are none.
    fn of<A>(rows: impl IntoIterator<Item = A>) -> Result<Option<Self>, StoreError>
    where
        A: ActiveModelTrait,
        A::Entity: EntityTrait<Column = C>,
    {
        let mut rows = rows.into_iter().peekable();
        let Some(first) = rows.peek() else { return Ok(None) };
        let columns = C::iter().filter(|column| first.get(*column).is_set()).collect();
        let mut all = Self { columns, cells: Vec::new(), bytes: Vec::new() };
        for mut row in rows {
            let values: Vec<_> = all.columns.iter().map(|column| row.take(*column)).collect();
            let cells = values.into_iter().map(|value| all.cell(value)).collect::<Result<_, _>>()?;
            all.cells.push(cells);
        }
        Ok(Some(all))
    }

    fn cell(&mut self, value: ActiveValue<Value>) -> Result<Cell, StoreError> {
        Ok(match value.into_value() {
            Some(Value::Bool(Some(boolean))) => Cell::Boolean(boolean),
            Some(Value::BigInt(Some(integer))) => Cell::Integer(integer),
            Some(Value::String(Some(text))) => Cell::Text(text),
            Some(Value::Bytes(Some(bytes))) => {
                // Both databases count from one.
                let from = self.bytes.len() + 1;
                self.bytes.extend_from_slice(&bytes);
                Cell::Bytes { from, length: bytes.len() }
            }
            Some(Value::Bool(None) | Value::BigInt(None) | Value::String(None) | Value::Bytes(None)) => {
                Cell::Null
            }
            None => return Err(StoreError::unreadable("rows differ in what they set")),
            Some(_) => return Err(StoreError::unreadable("a value has a type that is not written")),
        })
    }

    fn values(self) -> Result<Vec<Value>, StoreError> {
        let json = serde_json::to_string(&self.cells).map_err(StoreError::unreadable)?;
        let bytes = self.columns.iter().any(is_bytes).then(|| Value::from(self.bytes));
        Ok([Value::from(json)].into_iter().chain(bytes).collect())
    }
}

fn is_bytes(column: &impl ColumnTrait) -> bool {
    matches!(column.def().get_column_type(), ColumnType::Blob | ColumnType::VarBinary(_))
}

fn statement<E: EntityTrait>(
    backend: DbBackend,
    columns: &[E::Column],
    existing: &Existing<E::Column>,
) -> String {
    let is_sqlite = backend == DbBackend::Sqlite;
    let table = quoted(E::default().table_name());
    let names = columns.iter().map(quoted_column).collect::<Vec<_>>().join(", ");
    let values = columns.iter().enumerate();
    let values = values
        .map(|(place, column)| if is_sqlite { of_sqlite(place, column) } else { of_postgres(place, column) });
    let values = values.collect::<Vec<_>>().join(", ");
    // Without a condition SQLite would take what follows for one of a join.
    let source =
        if is_sqlite { "jsonb_each(?1) AS r WHERE TRUE" } else { "jsonb_array_elements($1::jsonb) AS r" };
    let on_conflict = on_conflict(&table, existing);
    format!("INSERT INTO {table} ({names}) SELECT {values} FROM {source}{on_conflict}")
}

fn of_sqlite(place: usize, column: &impl ColumnTrait) -> String {
    if is_bytes(column) {
        format!("substr(?2, r.value->>'$[{place}].from', r.value->>'$[{place}].length')")
    } else {
        format!("r.value->>{place}")
    }
}

fn of_postgres(place: usize, column: &impl ColumnTrait) -> String {
    match column.def().get_column_type() {
        _ if is_bytes(column) => {
            format!("substring($2 FROM (r->{place}->>'from')::int FOR (r->{place}->>'length')::int)")
        }
        ColumnType::BigInteger => format!("(r->>{place})::bigint"),
        ColumnType::Boolean => format!("(r->>{place})::boolean"),
        _ => format!("r->>{place}"),
    }
}

fn on_conflict<C: ColumnTrait>(table: &str, existing: &Existing<C>) -> String {
    match existing {
        Existing::Refused => String::new(),
        Existing::Kept { key } => format!(" ON CONFLICT ({}) DO NOTHING", quoted_column(key)),
        Existing::Changed { key, columns, raised } => {
            let written = columns.iter().map(quoted_column).map(|name| format!("{name} = excluded.{name}"));
            let raised = raised.iter().map(quoted_column).map(|name| format!("{name} = {table}.{name} + 1"));
            let changes = written.chain(raised).collect::<Vec<_>>().join(", ");
            format!(" ON CONFLICT ({}) DO UPDATE SET {changes}", quoted_column(key))
        }
    }
}

fn quoted_column(column: &impl ColumnTrait) -> String {
    quoted(column.as_str())
}

/// Names of ours have no quotes in them.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests {
    use entity::{event, lease, refresh};
    use sea_orm::ActiveValue::Set;

    use super::*;

    #[test]
    fn a_statement_is_the_same_for_any_number_of_rows() {
        let columns = [refresh::Column::Subject, refresh::Column::Version];
        let again = Existing::Changed {
            key: refresh::Column::Subject,
            columns: vec![refresh::Column::Reason],
            raised: Some(refresh::Column::Version),
        };
        assert_eq!(
            statement::<refresh::Entity>(DbBackend::Sqlite, &columns, &again),
            "INSERT INTO \"refresh\" (\"subject\", \"version\") SELECT r.value->>0, r.value->>1 \
             FROM jsonb_each(?1) AS r WHERE TRUE ON CONFLICT (\"subject\") DO UPDATE SET \
             \"reason\" = excluded.\"reason\", \"version\" = \"refresh\".\"version\" + 1"
        );
        let columns = [event::Column::Id, event::Column::Payload, event::Column::Created];
        assert_eq!(
            statement::<event::Entity>(
                DbBackend::Postgres,
                &columns,
                &Existing::Kept { key: event::Column::Id }
            ),
            "INSERT INTO \"event\" (\"id\", \"payload\", \"created\") SELECT r->>0, \
             substring($2 FROM (r->1->>'from')::int FOR (r->1->>'length')::int), (r->>2)::bigint \
             FROM jsonb_array_elements($1::jsonb) AS r ON CONFLICT (\"id\") DO NOTHING"
        );
    }

    #[test]
    fn bytes_stand_beside_the_rows() {
        let row = |payload: Option<&str>| event::ActiveModel {
            id: Set("evt_\"1\"".to_owned()),
            payload: Set(payload.map(|text| text.as_bytes().to_vec())),
            attempts: Set(3),
            ..Default::default()
        };
        let rows = Rows::of([row(Some("ab")), row(None), row(Some("cde"))]);
        let values = rows.expect("they can be written").expect("there are some").values();
        let json = r#"[["evt_\"1\"",{"from":1,"length":2},3],["evt_\"1\"",null,3],["evt_\"1\"",{"from":3,"length":3},3]]"#;
        assert_eq!(values.expect("JSON"), [Value::from(json), Value::from(b"abcde".to_vec())]);
    }

    #[test]
    fn without_rows_there_is_nothing_to_be_inserted() {
        let none = Rows::of(Vec::<lease::ActiveModel>::new());
        assert!(none.expect("nothing is wrong").is_none());
    }
}
