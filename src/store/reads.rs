//! Several reads at once, in words that are put together once. SQLite is asked for all of them in one statement: the way to
//! its thread and back takes longer than they do. With PostgreSQL each is a statement of its own, which sees what was
//! committed until it began.

use sea_orm::sea_query::{Expr, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};

use super::lists::List;
use super::{StoreError, Transaction};

/// What a row of SQLite's bears beside its columns: which of the reads found it.
const READ: &str = "read";

/// So many reads, each by some lists.
#[derive(Debug)]
pub(super) struct Reads<const N: usize> {
    pub(super) sqlite: String,
    postgres: [String; N],
}

impl<const N: usize> Reads<N> {
    /// What is wanted of each database, whose only values are the lists.
    pub(super) fn of(wanted: impl Fn(DbBackend) -> [SelectStatement; N]) -> Self {
        let text = |backend: DbBackend, select: &SelectStatement| backend.build(select).sql;
        let mut sqlite = Vec::new();
        for (read, mut select) in wanted(DbBackend::Sqlite).into_iter().enumerate() {
            sqlite.push(text(DbBackend::Sqlite, select.expr_as(Expr::cust(read.to_string()), READ)));
        }
        let postgres = wanted(DbBackend::Postgres).map(|select| text(DbBackend::Postgres, &select));
        Self { sqlite: sqlite.join("; "), postgres }
    }
}

impl Transaction {
    /// Reads all of these, in their order, each by its lists. By lists that are empty nothing is found, and nothing is asked.
    pub(super) async fn read<const N: usize>(
        &self,
        reads: &Reads<N>,
        lists: [Vec<List>; N],
    ) -> Result<[Vec<QueryResult>; N], StoreError> {
        let backend = self.db.get_database_backend();
        let mut found = [const { Vec::new() }; N];
        if backend != DbBackend::Sqlite {
            for ((sql, lists), found) in reads.postgres.iter().zip(lists).zip(&mut found) {
                if !lists.iter().all(List::is_empty) {
                    let statement =
                        Statement::from_sql_and_values(backend, sql, lists.into_iter().map(Into::into));
                    *found = self.db.query_all_raw(statement).await?;
                }
            }
            return Ok(found);
        }
        if lists.iter().flatten().all(List::is_empty) {
            return Ok(found);
        }
        let lists = lists.into_iter().flatten().map(Into::into);
        for row in
            self.db.query_all_raw(Statement::from_sql_and_values(backend, &reads.sqlite, lists)).await?
        {
            let read: i64 = row.try_get("", READ)?;
            if let Some(found) = usize::try_from(read).ok().and_then(|read| found.get_mut(read)) {
                found.push(row);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use entity::{customer, tenant};
    use sea_orm::{EntityTrait, QueryFilter, QueryTrait};

    use super::*;
    use crate::store::connect::tests::empty_sqlite;
    use crate::store::lists::any_in;

    fn both() -> Reads<2> {
        Reads::of(|backend| {
            let customers = customer::Entity::find().filter(any_in(backend, [customer::Column::Id]));
            let columns = [tenant::Column::StripeCustomerId, tenant::Column::Id];
            let tenants = tenant::Entity::find().filter(any_in(backend, columns));
            [customers.into_query(), tenants.into_query()]
        })
    }

    #[tokio::test]
    async fn each_row_is_with_the_read_that_found_it() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        let transaction = store.begin().await.expect("it begins");
        let odd = "cus_\"\\ä";
        let rows = r#"INSERT INTO "customer" ("id") VALUES ('cus_a'), ('cus_"\ä');
            INSERT INTO "tenant" ("id", "stripe_customer_id", "customer_generation", "created_at_ms", "updated_at_ms")
            VALUES ('a', 'cus_a', 1, 1, 1), ('b', 'cus_b', 1, 1, 1), ('c', NULL, 0, 1, 1)"#;
        transaction.db.execute_unprepared(rows).await.expect("they are inserted");
        let lists = [vec![List::of([odd])], vec![List::of(["cus_a", "cus_x"]), List::of(["c"])]];
        let [customers, tenants] = transaction.read(&both(), lists).await.expect("they are read");
        let ids = |rows: &[QueryResult]| {
            rows.iter().map(|row| row.try_get("", "id")).collect::<Result<Vec<String>, _>>()
        };
        assert_eq!(ids(&customers).expect("ids"), [odd]);
        let mut tenants = ids(&tenants).expect("ids");
        tenants.sort();
        assert_eq!(tenants, ["a", "c"]);
        let none = || List::of(Vec::<String>::new());
        let nothing = transaction.read(&both(), [vec![none()], vec![none(), none()]]).await;
        assert!(nothing.expect("nothing is asked").iter().all(Vec::is_empty));
    }

    #[test]
    fn postgres_is_asked_for_each_by_itself() {
        let [customers, tenants] = both().postgres;
        assert!(
            customers.ends_with(
                r#"WHERE "customer"."id" = ANY(ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))"#
            ),
            "{customers}"
        );
        assert!(tenants.contains("$1::jsonb") && tenants.contains("$2::jsonb"), "{tenants}");
    }
}
