//! Tenants and their linked customers.

use std::collections::BTreeMap;

use entity::tenant;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, EntityTrait, Iterable, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use super::rows;
use crate::domain::batch::{Batch, Changes};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::tenant::Tenant;
use crate::store::{Store, StoreError, Transaction};

impl Store {
    /// `None` if nothing has happened in the tenant's billing yet.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        row.as_ref().map(rows::tenant).transpose()
    }

    /// The tenant that the customer is linked to.
    pub async fn tenant_of(&self, customer: &CustomerId) -> Result<Option<TenantId>, StoreError> {
        let row = tenant::Entity::find()
            .filter(tenant::Column::StripeCustomerId.eq(customer.as_str()))
            .one(&self.db)
            .await?;
        row.map(|row| rows::tenant_id("tenant", &row.id)).transpose()
    }

    /// A page of tenants by id: all, or only those with (`Some(true)`) or without a customer.
    pub async fn tenants(
        &self,
        linked: Option<bool>,
        after: Option<&TenantId>,
        limit: u64,
    ) -> Result<Vec<Tenant>, StoreError> {
        let customer = tenant::Column::StripeCustomerId;
        let rows = tenant::Entity::find()
            .filter(tenant::Column::Id.gt(after.map(TenantId::as_str).unwrap_or_default()))
            .apply_if(linked, |tenants, linked| {
                tenants.filter(if linked { customer.is_not_null() } else { customer.is_null() })
            })
            .order_by_asc(tenant::Column::Id)
            .limit(limit)
            .all(&self.db)
            .await?;
        rows.iter().map(rows::tenant).collect()
    }

    /// The customers of the given tenants. Tenants without a customer are left out.
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

    /// The customers that were linked last, without `except`.
    pub async fn latest_customers(
        &self,
        except: &CustomerId,
        limit: u64,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let latest: Vec<String> = tenant::Entity::find()
            .select_only()
            .column(tenant::Column::StripeCustomerId)
            .filter(tenant::Column::StripeCustomerId.is_not_null())
            .filter(tenant::Column::StripeCustomerId.ne(except.as_str()))
            .order_by_desc(tenant::Column::UpdatedAtMs)
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?;
        latest.iter().map(|id| rows::id("tenant", id)).collect()
    }

    pub async fn count_linked_tenants(&self) -> Result<u64, StoreError> {
        let linked = tenant::Entity::find().filter(tenant::Column::StripeCustomerId.is_not_null());
        Ok(linked.count(&self.db).await?)
    }

    /// A page of tenants with a customer, by tenant id.
    pub async fn linked_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u64,
    ) -> Result<Vec<(TenantId, CustomerId)>, StoreError> {
        let linked: Vec<(String, String)> = tenant::Entity::find()
            .select_only()
            .columns([tenant::Column::Id, tenant::Column::StripeCustomerId])
            .filter(tenant::Column::Id.gt(after.map(TenantId::as_str).unwrap_or_default()))
            .filter(tenant::Column::StripeCustomerId.is_not_null())
            .order_by_asc(tenant::Column::Id)
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?;
        linked.iter().map(pair).collect()
    }
}

impl Transaction {
    /// Only locked tenants are updated. A new tenant that another transaction has inserted in the
    /// meantime is a duplicate key.
    pub(in crate::store) async fn save_tenants(&self, batch: &Batch, now_ms: i64) -> Result<(), StoreError> {
        use tenant::Column::{CreatedAtMs, Id};
        let Changes { tenants, new_tenants, .. } = batch.changes();
        let row = |id: &TenantId| batch.tenant(id).map(|tenant| rows::tenant_row(tenant, now_ms));
        let new: Vec<_> = new_tenants.iter().filter_map(row).collect();
        if !new.is_empty() {
            tenant::Entity::insert_many(new).exec_without_returning(&self.db).await?;
        }
        let changed: Vec<_> = tenants.difference(new_tenants).filter_map(row).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let columns = tenant::Column::iter().filter(|column| !matches!(column, Id | CreatedAtMs));
        tenant::Entity::insert_many(changed)
            .on_conflict(OnConflict::column(Id).update_columns(columns).to_owned())
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}

fn pair((tenant, customer): &(String, String)) -> Result<(TenantId, CustomerId), StoreError> {
    Ok((rows::tenant_id("tenant", tenant)?, rows::id("tenant", customer)?))
}
