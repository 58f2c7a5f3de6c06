//! How far the copy of one database into another has come.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, string, string_null};

/// Adds the table. It has a row in a database that was copied, and in the one that it is copied into.
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
            // In the target: the table that is copied, and SQLite's rowid of its last row that is copied.
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
