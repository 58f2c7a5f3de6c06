//! Writes the changes of a batch. One statement writes the rows that almost every batch has. Rare
//! changes have their own statements, in the files of `tables`.

use entity::subscription;
use sea_orm::{ConnectionTrait, DbBackend};
use serde::Serialize;

use super::sql::{Sql, list};
use super::tables::rows;
use super::{StoreError, TenantKey, Transaction};
use crate::domain::batch::{Batch, Effect, JournalEntry};
use crate::domain::event::{Event, may_keep_payload};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;

/// `$1`: the concatenated payloads of the events. `$2`: [`EventRow`]s, `$3`: subscriptions, `$4`:
/// [`JournalRow`]s, each as a JSON array. `$5`, on PostgreSQL: the tenant keys that the commit
/// sends to the other processes. Returns the number of written rows. An event that is in the inbox
/// already is skipped.
///
/// PostgreSQL runs the parts in any order, and none depends on another. For SQLite they are three
/// statements. Their parameters have no numbers, since the driver numbers them from one in each
/// statement.
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
), notifications AS MATERIALIZED (
    SELECT pg_notify('billhook_entitlement', key) FROM unnest($5::text[]) AS key
)
SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM subscriptions)
    + (SELECT count(*) FROM transitions) + (SELECT count(*) FROM notifications)"#,
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

#[derive(Debug, Clone, Copy)]
pub struct InboxRow<'a> {
    pub event: &'a Event,
    pub effect: &'a Effect,
    pub payload: &'a [u8],
    pub trace: Option<Traceparent>,
    pub received_at_ms: i64,
}

/// A row of `event`. Its payload is a slice of [`BatchRows::payloads`].
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
    /// Counts from 1. `None` if the payload is not stored.
    payload_start: Option<usize>,
    payload_length: usize,
    received_at_ms: i64,
    retry_at_ms: Option<i64>,
}

/// A row of `transition`, without the generated id.
#[derive(Serialize)]
struct JournalRow<'a> {
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

/// The parameters of [`SAVE_BATCH`].
#[derive(Default)]
struct BatchRows<'a> {
    payloads: Vec<u8>,
    events: Vec<EventRow<'a>>,
    subscriptions: Vec<subscription::Model>,
    journal: Vec<JournalRow<'a>>,
    changed_tenants: Vec<TenantKey>,
}

impl<'a> BatchRows<'a> {
    /// Called in the order of the events' ids, so that two transactions with the same events cannot
    /// deadlock.
    fn add_event(&mut self, row: &InboxRow<'a>) {
        let InboxRow { event, effect, payload, trace, received_at_ms } = *row;
        let payload = if keeps_payload(event, effect) { payload } else { &[] };
        let payload_start = (!payload.is_empty()).then_some(self.payloads.len() + 1);
        self.payloads.extend_from_slice(payload);
        self.events.push(EventRow {
            id: event.id.as_str(),
            event_type: &event.type_name,
            api_version: event.api_version.as_deref(),
            created: event.created,
            stripe_request_id: event.request_id.as_deref(),
            customer_id: event.customer().map(CustomerId::as_str),
            subscription_id: event.subscription().map(SubscriptionId::as_str),
            tenant_id: effect.tenant.as_ref().map(TenantId::as_str),
            journey_id: effect.journey.map(|journey| journey.id().to_string()),
            trace_id: trace.map(|trace| trace.trace_id().to_string()),
            span_id: trace.map(Traceparent::span_id_hex),
            outcome: effect.outcome.as_str(),
            reason: effect.reason,
            payload_start,
            payload_length: payload.len(),
            received_at_ms,
            retry_at_ms: (effect.outcome == Outcome::Failed).then_some(received_at_ms),
        });
    }

    fn add_journal_entry(&mut self, journaled: &'a JournalEntry, trace: Option<Traceparent>, now_ms: i64) {
        let JournalEntry { kind, tenant, customer, cause, event, at, journey } = journaled;
        let (from, to) = kind.statuses();
        self.journal.push(JournalRow {
            entry: kind.as_str(),
            tenant_id: tenant.as_str(),
            customer_id: customer.as_str(),
            subscription_id: kind.subscription().map(SubscriptionId::as_str),
            from_status: from.map(Status::as_str),
            to_status: to.map(Status::as_str),
            cause,
            event_id: event.as_ref().map(EventId::as_str),
            created: *at,
            journey_id: journey.map(|journey| journey.id().to_string()),
            trace_id: trace.map(|trace| trace.trace_id().to_string()),
            recorded_at_ms: now_ms,
        });
    }

