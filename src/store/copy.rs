//! Copies a SQLite database into an empty PostgreSQL database, in batches. An interrupted copy
//! continues after its last batch.
//!
//! Both databases get a row with the same random token. The service and the commands reject the
//! target until the copy is finished. When they use the source, they delete its row, because its
//! data may then differ from the copied data.

use entity::{
    backfill, checkout, customer, database_copy, deployment, event, gap_recovery, installation, known_price,
    lease, observation, refresh, retention, subscription, tenant, transition,
};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Order};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IdenStatic,
    IntoActiveModel, Iterable, PaginatorTrait, PrimaryKeyTrait, QueryFilter, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::{Store, StoreError, Transaction};

/// The id of the single row.
const ROW_ID: i64 = 1;

/// In one transaction. All rows of a batch are in memory, with payloads of up to 1 MiB each.
const BATCH_ROWS: u64 = 64;

/// The alias of SQLite's rowid. No table is created WITHOUT ROWID.
const ROWID_ALIAS: &str = "copied_rowid";

#[derive(Debug)]
pub struct DatabaseCopy {
    source: Store,
    target: Store,
    token: String,
    /// The table being copied, and the rowid of its last copied row.
    position: Option<(String, i64)>,
    finished_at_ms: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("--from: {0}")]
    Source(#[source] StoreError),
    #[error("DATABASE_URL: {0}")]
    Target(#[source] StoreError),
    #[error("DATABASE_URL: the table {0} of the database has rows; use an empty database")]
    NotEmpty(&'static str),
    #[error("DATABASE_URL: the database was filled from another one; use an empty database")]
    FilledFromAnother,
    #[error(
        "--from: the database was used after the copy started, or is another one; drop the database of DATABASE_URL, create \
         it again, and start the copy again"
    )]
    SourceUsed,
    #[error(
        "the table {table} has {source_rows} rows, and {target_rows} were copied; drop the database of DATABASE_URL, create \
         it again, and start the copy again"
    )]
    Incomplete { table: &'static str, source_rows: u64, target_rows: u64 },
}

/// Takes the tables in the order in which they are copied.
macro_rules! copied_tables {
    ($($table:ident),+ $(,)?) => {
        const COPIED_TABLES: &[&str] = &[$(stringify!($table)),+];

        /// Per table.
        async fn count_rows(db: &impl ConnectionTrait) -> Result<Vec<u64>, StoreError> {
            Ok(vec![$($table::Entity::find().count(db).await?),+])
        }

        async fn first_nonempty_table(db: &impl ConnectionTrait) -> Result<Option<&'static str>, StoreError> {
            $(if $table::Entity::find().limit(1).one(db).await?.is_some() {
                return Ok(Some(stringify!($table)));
            })+
            Ok(None)
        }

        impl DatabaseCopy {
            async fn copy_tables(&self, on_copied: &impl Fn(u64)) -> Result<(), CopyError> {
                $(self.copy_table::<$table::Entity>(on_copied).await?;)+
                Ok(())
            }
        }

        impl Transaction {
            async fn set_sequences(&self) -> Result<(), StoreError> {
                $(self.set_sequence::<$table::Entity>().await?;)+
                Ok(())
            }
        }
    };
}

copied_tables!(
    installation,
    deployment,
    tenant,
    customer,
    subscription,
    checkout,
    event,
    transition,
    refresh,
    known_price,
    lease,
    backfill,
    gap_recovery,
    observation,
    retention,
);

impl DatabaseCopy {
    /// Migrates both databases, and starts a copy or continues an interrupted one.
    pub async fn start(source: Store, target: Store) -> Result<Self, CopyError> {
        source.migrate_schema().await.map_err(CopyError::Source)?;
        target.migrate_schema().await.map_err(CopyError::Target)?;
        let from = source.copy_row().await.map_err(CopyError::Source)?.filter(|row| row.is_source);
        let into = target.copy_row().await.map_err(CopyError::Target)?;
        let Some(into) = into else { return Self::start_new(source, target).await };
        if from.is_none_or(|from| from.token != into.token) {
            let is_finished = into.finished_at_ms.is_some();
            return Err(if is_finished { CopyError::FilledFromAnother } else { CopyError::SourceUsed });
        }
        let position = into.copied_table.zip(into.copied_row);
        Ok(Self { source, target, token: into.token, position, finished_at_ms: into.finished_at_ms })
    }

