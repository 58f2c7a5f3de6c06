//! The inbox: every event by its id, with what became of it.

use std::collections::{BTreeSet, HashSet};

use entity::event;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::rows;
use crate::domain::event::{Event, InvoiceChange, Subject, UnreadableEvent};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId};
use crate::domain::ordering::Contender;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::SubscriptionChange;
use crate::domain::unit_of_work::{Effect, Payment, UnitOfWork, Unparked};
use crate::store::batch_save::keeps_payload;
use crate::store::sql::{Sql, list};
use crate::store::{Store, StoreError, Transaction};
use crate::telemetry::loggable::loggable;

/// How many events of one customer are taken up again when it gets its tenant, the newest of them: more than any
/// subscription makes in the month that Stripe keeps events.
const PARKED: u64 = 1000;

/// `$1`: subscription ids. A first checkout has three events about money, and a batch no more than 64 of those, so that a
/// thousand are enough.
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

/// How many snapshots of a batch's seconds are looked at: Stripe allows 200 changes of a subscription in an hour.
const CONTENDERS: u64 = 1000;

impl Store {
    /// Which of these events are in the inbox.
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
        let unheld = subscriptions.iter().filter(|id| work.held(id).is_none());
        let unheld: Vec<&str> = unheld.map(SubscriptionId::as_str).collect();
        if unheld.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.db.get_database_backend();
        let found = self.db.query_all_raw(PAYMENTS.bind(backend, [list(backend, unheld)])).await?;
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

/// The payload's column, once an event that was kept is settled.
pub(in crate::store) fn settled_payload(event: &Event, effect: &Effect) -> ActiveValue<Option<Vec<u8>>> {
    if keeps_payload(event, effect) { NotSet } else { Set(None) }
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
