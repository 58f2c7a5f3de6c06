//! Our checkout sessions.

use entity::checkout;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{Store, StoreError, rows};
use crate::domain::ids::{SessionId, TenantId};
use crate::domain::tenant::{Checkout, CheckoutStatus};

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

    /// The tenant's checkouts that are open for all we know.
    pub async fn open_checkouts(&self, tenant: &TenantId) -> Result<Vec<Checkout>, StoreError> {
        let open = checkout::Entity::find()
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .filter(checkout::Column::Status.eq(CheckoutStatus::Open.as_str()))
            .all(&self.db)
            .await?;
        open.iter().map(rows::checkout).collect()
    }

    /// Notes that we closed a session, unless an event was faster to say how it ended.
    pub async fn expire_checkout(&self, session: &SessionId, now_ms: i64) -> Result<(), StoreError> {
        let expired = checkout::ActiveModel {
            status: Set(CheckoutStatus::Expired.as_str().to_owned()),
            updated_at_ms: Set(now_ms),
            ..Default::default()
        };
        checkout::Entity::update_many()
            .set(expired)
            .filter(checkout::Column::SessionId.eq(session.as_str()))
            .filter(checkout::Column::Status.eq(CheckoutStatus::Open.as_str()))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Remembers a session that Stripe has just made for us.
    pub async fn insert_checkout(&self, checkout: &Checkout, now_ms: i64) -> Result<(), StoreError> {
        checkout::Entity::insert(rows::checkout_row(checkout, now_ms))
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}
