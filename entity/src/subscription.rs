//! The current state of the subscriptions.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "subscription")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub customer_id: String,
    pub tenant_id: String,
    pub status: String,
    pub started_at: Option<i64>,
    #[sea_orm(column_type = "Text")]
    pub items: String,
    pub current_period_end: Option<i64>,
    pub trial_end: Option<i64>,
    pub cancel_at: Option<i64>,
    pub cancel_at_period_end: bool,
    pub ended_at: Option<i64>,
    pub as_of: i64,
    pub revision: i64,
    pub awaiting_payment: bool,
    pub payment_problem: Option<String>,
    pub payment_noted_at: Option<i64>,
    pub paid_at: Option<i64>,
    pub updated_at_ms: i64,
}

impl ActiveModelBehavior for ActiveModel {}
