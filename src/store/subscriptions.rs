//! Subscriptions, read.

use std::collections::BTreeMap;

use entity::subscription;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError, rows};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::Subscription;

impl Store {
    /// All subscriptions that each of these tenants has or had, in one statement. What cannot be read of one of
    /// them is no failure of the others.
    pub async fn subscriptions_of_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<BTreeMap<TenantId, Result<Vec<Subscription>, StoreError>>, StoreError> {
        let theirs = self.db.one_of(subscription::Column::TenantId, tenants.iter().map(TenantId::as_str));
        let Some(theirs) = theirs else { return Ok(BTreeMap::new()) };
        let held = subscription::Entity::find().filter(theirs).all(&self.db).await?;
        let of_tenant = |tenant: &TenantId| {
            let rows = held.iter().filter(|row| row.tenant_id == tenant.as_str());
            rows.map(|row| rows::subscription(row).map(|held| held.subscription)).collect()
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
