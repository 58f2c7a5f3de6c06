//! Every customer that Stripe has named to us; a deleted one stays as a tombstone, one that the operator has taken from
//! its tenant is marked, one of another deployment names it,
//! and one that names a tenant with another customer names that.

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
