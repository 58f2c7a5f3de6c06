//! The lookup keys that prices have had, and when each was first seen with its price.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "known_price")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub price_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub lookup_key: String,
    pub seen_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
