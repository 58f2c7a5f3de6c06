//! Inserting rows, however many, with one statement of one form: they come as one JSON array, which the database takes apart.
//! With a place for each value there would be a statement for each number of rows, to be prepared and kept.

use sea_orm::sea_query::{ColumnType, Value};
use sea_orm::{ActiveModelTrait, ActiveValue, ColumnTrait, DbBackend, EntityTrait, IdenStatic};
use serde::Serialize;

use super::StoreError;
use super::writes::Writes;

/// What is done about a row that is there already.
#[derive(Debug)]
pub(super) enum Existing<C> {
    /// It fails the statement.
    Refused,
    /// It stays as it is, and whoever would have inserted it has lost a race.
    Kept { key: C },
    /// These of its columns are written over, and one may go up by one.
    Changed { key: C, columns: Vec<C>, raised: Option<C> },
}

impl Writes {
    /// Adds rows of one table, all of which set the same columns.
    pub(super) fn insert<A: ActiveModelTrait>(
        &mut self,
        rows: impl IntoIterator<Item = A>,
        existing: &Existing<<A::Entity as EntityTrait>::Column>,
    ) -> Result<(), StoreError> {
        let Some(rows) = Rows::of(rows)? else { return Ok(()) };
        let sql = statement::<A::Entity>(self.backend(), self.next_place(), &rows.columns, existing);
        self.add(sql, rows.cells.len(), rows.values()?);
        Ok(())
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
        Ok(bytes.into_iter().chain([Value::from(json)]).collect())
    }
}

fn is_bytes(column: &impl ColumnTrait) -> bool {
    matches!(column.def().get_column_type(), ColumnType::Blob | ColumnType::VarBinary(_))
}

/// The bytes of the rows, if there are any, have the first place for a value, and the rows the next. SQLite counts places by
/// itself: with numbers the driver cannot tell which values are those of the second of several statements. So no table has
/// two columns of bytes.
fn statement<E: EntityTrait>(
    backend: DbBackend,
    first: usize,
    columns: &[E::Column],
    existing: &Existing<E::Column>,
) -> String {
    debug_assert!(columns.iter().filter(|column| is_bytes(*column)).count() <= 1, "one place for bytes");
    let is_sqlite = backend == DbBackend::Sqlite;
    let table = E::default().table_name().to_owned();
    let mut sql = Sql::default();
    sql.say("INSERT INTO ").name(&table).say(" (");
    sql.list(columns, |sql, column| sql.name(column.as_str()));
    sql.say(") SELECT ");
    sql.list(columns.iter().enumerate(), |sql, (index, column)| {
        if is_sqlite { sql.of_sqlite(index, column) } else { sql.of_postgres(index, first, column) }
    });
    if is_sqlite {
        // Without a condition SQLite would take what follows for one of a join.
        sql.say(" FROM jsonb_each(?) AS r WHERE TRUE");
    } else {
        let place = first + usize::from(columns.iter().any(is_bytes));
        sql.say(" FROM jsonb_array_elements($").number(place).say("::jsonb) AS r");
    }
    sql.on_conflict(&table, existing);
    if !is_sqlite {
        sql.say(" RETURNING 1");
    }
    sql.0
}

/// A statement that is being written down: for each batch anew, so without a detour by the formatter.
#[derive(Default)]
struct Sql(String);

impl Sql {
    fn say(&mut self, words: &str) -> &mut Self {
        self.0.push_str(words);
        self
    }

    fn number(&mut self, number: usize) -> &mut Self {
        self.say(&number.to_string())
    }

    /// Names of ours have no quotes in them.
    fn name(&mut self, name: &str) -> &mut Self {
        self.say("\"").say(name).say("\"")
    }

    fn list<T>(
        &mut self,
        all: impl IntoIterator<Item = T>,
        one: impl Fn(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        for (index, item) in all.into_iter().enumerate() {
            if index > 0 {
                self.say(", ");
            }
            one(self, item);
        }
        self
    }

    fn of_sqlite(&mut self, index: usize, column: &impl ColumnTrait) -> &mut Self {
        if is_bytes(column) {
            self.say("substr(?, r.value->>'$[").number(index).say("].from', r.value->>'$[");
            self.number(index).say("].length')")
        } else {
            self.say("r.value->>").number(index)
        }
    }

    fn of_postgres(&mut self, index: usize, bytes: usize, column: &impl ColumnTrait) -> &mut Self {
        match column.def().get_column_type() {
            _ if is_bytes(column) => {
                self.say("substring($").number(bytes).say(" FROM (r->").number(index);
                self.say("->>'from')::int FOR (r->").number(index).say("->>'length')::int)")
            }
            ColumnType::BigInteger => self.say("(r->>").number(index).say(")::bigint"),
            ColumnType::Boolean => self.say("(r->>").number(index).say(")::boolean"),
            _ => self.say("r->>").number(index),
        }
    }

    fn on_conflict<C: ColumnTrait>(&mut self, table: &str, existing: &Existing<C>) -> &mut Self {
        match existing {
            Existing::Refused => self,
            Existing::Kept { key } => self.say(" ON CONFLICT (").name(key.as_str()).say(") DO NOTHING"),
            Existing::Changed { key, columns, raised } => {
                self.say(" ON CONFLICT (").name(key.as_str()).say(") DO UPDATE SET ");
                self.list(columns, |sql, column| {
                    sql.name(column.as_str()).say(" = excluded.").name(column.as_str())
                });
                if let Some(column) = raised {
                    let name = column.as_str();
                    self.say(", ").name(name).say(" = ").name(table).say(".").name(name).say(" + 1");
                }
                self
            }
        }
    }
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
            statement::<refresh::Entity>(DbBackend::Sqlite, 1, &columns, &again),
            "INSERT INTO \"refresh\" (\"subject\", \"version\") SELECT r.value->>0, r.value->>1 \
             FROM jsonb_each(?) AS r WHERE TRUE ON CONFLICT (\"subject\") DO UPDATE SET \
             \"reason\" = excluded.\"reason\", \"version\" = \"refresh\".\"version\" + 1"
        );
        let columns = [event::Column::Id, event::Column::Payload, event::Column::Created];
        assert_eq!(
            statement::<event::Entity>(
                DbBackend::Postgres,
                3,
                &columns,
                &Existing::Kept { key: event::Column::Id }
            ),
            "INSERT INTO \"event\" (\"id\", \"payload\", \"created\") SELECT r->>0, \
             substring($3 FROM (r->1->>'from')::int FOR (r->1->>'length')::int), (r->>2)::bigint \
             FROM jsonb_array_elements($4::jsonb) AS r ON CONFLICT (\"id\") DO NOTHING RETURNING 1"
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
        assert_eq!(values.expect("JSON"), [Value::from(b"abcde".to_vec()), Value::from(json)]);
    }

    #[test]
    fn without_rows_there_is_nothing_to_be_inserted() {
        let none = Rows::of(Vec::<lease::ActiveModel>::new());
        assert!(none.expect("nothing is wrong").is_none());
    }
}
