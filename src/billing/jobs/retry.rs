//! The inbox's worker: events that could not be applied are tried again, more and more rarely, and given up after a
//! bound. What has waited for its customer for too long is let go.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::{Instrument, info_span};

use super::schedule::{Step, backoff_ms, forever};
use crate::billing::{Billing, BillingError};
use crate::domain::event::Event;
use crate::domain::journey::Journey;
use crate::domain::outcome::Outcome;
use crate::domain::unit_of_work::{Changes, Effect};
use crate::store::retry_on_conflict;
use crate::store::{BatchScope, ClaimedEvent, Due, StoreError};
use crate::telemetry::spans;

/// How many are claimed at once; they are tried one after the other.
const AT_ONCE: u64 = 16;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a claim lasts: longer than all of a claim's tries can take.
const CLAIM_MS: i64 = 300_000;

/// How often an event is tried again before it is given up. The first time at once, and then with these pauses: for about
/// a day, in which a defect is mended or a database is put right.
const TRIES: i64 = 14;

const PAUSE_MS: i64 = 60 * 1000;
const LONGEST_PAUSE_MS: i64 = 6 * 60 * 60 * 1000;

/// How long an event waits for its customer: for as long as Stripe lists it. Whoever links the customer later asks Stripe.
const PARKED_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// How many waiting events are let go in one transaction.
const AGED: u64 = 500;

/// Tries what is due, for good.
pub(super) async fn run(billing: &Billing) {
    forever("retrying events", None, || step(billing)).await;
}

async fn step(billing: &Billing) -> Result<Step, BillingError> {
    let now_ms = billing.clock.now_ms();
    let aged = billing.store.age_parked_events(now_ms - PARKED_MS, AGED).await?;
    if aged > 0 {
        tracing::info!(events = aged, "let go of events whose customer nobody linked in 30 days");
    }
    let due = Due { now_ms, until_ms: now_ms + CLAIM_MS, latest_ms: now_ms + 2 * LONGEST_PAUSE_MS };
    let claimed = billing.store.claim_failed_events(due, AT_ONCE).await?;
    for claimed in &claimed {
        // A trace of its own: the one that brought the event ended long ago.
        let span = info_span!(parent: None, "retry event", billing.stripe.event.id = %claimed.id);
        if let Some(first) = claimed.trace {
            spans::link(&span, first);
        }
        try_again(billing, claimed).instrument(span).await?;
    }
    Ok(if claimed.is_empty() && aged < AGED { Step::Idle } else { Step::More })
}

async fn try_again(billing: &Billing, claimed: &ClaimedEvent) -> Result<(), StoreError> {
    let Ok(event) = Event::read(&claimed.payload) else {
        tracing::error!(event = %claimed.id, "a failed event's payload cannot be read: it is given up");
        let dead = Effect::new(Outcome::Dead).because("unreadable_payload");
        billing.store.put_off_event(claimed, &dead, None).await?;
        return Ok(());
    };
    let applying = AssertUnwindSafe(retry_on_conflict(|| apply_once(billing, &event))).catch_unwind();
    let failed = match tokio::time::timeout(PATIENCE, applying).await {
        Ok(Ok(Ok((effect, _)))) if effect.outcome == Outcome::Failed => effect,
        Ok(Ok(Ok((effect, changes)))) => {
            billing.reporter.report_retried(&event, &effect, &changes, spans::current_trace());
            return Ok(());
        }
        // Perhaps the database's trouble and not the event's; if it is the database's, putting it off fails too.
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, event = %event.id, "a failed event failed again");
            Effect::new(Outcome::Failed).because("not_applicable")
        }
        Err(_) => {
            tracing::error!(event = %event.id, "applying a failed event took too long");
            Effect::new(Outcome::Failed).because("not_applicable")
        }
        Ok(Err(_)) => {
            tracing::error!(event = %event.id, "a defect: applying a failed event panicked");
            Effect::new(Outcome::Failed).because("not_applicable")
        }
    };
    put_off(billing, claimed, &event, failed).await
}

/// Applies the event as if it had just come. One that fails again changes nothing.
async fn apply_once(billing: &Billing, event: &Event) -> Result<(Effect, Changes), StoreError> {
    let mut transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&BatchScope::events([event])).await?;
    let (trace, now_ms) = (spans::current_trace(), billing.clock.now_ms());
    let here = trace.map(|origin| Journey { origin, began_at_ms: now_ms });
    let effect = work.apply(event, here, &billing.policy);
    if effect.outcome != Outcome::Failed {
        transaction.save_batch(&work, &[], |_| trace, now_ms).await?;
        transaction.settle_failed_event(event, &effect, trace).await?;
        transaction.commit().await?;
    }
    Ok((effect, work.into_changes()))
}

async fn put_off(
    billing: &Billing,
    claimed: &ClaimedEvent,
    event: &Event,
    failed: Effect,
) -> Result<(), StoreError> {
    let is_last = claimed.attempts + 1 >= TRIES;
    let pause = backoff_ms(PAUSE_MS, LONGEST_PAUSE_MS, claimed.attempts);
    let retry_at_ms = (!is_last).then(|| billing.clock.now_ms() + pause);
    let effect = if is_last { Effect { outcome: Outcome::Dead, ..failed } } else { failed };
    if billing.store.put_off_event(claimed, &effect, retry_at_ms).await? {
        billing.reporter.report_retried(event, &effect, &Changes::default(), spans::current_trace());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tries_take_about_a_day() {
        let pauses =
            |_| (0..TRIES - 1).map(|tries| backoff_ms(PAUSE_MS, LONGEST_PAUSE_MS, tries)).sum::<i64>();
        for hours in (0..100).map(pauses).map(|ms| ms / 3_600_000) {
            assert!((15..=33).contains(&hours), "{hours} hours");
        }
    }
}
