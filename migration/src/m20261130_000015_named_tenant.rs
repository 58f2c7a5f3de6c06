//! The tenant that a customer names although that tenant has another customer. The operator decides
//! which of them it keeps.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::string_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const INDEX: &str = "ix_customer_named_tenant_id";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = string_null("named_tenant_id");
        manager.alter_table(Table::alter().table("customer").add_column(column).to_owned()).await?;
        let named = Index::create()
            .name(INDEX)
            .table("customer")
            .col("named_tenant_id")
            .and_where(Expr::col("named_tenant_id").is_not_null())
            .to_owned();
        manager.create_index(named).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).table("customer").to_owned()).await?;
        manager.alter_table(Table::alter().table("customer").drop_column("named_tenant_id").to_owned()).await
    }
}
