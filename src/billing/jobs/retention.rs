//! Payloads that nobody needs any more are dropped: what is kept for good is what an event was and what became of it.

use std::time::Duration;

use super::schedule::{DueTime, Step, forever};
use crate::billing::{Billing, BillingError};
use crate::domain::retention::Retention;
use crate::store::Lease;

/// How often somebody looks, in milliseconds.
const EVERY_MS: i64 = 60 * 60 * 1000;

/// How long a lease lasts that is not taken again: longer than a slice can take.
const LEASE: Duration = Duration::from_mins(1);

/// Drops what is old, for good, if payloads are not kept for good.
pub(super) async fn run(billing: &Billing) {
    let Some(retention) = billing.retention else { return };
    let lease = Lease::new("retention", LEASE);
    let due = DueTime::now();
    forever("dropping old payloads", None, || step(billing, retention, &lease, &due)).await;
}

async fn step(
    billing: &Billing,
    retention: Retention,
    lease: &Lease,
    due: &DueTime,
) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    if !due.has_come(steady_ms) {
        return Ok(Step::Idle);
    }
    let old_before_ms = retention.ends_at_ms(billing.clock.now_ms());
    let is_ours = billing.store.take_lease(lease).await?;
    if is_ours && billing.store.drop_old_payloads(old_before_ms).await?.is_some() {
        return Ok(Step::More);
    }
    due.set(steady_ms + EVERY_MS);
    Ok(Step::Idle)
}
