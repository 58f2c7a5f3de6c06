//! The progress of a copy of one database into another.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, string, string_null};

/// The table has a row in the source and in the target of a copy.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database_copy = Table::create()
            .table("database_copy")
            .col(big_integer("id").primary_key())
            // Random, and the same in both databases.
            .col(string("token"))
            .col(boolean("is_source"))
            // In the target: the table being copied, and SQLite's rowid of its last copied row.
            .col(string_null("copied_table"))
            .col(big_integer_null("copied_row"))
            .col(big_integer_null("finished_at_ms"))
            .to_owned();
        manager.create_table(database_copy).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("database_copy").to_owned()).await
    }
}
