//! The progress of the recovery from a gap of more than 30 days.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string, string_null};

/// The table has a row while a recovery is unfinished.
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
            // The last finished tenant or subscription.
            .col(string_null("after"))
            .to_owned();
        manager.create_table(gap_recovery).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("gap_recovery").to_owned()).await
    }
}
