//! Up to when the payloads of old events were deleted.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let retention = Table::create()
            .table("retention")
            .col(big_integer("id").primary_key())
            // The payloads of events received before this time were deleted.
            .col(big_integer("dropped_before_ms"))
            .to_owned();
        manager.create_table(retention).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("retention").to_owned()).await
    }
}
