//! Which account the key is of. Stripe is asked after the start, which never waits for it.

use std::time::Duration;

use crate::billing::{Billing, STRIPE_DEADLINE};
use crate::domain::ids::AccountId;
use crate::store::{AccountConflict, Store, StoreError};
use crate::stripe::{Deadline, Stripe, StripeError};

/// The pause after a failure, doubled with each further one, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Longer than a batch takes.
const LATE_RETRY_PAUSE: Duration = Duration::from_mins(1);

/// How often a restricted key that may not know its account is tried again: it can be given the permission.
const REFUSED_PAUSE: Duration = Duration::from_hours(1);

/// Learns the account and compares it with the one that the database remembers. Returns only if they differ: what the service
/// did then would be done to another account's customers.
pub(super) async fn guard(billing: &Billing) -> AccountConflict {
    retry_or_log(billing).await;
    let Some(stripe) = billing.stripe.as_ref().map(Stripe::paced) else {
        return std::future::pending().await;
    };
    let (mut pause, mut was_refused) = (PAUSE, false);
    loop {
        let answer = stripe.own_account(Deadline::after(STRIPE_DEADLINE)).await;
        let is_refused = matches!(answer, Err(StripeError::Rejected(_)));
        let account = match answer {
            Ok(own) => Some(own),
            // The key may not know its account. What STRIPE_ACCOUNT asserts stands, and the key can be given the permission.
            Err(error @ StripeError::Rejected(_)) => {
                let asserted = billing.policy.account.get().cloned();
                if asserted.is_none() && !was_refused {
                    tracing::warn!(
                        %error,
                        "Stripe does not say which account the key is of: events that name an account are quarantined \
                         until STRIPE_ACCOUNT is set"
                    );
                }
                asserted
            }
            Err(error) => {
                tracing::warn!(%error, "could not ask Stripe which account the key is of");
                None
            }
        };
        was_refused |= is_refused;
        if let Some(account) = account {
            match hold(billing, &account).await {
                Ok(Ok(())) if !is_refused => return retry_late_ones(billing).await,
                Ok(Ok(())) => {}
                Ok(Err(conflict)) => return conflict,
                Err(error) => tracing::error!(%error, "could not store the account; trying again"),
            }
        }
        pause = if is_refused { REFUSED_PAUSE } else { pause };
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(if was_refused { REFUSED_PAUSE } else { LONGEST_PAUSE });
    }
}

/// Retries what a batch quarantined that had started before the account was known and committed after the first retry.
async fn retry_late_ones(billing: &Billing) -> AccountConflict {
    tokio::time::sleep(LATE_RETRY_PAUSE).await;
    retry_or_log(billing).await;
    std::future::pending().await
}

async fn retry_or_log(billing: &Billing) {
    if let Err(error) = retry_quarantined(billing).await {
        tracing::error!(%error, "quarantined events could not be retried; restart the service to try again");
    }
}

/// Compares the account with the one that `STRIPE_ACCOUNT` asserts and with the database's, which remembers it from now on.
async fn hold(billing: &Billing, own: &AccountId) -> Result<Result<(), AccountConflict>, StoreError> {
    if let Some(asserted) = billing.policy.account.get().filter(|asserted| *asserted != own) {
        return Ok(Err(AccountConflict { own: own.clone(), database: asserted.clone() }));
    }
    let claimed = billing.store.claim_account(own).await?;
    if claimed.is_ok() {
        billing.policy.account.learn(own.clone());
        retry_quarantined(billing).await?;
    }
    Ok(claimed)
}

/// Retries the events that were quarantined while the account was not known, once it is.
async fn retry_quarantined(billing: &Billing) -> Result<(), StoreError> {
    if billing.policy.account.get().is_none() {
        return Ok(());
    }
    let retried = billing.store.retry_events_of_unknown_account(billing.clock.now_ms()).await?;
    if retried > 0 {
        tracing::info!(retried, "the account is known: retrying the events that were quarantined before");
    }
    Ok(())
}

/// The account as it is known before Stripe is asked: what `STRIPE_ACCOUNT` asserts, unless the database remembers another one,
/// else what the database remembers. The database remembers an assertion only once Stripe has not contradicted it.
pub async fn known_account(
    store: &Store,
    asserted: Option<AccountId>,
) -> Result<Result<Option<AccountId>, AccountConflict>, StoreError> {
    let remembered = store.account().await?;
    Ok(match (asserted, remembered) {
        (Some(own), Some(database)) if own != database => Err(AccountConflict { own, database }),
        (asserted, remembered) => Ok(asserted.or(remembered)),
    })
}
