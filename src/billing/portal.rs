//! Opening Stripe's Customer Portal for a tenant.

use tracing::{Instrument, Span, info_span};

use super::request_log::{Operation, RequestLog};
use super::stale_customer::Suspect;
use super::{Billing, BillingError, Caller, STRIPE_DEADLINE};
use crate::domain::address::ReturnPath;
use crate::domain::ids::SubscriptionId;
use crate::domain::tenant::Tenant;
use crate::stripe::{Deadline, Locale, PortalFlow, PortalOrder, StripeError};
use crate::telemetry::spans;

/// What a user wants of the portal.
#[derive(Debug)]
pub struct PortalWish {
    /// Where the portal's way back leads.
    pub return_path: ReturnPath,
    /// The one thing to do, if it is not the whole portal.
    pub flow: Option<PortalFlowWish>,
    /// The page's language.
    pub locale: Option<Locale>,
}

/// The one thing to do in the portal. Which subscription it is about is ours to know, not the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalFlowWish {
    /// A new card.
    PaymentMethodUpdate,
    /// Another plan.
    SubscriptionUpdate,
    /// The end.
    SubscriptionCancel,
}

/// Opens the portal and returns its URL, which must reach nobody but the caller.
///
/// Fails if Stripe or the app's address is not configured, the tenant has no customer, the flow needs a subscription
/// that grants the plan and there is none, or Stripe or the database refuses.
pub async fn create_portal_session(
    billing: &Billing,
    caller: &Caller,
    wish: PortalWish,
) -> Result<String, BillingError> {
    let (request_span, span) = (Span::current(), info_span!("create portal session"));
    async {
        let mut log = RequestLog::start(billing, caller, Operation::Portal, request_span);
        let result = open(billing, caller, &wish, &mut log).await;
        if result.is_ok() {
            leave_milestone(billing, &log);
        }
        log.end(result)
    }
    .instrument(span)
    .await
}

async fn open(
    billing: &Billing,
    caller: &Caller,
    wish: &PortalWish,
    log: &mut RequestLog<'_>,
) -> Result<String, BillingError> {
    let stripe = billing.stripe()?;
    let app_url = billing.app_url()?;
    let tenant = billing.store.tenant(&caller.tenant).await?;
    follow_journey(tenant.as_ref(), log);
    let customer = tenant.and_then(|tenant| tenant.customer).ok_or(BillingError::NoCustomer)?;
    log.customer = Some(customer.clone());
    let stripe = stripe.on_behalf_of(log.whose());
    let flow = match wish.flow {
        Some(wish) => Some(flow(billing, caller, wish).await?),
        None => None,
    };
    let return_url = app_url.join(&wish.return_path);
    let order = PortalOrder {
        customer: &customer,
        return_url: &return_url,
        locale: wish.locale.as_ref(),
        flow: flow.as_ref(),
    };
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let answer = stripe.create_portal_session(&order, deadline).await;
    if answer.as_ref().is_err_and(StripeError::is_missing_customer) {
        let suspect = Suspect { tenant: &caller.tenant, customer: &customer };
        suspect.end_if_deleted(billing, &stripe, deadline).await?;
    }
    let answer = answer.map_err(|error| explain(error, log))?;
    log.request_id = answer.request_id;
    Ok(answer.value)
}

fn follow_journey(tenant: Option<&Tenant>, log: &mut RequestLog<'_>) {
    if let Some(journey) = tenant.and_then(|tenant| tenant.journey) {
        log.journey = Some(journey);
        spans::link(&Span::current(), journey.origin);
    }
}

/// What the wish is about: the caller does not name a subscription, and need not have one for a new card.
async fn flow(billing: &Billing, caller: &Caller, wish: PortalFlowWish) -> Result<PortalFlow, BillingError> {
    Ok(match wish {
        PortalFlowWish::PaymentMethodUpdate => PortalFlow::PaymentMethodUpdate,
        PortalFlowWish::SubscriptionUpdate => {
            PortalFlow::SubscriptionUpdate(granting_subscription(billing, caller).await?)
        }
        PortalFlowWish::SubscriptionCancel => {
            PortalFlow::SubscriptionCancel(granting_subscription(billing, caller).await?)
        }
    })
}

async fn granting_subscription(billing: &Billing, caller: &Caller) -> Result<SubscriptionId, BillingError> {
    let catalog = &billing.policy.catalog;
    let subscriptions = billing.store.subscriptions(&caller.tenant).await?;
    let known = billing.store.known_prices(&catalog.prices_found_by_key(&subscriptions)).await?;
    let speaker = catalog.speaker(&subscriptions, &known).filter(|speaker| catalog.grants(speaker));
    speaker.map(|speaker| speaker.id.clone()).ok_or(BillingError::NoSubscription)
}

fn explain(error: StripeError, log: &mut RequestLog<'_>) -> BillingError {
    if error.is_portal_not_configured() {
        log.request_id = error.request_id().map(str::to_owned);
        tracing::error!(
            "the Customer Portal has no configuration: save its settings once at \
             https://dashboard.stripe.com/settings/billing/portal, in test and in live mode each"
        );
        return BillingError::NotConfigured("the Customer Portal's settings at Stripe");
    }
    log.explain(error)
}

/// Marks the portal's opening in the trace of the checkout that it follows from.
fn leave_milestone(billing: &Billing, log: &RequestLog<'_>) {
    if let Some(journey) = log.journey
        && journey.is_open(billing.journey_window_hours, billing.clock.now_ms())
    {
        let here = spans::current_trace();
        spans::milestone(journey.origin, "portal opened", &log.attributes(), here);
    }
}
