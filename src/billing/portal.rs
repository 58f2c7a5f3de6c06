//! Opening Stripe's Customer Portal for a tenant.

use tracing::{Instrument, Span, info_span};

use super::missing_customer::MissingCustomer;
use super::request_log::{Operation, RequestLog};
use super::{Billing, BillingError, STRIPE_DEADLINE, TenantUser};
use crate::domain::app_url::ReturnPath;
use crate::domain::ids::SubscriptionId;
use crate::domain::locale::Locale;
use crate::domain::subscription::{Status, Subscription};
use crate::stripe::{
    ApiResponse, CustomerState, Deadline, PortalFlow, PortalParams, PortalRefusal, Stripe, StripeError,
};
use crate::telemetry::spans;

#[derive(Debug)]
pub struct PortalRequest {
    pub return_path: ReturnPath,
    /// None opens the portal's home.
    pub flow: Option<RequestedFlow>,
    /// Default: the browser's language.
    pub locale: Option<Locale>,
}

/// The portal flow to open. The service picks the subscription, not the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedFlow {
    PaymentMethodUpdate,
    SubscriptionUpdate,
    SubscriptionCancel,
}

/// Opens the portal, or the page of an open invoice, and returns its URL, which must go to the
/// caller only.
///
/// Fails if Stripe or the app's URL is not configured, the tenant has no customer, the flow needs a
/// subscription and all have ended, or Stripe or the database fails.
pub async fn create_portal_session(
    billing: &Billing,
    caller: &TenantUser,
    request: PortalRequest,
) -> Result<String, BillingError> {
    let (request_span, span) = (Span::current(), info_span!("create portal session"));
    async {
        let mut log = RequestLog::start(billing, caller, Operation::Portal, request_span);
        let result = open(billing, caller, &request, &mut log).await;
        if let Ok(page) = &result {
            log.record_milestone(page.step);
        }
        log.end(result).map(|page| page.url)
    }
    .instrument(span)
    .await
}

struct OpenedPage {
    url: String,
    /// The name of the step in the trace of the tenant's journey.
    step: &'static str,
}

enum Destination {
    Portal(Option<PortalFlow>),
    /// The page of this subscription's open invoice.
    Invoice(SubscriptionId),
}

/// Reasons in the log why a successful request got another page than it asked for.
mod note {
    /// The flow would change the customer's card, while Stripe charges the card on the
    /// subscription.
    pub(super) const SUBSCRIPTION_CARD: &str = "card_is_on_subscription";
    /// The subscription is unpaid: Stripe charges no card any more, and the open invoice has to be
    /// paid.
    pub(super) const OPEN_INVOICE: &str = "open_invoice";
    /// The flow is off in the portal's settings.
    pub(super) const FLOW_DISABLED: &str = "flow_disabled";
    /// The subscription is already set to end. The portal's home can undo that.
    pub(super) const ALREADY_CANCELING: &str = "already_canceling";
    /// Stripe rejected the flow for another reason.
    pub(super) const FLOW_REJECTED: &str = "flow_rejected";
}

async fn open(
    billing: &Billing,
    caller: &TenantUser,
    request: &PortalRequest,
    log: &mut RequestLog<'_>,
) -> Result<OpenedPage, BillingError> {
    let stripe = billing.stripe()?;
    let app_url = billing.app_url()?;
    let tenant = billing.store.tenant(&caller.tenant).await?;
    if let Some(journey) = tenant.as_ref().and_then(|tenant| tenant.journey) {
        log.journey = Some(journey);
        spans::link(&Span::current(), journey.origin);
    }
    let customer = tenant.and_then(|tenant| tenant.customer).ok_or(BillingError::NoCustomer)?;
    log.customer = Some(customer.clone());
    let stripe = stripe.with_span_context(log.billing_context());
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let flow = match destination(billing, caller, request.flow, log).await? {
        Destination::Portal(flow) => flow,
        Destination::Invoice(subscription) => {
            if let Some(page) = open_invoice(&stripe, &subscription, deadline, log).await? {
                return Ok(page);
            }
            None
        }
    };
    let params = PortalParams {
        customer: &customer,
        return_url: &app_url.join(&request.return_path),
        locale: request.locale.as_ref(),
        configuration: billing.portal_configuration.as_ref(),
        flow: flow.as_ref(),
    };
    let mut opened = stripe.create_portal_session(&params, deadline).await;
    if let Err(error) = &opened
        && flow.is_some()
        && is_about_flow(error)
    {
        log.note = Some(note_rejected_flow(error));
        opened = stripe.create_portal_session(&PortalParams { flow: None, ..params }, deadline).await;
    }
    if let Err(error) = &opened
        && error.is_missing_customer()
    {
        let missing = MissingCustomer { tenant: &caller.tenant, customer: &customer };
        if missing.record_if_deleted(billing, &stripe, deadline).await? == CustomerState::Deleted {
            log.stripe_request_id = error.request_id().map(str::to_owned);
            return Err(BillingError::NoCustomer);
        }
    }
    let opened = opened.map_err(|error| explain(error, log))?;
    log.stripe_request_id = opened.request_id;
    Ok(OpenedPage { url: opened.value, step: "portal opened" })
}

