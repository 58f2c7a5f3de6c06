//! The inbox: every event by its id, with what became of it.

use std::collections::{BTreeSet, HashMap};

use entity::event;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::rows;
use crate::domain::event::{Event, InvoiceChange, Subject, UnreadableEvent};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::ordering::Contender;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::SubscriptionChange;
use crate::domain::unit_of_work::{Effect, Payment, UnitOfWork, Unparked};
use crate::store::insert::Existing;
use crate::store::traced::Traced;
use crate::store::writes::Writes;
use crate::store::{Store, StoreError, Transaction};
use crate::telemetry::loggable::loggable;

/// How many events of one customer are taken up again when it gets its tenant, the newest of them: more than any
/// subscription makes in the month that Stripe keeps events.
const PARKED: u64 = 1000;

/// How many words about money are recalled for a batch, the latest of them: a first checkout has three, and a batch no
/// more than 64 of those.
const PAYMENTS: u64 = 1000;

/// How many snapshots of a batch's seconds are looked at: Stripe allows 200 changes of a subscription in an hour.
const CONTENDERS: u64 = 1000;

/// One event on its way into the inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxRow<'a> {
    /// The event.
    pub event: &'a Event,
    /// What became of it.
    pub effect: &'a Effect,
    /// The bytes that came; kept if anything is to be done with them yet, and if they may be.
    pub payload: &'a [u8],
    /// The trace that processed it.
    pub trace: Option<Traceparent>,
    /// When it came.
    pub received_at_ms: i64,
}

impl Store {
    /// Which of these events are in the inbox already, and whose they are.
    pub async fn known_events(
        &self,
        ids: impl Iterator<Item = &EventId>,
    ) -> Result<HashMap<EventId, Option<TenantId>>, StoreError> {
        known_events(&self.db, ids).await
    }
}

/// Which of these events are in the inbox already, and whose they are.
async fn known_events(
    db: &Traced<impl ConnectionTrait>,
    ids: impl Iterator<Item = &EventId>,
) -> Result<HashMap<EventId, Option<TenantId>>, StoreError> {
    let wanted = db.one_of(event::Column::Id, ids.map(EventId::as_str));
    let Some(wanted) = wanted else { return Ok(HashMap::new()) };
    let known: Vec<(String, Option<String>)> = event::Entity::find()
        .select_only()
        .columns([event::Column::Id, event::Column::TenantId])
        .filter(wanted)
        .into_tuple()
        .all(db)
        .await?;
    let read = |(id, tenant): &(String, Option<String>)| {
        let tenant = tenant.as_deref().map(|text| rows::tenant_id("event", text)).transpose()?;
        Ok((rows::id("event", id)?, tenant))
    };
    known.iter().map(read).collect()
}

impl Transaction {
    /// Which of these events are in the inbox already, and whose they are.
    pub async fn known_events(
        &self,
        ids: impl Iterator<Item = &EventId>,
    ) -> Result<HashMap<EventId, Option<TenantId>>, StoreError> {
        known_events(&self.db, ids).await
    }

    /// Puts an event into the inbox. One that another transaction has put there in the meantime is a lost race.
    pub async fn insert_event(&self, event: InboxRow<'_>) -> Result<(), StoreError> {
        let mut writes = self.writes();
        writes.insert_events(&[event])?;
        self.carry_out(writes).await
    }

    /// The snapshots in the inbox that share their second with one of these, where that second is the one of what we
    /// hold: together they decide which is the latest.
    pub(in crate::store) async fn contenders(
        &self,
        work: &UnitOfWork,
        seconds: &BTreeSet<(SubscriptionId, i64)>,
    ) -> Result<Vec<(SubscriptionId, Contender)>, StoreError> {
        let is_tie = |(id, second): &&(SubscriptionId, i64)| {
            work.held(id).is_some_and(|held| held.subscription.as_of == *second)
        };
        let ties: Vec<_> = seconds.iter().filter(is_tie).collect();
        if ties.is_empty() {
            return Ok(Vec::new());
        }
        let decided = [Outcome::Applied, Outcome::Stale].map(Outcome::as_str);
        let tie = |(id, second): &&(SubscriptionId, i64)| {
            event::Column::SubscriptionId.eq(id.as_str()).and(event::Column::Created.eq(*second))
        };
        let ties = ties.iter().fold(Condition::any(), |any, one| any.add(tie(one)));
        let payloads: Vec<Option<Vec<u8>>> = event::Entity::find()
            .select_only()
            .column(event::Column::Payload)
            .filter(ties)
            .filter(event::Column::EventType.starts_with("customer.subscription."))
            .filter(event::Column::Outcome.is_in(decided))
            .order_by_asc(event::Column::Id)
            .limit(CONTENDERS)
            .into_tuple()
            .all(&self.db)
            .await?;
        Ok(payloads.into_iter().flatten().filter_map(|payload| contender(&payload)).collect())
    }

