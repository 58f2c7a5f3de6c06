//! Runs the migrations.

use std::time::Duration;

use migration::{Migrator, MigratorTrait, SchemaManager};
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};
use tokio::time::sleep;

use super::{Store, StoreError};

/// A migration that locks a whole table can deadlock with a replica that writes. The database then
/// rolls one of them back.
const MAX_MIGRATION_ATTEMPTS: u32 = 5;

const MIGRATION_RETRY_DELAY: Duration = Duration::from_millis(500);

/// The advisory lock that lets one replica migrate at a time: "billhook" in bytes.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"billhook");

impl Store {
    /// Runs the missing migrations in one transaction. Replicas that start at the same time wait
    /// for each other, at SQLite's write lock or at an advisory lock of PostgreSQL.
    ///
    /// Fails if a newer build has migrated the database, since this build does not know its tables.
    /// Fails while the database is the target of an unfinished copy.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate_schema().await?;
        self.check_copy().await
    }

    /// Like [`migrate`](Self::migrate), but allows an unfinished copy.
    pub(super) async fn migrate_schema(&self) -> Result<(), StoreError> {
        for _ in 1..MAX_MIGRATION_ATTEMPTS {
            match self.migrate_once().await {
                Err(error) if error.kind().is_conflict() => sleep(MIGRATION_RETRY_DELAY).await,
                result => return result,
            }
        }
        self.migrate_once().await
    }

    async fn migrate_once(&self) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        if self.db.get_database_backend() == DbBackend::Postgres {
            // A migration may take long, and a replica may wait for another one to finish.
            transaction
                .db
                .execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
                .await?;
            let lock = Query::select()
                .expr(Expr::cust_with_values("pg_advisory_xact_lock($1)", [MIGRATION_LOCK]))
                .to_owned();
            transaction.db.query_one(&lock).await?;
        }
        let database = transaction.db.untraced();
        if let Some(migration) = unknown_migration(database).await? {
            return Err(StoreError::rejected(format_args!(
                "a newer billhook has migrated it ({migration}): run that version, or restore the backup from before the upgrade"
            )));
        }
        Migrator::up(database, None).await?;
        transaction.commit().await
    }

    /// Whether the database has every migration that this build knows.
    pub async fn is_migrated(&self) -> Result<bool, StoreError> {
        if !SchemaManager::new(self.db.untraced()).has_table("seaql_migrations").await? {
            return Ok(false);
        }
        let count =
            Query::select().expr_as(Expr::cust("COUNT(*)"), "applied").from("seaql_migrations").to_owned();
        let Some(row) = self.db.query_one(&count).await? else { return Ok(false) };
        let applied: i64 = row.try_get("", "applied")?;
        Ok(usize::try_from(applied).is_ok_and(|applied| applied >= Migrator::migrations().len()))
    }
}

/// The latest applied migration that this build does not know.
async fn unknown_migration(database: &DatabaseTransaction) -> Result<Option<String>, StoreError> {
    if !SchemaManager::new(database).has_table("seaql_migrations").await? {
        return Ok(None);
    }
    let known: Vec<String> = Migrator::migrations().iter().map(|one| one.name().to_owned()).collect();
    let unknown = Query::select()
        .column("version")
        .from("seaql_migrations")
        .and_where(Expr::col("version").is_not_in(known))
        .order_by("version", Order::Desc)
        .limit(1)
        .to_owned();
    let row = database.query_one(&unknown).await?;
    Ok(row.map(|row| row.try_get("", "version")).transpose()?)
}
