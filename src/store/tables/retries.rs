//! Retries of events that could not be applied, and dead events, which are not retried any more.

use entity::event;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::SimpleExpr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
};

use super::events::settled_payload;
use super::rows;
use crate::domain::batch::Effect;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::Traceparent;
use crate::domain::outcome::{ACCOUNT_UNKNOWN, NEVER_LINKED, Outcome};
use crate::store::{ClaimWindow, Store, StoreError, Transaction};

/// A failed event that this replica has claimed, so that only one replica retries it.
#[derive(Debug)]
pub struct RetryJob {
    pub id: EventId,
    pub payload: Vec<u8>,
    /// Failed retries.
    pub attempts: i64,
    /// The span that processed the event first.
    pub trace: Option<Traceparent>,
    /// The end of the claim, which identifies it.
    claimed_until_ms: i64,
}

impl Store {
    /// Claims failed events that are due, oldest first. An event without a new outcome at the end
    /// of the claim is due again.
    pub async fn claim_failed_events(
        &self,
        window: ClaimWindow,
        limit: u64,
    ) -> Result<Vec<RetryJob>, StoreError> {
        let found = event::Entity::find()
            .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
            .filter(window.is_due(event::Column::RetryAtMs))
            .order_by_asc(event::Column::Created)
            .order_by_asc(event::Column::Id)
            .limit(limit)
            .all(&self.db)
            .await?;
        let mut jobs = Vec::new();
        for row in found {
            let is_unchanged = match row.retry_at_ms {
                Some(retry_at_ms) => event::Column::RetryAtMs.eq(retry_at_ms),
                None => event::Column::RetryAtMs.is_null(),
            };
            let claim =
                event::ActiveModel { retry_at_ms: Set(Some(window.claimed_until_ms)), ..Default::default() };
            let claim = event::Entity::update_many()
                .set(claim)
                .filter(event::Column::Id.eq(row.id.as_str()))
                .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
                .filter(is_unchanged);
            if claim.exec(&self.writer).await?.rows_affected == 1 {
                jobs.push(retry_job(row, window.claimed_until_ms)?);
            }
        }
        Ok(jobs)
    }

    /// `retry_at_ms` is the time of the next retry, if there is one. Returns `false` if the claim
    /// was lost: the operator has replayed the event, or another replica has applied it.
    pub async fn record_failed_retry(
        &self,
        job: &RetryJob,
        effect: &Effect,
        retry_at_ms: Option<i64>,
    ) -> Result<bool, StoreError> {
        let change = event::ActiveModel {
            outcome: Set(effect.outcome.as_str().to_owned()),
            reason: Set(effect.reason.map(str::to_owned)),
            attempts: Set(job.attempts + 1),
            retry_at_ms: Set(retry_at_ms),
            ..Default::default()
        };
        let updated = event::Entity::update_many()
            .set(change)
            .filter(event::Column::Id.eq(job.id.as_str()))
            .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
            .filter(event::Column::RetryAtMs.eq(job.claimed_until_ms))
            .exec(&self.writer)
            .await?;
        Ok(updated.rows_affected == 1)
    }

    /// Schedules an event that is not settled for an immediate retry, with all its attempts. It is
    /// `failed` until then. Returns `false` if there is no such event, or if its payload was
    /// deleted.
    pub async fn retry_event(&self, id: &EventId, now_ms: i64) -> Result<bool, StoreError> {
        let unsettled = Outcome::STORED.into_iter().filter(|outcome| !outcome.is_settled());
        let one = event::Column::Id.eq(id.as_str());
        Ok(mark_for_retry(&self.writer, one, unsettled, now_ms).await? == 1)
    }

    /// Schedules the events for a retry that were quarantined while our account was unknown.
    /// Returns their number.
    pub async fn retry_events_of_unknown_account(&self, now_ms: i64) -> Result<u64, StoreError> {
        mark_for_retry(
            &self.writer,
            event::Column::Reason.eq(ACCOUNT_UNKNOWN),
            [Outcome::Quarantined],
            now_ms,
        )
        .await
    }

    /// Schedules the next page of dead events, by id, for a retry. Returns their ids, none at the
    /// end.
    pub async fn retry_dead_events(
        &self,
        type_name: Option<&str>,
        after: Option<&EventId>,
        limit: u64,
        now_ms: i64,
    ) -> Result<Vec<EventId>, StoreError> {
        let dead: Vec<String> = dead_events(type_name)
            .select_only()
            .column(event::Column::Id)
            .filter(event::Column::Id.gt(after.map(EventId::as_str).unwrap_or_default()))
            .order_by_asc(event::Column::Id)
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?;
        if !dead.is_empty() {
            let these = event::Column::Id.is_in(dead.iter().map(String::as_str));
            mark_for_retry(&self.writer, these, [Outcome::Dead], now_ms).await?;
        }
        dead.iter().map(|id| rows::id("event", id)).collect()
    }

