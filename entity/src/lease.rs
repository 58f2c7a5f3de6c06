//! Leases, for work that only one replica does at a time.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lease")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub token: String,
    pub expires_at_ms: i64,
}

impl ActiveModelBehavior for ActiveModel {}
