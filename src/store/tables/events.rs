//! The inbox: all events with their outcomes.

use std::collections::{BTreeSet, HashSet};

use entity::event;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::rows;
use crate::domain::batch::{Batch, Effect, Payment, Unparked};
use crate::domain::event::{Event, InvoiceEventKind, Subject, UnreadableEvent};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId};
use crate::domain::outcome::Outcome;
use crate::domain::same_second::Candidate;
use crate::domain::subscription::SubscriptionEventKind;
use crate::store::batch_save::keeps_payload;
use crate::store::sql::{Sql, list};
use crate::store::{Store, StoreError, Transaction};
use crate::telemetry::redact::hash_if_email;

/// The newest parked events of a customer that are applied when it is linked: more than any
/// subscription has in the month for which Stripe keeps events.
const MAX_PARKED_EVENTS: u64 = 1000;

/// `$1`: subscription ids. A first checkout has three payment events, and a batch has at most 64
/// checkouts, so a limit of 1000 is enough.
const PAYMENTS: Sql = Sql {
    postgres: r#"
SELECT subscription_id, event_type, created, payload FROM "event"
WHERE subscription_id = ANY($1::text[])
    AND (event_type LIKE 'invoice.%' OR event_type LIKE 'checkout.session.%')
    AND outcome IN ('applied', 'ignored')
ORDER BY created DESC, id DESC
LIMIT 1000"#,
    sqlite: r#"
SELECT subscription_id, event_type, created, payload FROM "event"
WHERE subscription_id IN (SELECT value FROM json_each(?1))
    AND (event_type LIKE 'invoice.%' OR event_type LIKE 'checkout.session.%')
    AND outcome IN ('applied', 'ignored')
ORDER BY created DESC, id DESC
LIMIT 1000"#,
};

/// Per batch. Stripe allows 200 changes of a subscription in an hour.
const MAX_CANDIDATES: u64 = 1000;

impl Store {
    /// Returns the given events that are in the inbox.
    pub async fn known_events(
        &self,
        ids: impl Iterator<Item = &EventId>,
    ) -> Result<HashSet<EventId>, StoreError> {
        let known: Vec<String> = event::Entity::find()
            .select_only()
            .column(event::Column::Id)
            .filter(event::Column::Id.is_in(ids.map(EventId::as_str)))
            .into_tuple()
            .all(&self.db)
            .await?;
        known.iter().map(|id| rows::id("event", id)).collect()
    }
}

impl Transaction {
    /// The snapshots in the inbox with one of these times, for subscriptions whose stored state has
    /// the same time. All snapshots of a second decide together which is the latest.
    pub(in crate::store) async fn candidates(
        &self,
        batch: &Batch,
        snapshot_times: &BTreeSet<(SubscriptionId, i64)>,
    ) -> Result<Vec<(SubscriptionId, Candidate)>, StoreError> {
        let is_tie = |(id, created): &&(SubscriptionId, i64)| {
            batch.subscription(id).is_some_and(|owned| owned.subscription.as_of == *created)
        };
        let ties: Vec<_> = snapshot_times.iter().filter(is_tie).collect();
        if ties.is_empty() {
            return Ok(Vec::new());
        }
        let decided = [Outcome::Applied, Outcome::Stale].map(Outcome::as_str);
        let tie = |(id, created): &&(SubscriptionId, i64)| {
            event::Column::SubscriptionId.eq(id.as_str()).and(event::Column::Created.eq(*created))
        };
        let ties = ties.iter().fold(Condition::any(), |any, one| any.add(tie(one)));
        let payloads: Vec<Option<Vec<u8>>> = event::Entity::find()
            .select_only()
            .column(event::Column::Payload)
            .filter(ties)
            .filter(event::Column::EventType.starts_with("customer.subscription."))
            .filter(event::Column::Outcome.is_in(decided))
            .order_by_asc(event::Column::Id)
            .limit(MAX_CANDIDATES)
            .into_tuple()
            .all(&self.db)
            .await?;
        Ok(payloads.into_iter().flatten().filter_map(|payload| candidate(&payload)).collect())
    }

