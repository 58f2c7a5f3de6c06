//! Asking Stripe about one of a tenant's checkouts, for a buyer who returns before the webhook
//! arrives.

use tracing::{Instrument, Span, info_span};

use super::completed_checkout::refresh_completed_checkout;
use super::entitlement::entitlement;
use super::request_log::{Operation, RequestLog};
use super::{Billing, BillingError, STRIPE_DEADLINE, TenantUser};
use crate::domain::ids::SessionId;
use crate::domain::plan::Entitlement;
use crate::domain::tenant::{Checkout, CheckoutStatus};
use crate::store::StoreError;
use crate::stripe::{ApiResponse, Deadline, StripeCheckoutState};
use crate::telemetry::spans;

/// Refreshes a checkout from Stripe and returns the tenant's entitlement. An open session changes
/// nothing, and Stripe is not asked about one that needs no refresh. `session` is None if the
/// caller's id is malformed.
///
/// Fails if the session is not the tenant's, Stripe is not configured, or Stripe or the database
/// fails.
pub async fn refresh_checkout_session(
    billing: &Billing,
    caller: &TenantUser,
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
    caller: &TenantUser,
    session: Option<&SessionId>,
    log: &mut RequestLog<'_>,
) -> Result<Entitlement, BillingError> {
    let session = session.ok_or(BillingError::UnknownCheckout)?;
    let checkout = billing.store.checkout(&caller.tenant, session).await?;
    let checkout = checkout.ok_or(BillingError::UnknownCheckout)?;
    log.customer = Some(checkout.customer.clone());
    log.journey = Some(checkout.journey);
    spans::link(&Span::current(), checkout.journey.origin);
    if !needs_no_refresh(billing, &checkout).await? {
        refresh_from_stripe(billing, &checkout, log).await?;
    }
    entitlement(billing, &caller.tenant).await
}

/// Whether the session expired, or its subscription is stored and grants its plan or has ended. Any
/// other status may be from before a payment whose event was lost. Before a sale a weaker rule is
/// enough: `needs_no_check_before_sale` in `checkout`.
async fn needs_no_refresh(billing: &Billing, checkout: &Checkout) -> Result<bool, StoreError> {
    let (CheckoutStatus::Complete, Some(id)) = (checkout.status, &checkout.subscription) else {
        return Ok(checkout.status == CheckoutStatus::Expired);
    };
    let held = billing.store.subscription(id).await?;
    Ok(held.is_some_and(|held| billing.policy.catalog.grants(&held) || held.state.status.is_final()))
}

async fn refresh_from_stripe(
    billing: &Billing,
    checkout: &Checkout,
    log: &mut RequestLog<'_>,
) -> Result<(), BillingError> {
    let stripe = billing.stripe()?.with_span_context(log.billing_context());
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let found = match stripe.retrieve_checkout_session(&checkout.session, deadline).await {
        // A missing session cannot be paid either.
        Err(error) if error.is_missing() => ApiResponse {
            value: StripeCheckoutState::Expired,
            request_id: error.request_id().map(str::to_owned),
        },
        found => found.map_err(|error| log.explain(error))?,
    };
    log.stripe_request_id = found.request_id;
    match found.value {
        StripeCheckoutState::Open { .. } => {}
        StripeCheckoutState::Expired => {
            billing.store.expire_checkout(&checkout.session, billing.clock.now_ms()).await?;
        }
        StripeCheckoutState::Complete(session) => {
            refresh_completed_checkout(billing, &stripe, checkout, &session, deadline).await?;
            log.record_milestone("checkout refreshed");
        }
    }
    Ok(())
}
