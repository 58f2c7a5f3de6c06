//! Retrying events that could not be applied, with growing pauses, until they are given up as dead.
//! Also stops waiting for the customer of an event that was parked for too long.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::{Instrument, info_span};

use super::schedule::{Step, backoff_ms, run_forever};
use crate::billing::{Billing, BillingError};
use crate::domain::batch::{Changes, Effect};
use crate::domain::event::Event;
use crate::domain::journey::Journey;
use crate::domain::outcome::Outcome;
use crate::store::{BatchScope, ClaimWindow, RetryJob, StoreError, retry_on_conflict};
use crate::telemetry::spans;

/// Events job at once; they are retried one after another.
const MAX_CLAIMED_EVENTS: u64 = 16;

const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a claim lasts: longer than all retries of one claim can take.
const CLAIM_MS: i64 = 300_000;

/// How often an event is retried before it is given up. The first retry comes at once, the others
/// after growing pauses: about a day in total, time to fix a bug or a database.
const MAX_RETRIES: i64 = 14;

const FIRST_PAUSE_MS: i64 = 60 * 1000;
const MAX_PAUSE_MS: i64 = 6 * 60 * 60 * 1000;

/// How long an event waits for its customer: as long as Stripe lists it. A later link asks Stripe
/// instead.
const MAX_PARKED_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Parked events given up in one transaction.
const MAX_AGED_EVENTS: u64 = 500;

pub(super) async fn run(billing: &Billing) {
    run_forever("retrying events", None, || step(billing)).await;
}

async fn step(billing: &Billing) -> Result<Step, BillingError> {
    let now_ms = billing.clock.now_ms();
    let aged = billing.store.expire_parked_events(now_ms - MAX_PARKED_MS, MAX_AGED_EVENTS).await?;
    if aged > 0 {
        tracing::info!(events = aged, "gave up parked events: their customer was not linked within 30 days");
    }
    let window =
        ClaimWindow { now_ms, claimed_until_ms: now_ms + CLAIM_MS, max_due_ms: now_ms + 2 * MAX_PAUSE_MS };
    let jobs = billing.store.claim_failed_events(window, MAX_CLAIMED_EVENTS).await?;
    for job in &jobs {
        // A trace of its own, because that of the webhook ended long ago.
        let span = info_span!(parent: None, "retry event", billing.stripe.event.id = %job.id);
        if let Some(first) = job.trace {
            spans::link(&span, first);
        }
        retry(billing, job).instrument(span).await?;
    }
    Ok(if jobs.is_empty() && aged < MAX_AGED_EVENTS { Step::Idle } else { Step::More })
}

async fn retry(billing: &Billing, job: &RetryJob) -> Result<(), StoreError> {
    let Ok(event) = Event::read(&job.payload) else {
        tracing::error!(event = %job.id, "gave up a failed event: its payload cannot be read");
        let dead = Effect::new(Outcome::Dead).with_reason("unreadable_payload");
        billing.store.record_failed_retry(job, &dead, None).await?;
        return Ok(());
    };
    let applying = AssertUnwindSafe(retry_on_conflict(|| apply_once(billing, &event))).catch_unwind();
    let failed = match tokio::time::timeout(RETRY_TIMEOUT, applying).await {
        Ok(Ok(Ok((effect, _)))) if effect.outcome == Outcome::Failed => effect,
        Ok(Ok(Ok((effect, changes)))) => {
            billing.reporter.report_retried(&event, &effect, &changes, spans::current_trace());
            return Ok(());
        }
        // If the cause is the database and not the event, recording the failure fails too.
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, event = %event.id, "a failed event failed again");
            Effect::new(Outcome::Failed).with_reason("not_applicable")
        }
        Err(_) => {
            tracing::error!(event = %event.id, "retrying a failed event timed out");
            Effect::new(Outcome::Failed).with_reason("not_applicable")
        }
        Ok(Err(_)) => {
            tracing::error!(event = %event.id, "retrying a failed event panicked");
            Effect::new(Outcome::Failed).with_reason("not_applicable")
        }
    };
    record_failure(billing, job, &event, failed).await
}

/// Applies the event as if it had just arrived. Changes nothing if it fails again.
async fn apply_once(billing: &Billing, event: &Event) -> Result<(Effect, Changes), StoreError> {
    let mut transaction = billing.store.begin().await?;
    let mut batch = transaction.load_batch(&BatchScope::events([event])).await?;
    let (trace, now_ms) = (spans::current_trace(), billing.clock.now_ms());
    let here = trace.map(|origin| Journey { origin, started_at_ms: now_ms });
    let effect = batch.apply(event, here, &billing.policy);
    if effect.outcome != Outcome::Failed {
        transaction.save_batch(&batch, &[], |_| trace, now_ms).await?;
        transaction.settle_failed_event(event, &effect, trace).await?;
        transaction.commit().await?;
    }
    Ok((effect, batch.into_changes()))
}

async fn record_failure(
    billing: &Billing,
    job: &RetryJob,
    event: &Event,
    failed: Effect,
) -> Result<(), StoreError> {
    let is_last = job.attempts + 1 >= MAX_RETRIES;
    let pause = backoff_ms(FIRST_PAUSE_MS, MAX_PAUSE_MS, job.attempts);
    let retry_at_ms = (!is_last).then(|| billing.clock.now_ms() + pause);
    let effect = if is_last { Effect { outcome: Outcome::Dead, ..failed } } else { failed };
    if billing.store.record_failed_retry(job, &effect, retry_at_ms).await? {
        billing.reporter.report_retried(event, &effect, &Changes::default(), spans::current_trace());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_take_about_a_day() {
        let pauses = |_| {
            (0..MAX_RETRIES - 1).map(|tries| backoff_ms(FIRST_PAUSE_MS, MAX_PAUSE_MS, tries)).sum::<i64>()
        };
        for hours in (0..100).map(pauses).map(|ms| ms / 3_600_000) {
            assert!((15..=33).contains(&hours), "{hours} hours");
        }
    }
}
