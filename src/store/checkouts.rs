//! Our checkout sessions.

use entity::checkout;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{Store, StoreError, rows};
use crate::domain::ids::TenantId;
use crate::domain::tenant::Checkout;

impl Store {
    /// The checkout that the tenant began last.
    pub async fn last_checkout(&self, tenant: &TenantId) -> Result<Option<Checkout>, StoreError> {
        let row = checkout::Entity::find()
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .order_by_desc(checkout::Column::CreatedAtMs)
            .order_by_desc(checkout::Column::SessionId)
            .one(&self.db)
            .await?;
        row.as_ref().map(rows::checkout).transpose()
    }

    /// Remembers a session that Stripe has just made for us.
    pub async fn insert_checkout(&self, checkout: &Checkout, now_ms: i64) -> Result<(), StoreError> {
        checkout::Entity::insert(rows::checkout_row(checkout, now_ms))
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}