    /// The number of dead events that can be retried.
    pub async fn count_dead_events(&self, type_name: Option<&str>) -> Result<u64, StoreError> {
        Ok(dead_events(type_name).count(&self.db).await?)
    }

    /// Ignores parked events that were received before `before_ms`, and deletes their payloads. If
    /// their customer is linked later, a refresh reads its subscriptions. Returns their number, at
    /// most `limit`, so that locks are held briefly.
    pub async fn expire_parked_events(&self, before_ms: i64, limit: u64) -> Result<u64, StoreError> {
        let old: Vec<String> = event::Entity::find()
            .select_only()
            .column(event::Column::Id)
            .filter(event::Column::Outcome.eq(Outcome::Parked.as_str()))
            .filter(event::Column::ReceivedAtMs.lt(before_ms))
            .limit(limit)
            .into_tuple()
            .all(&self.db)
            .await?;
        if old.is_empty() {
            return Ok(0);
        }
        let expired = event::ActiveModel {
            outcome: Set(Outcome::Ignored.as_str().to_owned()),
            reason: Set(Some(NEVER_LINKED.to_owned())),
            payload: Set(None),
            ..Default::default()
        };
        let updated = event::Entity::update_many()
            .set(expired)
            .filter(event::Column::Id.is_in(old))
            .filter(event::Column::Outcome.eq(Outcome::Parked.as_str()))
            .exec(&self.writer)
            .await?;
        Ok(updated.rows_affected)
    }
}

impl Transaction {
    /// Stores the outcome of an event that had failed. A conflict if another replica was faster.
    pub async fn settle_failed_event(
        &self,
        event: &Event,
        effect: &Effect,
        trace: Option<Traceparent>,
    ) -> Result<(), StoreError> {
        // The build that stored the event may have been unable to read its customer and
        // subscription.
        let change = event::ActiveModel {
            customer_id: Set(event.customer().map(ToString::to_string)),
            subscription_id: Set(event.subscription().map(ToString::to_string)),
            outcome: Set(effect.outcome.as_str().to_owned()),
            reason: Set(effect.reason.map(str::to_owned)),
            tenant_id: Set(effect.tenant.as_ref().map(ToString::to_string)),
            journey_id: Set(effect.journey.map(|journey| journey.id().to_string())),
            trace_id: Set(trace.map(|trace| trace.trace_id().to_string())),
            span_id: Set(trace.map(Traceparent::span_id_hex)),
            payload: settled_payload(event, effect),
            retry_at_ms: Set(None),
            ..Default::default()
        };
        let updated = event::Entity::update_many()
            .set(change)
            .filter(event::Column::Id.eq(event.id.as_str()))
            .filter(event::Column::Outcome.eq(Outcome::Failed.as_str()))
            .exec(&self.db)
            .await?;
        match updated.rows_affected {
            1 => Ok(()),
            _ => Err(StoreError::conflict("another replica has settled the failed event")),
        }
    }
}

/// Schedules events with these outcomes and a payload for a retry. Returns their number.
pub(in crate::store) async fn mark_for_retry(
    db: &impl ConnectionTrait,
    events: SimpleExpr,
    outcomes: impl IntoIterator<Item = Outcome>,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let retried = event::ActiveModel {
        outcome: Set(Outcome::Failed.as_str().to_owned()),
        reason: Set(Some("replayed".to_owned())),
        attempts: Set(0),
        retry_at_ms: Set(Some(now_ms)),
        ..Default::default()
    };
    let updated = event::Entity::update_many()
        .set(retried)
        .filter(events)
        .filter(event::Column::Outcome.is_in(outcomes.into_iter().map(Outcome::as_str)))
        .filter(event::Column::Payload.is_not_null())
        .exec(db)
        .await?;
    Ok(updated.rows_affected)
}

fn retry_job(row: event::Model, claimed_until_ms: i64) -> Result<RetryJob, StoreError> {
    let span = row.trace_id.as_deref().zip(row.span_id.as_deref());
    Ok(RetryJob {
        id: rows::id("event", &row.id)?,
        payload: row.payload.unwrap_or_default(),
        attempts: row.attempts,
        trace: span.and_then(|(trace, span)| Traceparent::parse(&format!("00-{trace}-{span}-01")).ok()),
        claimed_until_ms,
    })
}

/// Without its payload an event would be dead again at once.
fn dead_events(type_name: Option<&str>) -> Select<event::Entity> {
    event::Entity::find()
        .filter(event::Column::Outcome.eq(Outcome::Dead.as_str()))
        .filter(event::Column::Payload.is_not_null())
        .apply_if(type_name, |dead, type_name| dead.filter(event::Column::EventType.eq(type_name)))
}
