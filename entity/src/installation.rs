//! One row: whether this database holds test or live data, and of which account.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub mode: String,
    pub account_id: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
