//! Payloads that nobody needs any more are dropped: what is kept for good is what an event was and what became of it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::background::{Step, forever};
use super::{Billing, BillingError};
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
    let due_at_steady_ms = AtomicI64::new(i64::MIN);
    forever("dropping old payloads", None, || step(billing, retention, &lease, &due_at_steady_ms)).await;
}

async fn step(
    billing: &Billing,
    retention: Retention,
    lease: &Lease,
    due_at_steady_ms: &AtomicI64,
) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    if steady_ms < due_at_steady_ms.load(Ordering::Relaxed) {
        return Ok(Step::Idle);
    }
    let old_before_ms = retention.ends_at_ms(billing.clock.now_ms());
    let is_ours = billing.store.take_lease(lease).await?;
    if is_ours && billing.store.drop_old_payloads(old_before_ms).await?.is_some() {
        return Ok(Step::More);
    }
    due_at_steady_ms.store(steady_ms + EVERY_MS, Ordering::Relaxed);
    Ok(Step::Idle)
}
