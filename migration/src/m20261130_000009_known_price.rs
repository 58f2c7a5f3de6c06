//! The lookup keys that prices have had: a key can move to another price, and subscribers of the
//! first one stay there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string};
use sea_orm_migration::sea_orm::DbBackend;

/// Fills the table from the items of the subscriptions.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// A subscription that is only known from an announcement has a time before all others.
const FILL_ON_SQLITE: &str = "INSERT INTO known_price (price_id, lookup_key, seen_at)
    SELECT i.value->>'price', i.value->>'lookup_key', MIN(MAX(s.as_of, 0))
    FROM subscription s, json_each(CASE WHEN json_valid(s.items) THEN s.items ELSE '[]' END) i
    WHERE i.value->>'lookup_key' IS NOT NULL GROUP BY 1, 2";
const FILL_ON_POSTGRES: &str = "INSERT INTO known_price (price_id, lookup_key, seen_at)
    SELECT i->>'price', i->>'lookup_key', MIN(GREATEST(s.as_of, 0))
    FROM subscription s, jsonb_array_elements(s.items::jsonb) i
    WHERE i->>'lookup_key' IS NOT NULL GROUP BY 1, 2";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let known_price = Table::create()
            .table("known_price")
            .col(string("price_id"))
            .col(string("lookup_key"))
            // Stripe's time of the first event or response that contained the price with this key.
            .col(big_integer("seen_at"))
            .primary_key(Index::create().col("price_id").col("lookup_key"))
            .to_owned();
        manager.create_table(known_price).await?;
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        let fill = if is_postgres { FILL_ON_POSTGRES } else { FILL_ON_SQLITE };
        manager.get_connection().execute_unprepared(fill).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("known_price").to_owned()).await
    }
}
