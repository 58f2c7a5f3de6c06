//! Checkout sessions that Billhook created.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "checkout")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    pub tenant_id: String,
    pub customer_id: String,
    pub plan: String,
    pub price_id: Option<String>,
    pub success_path: String,
    pub cancel_path: String,
    pub status: String,
    pub subscription_id: Option<String>,
    pub journey_id: String,
    pub traceparent: String,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

impl ActiveModelBehavior for ActiveModel {}
