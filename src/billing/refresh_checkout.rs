//! Asking Stripe about one of a tenant's checkouts, for a buyer who is back and whose webhook is not.

use tracing::{Instrument, Span, info_span};

use super::request_log::{Operation, RequestLog};
use super::subscription::entitlement;
use super::sync_checkout::take_over_session;
use super::{Billing, BillingError, Caller, STRIPE_DEADLINE};
use crate::domain::ids::SessionId;
use crate::domain::plan::Entitlement;
use crate::domain::tenant::{Checkout, CheckoutStatus};
use crate::store::StoreError;
use crate::stripe::{Answer, Deadline, SessionView};
use crate::telemetry::spans;

/// Asks Stripe how far a checkout of the tenant's got, takes over what it made, and returns what the tenant is entitled to.
/// One that is still open changes nothing, and one that is known to its end is not asked about. Without a `session`, what
/// was named can be nobody's.
///
/// Fails if the session is not one of the tenant's, Stripe is not configured, or Stripe or the database refuses.
pub async fn refresh_checkout_session(
    billing: &Billing,
    caller: &Caller,
    session: Option<&SessionId>,
) -> Result<Entitlement, BillingError> {
    let (request_span, span) = (Span::current(), info_span!("refresh checkout session"));
    async {
        let mut log = RequestLog::start(billing, caller, Operation::CheckoutRefresh, request_span);
        let result = refresh(billing, caller, session, &mut log).await;
        log.end(result)
    }
    .instrument(span)
    .await
}

async fn refresh(
    billing: &Billing,
    caller: &Caller,
    session: Option<&SessionId>,
    log: &mut RequestLog<'_>,
) -> Result<Entitlement, BillingError> {
    let session = session.ok_or(BillingError::UnknownCheckout)?;
    let checkout = billing.store.checkout(&caller.tenant, session).await?;
    let checkout = checkout.ok_or(BillingError::UnknownCheckout)?;
    log.customer = Some(checkout.customer.clone());
    log.journey = Some(checkout.journey);
    spans::link(&Span::current(), checkout.journey.origin);
    if !is_known_to_its_end(billing, &checkout).await? {
        ask(billing, &checkout, log).await?;
    }
    entitlement(billing, &caller.tenant).await
}

/// Whether nothing is to be learned about a checkout: nobody can pay it any more, or it is paid and what it made grants its
/// plan or is over. Any other status may be from before the payment, whose event is the one that is lost.
async fn is_known_to_its_end(billing: &Billing, checkout: &Checkout) -> Result<bool, StoreError> {
    let (CheckoutStatus::Complete, Some(id)) = (checkout.status, &checkout.subscription) else {
        return Ok(checkout.status == CheckoutStatus::Expired);
    };
    let held = billing.store.subscription(id).await?;
    Ok(held.is_some_and(|held| billing.policy.catalog.grants(&held) || held.state.status.is_final()))
}

async fn ask(billing: &Billing, checkout: &Checkout, log: &mut RequestLog<'_>) -> Result<(), BillingError> {
    let stripe = billing.stripe()?.on_behalf_of(log.whose());
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let seen = match stripe.retrieve_checkout_session(&checkout.session, deadline).await {
        // Nobody can pay it either.
        Err(error) if error.is_missing() => {
            Answer { value: SessionView::Expired, request_id: error.request_id().map(str::to_owned) }
        }
        seen => seen.map_err(|error| log.explain(error))?,
    };
    log.request_id = seen.request_id;
    match seen.value {
        SessionView::Open { .. } => {}
        SessionView::Expired => {
            billing.store.expire_checkout(&checkout.session, billing.clock.now_ms()).await?;
        }
        SessionView::Complete(session) => {
            take_over_session(billing, &stripe, checkout, &session, deadline).await?;
            leave_milestone(billing, log);
        }
    }
    Ok(())
}

/// Marks in the checkout's trace that its end was learned by asking.
fn leave_milestone(billing: &Billing, log: &RequestLog<'_>) {
    if let Some(journey) = log.journey
        && billing.reporter.is_open(journey, billing.clock.now_ms())
    {
        let here = spans::current_trace();
        spans::milestone(journey.origin, "checkout refreshed", &log.attributes(), here);
    }
}
