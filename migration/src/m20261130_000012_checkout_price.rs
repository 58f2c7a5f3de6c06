//! The price of each checkout session.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::string_null;

/// An older session is not reused, since its price is unknown.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = string_null("price_id");
        manager.alter_table(Table::alter().table("checkout").add_column(column).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("checkout").drop_column("price_id").to_owned()).await
    }
}
