//! Refreshing a completed checkout before its webhook arrives. A buyer waits, so Stripe is asked at
//! once.

use super::commit::commit;
use super::first_payment::with_paid_or_void_invoice;
use super::{Billing, BillingError};
use crate::domain::batch::Batch;
use crate::domain::event::Session;
use crate::domain::subscription::Subscription;
use crate::domain::tenant::Checkout;
use crate::store::{BatchScope, StoreError, retry_on_conflict};
use crate::stripe::{ApiResponse, Deadline, FetchedSubscriptions, Stripe};
use crate::telemetry::topics::{Level, Line, Topic};

/// How often Stripe is asked again because an event changed the subscription in between.
const MAX_ATTEMPTS: u32 = 3;

/// Records that the checkout is complete, and stores its subscription as Stripe returns it. A
/// subscription that Stripe does not have is left out. Stores nothing, not even that the checkout
/// is complete, if events change the subscription during each attempt: then the events decide.
///
/// Fails if Stripe or the database fails.
pub(super) async fn refresh_completed_checkout(
    billing: &Billing,
    stripe: &Stripe,
    checkout: &Checkout,
    session: &Session,
    deadline: Deadline,
) -> Result<(), BillingError> {
    for _ in 0..MAX_ATTEMPTS {
        let revision = match &session.subscription {
            Some(id) => billing.store.revision(id).await?,
            None => None,
        };
        let response = fetch_subscription(billing, stripe, checkout, session, deadline).await?;
        if retry_on_conflict(|| save(billing, checkout, session, response.as_ref(), revision)).await? {
            return Ok(());
        }
    }
    tracing::warn!(session = %session.id, "events changed the subscription during each request to Stripe; keeping the events' state");
    Ok(())
}

async fn fetch_subscription(
    billing: &Billing,
    stripe: &Stripe,
    checkout: &Checkout,
    session: &Session,
    deadline: Deadline,
) -> Result<Option<ApiResponse<FetchedSubscriptions>>, BillingError> {
    let Some(id) = &session.subscription else { return Ok(None) };
    match stripe.retrieve_subscription(id, deadline).await {
        Ok(mut response) => {
            let FetchedSubscriptions { snapshots, paid_or_void, .. } = &mut response.value;
            *paid_or_void = with_paid_or_void_invoice(billing, stripe, snapshots, deadline).await?;
            Ok(Some(response))
        }
        Err(error) => {
            let line = line(billing, checkout, session, Level::Error, "refresh.failed");
            let reason = error.to_string();
            billing.topics.append(&[line.stripe_request(error.request_id()).reason(reason.as_str())]);
            if error.is_missing() { Ok(None) } else { Err(error.into()) }
        }
    }
}

/// Returns `false` and stores nothing if an event changed the subscription since `revision`.
async fn save(
    billing: &Billing,
    checkout: &Checkout,
    session: &Session,
    response: Option<&ApiResponse<FetchedSubscriptions>>,
    revision: Option<i64>,
) -> Result<bool, StoreError> {
    let transaction = billing.store.begin().await?;
    let mut batch = transaction.load_batch(&BatchScope::session(session, &checkout.customer)).await?;
    let held = |batch: &Batch| {
        let held = session.subscription.as_ref().and_then(|id| batch.subscription(id));
        held.map(|held| held.subscription.clone())
    };
    let before = held(&batch);
    if before.as_ref().map(|before| before.revision) != revision {
        return Ok(false);
    }
    let answered_at =
        response.map_or_else(|| billing.clock.now_seconds(), |response| response.value.answered_at);
    batch.apply_refreshed_session(session, answered_at);
    if let Some(FetchedSubscriptions { snapshots, paid_or_void, .. }) = response.map(|it| &it.value) {
        batch.apply_refresh(&checkout.customer, snapshots, answered_at);
        batch.apply_paid_or_void_invoices(paid_or_void, answered_at);
    }
    commit(billing, transaction, &batch).await?;
    if let Some(response) = response {
        // The session can report the payment that the subscription waits for.
        let compared = |held: Option<Subscription>| held.map(|held| (held.state, held.awaiting_payment));
        let changed = compared(before) != compared(held(&batch));
        let event = if changed { "refresh.changed" } else { "refresh.unchanged" };
        let line = line(billing, checkout, session, Level::Info, event);
        billing.topics.append(&[line.stripe_request(response.request_id.as_deref())]);
    }
    Ok(true)
}

fn line(
    billing: &Billing,
    checkout: &Checkout,
    session: &Session,
    level: Level,
    event: &'static str,
) -> Line {
    Line::new(Topic::SubscriptionState, level, event, billing.clock.now_ms())
        .tenant(&checkout.tenant)
        .customer(&checkout.customer)
        .subscription(session.subscription.as_ref())
        .journey(checkout.journey.id())
        .traced()
}
