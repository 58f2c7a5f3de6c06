//! The journal: every change of a tenant's billing. Append-only.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "transition")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub entry: String,
    pub tenant_id: String,
    pub customer_id: String,
    pub subscription_id: Option<String>,
    pub from_status: Option<String>,
    pub to_status: Option<String>,
    pub cause: String,
    pub event_id: Option<String>,
    pub created: i64,
    pub journey_id: Option<String>,
    pub trace_id: Option<String>,
    pub recorded_at_ms: i64,
}

impl ActiveModelBehavior for ActiveModel {}
