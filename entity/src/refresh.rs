//! Refreshes: what to read from Stripe, and when.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refresh")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    pub customer_id: String,
    pub tenant_id: String,
    pub reason: String,
    pub event_id: Option<String>,
    pub traceparent: Option<String>,
    pub version: i64,
    pub attempts: i64,
    pub due_at_ms: i64,
}

impl ActiveModelBehavior for ActiveModel {}
