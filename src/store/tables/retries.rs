//! Events that could not be applied: when each is tried again, and which are given up.

use entity::event;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::SimpleExpr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
};

use super::events::settled_payload;
use super::rows;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::Traceparent;
use crate::domain::outcome::{ACCOUNT_UNKNOWN, NEVER_LINKED, Outcome};
use crate::domain::unit_of_work::Effect;
use crate::store::{Due, Store, StoreError, Transaction};

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
            if claim.exec(&self.writer).await?.rows_affected == 1 {
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
            .exec(&self.writer)
            .await?;
        Ok(noted.rows_affected == 1)
    }

    /// Has an event that is not settled decided on anew, at once and with all its tries before it: it counts as failed
    /// until then. Whether there is such an event, with the bytes that it takes.
    pub async fn decide_anew(&self, id: &EventId, now_ms: i64) -> Result<bool, StoreError> {
        let unsettled = Outcome::OF_THE_INBOX.into_iter().filter(|outcome| !outcome.is_settled());
        let one = event::Column::Id.eq(id.as_str());
        Ok(make_due(&self.writer, one, unsettled, now_ms).await? == 1)
    }

    /// The same for the events that were quarantined while our account was not known. Returns how many.
    pub async fn retry_events_of_unknown_account(&self, now_ms: i64) -> Result<u64, StoreError> {
        make_due(&self.writer, event::Column::Reason.eq(ACCOUNT_UNKNOWN), [Outcome::Quarantined], now_ms)
            .await
    }

    /// The same for events that were given up, by their ids from after one of them. Which they were; none when there are
    /// no more.
    pub async fn retry_dead_events(
        &self,
        type_name: Option<&str>,
        after: Option<&EventId>,
        most: u64,
        now_ms: i64,
    ) -> Result<Vec<EventId>, StoreError> {
        let dead: Vec<String> = dead_events(type_name)
            .select_only()
            .column(event::Column::Id)
            .filter(event::Column::Id.gt(after.map(EventId::as_str).unwrap_or_default()))
            .order_by_asc(event::Column::Id)
            .limit(most)
            .into_tuple()
            .all(&self.db)
            .await?;
        if !dead.is_empty() {
            let these = event::Column::Id.is_in(dead.iter().map(String::as_str));
            make_due(&self.writer, these, [Outcome::Dead], now_ms).await?;
        }
        dead.iter().map(|id| rows::id("event", id)).collect()
    }

    /// How many events were given up and can be tried again.
    pub async fn count_dead_events(&self, type_name: Option<&str>) -> Result<u64, StoreError> {
        Ok(dead_events(type_name).count(&self.db).await?)
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
            reason: Set(Some(NEVER_LINKED.to_owned())),
            payload: Set(None),
            ..Default::default()
        };
        let aged = event::Entity::update_many()
            .set(aged)
            .filter(event::Column::Id.is_in(old))
            .filter(event::Column::Outcome.eq(Outcome::Parked.as_str()))
            .exec(&self.writer)
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
            payload: settled_payload(event, effect),
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

/// Has events with these outcomes decided on again, if their bytes are kept. Returns how many those are.
pub(in crate::store) async fn make_due(
    db: &impl ConnectionTrait,
    events: SimpleExpr,
    outcomes: impl IntoIterator<Item = Outcome>,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let again = event::ActiveModel {
        outcome: Set(Outcome::Failed.as_str().to_owned()),
        reason: Set(Some("replayed".to_owned())),
        attempts: Set(0),
        retry_at_ms: Set(Some(now_ms)),
        ..Default::default()
    };
    let due = event::Entity::update_many()
        .set(again)
        .filter(events)
        .filter(event::Column::Outcome.is_in(outcomes.into_iter().map(Outcome::as_str)))
        .filter(event::Column::Payload.is_not_null())
        .exec(db)
        .await?;
    Ok(due.rows_affected)
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

/// What was given up. Without its payload it would be given up again at once.
fn dead_events(type_name: Option<&str>) -> Select<event::Entity> {
    event::Entity::find()
        .filter(event::Column::Outcome.eq(Outcome::Dead.as_str()))
        .filter(event::Column::Payload.is_not_null())
        .apply_if(type_name, |dead, type_name| dead.filter(event::Column::EventType.eq(type_name)))
}
