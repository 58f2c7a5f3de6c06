//! The times when something was first and last seen. `doctor` shows webhooks that are not in the
//! inbox.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string, string_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let observation = Table::create()
            .table("observation")
            .col(string("name").primary_key())
            .col(big_integer("first_at_ms"))
            .col(big_integer("last_at_ms"))
            .col(string_null("detail"))
            .to_owned();
        manager.create_table(observation).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("observation").to_owned()).await
    }
}
