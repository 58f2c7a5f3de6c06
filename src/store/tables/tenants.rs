//! Tenants, read.

use std::collections::BTreeMap;

use entity::tenant;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::rows;
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::tenant::Tenant;
use crate::store::{Store, StoreError};

impl Store {
    /// The tenant, if anything has ever happened to its billing.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        row.as_ref().map(rows::tenant).transpose()
    }

    /// The tenant that has this customer.
    pub async fn tenant_of(&self, customer: &CustomerId) -> Result<Option<TenantId>, StoreError> {
        let row = tenant::Entity::find()
            .filter(tenant::Column::StripeCustomerId.eq(customer.as_str()))
            .one(&self.db)
            .await?;
        row.map(|row| rows::tenant_id("tenant", &row.id)).transpose()
    }

    /// Tenants by their ids, from after one of them: all, or those that have a customer, or those that have none.
    pub async fn tenants(
        &self,
        linked: Option<bool>,
        after: Option<&TenantId>,
        most: u64,
    ) -> Result<Vec<Tenant>, StoreError> {
        let customer = tenant::Column::StripeCustomerId;
        let rows = tenant::Entity::find()
            .filter(tenant::Column::Id.gt(after.map(TenantId::as_str).unwrap_or_default()))
            .apply_if(linked, |tenants, linked| {
                tenants.filter(if linked { customer.is_not_null() } else { customer.is_null() })
            })
            .order_by_asc(tenant::Column::Id)
            .limit(most)
            .all(&self.db)
            .await?;
        rows.iter().map(rows::tenant).collect()
    }

    /// Which customers these tenants have, of those that have one.
    pub async fn customers_of(
        &self,
        tenants: impl Iterator<Item = &TenantId>,
    ) -> Result<BTreeMap<TenantId, CustomerId>, StoreError> {
        let linked: Vec<(String, String)> = tenant::Entity::find()
            .select_only()
            .columns([tenant::Column::Id, tenant::Column::StripeCustomerId])
            .filter(tenant::Column::Id.is_in(tenants.map(TenantId::as_str)))
            .filter(tenant::Column::StripeCustomerId.is_not_null())
            .into_tuple()
            .all(&self.db)
            .await?;
        linked.iter().map(pair).collect()
    }

    /// The customers that were linked last, but for one.
    pub async fn latest_customers(&self, but: &CustomerId, most: u64) -> Result<Vec<CustomerId>, StoreError> {
        let latest: Vec<String> = tenant::Entity::find()
            .select_only()
            .column(tenant::Column::StripeCustomerId)
            .filter(tenant::Column::StripeCustomerId.is_not_null())
            .filter(tenant::Column::StripeCustomerId.ne(but.as_str()))
            .order_by_desc(tenant::Column::UpdatedAtMs)
            .limit(most)
            .into_tuple()
            .all(&self.db)
            .await?;
        latest.iter().map(|id| rows::id("tenant", id)).collect()
    }

    /// How many tenants have a customer.
    pub async fn count_linked_tenants(&self) -> Result<u64, StoreError> {
        let linked = tenant::Entity::find().filter(tenant::Column::StripeCustomerId.is_not_null());
        Ok(linked.count(&self.db).await?)
    }

    /// Tenants that have a customer, by their ids, from after one of them.
    pub async fn linked_tenants(
        &self,
        after: Option<&TenantId>,
        most: u64,
    ) -> Result<Vec<(TenantId, CustomerId)>, StoreError> {
        let linked: Vec<(String, String)> = tenant::Entity::find()
            .select_only()
            .columns([tenant::Column::Id, tenant::Column::StripeCustomerId])
            .filter(tenant::Column::Id.gt(after.map(TenantId::as_str).unwrap_or_default()))
            .filter(tenant::Column::StripeCustomerId.is_not_null())
            .order_by_asc(tenant::Column::Id)
            .limit(most)
            .into_tuple()
            .all(&self.db)
            .await?;
        linked.iter().map(pair).collect()
    }
}

fn pair((tenant, customer): &(String, String)) -> Result<(TenantId, CustomerId), StoreError> {
    Ok((rows::tenant_id("tenant", tenant)?, rows::id("tenant", customer)?))
}
