//! One transaction: which events are new, what they change, and the inbox that remembers them.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, info_span};

use super::delivery::Delivery;
use super::queue::NotStored;
use super::report::{Reporter, Traces};
use crate::domain::ids::EventId;
use crate::domain::outcome::Outcome;
use crate::domain::unit_of_work::{Changes, Effect, Policy};
use crate::store::{BatchScope, InboxRow, LoadedBatch, Store, StoreError, StoreFailure, retry_on_conflict};
use crate::telemetry::spans;

/// How long a batch may take. Beyond it the database counts as unavailable, and Stripe is asked to retry. If the batch was
/// committed after all, its events are known when they come again.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What a batch is applied with.
pub(super) struct IngestContext {
    pub(super) store: Store,
    pub(super) policy: Policy,
    pub(super) reporter: Reporter,
}

/// Why a batch was not committed.
enum BatchFailure {
    /// The database. Stripe sends the events again.
    Database,
    /// One of the events.
    Event,
}

/// Applies a batch and reports it. If it fails because of one of its events, each is applied alone, so that the others are
/// not harmed. Returns what became of each event.
pub(super) async fn process(
    context: &IngestContext,
    deliveries: &[Delivery],
) -> Vec<Result<Outcome, NotStored>> {
    match attempt(context, deliveries).await {
        Ok(effects) => effects.into_iter().map(|effect| Ok(effect.outcome)).collect(),
        Err(BatchFailure::Database) => refuse(context, deliveries),
        Err(BatchFailure::Event) => process_one_by_one(context, deliveries).await,
    }
}

/// Takes as long as one batch may take. The events that are left then are refused.
async fn process_one_by_one(
    context: &IngestContext,
    deliveries: &[Delivery],
) -> Vec<Result<Outcome, NotStored>> {
    let end = Instant::now() + BATCH_TIMEOUT;
    let mut outcomes = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        if Instant::now() > end {
            break;
        }
        outcomes.push(process_alone(context, delivery).await);
    }
    outcomes.extend(refuse(context, &deliveries[outcomes.len()..]));
    outcomes
}

fn refuse(context: &IngestContext, deliveries: &[Delivery]) -> Vec<Result<Outcome, NotStored>> {
    context.reporter.report_not_stored(deliveries);
    vec![Err(NotStored::Database); deliveries.len()]
}

/// Applies one event, or stores it as failed.
async fn process_alone(context: &IngestContext, delivery: &Delivery) -> Result<Outcome, NotStored> {
    let one = std::slice::from_ref(delivery);
    match attempt(context, one).await {
        Ok(effects) => Ok(effects.first().map_or(Outcome::Failed, |effect| effect.outcome)),
        Err(BatchFailure::Database) => {
            context.reporter.report_not_stored(one);
            Err(NotStored::Database)
        }
        Err(BatchFailure::Event) => store_as_failed(context, delivery).await,
    }
}

async fn store_as_failed(context: &IngestContext, delivery: &Delivery) -> Result<Outcome, NotStored> {
    let one = std::slice::from_ref(delivery);
    match timeout(BATCH_TIMEOUT, insert_as_failed(context, delivery)).await {
        Ok(Ok(effect)) => {
            context.reporter.report_batch(one, std::slice::from_ref(&effect), &Changes::default());
            return Ok(effect.outcome);
        }
        Ok(Err(error)) => {
            tracing::error!(%error, event = %delivery.event.id, "could not store a failed event");
        }
        Err(_) => tracing::error!(event = %delivery.event.id, "storing a failed event took too long"),
    }
    context.reporter.report_not_stored(one);
    Err(NotStored::Database)
}

/// Stores an event that could not be applied, with its payload, so that the retry job tries it again. If another replica has
/// stored it meanwhile, it is a duplicate. No other failure means that it is stored.
async fn insert_as_failed(context: &IngestContext, delivery: &Delivery) -> Result<Effect, StoreError> {
    let effect = Effect::new(Outcome::Failed).because("not_applicable");
    let insert = || async {
        let mut transaction = context.store.begin_batch().await?;
        match transaction.insert_event(inbox_row(delivery, &effect)).await {
            Err(error) if error.failure() == StoreFailure::DuplicateKey => return Ok(false),
            inserted => inserted?,
        }
        transaction.commit().await?;
        Ok::<_, StoreError>(true)
    };
    let is_inserted = retry_on_conflict(insert).await?;
    Ok(if is_inserted { effect } else { Effect::new(Outcome::Duplicate) })
}

