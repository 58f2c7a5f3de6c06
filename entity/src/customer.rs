//! All customers that Stripe has named. A deleted customer stays as a tombstone. `withheld_at_ms`
//! marks a customer that the operator unlinked. `deployment_id` is set for a customer of another
//! deployment, and `named_tenant_id` for one that names a tenant with another customer.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "customer")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub deleted_at_ms: Option<i64>,
    pub withheld_at_ms: Option<i64>,
    pub asked_at_ms: Option<i64>,
    pub deployment_id: Option<String>,
    pub named_tenant_id: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
