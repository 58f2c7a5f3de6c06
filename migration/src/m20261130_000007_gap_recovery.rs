//! How far the recovery from a gap of more than 30 days has come.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string, string_null};

/// Adds the table. It has a row while a recovery is not finished.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let gap_recovery = Table::create()
            .table("gap_recovery")
            .col(big_integer("id").primary_key())
            // Stripe's time.
            .col(big_integer("started_at"))
            .col(string("step"))
            // The last tenant or subscription that is done.
            .col(string_null("after"))
            .to_owned();
        manager.create_table(gap_recovery).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("gap_recovery").to_owned()).await
    }
}
