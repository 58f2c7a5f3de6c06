//! Finding out which account the key belongs to. Stripe is asked after startup, which never waits
//! for it.

use std::time::Duration;

use crate::billing::{Billing, STRIPE_DEADLINE};
use crate::domain::ids::AccountId;
use crate::store::{AccountConflict, Store, StoreError};
use crate::stripe::{Deadline, Stripe, StripeError};

/// The pause after a failure doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// Longer than a batch can take.
const LATE_RETRY_PAUSE: Duration = Duration::from_mins(1);

/// The pause if a restricted key may not read its account: the operator can add the permission
/// later.
const REJECTED_PAUSE: Duration = Duration::from_hours(1);

/// Asks Stripe for the account and compares it with the one that the database remembers. Returns
/// only if they differ, because everything the service does then would affect another account's
/// customers.
pub(super) async fn guard(billing: &Billing) -> AccountConflict {
    retry_or_log(billing).await;
    let Some(stripe) = billing.stripe.as_ref().map(Stripe::throttled) else {
        return std::future::pending().await;
    };
    let (mut pause, mut was_rejected) = (FIRST_PAUSE, false);
    loop {
        let response = stripe.own_account(Deadline::after(STRIPE_DEADLINE)).await;
        let is_rejected = matches!(response, Err(StripeError::Rejected(_)));
        let account = match response {
            Ok(own) => Some(own),
            // The key may not read its account: STRIPE_ACCOUNT counts until the operator adds the
            // permission.
            Err(error @ StripeError::Rejected(_)) => {
                let asserted = billing.policy.account.get().cloned();
                if asserted.is_none() && !was_rejected {
                    tracing::warn!(
                        %error,
                        "the key may not read its account; events that name an account are quarantined until \
                         STRIPE_ACCOUNT is set"
                    );
                }
                asserted
            }
            Err(error) => {
                tracing::warn!(%error, "could not ask Stripe for the account of the key");
                None
            }
        };
        was_rejected |= is_rejected;
        if let Some(account) = account {
            match claim(billing, &account).await {
                Ok(Ok(())) if !is_rejected => {
                    // A batch that started before the account was known may have quarantined events
                    // since.
                    tokio::time::sleep(LATE_RETRY_PAUSE).await;
                    retry_or_log(billing).await;
                    return std::future::pending().await;
                }
                Ok(Ok(())) => {}
                Ok(Err(conflict)) => return conflict,
                Err(error) => tracing::error!(%error, "could not store the account; trying again"),
            }
        }
        pause = if is_rejected { REJECTED_PAUSE } else { pause };
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(if was_rejected { REJECTED_PAUSE } else { MAX_PAUSE });
    }
}

async fn retry_or_log(billing: &Billing) {
    if let Err(error) = retry_quarantined(billing).await {
        tracing::error!(%error, "could not retry quarantined events; restart the service to try again");
    }
}

/// Compares the account with `STRIPE_ACCOUNT` and with the database, which remembers it from now
/// on.
async fn claim(billing: &Billing, own: &AccountId) -> Result<Result<(), AccountConflict>, StoreError> {
    if let Some(asserted) = billing.policy.account.get().filter(|asserted| *asserted != own) {
        return Ok(Err(AccountConflict { own: own.clone(), database: asserted.clone() }));
    }
    let claimed = billing.store.bind_account(own).await?;
    if claimed.is_ok() {
        if billing.policy.account.get().is_none() {
            tracing::info!(account = %own, "the account is known");
        }
        billing.policy.account.learn(own.clone());
        retry_quarantined(billing).await?;
    }
    Ok(claimed)
}

/// Retries the events that were quarantined while the account was unknown, if it is known now.
async fn retry_quarantined(billing: &Billing) -> Result<(), StoreError> {
    if billing.policy.account.get().is_none() {
        return Ok(());
    }
    let retried = billing.store.retry_events_of_unknown_account(billing.clock.now_ms()).await?;
    if retried > 0 {
        tracing::info!(retried, "retrying events that were quarantined while the account was unknown");
    }
    Ok(())
}

/// The account that is known before Stripe is asked: `STRIPE_ACCOUNT` if set, otherwise the one
/// that the database remembers. Fails if the two differ. The database remembers `STRIPE_ACCOUNT`
/// only once Stripe has not contradicted it.
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
