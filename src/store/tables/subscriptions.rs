//! Subscriptions, read.

use std::collections::{BTreeMap, BTreeSet};

use entity::{checkout, subscription, tenant};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::rows;
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::Subscription;
use crate::domain::tenant::{CheckoutStatus, Holdings};
use crate::store::{Store, StoreError};

impl Store {
    /// What each of these tenants has, in two statements. What cannot be read of one of them is no failure of the others.
    pub async fn holdings_of_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<BTreeMap<TenantId, Result<Holdings, StoreError>>, StoreError> {
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
        let held = subscription::Entity::find()
            .filter(subscription::Column::TenantId.is_in(ids()))
            .all(&self.db)
            .await?;
        let of_tenant = |tenant: &TenantId| {
            let rows = held.iter().filter(|row| row.tenant_id == tenant.as_str());
            let subscriptions = rows.map(|row| rows::subscription(row).map(|held| held.subscription));
            Ok(Holdings {
                has_customer: linked.contains(tenant.as_str()),
                subscriptions: subscriptions.collect::<Result<_, _>>()?,
            })
        };
        Ok(tenants.iter().map(|tenant| (tenant.clone(), of_tenant(tenant))).collect())
    }

    /// All subscriptions of a customer that we hold.
    pub async fn subscriptions_of(&self, customer: &CustomerId) -> Result<Vec<Subscription>, StoreError> {
        let held = subscription::Entity::find()
            .filter(subscription::Column::CustomerId.eq(customer.as_str()))
            .all(&self.db)
            .await?;
        held.iter().map(|row| rows::subscription(row).map(|held| held.subscription)).collect()
    }

    /// Those of these subscriptions that a first payment is awaited for: by what we hold of them, or of their checkout.
    pub async fn awaiting_payment(
        &self,
        ids: impl Iterator<Item = &SubscriptionId>,
    ) -> Result<BTreeSet<SubscriptionId>, StoreError> {
        let ids: Vec<&str> = ids.map(SubscriptionId::as_str).collect();
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let held: Vec<String> = subscription::Entity::find()
            .select_only()
            .column(subscription::Column::Id)
            .filter(subscription::Column::Id.is_in(ids.iter().copied()))
            .filter(subscription::Column::AwaitingPayment.eq(true))
            .into_tuple()
            .all(&self.db)
            .await?;
        let withholding = CheckoutStatus::WITHHOLDING.map(CheckoutStatus::as_str);
        let bought: Vec<Option<String>> = checkout::Entity::find()
            .select_only()
            .column(checkout::Column::SubscriptionId)
            .filter(checkout::Column::SubscriptionId.is_in(ids))
            .filter(checkout::Column::Status.is_in(withholding))
            .into_tuple()
            .all(&self.db)
            .await?;
        let ids = held.into_iter().chain(bought.into_iter().flatten());
        ids.map(|id| rows::id("subscription", &id)).collect()
    }

    /// A subscription, if we hold it.
    pub async fn subscription(&self, id: &SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let row = subscription::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        row.map(|row| rows::subscription(&row).map(|held| held.subscription)).transpose()
    }

    /// The revision of a subscription that we hold.
    pub async fn revision(&self, id: &SubscriptionId) -> Result<Option<i64>, StoreError> {
        let row = subscription::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        Ok(row.map(|row| row.revision))
    }
}