/// Picks the page for a requested flow. The caller does not name a subscription, and needs none to
/// change the card.
///
/// Stripe's flow for a new card changes the customer's card
/// (<https://docs.stripe.com/customer-management/portal-deep-links>). A subscription created by
/// Checkout has a card of its own, and Stripe keeps charging that one. The portal's home can change
/// both, and open invoices can be paid there. Once a subscription is `unpaid`, Stripe does not try
/// a new card at all
/// (<https://docs.stripe.com/billing/subscriptions/overview#unpaid-subscriptions>).
async fn destination(
    billing: &Billing,
    caller: &TenantUser,
    requested: Option<RequestedFlow>,
    log: &mut RequestLog<'_>,
) -> Result<Destination, BillingError> {
    let Some(requested) = requested else { return Ok(Destination::Portal(None)) };
    let subscription = current_subscription(billing, caller).await?;
    Ok(match (requested, subscription) {
        (RequestedFlow::PaymentMethodUpdate, None) => {
            Destination::Portal(Some(PortalFlow::PaymentMethodUpdate))
        }
        (RequestedFlow::PaymentMethodUpdate, Some(Subscription { id, state, .. })) => {
            log.note = Some(note::SUBSCRIPTION_CARD);
            if state.status == Status::Unpaid { Destination::Invoice(id) } else { Destination::Portal(None) }
        }
        (RequestedFlow::SubscriptionUpdate, Some(subscription)) => {
            Destination::Portal(Some(PortalFlow::SubscriptionUpdate(subscription.id)))
        }
        (RequestedFlow::SubscriptionCancel, Some(subscription)) => {
            Destination::Portal(Some(PortalFlow::SubscriptionCancel(subscription.id)))
        }
        (_, None) => return Err(BillingError::NoSubscription),
    })
}

/// Returns the subscription that decides the tenant's plan among those that have not ended. It can
/// be paid, changed and cancelled even if it grants nothing.
async fn current_subscription(
    billing: &Billing,
    caller: &TenantUser,
) -> Result<Option<Subscription>, BillingError> {
    let catalog = &billing.policy.catalog;
    let mut subscriptions = billing.store.subscriptions(&caller.tenant).await?;
    subscriptions.retain(|subscription| !subscription.state.status.is_final());
    let known = billing.store.known_prices(&catalog.prices_not_configured_by_id(&subscriptions)).await?;
    Ok(catalog.effective_subscription(&subscriptions, &known).cloned())
}

/// Returns the page of the open invoice. None if there is none or the key may not read it: the
/// portal can show it as well.
async fn open_invoice(
    stripe: &Stripe,
    subscription: &SubscriptionId,
    deadline: Deadline,
    log: &mut RequestLog<'_>,
) -> Result<Option<OpenedPage>, BillingError> {
    match stripe.open_invoice_page(subscription, deadline).await {
        Ok(ApiResponse { value: Some(url), request_id }) => {
            log.stripe_request_id = request_id;
            log.note = Some(note::OPEN_INVOICE);
            Ok(Some(OpenedPage { url, step: "invoice opened" }))
        }
        Ok(ApiResponse { value: None, .. }) => Ok(None),
        Err(error @ StripeError::Rejected(_)) => {
            tracing::warn!(%error, "could not read the open invoice; opening the Customer Portal");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether to retry without the flow. Stripe rejects a flow without a code or a parameter, so only
/// the errors that are known to concern something else are excluded.
fn is_about_flow(error: &StripeError) -> bool {
    error.is_invalid_request()
        && !error.is_missing_customer()
        && !error.is_about_portal_configuration()
        && error.portal_refusal() != Some(PortalRefusal::NotConfigured)
}

/// Logs a rejected flow if an operator can fix it, and returns the reason for the topic log.
fn note_rejected_flow(error: &StripeError) -> &'static str {
    match error.portal_refusal() {
        Some(PortalRefusal::AlreadyCanceling) => note::ALREADY_CANCELING,
        Some(PortalRefusal::FlowDisabled) => {
            tracing::warn!(
                "the requested flow is off in the Customer Portal's settings; opening the portal's home; run `billhook doctor`"
            );
            note::FLOW_DISABLED
        }
        Some(PortalRefusal::NotConfigured) | None => {
            tracing::warn!(%error, "Stripe rejected a flow of the Customer Portal; opening the portal's home");
            note::FLOW_REJECTED
        }
    }
}

fn explain(error: StripeError, log: &mut RequestLog<'_>) -> BillingError {
    if error.portal_refusal() == Some(PortalRefusal::NotConfigured) {
        log.stripe_request_id = error.request_id().map(str::to_owned);
        tracing::error!(
            "the Customer Portal has no configuration; save its settings at \
             https://dashboard.stripe.com/settings/billing/portal, once in test and once in live mode"
        );
        return BillingError::NotConfigured("the Customer Portal's settings at Stripe");
    }
    if error.is_about_portal_configuration() {
        log.stripe_request_id = error.request_id().map(str::to_owned);
        tracing::error!(%error, "Stripe rejected BILLHOOK_PORTAL_CONFIGURATION; run `billhook doctor`");
        return BillingError::NotConfigured("BILLHOOK_PORTAL_CONFIGURATION");
    }
    log.explain(error)
}
