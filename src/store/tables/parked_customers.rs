//! Customers that parked events name, and of which Stripe was not asked yet whose they are.

use entity::{customer, event};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::rows;
use crate::domain::ids::CustomerId;
use crate::domain::outcome::Outcome;
use crate::store::{Store, StoreError};

impl Store {
    /// Some customers that events wait for, and that Stripe was not asked about. Not those that the operator has taken from
    /// their tenant: only the operator links them again.
    pub async fn unasked_parked_customers(&self, most: u64) -> Result<Vec<CustomerId>, StoreError> {
        // As a literal: the index is of parked events alone, and a value that comes later could be any.
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
            .limit(most)
            .into_tuple()
            .all(&self.db)
            .await?;
        ids.iter().map(|id| rows::id("customer", id)).collect()
    }

    /// Notes that Stripe was asked whose a customer is.
    pub async fn note_asked(&self, customer: &CustomerId, now_ms: i64) -> Result<(), StoreError> {
        customer::Entity::update_many()
            .set(customer::ActiveModel { asked_at_ms: Set(Some(now_ms)), ..Default::default() })
            .filter(customer::Column::Id.eq(customer.as_str()))
            .exec(&self.writer)
            .await?;
        Ok(())
    }
}