/// Applies events in one transaction, and reports them once it is committed. The transaction has a trace of its own, which
/// links to those of its events.
async fn attempt(context: &IngestContext, deliveries: &[Delivery]) -> Result<Vec<Effect>, BatchFailure> {
    let span = info_span!(parent: None, "ingest batch", billing.batch.events = deliveries.len());
    for trace in deliveries.iter().filter_map(|delivery| delivery.trace) {
        spans::link(&span, trace);
    }
    let events = deliveries.len();
    // A defect that panics over one event must not end the lane.
    let applied = AssertUnwindSafe(apply(context, deliveries).instrument(span.clone())).catch_unwind();
    match timeout(BATCH_TIMEOUT, applied).await {
        Ok(Ok(Ok((effects, changes)))) => {
            let report = || span.in_scope(|| context.reporter.report_batch(deliveries, &effects, &changes));
            // The events are stored, even if reporting them fails.
            if std::panic::catch_unwind(AssertUnwindSafe(report)).is_err() {
                tracing::error!(events, "a defect: reporting events panicked");
            }
            Ok(effects)
        }
        Ok(Ok(Err(error))) if is_caused_by_an_event(&error, events) => {
            tracing::error!(%error, events, "could not apply events together");
            Err(BatchFailure::Event)
        }
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, events, "could not store events; Stripe will send them again");
            context.store.note_failed_write();
            Err(BatchFailure::Database)
        }
        Ok(Err(_)) => {
            tracing::error!(events, "a defect: applying events panicked");
            Err(BatchFailure::Event)
        }
        Err(_) => {
            tracing::error!(events, "the database took too long; Stripe will send the events again");
            context.store.note_failed_write();
            Err(BatchFailure::Database)
        }
    }
}

/// Whether the events are worth being applied one by one: one of them was refused, or several conflicted with other
/// transactions again and again.
fn is_caused_by_an_event(error: &StoreError, events: usize) -> bool {
    match error.failure() {
        StoreFailure::Refused => true,
        StoreFailure::Conflict | StoreFailure::DuplicateKey => events > 1,
        StoreFailure::Unavailable => false,
    }
}

/// Applies the events in one transaction. After a conflict with another one all of it is done again.
async fn apply(
    context: &IngestContext,
    deliveries: &[Delivery],
) -> Result<(Vec<Effect>, Changes), StoreError> {
    retry_on_conflict(|| apply_once(context, deliveries)).await
}

async fn apply_once(
    context: &IngestContext,
    deliveries: &[Delivery],
) -> Result<(Vec<Effect>, Changes), StoreError> {
    let mut transaction = context.store.begin_batch().await?;
    let scope = BatchScope::new_events(deliveries.iter().map(|delivery| &delivery.event));
    let LoadedBatch { mut work, known_events } = transaction.load_batch(&scope).await?;
    let now_ms = context.reporter.now_ms();
    let mut effects: Vec<Effect> = Vec::with_capacity(deliveries.len());
    let mut new = Vec::with_capacity(deliveries.len());
    let mut seen = HashSet::new();
    for delivery in deliveries {
        let id = &delivery.event.id;
        let is_new = !known_events.contains_key(id) && seen.insert(id);
        new.push(is_new);
        effects.push(if is_new {
            work.apply(&delivery.event, delivery.here(now_ms), &context.policy)
        } else {
            Effect { tenant: known_events.get(id).cloned().flatten(), ..Effect::new(Outcome::Duplicate) }
        });
    }
    // An event of this batch may have waited for a later one.
    for unparked in &work.changes().unparked {
        let is_it = |index: &usize| new[*index] && deliveries[*index].event.id == unparked.event.id;
        if let Some(index) = (0..deliveries.len()).find(is_it) {
            effects[index] = unparked.effect.clone();
        }
    }
    let traces = Traces::of(deliveries, work.changes());
    let inbox = deliveries.iter().zip(&effects).zip(&new).filter(|(_, new)| **new);
    let inbox: Vec<_> = inbox.map(|((delivery, effect), _)| inbox_row(delivery, effect)).collect();
    let trace_of = |event: Option<&EventId>| event.and_then(|event| traces.of_event(event));
    transaction.save_batch(&work, &inbox, trace_of, now_ms).await?;
    transaction.commit().await?;
    let mut changes = work.into_changes();
    // These are reported with the batch.
    changes.unparked.retain(|unparked| !seen.contains(&unparked.event.id));
    Ok((effects, changes))
}

fn inbox_row<'a>(delivery: &'a Delivery, effect: &'a Effect) -> InboxRow<'a> {
    InboxRow {
        event: &delivery.event,
        effect,
        payload: &delivery.payload,
        trace: delivery.trace,
        received_at_ms: delivery.received_at_ms,
    }
}
