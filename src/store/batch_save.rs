//! Writing what changed in a unit of work. What nearly every batch writes goes into one statement; the rest is rare, and each
//! table has a statement of SeaORM's.

use std::collections::BTreeSet;

use entity::{checkout, customer, refresh, subscription, tenant};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, Iterable, QueryFilter};
use serde::Serialize;

use super::sql::{Sql, list};
use super::tables::rows;
use super::{StoreError, TenantKey, Transaction};
use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;
use crate::domain::unit_of_work::{Changes, Effect, JournalEntry, UnitOfWork};

/// `$1`: the payloads of the events one after the other, `$2`: [`EventRow`]s, `$3`: subscriptions, `$4`: [`TransitionRow`]s,
/// the last three as JSON arrays. `$5`, on PostgreSQL: the keys of tenants, which the commit announces to the other replicas.
/// Counts the rows that were written: an event that is in the inbox already is left out.
///
/// PostgreSQL runs the parts in any order; none of them depends on another. In SQLite they are three statements, whose
/// parameters have no numbers, since the driver numbers those of each statement from one.
const SAVE_BATCH: Sql = Sql {
    postgres: r#"
WITH events AS MATERIALIZED (
    INSERT INTO "event" (
        id, event_type, api_version, created, stripe_request_id, customer_id, subscription_id, tenant_id, journey_id,
        trace_id, span_id, outcome, reason, payload, received_at_ms, attempts, retry_at_ms)
    SELECT
        id, event_type, api_version, created, stripe_request_id, customer_id, subscription_id, tenant_id, journey_id,
        trace_id, span_id, outcome, reason, substring($1::bytea FROM payload_start FOR payload_length),
        received_at_ms, 0, retry_at_ms
    FROM jsonb_to_recordset($2::jsonb) AS r (
        id text, event_type text, api_version text, created bigint, stripe_request_id text, customer_id text,
        subscription_id text, tenant_id text, journey_id text, trace_id text, span_id text, outcome text,
        reason text, payload_start int, payload_length int, received_at_ms bigint, retry_at_ms bigint)
    ON CONFLICT (id) DO NOTHING
    RETURNING 1
), subscriptions AS MATERIALIZED (
    INSERT INTO "subscription" (
        id, customer_id, tenant_id, status, started_at, items, current_period_end, trial_end, cancel_at,
        cancel_at_period_end, ended_at, as_of, revision, awaiting_payment, payment_problem, payment_noted_at, paid_at,
        updated_at_ms)
    SELECT
        id, customer_id, tenant_id, status, started_at, items, current_period_end, trial_end, cancel_at,
        cancel_at_period_end, ended_at, as_of, revision, awaiting_payment, payment_problem, payment_noted_at, paid_at,
        updated_at_ms
    FROM jsonb_to_recordset($3::jsonb) AS r (
        id text, customer_id text, tenant_id text, status text, started_at bigint, items text,
        current_period_end bigint, trial_end bigint, cancel_at bigint, cancel_at_period_end boolean,
        ended_at bigint, as_of bigint, revision bigint, awaiting_payment boolean, payment_problem text,
        payment_noted_at bigint, paid_at bigint, updated_at_ms bigint)
    ON CONFLICT (id) DO UPDATE SET
        customer_id = excluded.customer_id, tenant_id = excluded.tenant_id, status = excluded.status,
        started_at = excluded.started_at, items = excluded.items,
        current_period_end = excluded.current_period_end, trial_end = excluded.trial_end,
        cancel_at = excluded.cancel_at, cancel_at_period_end = excluded.cancel_at_period_end,
        ended_at = excluded.ended_at, as_of = excluded.as_of, revision = excluded.revision,
        awaiting_payment = excluded.awaiting_payment, payment_problem = excluded.payment_problem,
        payment_noted_at = excluded.payment_noted_at, paid_at = excluded.paid_at,
        updated_at_ms = excluded.updated_at_ms
    RETURNING 1
), transitions AS MATERIALIZED (
    INSERT INTO "transition" (
        entry, tenant_id, customer_id, subscription_id, from_status, to_status, cause, event_id, created, journey_id,
        trace_id, recorded_at_ms)
    SELECT
        entry, tenant_id, customer_id, subscription_id, from_status, to_status, cause, event_id, created, journey_id,
        trace_id, recorded_at_ms
    FROM jsonb_to_recordset($4::jsonb) AS r (
        entry text, tenant_id text, customer_id text, subscription_id text, from_status text, to_status text,
        cause text, event_id text, created bigint, journey_id text, trace_id text, recorded_at_ms bigint)
    RETURNING 1
), announcements AS MATERIALIZED (
    SELECT pg_notify('billhook_entitlement', key) FROM unnest($5::text[]) AS key
)
SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM subscriptions)
    + (SELECT count(*) FROM transitions) + (SELECT count(*) FROM announcements)"#,
    sqlite: r#"
