//! The deployment of Billhook that the database belongs to, and the customers of other deployments.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string, string_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let deployment = Table::create()
            .table("deployment")
            .col(big_integer("id").primary_key())
            .col(string("deployment_id"))
            .to_owned();
        manager.create_table(deployment).await?;
        let column = string_null("deployment_id");
        manager.alter_table(Table::alter().table("customer").add_column(column).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("customer").drop_column("deployment_id").to_owned()).await?;
        manager.drop_table(Table::drop().table("deployment").to_owned()).await
    }
}
