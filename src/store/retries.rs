//! Events that could not be applied: when each is tried again, and which are given up.

use entity::event;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Due, Store, StoreError, Transaction, rows};
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::unit_of_work::Effect;

/// A failed event that is ours to try until the claim ends, so that of several replicas one tries.
#[derive(Debug)]
pub struct ClaimedEvent {
    /// `evt_...`
    pub id: EventId,
    /// The bytes that came.
    pub payload: Vec<u8>,
    /// How often it was tried again in vain.
    pub attempts: i64,
    /// Where it was processed first.
    pub trace: Option<Traceparent>,
    /// Until when it is ours: whoever claims it later has another time.
    until_ms: i64,
}

/// An event that needs somebody's eye.
#[derive(Debug)]
pub struct TroubledEvent {
    /// `evt_...`
    pub id: String,
    /// Stripe's word for what happened.
    pub type_name: String,
    /// When Stripe made it, in Unix seconds.
    pub created: i64,
    /// What became of it.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
    /// Whose it is, if that is known.
    pub customer: Option<String>,
    /// How often it was tried again.
    pub attempts: i64,
    /// The trace that processed it.
    pub trace: Option<String>,
}

impl Store {
    /// Takes failed events that are due for another try, oldest first. What is not settled in time is due again.
    pub async fn claim_failed_events(&self, due: Due, most: u64) -> Result<Vec<ClaimedEvent>, StoreError> {
        let found = event::Entity::find()
            .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
            .filter(due.condition(event::Column::RetryAtMs))
            .order_by_asc(event::Column::Created)
            .order_by_asc(event::Column::Id)
            .limit(most)
            .all(&self.db)
            .await?;
        let mut claimed = Vec::new();
        for row in found {
            let as_found = match row.retry_at_ms {
                Some(retry_at_ms) => event::Column::RetryAtMs.eq(retry_at_ms),
                None => event::Column::RetryAtMs.is_null(),
            };
            let claim = event::ActiveModel { retry_at_ms: Set(Some(due.until_ms)), ..Default::default() };
            let claim = event::Entity::update_many()
                .set(claim)
                .filter(event::Column::Id.eq(row.id.as_str()))
                .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
                .filter(as_found);
            if claim.exec(&self.db).await?.rows_affected == 1 {
                claimed.push(claimed_event(row, due.until_ms)?);
            }
        }
        Ok(claimed)
    }

    /// Notes another failure: tried again at that time, or never. Whether it is still ours to
    /// note: somebody may have had it tried anew, or it was applied after all.
    pub async fn put_off_event(
        &self,
        claimed: &ClaimedEvent,
        effect: &Effect,
        retry_at_ms: Option<i64>,
    ) -> Result<bool, StoreError> {
        let change = event::ActiveModel {
            outcome: Set(effect.outcome.as_str().to_owned()),
            reason: Set(effect.reason.map(str::to_owned)),
            attempts: Set(claimed.attempts + 1),
            retry_at_ms: Set(retry_at_ms),
            ..Default::default()
        };
        let noted = event::Entity::update_many()
            .set(change)
            .filter(event::Column::Id.eq(claimed.id.as_str()))
            .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
            .filter(event::Column::RetryAtMs.eq(claimed.until_ms))
            .exec(&self.db)
            .await?;
        Ok(noted.rows_affected == 1)
    }

    /// Events with one of these outcomes, the latest of Stripe's first.
    pub async fn events_with_outcome(
        &self,
        outcomes: &[Outcome],
        most: u64,
    ) -> Result<Vec<TroubledEvent>, StoreError> {
        let found = event::Entity::find()
            .filter(event::Column::Outcome.is_in(outcomes.iter().map(|outcome| outcome.as_str())))
            .order_by_desc(event::Column::Created)
            .order_by_desc(event::Column::Id)
            .limit(most)
            .all(&self.db)
            .await?;
        Ok(found.into_iter().map(troubled).collect())
    }

