//! The inbox: all events with their outcomes.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub event_type: String,
    pub api_version: Option<String>,
    pub created: i64,
    pub stripe_request_id: Option<String>,
    pub customer_id: Option<String>,
    pub subscription_id: Option<String>,
    pub tenant_id: Option<String>,
    pub journey_id: Option<String>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    pub payload: Option<Vec<u8>>,
    pub received_at_ms: i64,
    pub attempts: i64,
    pub retry_at_ms: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
