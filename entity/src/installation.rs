//! A single row: the mode (test or live) and the Stripe account of the data.

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