INSERT INTO "event" (
    id, event_type, api_version, created, stripe_request_id, customer_id, subscription_id, tenant_id, journey_id,
    trace_id, span_id, outcome, reason, payload, received_at_ms, attempts, retry_at_ms)
SELECT
    value->>'id', value->>'event_type', value->>'api_version', value->>'created', value->>'stripe_request_id',
    value->>'customer_id', value->>'subscription_id', value->>'tenant_id', value->>'journey_id',
    value->>'trace_id', value->>'span_id', value->>'outcome', value->>'reason',
    substr(?, value->>'payload_start', value->>'payload_length'), value->>'received_at_ms', 0,
    value->>'retry_at_ms'
FROM jsonb_each(?) WHERE TRUE
ON CONFLICT (id) DO NOTHING;

INSERT INTO "subscription" (
    id, customer_id, tenant_id, status, started_at, items, current_period_end, trial_end, cancel_at,
    cancel_at_period_end, ended_at, as_of, revision, awaiting_payment, payment_problem, payment_noted_at, paid_at,
    updated_at_ms)
SELECT
    value->>'id', value->>'customer_id', value->>'tenant_id', value->>'status', value->>'started_at',
    value->>'items', value->>'current_period_end', value->>'trial_end', value->>'cancel_at',
    value->>'cancel_at_period_end', value->>'ended_at', value->>'as_of', value->>'revision',
    value->>'awaiting_payment', value->>'payment_problem', value->>'payment_noted_at', value->>'paid_at',
    value->>'updated_at_ms'
FROM jsonb_each(?) WHERE TRUE
ON CONFLICT (id) DO UPDATE SET
    customer_id = excluded.customer_id, tenant_id = excluded.tenant_id, status = excluded.status,
    started_at = excluded.started_at, items = excluded.items, current_period_end = excluded.current_period_end,
    trial_end = excluded.trial_end, cancel_at = excluded.cancel_at,
    cancel_at_period_end = excluded.cancel_at_period_end, ended_at = excluded.ended_at, as_of = excluded.as_of,
    revision = excluded.revision, awaiting_payment = excluded.awaiting_payment,
    payment_problem = excluded.payment_problem, payment_noted_at = excluded.payment_noted_at,
    paid_at = excluded.paid_at, updated_at_ms = excluded.updated_at_ms;

INSERT INTO "transition" (
    entry, tenant_id, customer_id, subscription_id, from_status, to_status, cause, event_id, created, journey_id,
    trace_id, recorded_at_ms)
SELECT
    value->>'entry', value->>'tenant_id', value->>'customer_id', value->>'subscription_id', value->>'from_status',
    value->>'to_status', value->>'cause', value->>'event_id', value->>'created', value->>'journey_id',
    value->>'trace_id', value->>'recorded_at_ms'
FROM jsonb_each(?)"#,
};

