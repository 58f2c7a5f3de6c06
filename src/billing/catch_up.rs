//! Blocks sales after a long downtime until the backfill has read what was bought meanwhile. A
//! tenant that paid then must not be sold a second subscription, nor get a second customer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::BillingError;

/// The longest downtime that does not block sales: Stripe has resent its events by then, and a busy
/// start need not wait.
const LONG_DOWNTIME_SECONDS: i64 = 60 * 60;

/// Whether the first backfill after a long downtime, or of a restored database, still runs. Cheap
/// to clone.
#[derive(Debug, Clone, Default)]
pub struct CatchUp(Arc<AtomicBool>);

impl CatchUp {
    /// At startup. Every event up to `watermark` is in the inbox. Both times are in Unix seconds.
    pub fn from(watermark: i64, now: i64) -> Self {
        Self(Arc::new(AtomicBool::new(now - watermark > LONG_DOWNTIME_SECONDS)))
    }

    /// Allows sales once the returned guard is dropped, however the run ends: it reached the
    /// present, Stripe failed, or it timed out or panicked. Selling nothing until a later run
    /// succeeds would be worse than a possible double sale.
    pub(super) fn end_on_drop(&self) -> CatchUpGuard {
        CatchUpGuard(Some(self.clone()))
    }

    pub(super) fn ensure_over(&self) -> Result<(), BillingError> {
        if self.0.load(Ordering::Relaxed) { Err(BillingError::CatchingUp) } else { Ok(()) }
    }
}

#[must_use]
pub(super) struct CatchUpGuard(Option<CatchUp>);

impl CatchUpGuard {
    /// Keeps sales blocked after this run, because the next one starts within seconds.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CatchUpGuard {
    fn drop(&mut self) {
        if let Some(CatchUp(is_running)) = &self.0 {
            is_running.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn catch_up_ends_with_a_panicking_run_but_not_when_disarmed() {
        let catch_up = CatchUp::from(0, 10_000);
        catch_up.end_on_drop().disarm();
        assert!(catch_up.ensure_over().is_err());
        let run = AssertUnwindSafe(|| {
            let _guard = catch_up.end_on_drop();
            std::panic::resume_unwind(Box::new("a panic"));
        });
        assert!(catch_unwind(run).is_err());
        assert!(catch_up.ensure_over().is_ok());
    }

    #[test]
    fn catch_up_runs_after_more_than_an_hour_of_downtime() {
        for (watermark, is_long) in [(10_000, false), (6400, false), (6399, true), (0, true), (20_000, false)]
        {
            let catch_up = CatchUp::from(watermark, 10_000);
            assert_eq!(catch_up.ensure_over().is_err(), is_long, "{watermark}");
            drop(catch_up.end_on_drop());
            assert!(catch_up.ensure_over().is_ok());
        }
    }
}
