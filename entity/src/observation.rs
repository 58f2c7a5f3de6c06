//! The times when something was first and last seen.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "observation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub first_at_ms: i64,
    pub last_at_ms: i64,
    pub detail: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
