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

    /// A run has reached the present; or it was interrupted, and selling nothing until Stripe tells its events would be worse
    /// than what may be sold twice.
    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Refuses to sell before that.
    pub(super) fn refuse_until_over(&self) -> Result<(), BillingError> {
        if self.0.load(Ordering::Relaxed) { Err(BillingError::CatchingUp) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_of_more_than_an_hour_is_long() {
        for (watermark, is_long) in [(10_000, false), (6400, false), (6399, true), (0, true), (20_000, false)]
        {
            let catching_up = CatchingUp::from(watermark, 10_000);
            assert_eq!(catching_up.refuse_until_over().is_err(), is_long, "{watermark}");
            catching_up.end();
            assert!(catching_up.refuse_until_over().is_ok());
        }
    }
}