    /// Makes an event that failed or was given up due at once, with all its tries before it. Whether there is such an
    /// event.
    pub async fn retry_event(&self, id: &EventId, now_ms: i64) -> Result<bool, StoreError> {
        let again = event::ActiveModel {
            outcome: Set(Outcome::Failed.as_str().to_owned()),
            attempts: Set(0),
            retry_at_ms: Set(Some(now_ms)),
            ..Default::default()
        };
        let troubled = [Outcome::Failed, Outcome::Dead].map(Outcome::as_str);
        let retried = event::Entity::update_many()
            .set(again)
            .filter(event::Column::Id.eq(id.as_str()))
            .filter(event::Column::Outcome.is_in(troubled))
            .exec(&self.db)
            .await?;
        Ok(retried.rows_affected == 1)
    }

    /// Lets go of events that have waited for their customer since before that time: their payload is dropped, and
    /// whoever links the customer later asks Stripe. Returns how many, `most` at a time so that locks are short.
    pub async fn age_parked_events(&self, before_ms: i64, most: u64) -> Result<u64, StoreError> {
        let old: Vec<String> = event::Entity::find()
            .select_only()
            .column(event::Column::Id)
            .filter(event::Column::Outcome.eq(Outcome::Parked.as_str()))
            .filter(event::Column::ReceivedAtMs.lt(before_ms))
            .limit(most)
            .into_tuple()
            .all(&self.db)
            .await?;
        if old.is_empty() {
            return Ok(0);
        }
        let aged = event::ActiveModel {
            outcome: Set(Outcome::Ignored.as_str().to_owned()),
            reason: Set(Some("never_linked".to_owned())),
            payload: Set(None),
            ..Default::default()
        };
        let aged = event::Entity::update_many()
            .set(aged)
            .filter(event::Column::Id.is_in(old))
            .filter(event::Column::Outcome.eq(Outcome::Parked.as_str()))
            .exec(&self.db)
            .await?;
        Ok(aged.rows_affected)
    }
}

impl Transaction {
    /// Notes what became of an event that had failed. One that another replica has settled since is a lost race.
    pub async fn settle_failed_event(
        &self,
        event: &Event,
        effect: &Effect,
        trace: Option<Traceparent>,
    ) -> Result<(), StoreError> {
        // Whoever stored it could perhaps not read whose it is.
        let change = event::ActiveModel {
            customer_id: Set(event.customer().map(ToString::to_string)),
            subscription_id: Set(event.subscription().map(ToString::to_string)),
            outcome: Set(effect.outcome.as_str().to_owned()),
            reason: Set(effect.reason.map(str::to_owned)),
            tenant_id: Set(effect.tenant.as_ref().map(ToString::to_string)),
            journey_id: Set(effect.journey.map(|journey| journey.id().to_string())),
            trace_id: Set(trace.map(|trace| trace.journey_id().to_string())),
            span_id: Set(trace.map(Traceparent::span_id_hex)),
            retry_at_ms: Set(None),
            ..Default::default()
        };
        let settled = event::Entity::update_many()
            .set(change)
            .filter(event::Column::Id.eq(event.id.as_str()))
            .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
            .exec(&self.db)
            .await?;
        match settled.rows_affected {
            1 => Ok(()),
            _ => Err(StoreError::lost_race("a failed event was settled elsewhere")),
        }
    }
}

fn claimed_event(row: event::Model, until_ms: i64) -> Result<ClaimedEvent, StoreError> {
    let span = row.trace_id.as_deref().zip(row.span_id.as_deref());
    Ok(ClaimedEvent {
        id: rows::id("event", &row.id)?,
        payload: row.payload.unwrap_or_default(),
        attempts: row.attempts,
        trace: span.and_then(|(trace, span)| Traceparent::parse(&format!("00-{trace}-{span}-01")).ok()),
        until_ms,
    })
}

fn troubled(row: event::Model) -> TroubledEvent {
    TroubledEvent {
        id: row.id,
        type_name: row.event_type,
        created: row.created,
        outcome: row.outcome,
        reason: row.reason,
        customer: row.customer_id,
        attempts: row.attempts,
        trace: row.trace_id,
    }
}
