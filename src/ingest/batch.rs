//! Applies a batch of deliveries in one transaction.
//!
//! After an error:
//! - A conflict with another transaction: [`retry_on_conflict`] runs the batch again.
//! - A conflict that remains, or an error that one of the events may have caused: each event is
//!   applied in a transaction of its own. One that still fails is stored as `failed`, with its
//!   payload, for the retry job. One that still conflicts is not stored, and Stripe sends it again.
//! - Any other error: the database counts as unavailable. Nothing is stored, and Stripe sends the
//!   events again.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, info_span};

use super::delivery::Delivery;
use super::queue::NotStored;
use super::report::{Reporter, Traces};
use crate::domain::batch::{Changes, Effect, Policy};
use crate::domain::outcome::Outcome;
use crate::store::{BatchScope, InboxRow, LoadedBatch, Store, StoreError, StoreErrorKind, retry_on_conflict};
use crate::telemetry::spans;

/// Limit for one attempt to apply a batch, with its retries. If the batch was committed after all,
/// its events are duplicates when Stripe sends them again.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct BatchProcessor {
    pub(super) store: Store,
    pub(super) policy: Policy,
    pub(super) reporter: Reporter,
}

/// Why a batch was not committed.
enum BatchFailure {
    /// Stripe has to send the events again.
    NotStored(NotStored),
    /// One of the events may be the cause.
    Event,
}

impl BatchProcessor {
    /// Applies a batch and reports it. Returns the outcome of each event, in the order of
    /// `deliveries`.
    pub(super) async fn process(&self, deliveries: &[Delivery]) -> Vec<Result<Outcome, NotStored>> {
        match self.apply_and_report(deliveries).await {
            Ok(effects) => effects.into_iter().map(|effect| Ok(effect.outcome)).collect(),
            Err(BatchFailure::NotStored(why)) => self.reject(deliveries, why),
            Err(BatchFailure::Event) => self.process_one_by_one(deliveries).await,
        }
    }

