//! Lists that a column is looked for in. A list comes as one JSON array, which the database takes apart: with a place for
//! each value there would be a statement for each length, to be prepared and kept.

use sea_orm::sea_query::{Condition, Expr};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, Value};
use serde::Serialize;

use super::traced::Traced;

/// Texts that a column may be one of, as JSON.
#[derive(Debug, Clone)]
pub(super) struct List(String);

impl List {
    pub(super) fn of<V: Serialize>(values: impl IntoIterator<Item = V>) -> Self {
        Self(serde_json::json!(values.into_iter().collect::<Vec<V>>()).to_string())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == "[]"
    }
}

impl From<List> for Value {
    fn from(list: List) -> Self {
        list.0.into()
    }
}

impl<C: ConnectionTrait> Traced<C> {
    /// Whether a column of text is one of these; none if there are none.
    pub(super) fn one_of<V: Serialize>(
        &self,
        column: impl ColumnTrait,
        values: impl IntoIterator<Item = V>,
    ) -> Option<Condition> {
        one_of(self.get_database_backend(), column, values)
    }
}

fn one_of<V: Serialize>(
    backend: DbBackend,
    column: impl ColumnTrait,
    values: impl IntoIterator<Item = V>,
) -> Option<Condition> {
    let list = List::of(values);
    (!list.is_empty()).then(|| Condition::all().add(is_in(backend, column, list)))
}

/// Whether any of these columns is one of a list that comes later, one for each.
pub(super) fn any_in<C: ColumnTrait>(backend: DbBackend, columns: impl IntoIterator<Item = C>) -> Condition {
    let later = List(String::new());
    columns.into_iter().fold(Condition::any(), |any, column| any.add(is_in(backend, column, later.clone())))
}

fn is_in(backend: DbBackend, column: impl ColumnTrait, list: List) -> Expr {
    let is_in = if backend == DbBackend::Sqlite {
        "? IN (SELECT value FROM json_each(?))"
    } else {
        // As an array, since PostgreSQL looks its members up in an index; what a query returns it would join.
        "$1 = ANY(ARRAY(SELECT jsonb_array_elements_text($2::jsonb)))"
    };
    Expr::cust_with_exprs(is_in, [column.into_expr(), Expr::value(list)])
}

#[cfg(test)]
mod tests {
    use entity::tenant;
    use sea_orm::{EntityTrait, QueryFilter, QueryTrait};

    use super::*;

    #[test]
    fn a_condition_is_the_same_for_any_length() {
        let by_ids = |backend, ids: &[&str]| {
            let wanted = one_of(backend, tenant::Column::Id, ids).expect("there are some");
            tenant::Entity::find().filter(wanted).build(backend)
        };
        for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
            let [one, two] = [by_ids(backend, &["a"]), by_ids(backend, &["a", "\"b"])];
            assert_eq!(one.sql, two.sql);
            assert_eq!(two.values.expect("a value").0, [Value::from(r#"["a","\"b"]"#)]);
        }
    }

    #[test]
    fn nothing_is_looked_for_in_an_empty_list() {
        assert!(List::of(Vec::<String>::new()).is_empty());
        assert!(one_of(DbBackend::Sqlite, tenant::Column::Id, Vec::<String>::new()).is_none());
    }
}