/// An event on its way into the inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxRow<'a> {
    /// The event.
    pub event: &'a Event,
    /// What became of it.
    pub effect: &'a Effect,
    /// The bytes that Stripe sent. They are stored while they may be needed again.
    pub payload: &'a [u8],
    /// The trace that processed it.
    pub trace: Option<Traceparent>,
    /// When it arrived, in Unix milliseconds.
    pub received_at_ms: i64,
}

/// A row of `event`. Its payload is a part of the bytes that are passed with the batch.
#[derive(Serialize)]
struct EventRow<'a> {
    id: &'a str,
    event_type: &'a str,
    api_version: Option<&'a str>,
    created: i64,
    stripe_request_id: Option<&'a str>,
    customer_id: Option<&'a str>,
    subscription_id: Option<&'a str>,
    tenant_id: Option<&'a str>,
    journey_id: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    outcome: &'static str,
    reason: Option<&'static str>,
    /// The first byte is 1, as both databases count.
    payload_start: Option<usize>,
    payload_length: usize,
    received_at_ms: i64,
    retry_at_ms: Option<i64>,
}

/// A row of `transition`. The database numbers it.
#[derive(Serialize)]
struct TransitionRow<'a> {
    entry: &'static str,
    tenant_id: &'a str,
    customer_id: &'a str,
    subscription_id: Option<&'a str>,
    from_status: Option<&'a str>,
    to_status: Option<&'a str>,
    cause: &'a str,
    event_id: Option<&'a str>,
    created: i64,
    journey_id: Option<String>,
    trace_id: Option<String>,
    recorded_at_ms: i64,
}

/// What [`SAVE_BATCH`] writes.
#[derive(Default)]
struct BatchRows<'a> {
    payloads: Vec<u8>,
    events: Vec<EventRow<'a>>,
    subscriptions: Vec<subscription::Model>,
    transitions: Vec<TransitionRow<'a>>,
    changed_tenants: Vec<TenantKey>,
}

