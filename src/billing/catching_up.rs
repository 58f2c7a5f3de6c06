//! After a long absence nobody knows what was bought meanwhile until the backfill has read it. A tenant that paid then must
//! not be sold a second subscription, nor be given a second customer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::BillingError;

/// An absence that is long: Stripe has long sent again what came in a shorter one, and nothing is read of it that a busy
/// start would have to wait for.
const LONG_SECONDS: i64 = 60 * 60;

/// Whether the first backfill after a long absence, or of a restored database, is still reading. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CatchingUp(Arc<AtomicBool>);

impl CatchingUp {
    /// At a start, when every event up to the watermark is in the inbox.
    pub fn from(watermark: i64, now: i64) -> Self {
        Self(Arc::new(AtomicBool::new(now - watermark > LONG_SECONDS)))
    }

    /// Ends with what is returned, however the run ends: it has reached the present; or Stripe did not tell, or the run took
    /// too long or panicked, and selling nothing until a later one succeeds would be worse than what may be sold twice.
    pub(super) fn until_dropped(&self) -> Hold {
        Hold(Some(self.clone()))
    }

    /// Refuses to sell before that.
    pub(super) fn refuse_until_over(&self) -> Result<(), BillingError> {
        if self.0.load(Ordering::Relaxed) { Err(BillingError::CatchingUp) } else { Ok(()) }
    }
}

/// What ends it when it is dropped.
#[must_use]
pub(super) struct Hold(Option<CatchingUp>);

impl Hold {
    /// It does not end with this run: the next try comes within seconds.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(CatchingUp(is_under_way)) = &self.0 {
            is_under_way.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn it_ends_with_a_run_however_that_ends_unless_the_next_comes_at_once() {
        let catching_up = CatchingUp::from(0, 10_000);
        catching_up.until_dropped().keep();
        assert!(catching_up.refuse_until_over().is_err());
        let run = AssertUnwindSafe(|| {
            let _hold = catching_up.until_dropped();
            std::panic::resume_unwind(Box::new("a defect"));
        });
        assert!(catch_unwind(run).is_err());
        assert!(catching_up.refuse_until_over().is_ok());
    }

    #[test]
    fn an_absence_of_more_than_an_hour_is_long() {
        for (watermark, is_long) in [(10_000, false), (6400, false), (6399, true), (0, true), (20_000, false)]
        {
            let catching_up = CatchingUp::from(watermark, 10_000);
            assert_eq!(catching_up.refuse_until_over().is_err(), is_long, "{watermark}");
            drop(catching_up.until_dropped());
            assert!(catching_up.refuse_until_over().is_ok());
        }
    }
}
