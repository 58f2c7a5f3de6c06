//! Checking that the configured prices exist at Stripe. Otherwise a mistyped one would be noticed
//! only by the first tenant that tries to buy it, or paid for it and gets nothing. The job also
//! remembers which price has which lookup key, so that the price stays known when the key moves to
//! another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Instrument, info_span};

use super::schedule::{DueTime, Step, run_forever};
use crate::billing::{Billing, BillingError};
use crate::domain::ids::PriceId;
use crate::domain::known_prices::KnownPrices;
use crate::domain::plan::FormerKey;
use crate::store::StoreError;
use crate::stripe::{Deadline, Stripe, StripeError};

const CHECK_INTERVAL_MS: i64 = 60 * 60 * 1000;

const PRICE_TIMEOUT: Duration = Duration::from_secs(10);

/// The configured prices that were missing at Stripe at the last check.
#[derive(Debug, Default)]
pub struct MissingPrices(Mutex<Vec<PriceId>>);

impl MissingPrices {
    /// Ids or lookup keys, as configured.
    pub fn names(&self) -> Vec<String> {
        self.prices().iter().map(ToString::to_string).collect()
    }

    /// Returns whether the list changed.
    fn replace(&self, missing: &[PriceId]) -> bool {
        let mut prices = self.prices();
        let has_changed = *prices != missing;
        *prices = missing.to_vec();
        has_changed
    }

    fn prices(&self) -> MutexGuard<'_, Vec<PriceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn run(billing: &Billing) {
    let Some(stripe) = billing.stripe.as_ref().map(Stripe::throttled) else { return };
    let (due, logged) = (DueTime::now(), Mutex::default());
    run_forever("checking the configured prices", None, || step(billing, &stripe, &due, &logged)).await;
}

async fn step(
    billing: &Billing,
    stripe: &Stripe,
    due: &DueTime,
    logged: &Mutex<BTreeSet<FormerKey>>,
) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    if !due.has_come(steady_ms) {
        return Ok(Step::Idle);
    }
    let span = info_span!(parent: None, "price check");
    let Some(ConfiguredPrices { missing, holders }) = look_up(billing, stripe).instrument(span).await else {
        return Ok(Step::Failed);
    };
    store_lookup_keys(billing, &holders, logged).await?;
    if billing.missing_prices.replace(&missing) {
        for price in &missing {
            tracing::warn!(%price, "BILLHOOK_PLANS names a price that is not at Stripe; run `billhook doctor`");
        }
    }
    due.set(steady_ms + CHECK_INTERVAL_MS);
    Ok(Step::Idle)
}

#[derive(Default)]
struct ConfiguredPrices {
    missing: Vec<PriceId>,
    /// The price that now has each configured lookup key.
    holders: BTreeMap<PriceId, PriceId>,
}

/// Returns none if Stripe is unavailable.
async fn look_up(billing: &Billing, stripe: &Stripe) -> Option<ConfiguredPrices> {
    let mut prices = ConfiguredPrices::default();
    for price in billing.policy.catalog.plans().iter().flat_map(|plan| &plan.prices) {
        match stripe.price(price, Deadline::after(PRICE_TIMEOUT)).await {
            Ok(None) => prices.missing.push(price.clone()),
            Ok(Some(found)) if found.lookup_key.as_ref() == Some(price) => {
                prices.holders.insert(price.clone(), found.id);
            }
            // A key that may not read prices is rejected each time; `billhook doctor` reports it.
            Ok(Some(_)) | Err(StripeError::Rejected(_)) => {}
            Err(StripeError::Unavailable { .. }) => return None,
        }
    }
    Some(prices)
}

/// Stores which price has which lookup key. Logs once each price that is recognised only by a
/// remembered key.
async fn store_lookup_keys(
    billing: &Billing,
    holders: &BTreeMap<PriceId, PriceId>,
    logged: &Mutex<BTreeSet<FormerKey>>,
) -> Result<(), StoreError> {
    if holders.is_empty() {
        return Ok(());
    }
    let mut current = KnownPrices::default();
    for (lookup_key, price) in holders {
        current.add(price, lookup_key, billing.clock.now_seconds());
    }
    billing.store.add_known_prices(&current).await?;
    let known = billing.store.all_known_prices().await?;
    let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
    for former in billing.policy.catalog.former_keys(&known, holders) {
        if logged.insert(former.clone()) {
            let FormerKey { price, lookup_key, plan } = &former;
            tracing::warn!(
                %price, %lookup_key, %plan,
                "a price is recognised only by its former lookup key; add its id to BILLHOOK_PLANS"
            );
        }
    }
    Ok(())
}
