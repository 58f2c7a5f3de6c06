//! Customers that name a tenant which has another one: events of them wait for the operator.

use entity::event;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError, rows};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::outcome::{NEVER_LINKED, OTHER_CUSTOMER, Outcome};

/// How many such customers of one tenant matter: it can hardly have bought as more.
const MAX_OF_TENANT: u64 = 5;

impl Store {
    /// The customers that name this tenant although it has another one, also those whose events have waited for too long.
    pub async fn other_customers_of(&self, tenant: &TenantId) -> Result<Vec<CustomerId>, StoreError> {
        let never_linked = event::Column::Reason.eq(NEVER_LINKED);
        let customers: Vec<String> = event::Entity::find()
            .select_only()
            .distinct()
            .column(event::Column::CustomerId)
            .filter(event::Column::TenantId.eq(tenant.as_str()))
            .filter(event::Column::CustomerId.is_not_null())
            .filter(event::Column::Reason.eq(OTHER_CUSTOMER).or(never_linked))
            .order_by_asc(event::Column::CustomerId)
            .limit(MAX_OF_TENANT)
            .into_tuple()
            .all(&self.db)
            .await?;
        let mut others = Vec::new();
        for id in customers {
            let customer = rows::id("event", &id)?;
            if self.tenant_of(&customer).await?.is_none() {
                others.push(customer);
            }
        }
        Ok(others)
    }

    /// Notes on the parked events of a customer which tenant it names, although that has another customer.
    pub async fn note_other_customer(
        &self,
        customer: &CustomerId,
        tenant: &TenantId,
    ) -> Result<(), StoreError> {
        let named = event::ActiveModel {
            tenant_id: Set(Some(tenant.to_string())),
            reason: Set(Some(OTHER_CUSTOMER.to_owned())),
            ..Default::default()
        };
        event::Entity::update_many()
            .set(named)
            .filter(event::Column::CustomerId.eq(customer.as_str()))
            .filter(event::Column::Outcome.eq(Outcome::Parked.as_str()))
            .exec(&self.writer)
            .await?;
        Ok(())
    }

    /// Some tenants and the customers that name them although they have another one.
    pub async fn other_customers(&self, most: u64) -> Result<Vec<(TenantId, CustomerId)>, StoreError> {
        // As a literal: the index is of parked events alone, and a value that comes later could be any.
        let is_parked =
            event::Column::Outcome.into_expr().eq(Expr::Constant(Outcome::Parked.as_str().into()));
        let pairs: Vec<(String, String)> = event::Entity::find()
            .select_only()
            .distinct()
            .column(event::Column::TenantId)
            .column(event::Column::CustomerId)
            .filter(is_parked)
            .filter(event::Column::Reason.eq(OTHER_CUSTOMER))
            .filter(event::Column::TenantId.is_not_null())
            .filter(event::Column::CustomerId.is_not_null())
            .order_by_asc(event::Column::TenantId)
            .limit(most)
            .into_tuple()
            .all(&self.db)
            .await?;
        let pair = |(tenant, customer): &(String, String)| {
            Ok((rows::tenant_id("event", tenant)?, rows::id("event", customer)?))
        };
        pairs.iter().map(pair).collect()
    }
}
