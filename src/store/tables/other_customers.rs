//! Customers that name a tenant that is linked to another customer. The operator decides which of
//! them the tenant keeps.

use entity::customer;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::rows;
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::{Store, StoreError};

/// A tenant can hardly have bought as more customers.
const MAX_OF_TENANT: u64 = 5;

impl Store {
    pub async fn other_customers_of(&self, tenant: &TenantId) -> Result<Vec<CustomerId>, StoreError> {
        let of_tenant = others().filter(customer::Column::NamedTenantId.eq(tenant.as_str()));
        let rows = of_tenant.limit(MAX_OF_TENANT).all(&self.db).await?;
        rows.iter().map(|row| rows::id("customer", &row.id)).collect()
    }

    /// Tenants, each with such a customer.
    pub async fn other_customers(&self, limit: u64) -> Result<Vec<(TenantId, CustomerId)>, StoreError> {
        let named = others().filter(customer::Column::NamedTenantId.is_not_null());
        let rows = named.limit(limit).all(&self.db).await?;
        let pair = |row: &customer::Model| {
            let tenant = row.named_tenant_id.as_deref().unwrap_or_default();
            Ok((rows::tenant_id("customer", tenant)?, rows::id("customer", &row.id)?))
        };
        rows.iter().map(pair).collect()
    }
}

/// Without deleted customers, and without those that the operator unlinked.
fn others() -> Select<customer::Entity> {
    customer::Entity::find()
        .filter(customer::Column::DeletedAtMs.is_null())
        .filter(customer::Column::WithheldAtMs.is_null())
        .order_by_asc(customer::Column::NamedTenantId)
        .order_by_asc(customer::Column::Id)
}
