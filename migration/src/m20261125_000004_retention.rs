//! How far the payloads of old events have been dropped.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer;

/// Makes the table of the one row that remembers it.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let retention = Table::create()
            .table("retention")
            .col(big_integer("id").primary_key())
            // Of the events received before then nothing is left to be dropped.
            .col(big_integer("dropped_before_ms"))
            .to_owned();
        manager.create_table(retention).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("retention").to_owned()).await
    }
}