    async fn start_new(source: Store, target: Store) -> Result<Self, CopyError> {
        if let Some(table) = first_nonempty_table(&target.db).await.map_err(CopyError::Target)? {
            return Err(CopyError::NotEmpty(table));
        }
        let token = Uuid::new_v4().to_string();
        source.insert_copy_row(&token, true).await.map_err(CopyError::Source)?;
        target.insert_copy_row(&token, false).await.map_err(CopyError::Target)?;
        Ok(Self { source, target, token, position: None, finished_at_ms: None })
    }

    /// In Unix milliseconds.
    pub fn finished_at_ms(&self) -> Option<i64> {
        self.finished_at_ms
    }

    /// Returns the number of rows.
    pub async fn count_source(&self) -> Result<u64, CopyError> {
        Ok(count_rows(&self.source.db).await.map_err(CopyError::Source)?.iter().sum())
    }

    /// Returns the number of rows that earlier runs have copied.
    pub async fn count_copied(&self) -> Result<u64, CopyError> {
        let counted = async {
            let transaction = self.target.begin().await?;
            transaction.lift_time_limit().await?;
            count_rows(&transaction.db).await
        };
        Ok(counted.await.map_err(CopyError::Target)?.iter().sum())
    }

    /// Copies the remaining rows, and compares the numbers of rows. Calls `on_copied` with the size
    /// of each batch. Returns the total number of rows.
    pub async fn run(&self, now_ms: i64, on_copied: impl Fn(u64)) -> Result<u64, CopyError> {
        self.copy_tables(&on_copied).await?;
        let source = count_rows(&self.source.db).await.map_err(CopyError::Source)?;
        let transaction = self.target.begin().await.map_err(CopyError::Target)?;
        let target = transaction.count_copied().await.map_err(CopyError::Target)?;
        let counts = COPIED_TABLES.iter().zip(source.iter().copied().zip(target));
        for (table, (source_rows, target_rows)) in counts {
            if source_rows != target_rows {
                return Err(CopyError::Incomplete { table, source_rows, target_rows });
            }
        }
        transaction.finish_copy(now_ms).await.map_err(CopyError::Target)?;
        Ok(source.iter().sum())
    }

    async fn copy_table<E>(&self, on_copied: &impl Fn(u64)) -> Result<(), CopyError>
    where
        E: EntityTrait,
        E::Model: IntoActiveModel<E::ActiveModel>,
        E::ActiveModel: ActiveModelTrait<Entity = E>,
    {
        let table = E::default().table_name().to_owned();
        let Some(mut after) = self.last_copied_row(&table) else { return Ok(()) };
        loop {
            let rows = self.source.rows_after::<E>(after).await.map_err(CopyError::Source)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            let models: Vec<E::Model> = rows.into_iter().map(|(_, model)| model).collect();
            let count = models.len() as u64;
            self.insert_batch::<E>(models, &table, after).await.map_err(CopyError::Target)?;
            on_copied(count);
        }
    }

    /// The rowid after which the copy of the table continues. `None`: the table is finished.
    fn last_copied_row(&self, table: &str) -> Option<i64> {
        let Some((at, row)) = &self.position else { return Some(i64::MIN) };
        let index = |name: &str| COPIED_TABLES.iter().position(|copied| *copied == name);
        match index(table).cmp(&index(at)) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(*row),
            std::cmp::Ordering::Greater => Some(i64::MIN),
        }
    }

    async fn insert_batch<E>(&self, models: Vec<E::Model>, table: &str, last: i64) -> Result<(), StoreError>
    where
        E: EntityTrait,
        E::Model: IntoActiveModel<E::ActiveModel>,
        E::ActiveModel: ActiveModelTrait<Entity = E>,
    {
        let transaction = self.target.begin().await?;
        let rows = models.into_iter().map(|model| model.into_active_model().reset_all());
        E::insert_many(rows).exec_without_returning(&transaction.db).await?;
        let position = database_copy::ActiveModel {
            copied_table: Set(Some(table.to_owned())),
            copied_row: Set(Some(last)),
            ..Default::default()
        };
        let updated = database_copy::Entity::update_many()
            .set(position)
            .filter(database_copy::Column::Token.eq(self.token.as_str()))
            .exec(&transaction.db)
            .await?;
        if updated.rows_affected != 1 {
            return Err(StoreError::rejected("the row of this copy is gone"));
        }
        transaction.commit().await
    }
}