impl<'a> BatchRows<'a> {
    /// Adds events in the order of their ids, so that two transactions with the same events cannot block each other.
    fn add_events(&mut self, inbox: &[InboxRow<'a>]) {
        let mut inbox: Vec<_> = inbox.iter().collect();
        inbox.sort_unstable_by_key(|row| &row.event.id);
        for row in inbox {
            let event = self.event_row(row);
            self.events.push(event);
        }
    }

    fn event_row(&mut self, row: &InboxRow<'a>) -> EventRow<'a> {
        let InboxRow { event, effect, payload, trace, received_at_ms } = *row;
        let payload = if keeps_payload(event, effect) { payload } else { &[] };
        let payload_start = (!payload.is_empty()).then_some(self.payloads.len() + 1);
        self.payloads.extend_from_slice(payload);
        EventRow {
            id: event.id.as_str(),
            event_type: &event.type_name,
            api_version: event.api_version.as_deref(),
            created: event.created,
            stripe_request_id: event.request_id.as_deref(),
            customer_id: event.customer().map(CustomerId::as_str),
            subscription_id: event.subscription().map(SubscriptionId::as_str),
            tenant_id: effect.tenant.as_ref().map(TenantId::as_str),
            journey_id: effect.journey.map(|journey| journey.id().to_string()),
            trace_id: trace.map(|trace| trace.journey_id().to_string()),
            span_id: trace.map(Traceparent::span_id_hex),
            outcome: effect.outcome.as_str(),
            reason: effect.reason,
            payload_start,
            payload_length: payload.len(),
            received_at_ms,
            retry_at_ms: (effect.outcome == Outcome::Failed).then_some(received_at_ms),
        }
    }

    fn add_transition(&mut self, journaled: &'a JournalEntry, trace: Option<Traceparent>, now_ms: i64) {
        let JournalEntry { entry, tenant, customer, cause, event, at, journey } = journaled;
        let (from, to) = entry.statuses();
        self.transitions.push(TransitionRow {
            entry: entry.as_str(),
            tenant_id: tenant.as_str(),
            customer_id: customer.as_str(),
            subscription_id: entry.subscription().map(SubscriptionId::as_str),
            from_status: from.map(Status::as_str),
            to_status: to.map(Status::as_str),
            cause,
            event_id: event.as_ref().map(EventId::as_str),
            created: *at,
            journey_id: journey.map(|journey| journey.id().to_string()),
            trace_id: trace.map(|trace| trace.journey_id().to_string()),
            recorded_at_ms: now_ms,
        });
    }

    /// How many rows the statement counts.
    fn len(&self, backend: DbBackend) -> usize {
        let announced = if backend == DbBackend::Postgres { self.changed_tenants.len() } else { 0 };
        self.events.len() + self.subscriptions.len() + self.transitions.len() + announced
    }
}

/// Whether the payload of an event is stored: while it may be needed again, and if it may be.
pub(super) fn keeps_payload(event: &Event, effect: &Effect) -> bool {
    effect.outcome.keeps_payload(effect.reason) && event.may_be_kept(effect.outcome)
}

impl Transaction {
    /// Writes what changed, and the events that changed it. `trace_of` returns the trace in which an event was processed, or,
    /// without an event, the current one.
    pub async fn save_batch(
        &mut self,
        work: &UnitOfWork,
        inbox: &[InboxRow<'_>],
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let changes = work.changes();
        self.save_rare(work, &trace_of, now_ms).await?;
        let mut rows = BatchRows::default();
        rows.add_events(inbox);
        for held in changes.subscriptions.iter().filter_map(|id| work.held(id)) {
            rows.subscriptions.push(rows::subscription_row(held, now_ms)?);
        }
        for entry in &changes.journal {
            rows.add_transition(entry, trace_of(entry.event.as_ref()), now_ms);
        }
        rows.changed_tenants.extend(changes.entitlements.iter().map(TenantKey::of));
        self.save_rows(rows).await
    }

    /// Puts one event into the inbox. If it is there already, another transaction was faster.
    pub async fn insert_event(&mut self, event: InboxRow<'_>) -> Result<(), StoreError> {
        let mut rows = BatchRows::default();
        rows.add_events(&[event]);
        self.save_rows(rows).await
    }

    /// Announces to the other replicas, with the commit, that a tenant's entitlement may have changed.
    pub(super) async fn announce(&mut self, tenant: &TenantId) -> Result<(), StoreError> {
        self.save_rows(BatchRows { changed_tenants: vec![TenantKey::of(tenant)], ..BatchRows::default() })
            .await
    }

    async fn save_rows(&mut self, rows: BatchRows<'_>) -> Result<(), StoreError> {
        let backend = self.db.get_database_backend();
        let count = rows.len(backend);
        if count == 0 {
            return Ok(());
        }
        let mut values = vec![
            rows.payloads.into(),
            json_array(&rows.events)?.into(),
            json_array(&rows.subscriptions)?.into(),
            json_array(&rows.transitions)?.into(),
        ];
        if backend == DbBackend::Postgres {
            values.push(list(backend, rows.changed_tenants.iter().map(TenantKey::as_str)));
        }
        let statement = SAVE_BATCH.bind(backend, values);
        let written = if backend == DbBackend::Sqlite {
            self.db.execute_raw(statement).await?.rows_affected()
        } else {
            self.query_one_row(statement).await?.try_get_by_index::<i64>(0)?.unsigned_abs()
        };
        self.written_rows += count;
        if written == count as u64 {
            Ok(())
        } else {
            Err(StoreError::duplicate_key(&format!("of {count} rows {written} were new")))
        }
    }
}

impl Transaction {
    /// Writes what few batches change.
    async fn save_rare(
        &mut self,
        work: &UnitOfWork,
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let changes = work.changes();
        self.save_tombstones(&changes.tombstones, now_ms).await?;
        self.save_withheld(work, &changes.withheld, now_ms).await?;
        self.save_reassigned(work, &changes.reassigned).await?;
        self.delete_subscriptions(&changes.dropped).await?;
        self.settle_unparked(&changes.unparked).await?;
        self.save_tenants(work, now_ms).await?;
        self.save_checkouts(work, now_ms).await?;
        self.insert_refreshes(changes.refreshes.values(), trace_of, now_ms).await?;
        self.insert_known_prices(&changes.known_prices).await
    }

    async fn save_tombstones(&self, ids: &BTreeSet<CustomerId>, now_ms: i64) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        customer::Entity::update_many()
            .set(customer::ActiveModel { deleted_at_ms: Set(Some(now_ms)), ..Default::default() })
            .filter(customer::Column::Id.is_in(ids.iter().map(CustomerId::as_str)))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    async fn save_withheld(
        &self,
        work: &UnitOfWork,
        ids: &BTreeSet<CustomerId>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        for id in ids {
            let since_ms = work.is_withheld(id).then_some(now_ms);
            customer::Entity::update_many()
                .set(customer::ActiveModel { withheld_at_ms: Set(since_ms), ..Default::default() })
                .filter(customer::Column::Id.eq(id.as_str()))
                .exec(&self.db)
                .await?;
            // The answer to a refresh would belong to no tenant.
            if since_ms.is_some() {
                let refreshes =
                    refresh::Entity::delete_many().filter(refresh::Column::CustomerId.eq(id.as_str()));
                refreshes.exec(&self.db).await?;
            }
        }
        Ok(())
    }

    async fn save_reassigned(&self, work: &UnitOfWork, ids: &BTreeSet<CustomerId>) -> Result<(), StoreError> {
        for id in ids {
            let row = customer::ActiveModel {
                deployment_id: Set(work.foreign_deployment(id).map(ToString::to_string)),
                named_tenant_id: Set(work.named_tenant(id).map(ToString::to_string)),
                ..Default::default()
            };
            customer::Entity::update_many()
                .set(row)
                .filter(customer::Column::Id.eq(id.as_str()))
                .exec(&self.db)
                .await?;
        }
        Ok(())
    }

    async fn delete_subscriptions(&self, ids: &BTreeSet<SubscriptionId>) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = ids.iter().map(SubscriptionId::as_str);
        subscription::Entity::delete_many()
            .filter(subscription::Column::Id.is_in(ids))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Inserts new tenants, and updates those whose rows are locked. A new one that another transaction has inserted
    /// meanwhile is a duplicate key.
    async fn save_tenants(&self, work: &UnitOfWork, now_ms: i64) -> Result<(), StoreError> {
        use tenant::Column::{CreatedAtMs, Id};
        let Changes { tenants, new_tenants, .. } = work.changes();
        let row = |id: &TenantId| work.tenant(id).map(|tenant| rows::tenant_row(tenant, now_ms));
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

    async fn save_checkouts(&self, work: &UnitOfWork, now_ms: i64) -> Result<(), StoreError> {
        use checkout::Column::{SessionId, Status, SubscriptionId, UpdatedAtMs};
        let changed = work.changes().checkouts.iter().filter_map(|id| work.checkout(id));
        let changed: Vec<_> = changed.map(|checkout| rows::checkout_row(checkout, now_ms)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let columns = [Status, SubscriptionId, UpdatedAtMs];
        checkout::Entity::insert_many(changed)
            .on_conflict(OnConflict::column(SessionId).update_columns(columns).to_owned())
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}

fn json_array<T: Serialize>(rows: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(StoreError::unreadable)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use entity::{event, transition};
    use sea_orm::IdenStatic;

    use super::*;

    /// What stands between two texts.
    fn between<'a>(sql: &'a str, start: &str, end: &str) -> &'a str {
        let (_, rest) = sql.split_once(start).unwrap_or_else(|| panic!("{start} is missing"));
        rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing")).0
    }

    /// The parts of a list that commas separate, without those in parentheses.
    fn parts(list: &str) -> Vec<String> {
        let (mut parts, mut depth) = (vec![String::new()], 0);
        for c in list.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if c == ',' && depth == 0 {
                parts.push(String::new());
            } else {
                parts.last_mut().expect("one").push(c);
            }
        }
        parts.iter().map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// Holds a table's part of [`SAVE_BATCH`] against the entity: every column is written, from the value of its own name.
    fn check<C: Iterable + IdenStatic>(table: &str, generated: &[&str], computed: &[&str]) {
        let all: BTreeSet<String> = C::iter().map(|column| column.as_str().to_owned()).collect();
        for (sql, source) in [(SAVE_BATCH.postgres, "jsonb_to_recordset"), (SAVE_BATCH.sqlite, "jsonb_each")]
        {
            let insert = between(sql, &format!("INSERT INTO \"{table}\" ("), source);
            let inserted = parts(insert.split_once(')').expect("a list").0);
            let written = inserted.iter().map(String::as_str).chain(generated.iter().copied());
            assert_eq!(written.map(str::to_owned).collect::<BTreeSet<_>>(), all, "{table}");
            let (_, selected) = insert.split_once("SELECT").expect("a source");
            let selected = parts(selected.trim_end().trim_end_matches("FROM"));
            assert_eq!(selected.len(), inserted.len());
            for (column, value) in inserted.iter().zip(&selected) {
                let is_its_own = value == column || *value == format!("value->>'{column}'");
                assert!(is_its_own || computed.contains(&column.as_str()), "{table}.{column} is {value}");
            }
        }
    }

    #[test]
    fn every_column_is_saved() {
        check::<event::Column>("event", &[], &["payload", "attempts"]);
        check::<subscription::Column>("subscription", &[], &[]);
        check::<transition::Column>("transition", &["id"], &[]);
    }

    #[test]
    fn saved_subscription_replaces_every_column() {
        let others = subscription::Column::iter().map(|column| column.as_str().to_owned());
        let expected: Vec<_> = others
            .filter(|column| column != "id")
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        for (sql, end) in [(SAVE_BATCH.postgres, "RETURNING"), (SAVE_BATCH.sqlite, ";")] {
            assert_eq!(parts(between(sql, "DO UPDATE SET", end)), expected);
        }
    }

    #[test]
    fn rows_have_the_fields_that_are_read() {
        let event = EventRow {
            id: "",
            event_type: "",
            api_version: None,
            created: 0,
            stripe_request_id: None,
            customer_id: None,
            subscription_id: None,
            tenant_id: None,
            journey_id: None,
            trace_id: None,
            span_id: None,
            outcome: "",
            reason: None,
            payload_start: None,
            payload_length: 0,
            received_at_ms: 0,
            retry_at_ms: None,
        };
        let transition = TransitionRow {
            entry: "",
            tenant_id: "",
            customer_id: "",
            subscription_id: None,
            from_status: None,
            to_status: None,
            cause: "",
            event_id: None,
            created: 0,
            journey_id: None,
            trace_id: None,
            recorded_at_ms: 0,
        };
        let subscription: BTreeSet<_> =
            subscription::Column::iter().map(|column| column.as_str().to_owned()).collect();
        let fields = |row: serde_json::Value| row.as_object().expect("an object").keys().cloned().collect();
        let rows: [BTreeSet<String>; 3] = [
            fields(serde_json::to_value(event).expect("JSON")),
            subscription,
            fields(serde_json::to_value(transition).expect("JSON")),
        ];
        let read = SAVE_BATCH.postgres.split(" AS r (").skip(1);
        let names = |part: &str| -> BTreeSet<String> {
            let columns = parts(part.split_once(')').expect("a list").0);
            columns.iter().filter_map(|column| column.split(' ').next()).map(str::to_owned).collect()
        };
        assert!(read.map(names).eq(rows));
    }
}