    /// The payment events in the inbox of subscriptions that are not stored yet. Such an event
    /// could not create the subscription, so it has to be applied now.
    pub(in crate::store) async fn payments(
        &self,
        batch: &Batch,
        subscriptions: &BTreeSet<SubscriptionId>,
    ) -> Result<Vec<(SubscriptionId, Payment, i64)>, StoreError> {
        let unknown = subscriptions.iter().filter(|id| batch.subscription(id).is_none());
        let unknown: Vec<&str> = unknown.map(SubscriptionId::as_str).collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.db.get_database_backend();
        let found = self.db.query_all_raw(PAYMENTS.bind(backend, [list(backend, unknown)])).await?;
        let mut payments = Vec::new();
        for row in found {
            let (id, kind): (String, String) =
                (row.try_get("", "subscription_id")?, row.try_get("", "event_type")?);
            let payload: Option<Vec<u8>> = row.try_get("", "payload")?;
            if let Some(payment) = payment(&kind, payload.as_deref()) {
                payments.push((rows::id("event", &id)?, payment, row.try_get("", "created")?));
            }
        }
        Ok(payments)
    }

    /// The customer's parked events, oldest first.
    pub(in crate::store) async fn parked(&self, customer: &CustomerId) -> Result<Vec<Event>, StoreError> {
        let mut payloads: Vec<Option<Vec<u8>>> = parked(customer).into_tuple().all(&self.db).await?;
        payloads.reverse();
        let read = |payload: Vec<u8>| {
            let unreadable = |error: &UnreadableEvent| tracing::error!(%error, customer = hash_if_email(customer.as_str()), "could not read a parked event; skipping it");
            Event::read(&payload).inspect_err(unreadable).ok()
        };
        Ok(payloads.into_iter().flatten().filter_map(read).collect())
    }

    /// Stores the new outcomes of events that were parked.
    pub(in crate::store) async fn save_unparked_outcomes(
        &self,
        unparked: &[Unparked],
    ) -> Result<(), StoreError> {
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

/// Payloads, newest first.
fn parked(customer: &CustomerId) -> Select<event::Entity> {
    event::Entity::find()
        .select_only()
        .column(event::Column::Payload)
        .filter(event::Column::CustomerId.eq(customer.as_str()))
        // A literal, since the partial index of parked events is not used for a parameter.
        .filter(event::Column::Outcome.into_expr().eq(Expr::Constant(Outcome::Parked.as_str().into())))
        .order_by_desc(event::Column::Created)
        .order_by_desc(event::Column::Id)
        .limit(MAX_PARKED_EVENTS)
}

/// The type of an invoice event is enough. A session event needs its payload, which was kept.
fn payment(kind: &str, payload: Option<&[u8]>) -> Option<Payment> {
    if let Some(change) = InvoiceEventKind::parse(kind) {
        return Some(Payment::Invoice(change));
    }
    match Event::read(payload?).ok()?.subject {
        Subject::Checkout(kind, session) => Some(Payment::Session(kind.checkout_status(&session))),
        _ => None,
    }
}

/// `None` for an announcement, a snapshot with a truncated list of items, and an event without a
/// snapshot.
fn candidate(payload: &[u8]) -> Option<(SubscriptionId, Candidate)> {
    let event = Event::read(payload).ok()?;
    match &event.subject {
        Subject::Subscription(kind, snapshot) if *kind != SubscriptionEventKind::Announced => {
            let snapshot = snapshot.clone().ended_if_deleted(*kind);
            let candidate = Candidate::new(event.id.clone(), event.created, *kind, &snapshot);
            snapshot.can_determine_plan().then_some((snapshot.id, candidate))
        }
        _ => None,
    }
}

/// The payload column of an event that gets its outcome now.
pub(in crate::store) fn settled_payload(event: &Event, effect: &Effect) -> ActiveValue<Option<Vec<u8>>> {
    if keeps_payload(event, effect) { NotSet } else { Set(None) }
}

#[cfg(test)]
mod tests {
    use migration::{Migrator, MigratorTrait};
    use sea_orm::{Database, DbBackend, QueryTrait, Statement};

    use super::*;

    #[tokio::test]
    async fn parked_events_query_uses_partial_index() {
        let connection = Database::connect("sqlite::memory:").await.expect("a database");
        Migrator::up(&connection, None).await.expect("the migrations run");
        let query = parked(&CustomerId::parse("cus_a").expect("an id")).build(DbBackend::Sqlite);
        let explain = Statement { sql: format!("EXPLAIN QUERY PLAN {}", query.sql), ..query };
        let plan = connection.query_all_raw(explain).await.expect("a plan");
        let step = plan[0].try_get_by_index::<String>(3).expect("a step");
        assert!(step.contains("USING INDEX ix_event_customer_id_parked (customer_id=?)"), "{step}");
    }
}
