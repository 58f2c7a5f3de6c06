//! The state of the background work: refreshes, leases, the progress of the backfill, and the
//! retries of failed events.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string, string_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [refresh(), lease(), backfill()] {
            manager.create_table(table).await?;
        }
        let due = Index::create().name("ix_refresh_due_at_ms").table("refresh").col("due_at_ms").to_owned();
        manager.create_index(due).await?;
        // One at a time: SQLite adds one column per statement.
        for column in [big_integer("attempts").default(0).to_owned(), big_integer_null("retry_at_ms")] {
            manager.alter_table(Table::alter().table("event").add_column(column).to_owned()).await?;
        }
        // Events that failed before there were retries are due.
        let due = Query::update()
            .table("event")
            .value("retry_at_ms", Expr::col("received_at_ms"))
            .and_where(Expr::col("outcome").eq("failed"))
            .to_owned();
        manager.execute(due).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["retry_at_ms", "attempts"] {
            manager.alter_table(Table::alter().table("event").drop_column(column).to_owned()).await?;
        }
        for table in ["backfill", "lease", "refresh"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// What to read from Stripe. One row for each subscription or customer, however often the refresh
/// is requested.
fn refresh() -> TableCreateStatement {
    Table::create()
        .table("refresh")
        .col(string("subject").primary_key())
        .col(string("customer_id"))
        .col(string("tenant_id"))
        .col(string("reason"))
        .col(string_null("event_id"))
        .col(string_null("traceparent"))
        .col(big_integer("version"))
        .col(big_integer("attempts"))
        .col(big_integer("due_at_ms"))
        .to_owned()
}

/// Work that only one replica does at a time. Its holder, and its end by the database's clock.
fn lease() -> TableCreateStatement {
    Table::create()
        .table("lease")
        .col(string("name").primary_key())
        .col(string("token"))
        .col(big_integer("expires_at_ms"))
        .to_owned()
}

/// A single row: every event up to `watermark`, in Stripe's seconds, is in the inbox.
fn backfill() -> TableCreateStatement {
    Table::create()
        .table("backfill")
        .col(big_integer("id").primary_key())
        .col(big_integer("watermark"))
        .col(big_integer("finished_at_ms"))
        .col(big_integer("leapt_at"))
        .to_owned()
}