    /// Stops after [`BATCH_TIMEOUT`] and rejects the remaining events.
    async fn process_one_by_one(&self, deliveries: &[Delivery]) -> Vec<Result<Outcome, NotStored>> {
        let end = Instant::now() + BATCH_TIMEOUT;
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if Instant::now() > end {
                break;
            }
            let one = std::slice::from_ref(delivery);
            match self.apply_and_report(one).await {
                Ok(effects) => outcomes.extend(effects.iter().map(|effect| Ok(effect.outcome))),
                Err(BatchFailure::NotStored(why)) => outcomes.extend(self.reject(one, why)),
                Err(BatchFailure::Event) => outcomes.push(self.store_as_failed(delivery).await),
            }
        }
        outcomes.extend(self.reject(&deliveries[outcomes.len()..], NotStored::Database));
        outcomes
    }

    fn reject(&self, deliveries: &[Delivery], why: NotStored) -> Vec<Result<Outcome, NotStored>> {
        self.reporter.report_not_stored(deliveries);
        vec![Err(why); deliveries.len()]
    }

    async fn store_as_failed(&self, delivery: &Delivery) -> Result<Outcome, NotStored> {
        let one = std::slice::from_ref(delivery);
        let why = match timeout(BATCH_TIMEOUT, self.insert_as_failed(delivery)).await {
            Ok(Ok(effect)) => {
                self.reporter.report_batch(one, std::slice::from_ref(&effect), &Changes::default());
                return Ok(effect.outcome);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, event = %delivery.event.id, "could not store a failed event");
                not_stored(&error)
            }
            Err(_) => {
                tracing::error!(event = %delivery.event.id, "storing a failed event took too long");
                NotStored::Database
            }
        };
        self.reporter.report_not_stored(one);
        Err(why)
    }

    /// Inserts an event that could not be applied. It is a duplicate if another replica has stored
    /// it in the meantime.
    async fn insert_as_failed(&self, delivery: &Delivery) -> Result<Effect, StoreError> {
        let failed = Effect::new(Outcome::Failed).with_reason("not_applicable");
        retry_on_conflict(|| async {
            let mut transaction = self.store.begin_batch().await?;
            match transaction.insert_event(inbox_row(delivery, &failed)).await {
                Ok(()) => transaction.commit().await.map(|()| failed.clone()),
                Err(error) if error.kind() == StoreErrorKind::DuplicateKey => {
                    Ok(Effect::new(Outcome::Duplicate))
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Applies events in one transaction and reports them after the commit. The transaction has a
    /// trace of its own, which links to the traces of its events.
    async fn apply_and_report(&self, deliveries: &[Delivery]) -> Result<Vec<Effect>, BatchFailure> {
        let span = info_span!(parent: None, "ingest batch", billing.batch.events = deliveries.len());
        for trace in deliveries.iter().filter_map(|delivery| delivery.trace) {
            spans::link(&span, trace);
        }
        let events = deliveries.len();
        let applying = retry_on_conflict(|| self.apply(deliveries)).instrument(span.clone());
        // A panic must not end the lane.
        let applying = AssertUnwindSafe(applying).catch_unwind();
        let Ok(finished) = timeout(BATCH_TIMEOUT, applying).await else {
            tracing::error!(events, "the database took too long; Stripe will send the events again");
            self.store.record_failed_write();
            return Err(BatchFailure::NotStored(NotStored::Database));
        };
        let Ok(applied) = finished else {
            tracing::error!(events, "a defect: applying events panicked");
            return Err(BatchFailure::Event);
        };
        let (effects, changes) = applied.map_err(|error| self.failure_of(&error, events))?;
        let report = || span.in_scope(|| self.reporter.report_batch(deliveries, &effects, &changes));
        // The events are committed, even if reporting them fails.
        if std::panic::catch_unwind(AssertUnwindSafe(report)).is_err() {
            tracing::error!(events, "a defect: reporting events panicked");
        }
        Ok(effects)
    }

    fn failure_of(&self, error: &StoreError, events: usize) -> BatchFailure {
        let is_conflict = error.kind().is_conflict();
        // Alone, events that keep conflicting with other transactions lock fewer rows.
        if error.kind() == StoreErrorKind::Rejected || (is_conflict && events > 1) {
            tracing::error!(%error, events, "could not apply events together");
            return BatchFailure::Event;
        }
        tracing::error!(%error, events, "could not store events; Stripe will send them again");
        if !is_conflict {
            self.store.record_failed_write();
        }
        BatchFailure::NotStored(not_stored(error))
    }

    async fn apply(&self, deliveries: &[Delivery]) -> Result<(Vec<Effect>, Changes), StoreError> {
        let mut transaction = self.store.begin_batch().await?;
        let scope = BatchScope::deliveries(deliveries.iter().map(|delivery| &delivery.event));
        let LoadedBatch { mut batch, known_events } = transaction.load_batch_and_known_events(&scope).await?;
        let now_ms = self.reporter.now_ms();
        let mut effects: Vec<Effect> = Vec::with_capacity(deliveries.len());
        // Each new event's index in `deliveries`.
        let mut new_events = BTreeMap::new();
        for (index, delivery) in deliveries.iter().enumerate() {
            let id = &delivery.event.id;
            effects.push(if let Some(tenant) = known_events.get(id) {
                Effect { tenant: tenant.clone(), ..Effect::new(Outcome::Duplicate) }
            } else if new_events.contains_key(id) {
                Effect::new(Outcome::Duplicate)
            } else {
                new_events.insert(id, index);
                batch.apply(&delivery.event, delivery.new_journey(now_ms), &self.policy)
            });
        }
        // A later event of the batch may have linked the customer of a parked one.
        for unparked in &batch.changes().unparked {
            if let Some(index) = new_events.get(&unparked.event.id) {
                effects[*index] = unparked.effect.clone();
            }
        }
        let traces = Traces::new(deliveries, batch.changes());
        let rows = new_events.values().map(|&index| inbox_row(&deliveries[index], &effects[index]));
        let rows: Vec<_> = rows.collect();
        transaction.save_batch(&batch, &rows, |event| traces.of_event(event), now_ms).await?;
        transaction.commit().await?;
        let mut changes = batch.into_changes();
        // The batch's own events are reported as deliveries.
        changes.unparked.retain(|unparked| !new_events.contains_key(&unparked.event.id));
        Ok((effects, changes))
    }
}

fn not_stored(error: &StoreError) -> NotStored {
    if error.kind() == StoreErrorKind::Unavailable { NotStored::Database } else { NotStored::Event }
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
