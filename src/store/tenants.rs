//! Tenants, read.

use entity::tenant;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError, rows};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::tenant::Tenant;

impl Store {
    /// The tenant, if anything has ever happened to its billing.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        row.as_ref().map(rows::tenant).transpose()
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
        let read = |(tenant, customer): &(String, String)| {
            Ok((rows::id("tenant", tenant)?, rows::id("tenant", customer)?))
        };
        linked.iter().map(read).collect()
    }
}