    /// The result of the statement if every event is new.
    fn expected_count(&self, backend: DbBackend) -> usize {
        let notifications = if backend == DbBackend::Postgres { self.changed_tenants.len() } else { 0 };
        self.events.len() + self.subscriptions.len() + self.journal.len() + notifications
    }
}

pub(super) fn keeps_payload(event: &Event, effect: &Effect) -> bool {
    effect.outcome.keeps_payload(effect.reason) && may_keep_payload(&event.type_name, effect.outcome)
}

impl Transaction {
    /// `trace_of` returns the trace that processed an event or, for `None`, the current trace.
    pub async fn save_batch(
        &mut self,
        batch: &Batch,
        inbox: &[InboxRow<'_>],
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let changes = batch.changes();
        self.save_rare_changes(batch, &trace_of, now_ms).await?;
        let mut rows = BatchRows::default();
        let mut inbox: Vec<_> = inbox.iter().collect();
        inbox.sort_unstable_by_key(|row| &row.event.id);
        for row in inbox {
            rows.add_event(row);
        }
        for subscription in changes.subscriptions.iter().filter_map(|id| batch.subscription(id)) {
            rows.subscriptions.push(rows::subscription_row(subscription, now_ms)?);
        }
        for entry in &changes.journal {
            rows.add_journal_entry(entry, trace_of(entry.event.as_ref()), now_ms);
        }
        rows.changed_tenants.extend(changes.entitlements.iter().map(TenantKey::of));
        self.save_rows(rows).await
    }

    /// Fails with `DuplicateKey` if the event is in the inbox already.
    pub async fn insert_event(&mut self, event: InboxRow<'_>) -> Result<(), StoreError> {
        let mut rows = BatchRows::default();
        rows.add_event(&event);
        self.save_rows(rows).await
    }

    /// Notifies the other processes with the commit that the tenant's entitlement may have changed.
    pub(super) async fn notify_changed(&mut self, tenant: &TenantId) -> Result<(), StoreError> {
        self.save_rows(BatchRows { changed_tenants: vec![TenantKey::of(tenant)], ..BatchRows::default() })
            .await
    }

    async fn save_rows(&mut self, rows: BatchRows<'_>) -> Result<(), StoreError> {
        let backend = self.db.get_database_backend();
        let count = rows.expected_count(backend);
        if count == 0 {
            return Ok(());
        }
        let mut values = vec![
            rows.payloads.into(),
            json_array(&rows.events)?.into(),
            json_array(&rows.subscriptions)?.into(),
            json_array(&rows.journal)?.into(),
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
        if written != count as u64 {
            return Err(StoreError::duplicate_key(format_args!("{written} of {count} rows were new")));
        }
        Ok(())
    }

    /// Writes the changes that few batches have.
    async fn save_rare_changes(
        &mut self,
        batch: &Batch,
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let changes = batch.changes();
        self.save_customers(batch, now_ms).await?;
        self.delete_subscriptions(&changes.removed_subscriptions).await?;
        self.save_unparked_outcomes(&changes.unparked).await?;
        self.save_tenants(batch, now_ms).await?;
        self.save_checkouts(batch, now_ms).await?;
        self.insert_refreshes(changes.refreshes.values(), trace_of, now_ms).await?;
        self.insert_known_prices(&changes.known_prices).await
    }
}

fn json_array<T: Serialize>(rows: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(StoreError::rejected)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use entity::{event, transition};
    use sea_orm::{IdenStatic, Iterable};

    use super::*;

    fn between<'a>(sql: &'a str, start: &str, end: &str) -> &'a str {
        let (_, rest) = sql.split_once(start).unwrap_or_else(|| panic!("{start} is missing"));
        rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing")).0
    }

    /// Splits at the commas outside of parentheses.
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

    /// Compares a table's part of [`SAVE_BATCH`] with the entity: it writes every column, from the
    /// value of the same name.
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
                let has_same_name = value == column || *value == format!("value->>'{column}'");
                assert!(has_same_name || computed.contains(&column.as_str()), "{table}.{column} is {value}");
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
    fn subscription_update_replaces_every_column() {
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
    fn serialized_rows_have_the_fields_that_sql_reads() {
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
        let journal_entry = JournalRow {
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
            fields(serde_json::to_value(journal_entry).expect("JSON")),
        ];
        let read_fields = SAVE_BATCH.postgres.split(" AS r (").skip(1);
        let names = |part: &str| -> BTreeSet<String> {
            let columns = parts(part.split_once(')').expect("a list").0);
            columns.iter().filter_map(|column| column.split(' ').next()).map(str::to_owned).collect()
        };
        assert!(read_fields.map(names).eq(rows));
    }
}
