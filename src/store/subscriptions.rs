//! Subscriptions, read.

use std::collections::BTreeMap;

use entity::subscription;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError, rows};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::Subscription;

impl Store {
    /// All subscriptions that the tenant has or had.
    pub async fn subscriptions(&self, tenant: &TenantId) -> Result<Vec<Subscription>, StoreError> {
        let held = subscription::Entity::find()
            .filter(subscription::Column::TenantId.eq(tenant.as_str()))
            .all(&self.db)
            .await?;
        held.iter().map(|row| rows::subscription(row).map(|held| held.subscription)).collect()
    }

    /// The same of several tenants, in one statement. A tenant that has none is there with none.
    pub async fn subscriptions_of_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<BTreeMap<TenantId, Vec<Subscription>>, StoreError> {
        let held = subscription::Entity::find()
            .filter(subscription::Column::TenantId.is_in(tenants.iter().map(TenantId::as_str)))
            .all(&self.db)
            .await?;
        let mut of_tenants: BTreeMap<_, Vec<_>> =
            tenants.iter().map(|tenant| (tenant.clone(), Vec::new())).collect();
        for row in &held {
            let held = rows::subscription(row)?;
            of_tenants.entry(held.tenant).or_default().push(held.subscription);
        }
        Ok(of_tenants)
    }

    /// All subscriptions of a customer that we hold.
    pub async fn subscriptions_of(&self, customer: &CustomerId) -> Result<Vec<Subscription>, StoreError> {
        let held = subscription::Entity::find()
            .filter(subscription::Column::CustomerId.eq(customer.as_str()))
            .all(&self.db)
            .await?;
        held.iter().map(|row| rows::subscription(row).map(|held| held.subscription)).collect()
    }

    /// The revision of a subscription that we hold.
    pub async fn revision(&self, id: &SubscriptionId) -> Result<Option<i64>, StoreError> {
        let row = subscription::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        Ok(row.map(|row| row.revision))
    }
}