impl Transaction {
    /// Removes the statement timeout, for work on whole tables.
    pub(super) async fn lift_time_limit(&self) -> Result<(), StoreError> {
        if self.db.get_database_backend() == sea_orm::DbBackend::Postgres {
            self.db.execute_unprepared("SET LOCAL statement_timeout = 0").await?;
        }
        Ok(())
    }

    async fn count_copied(&self) -> Result<Vec<u64>, StoreError> {
        self.lift_time_limit().await?;
        count_rows(&self.db).await
    }

    async fn finish_copy(self, now_ms: i64) -> Result<(), StoreError> {
        self.set_sequences().await?;
        let finished = database_copy::ActiveModel {
            id: Set(ROW_ID),
            finished_at_ms: Set(Some(now_ms)),
            ..Default::default()
        };
        finished.update(&self.db).await?;
        self.commit().await
    }

    /// The next generated number follows the highest copied one.
    async fn set_sequence<E: EntityTrait>(&self) -> Result<(), StoreError> {
        if !E::PrimaryKey::auto_increment() {
            return Ok(());
        }
        for key in E::PrimaryKey::iter() {
            let (table, column) = (E::default().table_name().to_owned(), key.as_str());
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), MAX({column})) FROM {table}"
            );
            self.db.execute_unprepared(&sql).await?;
        }
        Ok(())
    }
}

impl Store {
    /// The next rows of the source, each with its rowid.
    async fn rows_after<E: EntityTrait>(&self, after: i64) -> Result<Vec<(i64, E::Model)>, StoreError> {
        let rowid = || Expr::cust("rowid");
        let mut next = E::find().expr_as(rowid(), ROWID_ALIAS).limit(BATCH_ROWS).into_query();
        next.and_where(rowid().gt(after)).order_by_expr(rowid(), Order::Asc);
        let rows = self.db.query_all(&next).await?;
        let read = |row: &sea_orm::QueryResult| {
            Ok((row.try_get("", ROWID_ALIAS)?, E::Model::from_query_result(row, "")?))
        };
        rows.iter().map(read).collect()
    }

    async fn copy_row(&self) -> Result<Option<database_copy::Model>, StoreError> {
        Ok(database_copy::Entity::find_by_id(ROW_ID).one(&self.db).await?)
    }

    /// A source can have the row of an earlier, abandoned copy. A target has none.
    async fn insert_copy_row(&self, token: &str, is_source: bool) -> Result<(), StoreError> {
        let row = database_copy::ActiveModel {
            id: Set(ROW_ID),
            token: Set(token.to_owned()),
            is_source: Set(is_source),
            copied_table: Set(None),
            copied_row: Set(None),
            finished_at_ms: Set(None),
        };
        let mut insert = database_copy::Entity::insert(row);
        if is_source {
            use database_copy::Column::{Id, Token};
            insert = insert.on_conflict(OnConflict::column(Id).update_column(Token).to_owned());
        }
        insert.exec_without_returning(&self.writer).await?;
        Ok(())
    }

    /// Called before the database is used. Fails while it is the target of an unfinished copy. If
    /// it is the source of a copy, that copy cannot continue from now on.
    pub async fn check_copy(&self) -> Result<(), StoreError> {
        match self.copy_row().await? {
            Some(row) if row.is_source => {
                database_copy::Entity::delete_by_id(ROW_ID).exec(&self.writer).await?;
                Ok(())
            }
            Some(row) if row.finished_at_ms.is_none() => Err(StoreError::rejected(
                "`billhook migrate --from` has not finished copying into it; run it again",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sea_orm::{DbBackend, Statement};

    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    /// The copy's own row, and the applied migrations, which the target has.
    const NOT_COPIED: [&str; 2] = ["database_copy", "seaql_migrations"];

    #[tokio::test]
    async fn every_table_is_copied() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let tables = store.db.query_all_raw(Statement::from_string(DbBackend::Sqlite, tables)).await;
        let tables: BTreeSet<String> =
            tables.expect("tables").iter().map(|row| row.try_get("", "name").expect("a name")).collect();
        let copied = COPIED_TABLES.iter().chain(&NOT_COPIED).map(|name| (*name).to_owned()).collect();
        assert_eq!(tables, copied, "add a new table to `copied_tables!`");
    }
}