    /// What was said of the money of subscriptions that are not held: it was not for an invoice or a session to make one,
    /// and is not to be forgotten.
    pub(in crate::store) async fn payments(
        &self,
        work: &UnitOfWork,
        subscriptions: &BTreeSet<SubscriptionId>,
    ) -> Result<Vec<(SubscriptionId, Payment, i64)>, StoreError> {
        let unheld = subscriptions.iter().filter(|id| work.held(id).is_none()).map(SubscriptionId::as_str);
        let Some(of_unheld) = self.db.one_of(event::Column::SubscriptionId, unheld) else {
            return Ok(Vec::new());
        };
        let of_money = event::Column::EventType
            .starts_with("invoice.")
            .or(event::Column::EventType.starts_with("checkout.session."));
        let seen = [Outcome::Applied, Outcome::Ignored].map(Outcome::as_str);
        let payments: Vec<PaymentRow> = event::Entity::find()
            .select_only()
            .columns([event::Column::SubscriptionId, event::Column::EventType, event::Column::Created])
            .column(event::Column::Payload)
            .filter(of_unheld)
            .filter(of_money)
            .filter(event::Column::Outcome.is_in(seen))
            .order_by_desc(event::Column::Created)
            .order_by_desc(event::Column::Id)
            .limit(PAYMENTS)
            .into_tuple()
            .all(&self.db)
            .await?;
        let read = |(id, kind, at, payload): PaymentRow| {
            payment(&kind, payload.as_deref()).map(|payment| Ok((rows::id("event", &id)?, payment, at)))
        };
        payments.into_iter().filter_map(read).collect()
    }

    /// What waits for this customer, oldest first.
    pub(in crate::store) async fn parked(&self, customer: &CustomerId) -> Result<Vec<Event>, StoreError> {
        let mut payloads: Vec<Option<Vec<u8>>> = parked(customer).into_tuple().all(&self.db).await?;
        payloads.reverse();
        let read = |payload: Vec<u8>| {
            let unreadable = |error: &UnreadableEvent| tracing::error!(%error, customer = loggable(customer.as_str()), "a parked event is left out");
            Event::read(&payload).inspect_err(unreadable).ok()
        };
        Ok(payloads.into_iter().flatten().filter_map(read).collect())
    }

    /// Notes what became of events that were parked.
    pub(in crate::store) async fn settle_unparked(&self, unparked: &[Unparked]) -> Result<(), StoreError> {
        for Unparked { event, effect, .. } in unparked {
            let change = event::ActiveModel {
                outcome: Set(effect.outcome.as_str().to_owned()),
                reason: Set(effect.reason.map(str::to_owned)),
                tenant_id: Set(effect.tenant.as_ref().map(ToString::to_string)),
                journey_id: Set(effect.journey.map(|journey| journey.id().to_string())),
                payload: settled_payload(event, effect),
                ..Default::default()
            };
            event::Entity::update_many()
                .set(change)
                .filter(event::Column::Id.eq(event.id.as_str()))
                .exec(&self.db)
                .await?;
        }
        Ok(())
    }
}

