//! Subscriptions. `batch_load` and `batch_save` read and write those of a batch.

use std::collections::{BTreeMap, BTreeSet};

use entity::{checkout, subscription, tenant};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::rows;
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::Subscription;
use crate::domain::tenant::{BillingState, CheckoutStatus};
use crate::store::{Store, StoreError, Transaction};

impl Store {
    /// Two statements for all tenants. If a row of one tenant cannot be read, only that tenant gets
    /// an error.
    pub async fn billing_states(
        &self,
        tenants: &[TenantId],
    ) -> Result<BTreeMap<TenantId, Result<BillingState, StoreError>>, StoreError> {
        let ids = || tenants.iter().map(TenantId::as_str);
        let linked: BTreeSet<String> = tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .filter(tenant::Column::Id.is_in(ids()))
            .filter(tenant::Column::StripeCustomerId.is_not_null())
            .into_tuple()
            .all(&self.db)
            .await?
            .into_iter()
            .collect();
        let found = subscription::Entity::find()
            .filter(subscription::Column::TenantId.is_in(ids()))
            .all(&self.db)
            .await?;
        let of_tenant = |tenant: &TenantId| {
            let rows = found.iter().filter(|row| row.tenant_id == tenant.as_str());
            let subscriptions = rows.map(|row| rows::subscription(row).map(|owned| owned.subscription));
            Ok(BillingState {
                has_customer: linked.contains(tenant.as_str()),
                subscriptions: subscriptions.collect::<Result<_, _>>()?,
            })
        };
        Ok(tenants.iter().map(|tenant| (tenant.clone(), of_tenant(tenant))).collect())
    }

    /// All stored subscriptions of a customer.
    pub async fn subscriptions_of(&self, customer: &CustomerId) -> Result<Vec<Subscription>, StoreError> {
        let found = subscription::Entity::find()
            .filter(subscription::Column::CustomerId.eq(customer.as_str()))
            .all(&self.db)
            .await?;
        found.iter().map(|row| rows::subscription(row).map(|owned| owned.subscription)).collect()
    }

    /// The given subscriptions whose first payment is pending, according to the subscription or its
    /// checkout.
    pub async fn awaiting_payment(
        &self,
        ids: impl Iterator<Item = &SubscriptionId>,
    ) -> Result<BTreeSet<SubscriptionId>, StoreError> {
        let ids: Vec<&str> = ids.map(SubscriptionId::as_str).collect();
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let awaiting: Vec<String> = subscription::Entity::find()
            .select_only()
            .column(subscription::Column::Id)
            .filter(subscription::Column::Id.is_in(ids.iter().copied()))
            .filter(subscription::Column::AwaitingPayment.eq(true))
            .into_tuple()
            .all(&self.db)
            .await?;
        let withholding = CheckoutStatus::WITHHOLDING_ACCESS.map(CheckoutStatus::as_str);
        let bought: Vec<Option<String>> = checkout::Entity::find()
            .select_only()
            .column(checkout::Column::SubscriptionId)
            .filter(checkout::Column::SubscriptionId.is_in(ids))
            .filter(checkout::Column::Status.is_in(withholding))
            .into_tuple()
            .all(&self.db)
            .await?;
        let ids = awaiting.into_iter().chain(bought.into_iter().flatten());
        ids.map(|id| rows::id("subscription", &id)).collect()
    }

    pub async fn subscription(&self, id: &SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let row = subscription::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        row.map(|row| rows::subscription(&row).map(|owned| owned.subscription)).transpose()
    }

    pub async fn revision(&self, id: &SubscriptionId) -> Result<Option<i64>, StoreError> {
        let row = subscription::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        Ok(row.map(|row| row.revision))
    }
}

impl Transaction {
    pub(in crate::store) async fn delete_subscriptions(
        &self,
        ids: &BTreeSet<SubscriptionId>,
    ) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let is_removed = subscription::Column::Id.is_in(ids.iter().map(SubscriptionId::as_str));
        subscription::Entity::delete_many().filter(is_removed).exec(&self.db).await?;
        Ok(())
    }
}
