//! A single row: the progress of the backfill.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backfill")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub watermark: i64,
    pub finished_at_ms: i64,
    pub leapt_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
