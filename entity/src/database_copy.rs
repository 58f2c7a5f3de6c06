//! A single row, in the source and in the target of a copy.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "database_copy")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub token: String,
    pub is_source: bool,
    pub copied_table: Option<String>,
    pub copied_row: Option<i64>,
    pub finished_at_ms: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
