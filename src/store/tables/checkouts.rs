//! The checkout sessions that Billhook created.

use entity::{checkout, tenant};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::rows;
use crate::domain::batch::Batch;
use crate::domain::ids::{SessionId, TenantId};
use crate::domain::tenant::{Checkout, CheckoutStatus};
use crate::store::{Store, StoreError, Transaction};

impl Store {
    /// The checkouts to look at before a new one starts: those that are open as far as we know, and
    /// the latest one.
    pub async fn checkouts_to_check(&self, tenant: &TenantId) -> Result<Vec<Checkout>, StoreError> {
        let mut pending = self.open_checkouts(&self.db, tenant).await?;
        let last = checkout::Entity::find()
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .order_by_desc(checkout::Column::CreatedAtMs)
            .order_by_desc(checkout::Column::SessionId)
            .one(&self.db)
            .await?;
        if let Some(last) = last.as_ref().map(rows::checkout).transpose()?
            && pending.iter().all(|open| open.session != last.session)
        {
            pending.push(last);
        }
        Ok(pending)
    }

    /// `None` if it belongs to another tenant.
    pub async fn checkout(
        &self,
        tenant: &TenantId,
        session: &SessionId,
    ) -> Result<Option<Checkout>, StoreError> {
        let found = checkout::Entity::find_by_id(session.as_str())
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .one(&self.db)
            .await?;
        found.as_ref().map(rows::checkout).transpose()
    }

    /// Stores a session that Stripe has just created. Returns `false` if the tenant has another
    /// open one, or no longer has the customer. Locks the tenant's row, so that of two concurrent
    /// requests only one succeeds.
    pub async fn insert_checkout(&self, checkout: &Checkout, now_ms: i64) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        let tenant = tenant::Entity::find_by_id(checkout.tenant.as_str()).lock_exclusive();
        let customer = tenant.one(&transaction.db).await?.and_then(|tenant| tenant.stripe_customer_id);
        if customer.as_deref() != Some(checkout.customer.as_str()) {
            return Ok(false);
        }
        if !self.open_checkouts(&transaction.db, &checkout.tenant).await?.is_empty() {
            return Ok(false);
        }
        let row = rows::checkout_row(checkout, now_ms);
        checkout::Entity::insert(row).exec_without_returning(&transaction.db).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn open_checkouts(
        &self,
        db: &impl ConnectionTrait,
        tenant: &TenantId,
    ) -> Result<Vec<Checkout>, StoreError> {
        let open = checkout::Entity::find()
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .filter(checkout::Column::Status.eq(CheckoutStatus::Open.as_str()))
            .order_by_asc(checkout::Column::CreatedAtMs)
            .all(db)
            .await?;
        open.iter().map(rows::checkout).collect()
    }

    /// Records that we expired a session, unless an event has already recorded how it ended.
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
            .exec(&self.writer)
            .await?;
        Ok(())
    }
}

impl Transaction {
    pub(in crate::store) async fn save_checkouts(
        &self,
        batch: &Batch,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        use checkout::Column::{SessionId, Status, SubscriptionId, UpdatedAtMs};
        let changed = batch.changes().checkouts.iter().filter_map(|id| batch.checkout(id));
        let changed: Vec<_> = changed.map(|checkout| rows::checkout_row(checkout, now_ms)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let columns = [Status, SubscriptionId, UpdatedAtMs];
        checkout::Entity::insert_many(changed)
            .on_conflict(OnConflict::column(SessionId).update_columns(columns).to_owned())
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}
