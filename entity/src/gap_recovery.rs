//! A single row, the progress of a gap recovery. There is none without an unfinished recovery.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gap_recovery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub started_at: i64,
    pub step: String,
    pub after: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
