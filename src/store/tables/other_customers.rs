//! Customers that name a tenant which has another one: the operator decides which of them the tenant keeps.

use entity::customer;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::rows;
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::{Store, StoreError};

/// How many such customers of one tenant matter: it can hardly have bought as more.
const MAX_OF_TENANT: u64 = 5;

impl Store {
    /// The customers that name this tenant although it has another one.
    pub async fn other_customers_of(&self, tenant: &TenantId) -> Result<Vec<CustomerId>, StoreError> {
        let of_tenant = others().filter(customer::Column::NamedTenantId.eq(tenant.as_str()));
        let rows = of_tenant.limit(MAX_OF_TENANT).all(&self.db).await?;
        rows.iter().map(|row| rows::id("customer", &row.id)).collect()
    }

    /// Some tenants and the customers that name them although they have another one.
    pub async fn other_customers(&self, most: u64) -> Result<Vec<(TenantId, CustomerId)>, StoreError> {
        let named = others().filter(customer::Column::NamedTenantId.is_not_null());
        let rows = named.limit(most).all(&self.db).await?;
        let pair = |row: &customer::Model| {
            let tenant = row.named_tenant_id.as_deref().unwrap_or_default();
            Ok((rows::tenant_id("customer", tenant)?, rows::id("customer", &row.id)?))
        };
        rows.iter().map(pair).collect()
    }
}

/// Neither one that is gone, nor one that the operator has taken from its tenant.
fn others() -> Select<customer::Entity> {
    customer::Entity::find()
        .filter(customer::Column::DeletedAtMs.is_null())
        .filter(customer::Column::WithheldAtMs.is_null())
        .order_by_asc(customer::Column::NamedTenantId)
        .order_by_asc(customer::Column::Id)
}
