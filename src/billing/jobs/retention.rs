//! Deleting old payloads. The events themselves and their outcomes are kept forever.

use std::time::Duration;

use super::schedule::{DueTime, Step, run_forever};
use crate::billing::{Billing, BillingError};
use crate::domain::retention::Retention;
use crate::store::Lease;

const RUN_INTERVAL_MS: i64 = 60 * 60 * 1000;

/// A lease that is not renewed ends after this: longer than one slice can take.
const LEASE_DURATION: Duration = Duration::from_mins(1);

pub(super) async fn run(billing: &Billing) {
    let Some(retention) = billing.retention else { return };
    let lease = Lease::new("retention", LEASE_DURATION);
    let due = DueTime::now();
    run_forever("deleting old payloads", None, || step(billing, retention, &lease, &due)).await;
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
    let old_before_ms = retention.cutoff_ms(billing.clock.now_ms());
    let is_ours = billing.store.acquire_lease(lease).await?;
    if is_ours && billing.store.delete_old_payloads(old_before_ms).await?.is_some() {
        return Ok(Step::More);
    }
    due.set(steady_ms + RUN_INTERVAL_MS);
    Ok(Step::Idle)
}
