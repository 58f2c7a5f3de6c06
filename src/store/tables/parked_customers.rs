//! Customers of parked events. Stripe is asked once for the tenant of each.

use entity::{customer, event};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::rows;
use crate::domain::ids::CustomerId;
use crate::domain::outcome::Outcome;
use crate::store::{Store, StoreError};

impl Store {
    /// Customers that Stripe was not asked about yet. Without those that the operator unlinked:
    /// only the operator links them again.
    pub async fn unchecked_parked_customers(&self, limit: u64) -> Result<Vec<CustomerId>, StoreError> {
        // A literal, since the partial index of parked events is not used for a parameter.
        let is_parked =
            event::Column::Outcome.into_expr().eq(Expr::Constant(Outcome::Parked.as_str().into()));
        let parked = Query::select()
            .column(event::Column::CustomerId)
            .from(event::Entity)
            .and_where(is_parked)
            .and_where(event::Column::CustomerId.is_not_null())
            .to_owned();
        let ids: Vec<String> = customer::Entity::find()
            .select_only()
            .column(customer::Column::Id)
            .filter(customer::Column::Id.in_subquery(parked))
            .filter(customer::Column::AskedAtMs.is_null())
            .filter(customer::Column::WithheldAtMs.is_null())
            .filter(customer::Column::DeletedAtMs.is_null())
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?;
        ids.iter().map(|id| rows::id("customer", id)).collect()
    }

    /// Records that Stripe was asked about the customer.
    pub async fn mark_checked(&self, customer: &CustomerId, now_ms: i64) -> Result<(), StoreError> {
        customer::Entity::update_many()
            .set(customer::ActiveModel { asked_at_ms: Set(Some(now_ms)), ..Default::default() })
            .filter(customer::Column::Id.eq(customer.as_str()))
            .exec(&self.writer)
            .await?;
        Ok(())
    }
}