impl Writes {
    /// Puts events into the inbox, in the order of their ids, so that replicas given the same ones do not block each
    /// other. An event that another transaction has put there in the meantime is a lost race: the whole transaction
    /// must be undone, for it has decided on that event too.
    pub(in crate::store) fn insert_events(&mut self, inbox: &[InboxRow<'_>]) -> Result<(), StoreError> {
        let mut inbox: Vec<_> = inbox.iter().collect();
        inbox.sort_unstable_by(|a, b| a.event.id.cmp(&b.event.id));
        self.insert(inbox.into_iter().map(row), &Existing::Kept { key: event::Column::Id })
    }
}

/// The payloads that wait for this customer, the newest first.
fn parked(customer: &CustomerId) -> Select<event::Entity> {
    event::Entity::find()
        .select_only()
        .column(event::Column::Payload)
        .filter(event::Column::CustomerId.eq(customer.as_str()))
        // As a literal: the index is of parked events alone, and a value that comes later could be any.
        .filter(event::Column::Outcome.into_expr().eq(Expr::Constant(Outcome::Parked.as_str().into())))
        .order_by_desc(event::Column::Created)
        .order_by_desc(event::Column::Id)
        .limit(PARKED)
}

/// Subscription, type, time and payload of an event.
type PaymentRow = (String, String, i64, Option<Vec<u8>>);

/// What an event said of its subscription's money. An invoice's type says it all; a session's payload is needed, and was
/// kept.
fn payment(kind: &str, payload: Option<&[u8]>) -> Option<Payment> {
    if let Some(change) = InvoiceChange::parse(kind) {
        return Some(Payment::Invoice(change));
    }
    match Event::read(payload?).ok()?.subject {
        Subject::Checkout(change, session) => Some(Payment::Session(change.leads_to(&session))),
        _ => None,
    }
}

/// The snapshot of an event that can compete: announcements cannot, and neither can one whose items were cut, nor what is not
/// a snapshot.
fn contender(payload: &[u8]) -> Option<(SubscriptionId, Contender)> {
    let event = Event::read(payload).ok()?;
    match &event.subject {
        Subject::Subscription(change, snapshot) if *change != SubscriptionChange::Announced => {
            let contender = Contender::new(event.id.clone(), event.created, *change, snapshot);
            let is_whole = snapshot.has_all_items || contender.state.status.is_final();
            is_whole.then(|| (snapshot.id.clone(), contender))
        }
        _ => None,
    }
}

fn keeps_payload(event: &Event, effect: &Effect) -> bool {
    effect.outcome.keeps_payload(effect.reason) && event.may_be_kept(effect.outcome)
}

/// The payload's column, once an event that was kept is settled.
pub(in crate::store) fn settled_payload(event: &Event, effect: &Effect) -> ActiveValue<Option<Vec<u8>>> {
    if keeps_payload(event, effect) { NotSet } else { Set(None) }
}

fn row(inbox: &InboxRow<'_>) -> event::ActiveModel {
    let InboxRow { event, effect, payload, trace, received_at_ms } = inbox;
    let is_kept = keeps_payload(event, effect);
    event::ActiveModel {
        id: Set(event.id.to_string()),
        event_type: Set(event.type_name.clone()),
        api_version: Set(event.api_version.clone()),
        created: Set(event.created),
        stripe_request_id: Set(event.request_id.clone()),
        customer_id: Set(event.customer().map(ToString::to_string)),
        subscription_id: Set(event.subscription().map(ToString::to_string)),
        tenant_id: Set(effect.tenant.as_ref().map(ToString::to_string)),
        journey_id: Set(effect.journey.map(|journey| journey.id().to_string())),
        trace_id: Set(trace.map(|trace| trace.journey_id().to_string())),
        span_id: Set(trace.map(Traceparent::span_id_hex)),
        outcome: Set(effect.outcome.as_str().to_owned()),
        reason: Set(effect.reason.map(str::to_owned)),
        payload: Set(is_kept.then(|| payload.to_vec())),
        received_at_ms: Set(*received_at_ms),
        attempts: Set(0),
        retry_at_ms: Set((effect.outcome == Outcome::Failed).then_some(*received_at_ms)),
    }
}

#[cfg(test)]
mod tests {
    use migration::{Migrator, MigratorTrait};
    use sea_orm::{Database, DbBackend, QueryTrait, Statement};

    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_customer_is_found_in_its_index() {
        let connection = Database::connect("sqlite::memory:").await.expect("a database");
        Migrator::up(&connection, None).await.expect("the migrations run");
        let asked = parked(&CustomerId::parse("cus_a").expect("an id")).build(DbBackend::Sqlite);
        let explain = Statement { sql: format!("EXPLAIN QUERY PLAN {}", asked.sql), ..asked };
        let plan = connection.query_all_raw(explain).await.expect("a plan");
        let step = plan[0].try_get_by_index::<String>(3).expect("a step");
        assert!(step.contains("USING INDEX ix_event_customer_id_parked (customer_id=?)"), "{step}");
    }
}
