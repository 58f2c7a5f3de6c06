//! Whether the configured prices exist at Stripe. A mistyped one would be noticed only by the first tenant that tries to
//! buy it, or has paid for it and gets nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Instrument, info_span};

use super::background::{DueTime, Step, forever};
use super::{Billing, BillingError};
use crate::domain::ids::PriceId;
use crate::stripe::{Deadline, Stripe, StripeError};

/// How often the prices are looked for, in milliseconds.
const CHECK_INTERVAL_MS: i64 = 60 * 60 * 1000;

/// How long Stripe may take for one price.
const PRICE_TIMEOUT: Duration = Duration::from_secs(10);

/// The configured prices that Stripe did not have when it was last asked.
#[derive(Debug, Default)]
pub struct MissingPrices(Mutex<Vec<PriceId>>);

impl MissingPrices {
    /// Their ids or lookup keys, as they are configured.
    pub fn names(&self) -> Vec<String> {
        self.prices().iter().map(ToString::to_string).collect()
    }

    /// Replaces them. Whether they are others than before.
    fn replace(&self, missing: &[PriceId]) -> bool {
        let mut prices = self.prices();
        let is_news = *prices != missing;
        *prices = missing.to_vec();
        is_news
    }

    fn prices(&self) -> MutexGuard<'_, Vec<PriceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for the prices once an hour.
pub(super) async fn run(billing: &Billing) {
    let Some(stripe) = billing.stripe.as_ref().map(Stripe::paced) else { return };
    let due = DueTime::now();
    forever("looking for the configured prices", None, || step(billing, &stripe, &due)).await;
}

async fn step(billing: &Billing, stripe: &Stripe, due: &DueTime) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    if !due.has_come(steady_ms) {
        return Ok(Step::Idle);
    }
    let span = info_span!(parent: None, "price check");
    let Some(missing) = missing_prices(billing, stripe).instrument(span).await else {
        return Ok(Step::Trouble);
    };
    if billing.missing_prices.replace(&missing) {
        for price in &missing {
            tracing::warn!(%price, "BILLHOOK_PLANS names a price that is not at Stripe; `billhook doctor` checks it");
        }
    }
    due.set(steady_ms + CHECK_INTERVAL_MS);
    Ok(Step::Idle)
}

/// The configured prices that are not at Stripe; none if Stripe is not available.
async fn missing_prices(billing: &Billing, stripe: &Stripe) -> Option<Vec<PriceId>> {
    let mut missing = Vec::new();
    for price in billing.policy.catalog.plans().iter().flat_map(|plan| &plan.prices) {
        match stripe.price(price, Deadline::after(PRICE_TIMEOUT)).await {
            Ok(None) => missing.push(price.clone()),
            // A key that may not look is rejected each time, which `billhook doctor` reports.
            Ok(Some(_)) | Err(StripeError::Rejected(_)) => {}
            Err(StripeError::Unavailable { .. }) => return None,
        }
    }
    Some(missing)
}
