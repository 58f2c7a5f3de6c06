//! Opening Stripe's Customer Portal for a tenant.

use tracing::{Instrument, Span, info_span};

use super::request_log::{Operation, RequestLog};
use super::stale_customer::Suspect;
use super::{Billing, BillingError, Caller, STRIPE_DEADLINE};
use crate::domain::address::ReturnPath;
use crate::domain::ids::SubscriptionId;
use crate::domain::locale::Locale;
use crate::domain::subscription::{Status, Subscription};
use crate::domain::tenant::Tenant;
use crate::stripe::{Answer, Deadline, PortalFlow, PortalOrder, PortalRefusal, Stripe, StripeError};
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
    /// A new card for what is subscribed to.
    PaymentMethodUpdate,
    /// Another plan.
    SubscriptionUpdate,
    /// The end.
    SubscriptionCancel,
}

/// Opens the portal, or the page of an open invoice, and returns its URL, which must reach nobody but the caller.
///
/// Fails if Stripe or the app's address is not configured, the tenant has no customer, the flow needs a subscription and
/// there is none that is not over, or Stripe or the database refuses.
pub async fn create_portal_session(
    billing: &Billing,
    caller: &Caller,
    wish: PortalWish,
) -> Result<String, BillingError> {
    let (request_span, span) = (Span::current(), info_span!("create portal session"));
    async {
        let mut log = RequestLog::start(billing, caller, Operation::Portal, request_span);
        let result = open(billing, caller, &wish, &mut log).await;
        if let Ok(page) = &result {
            leave_milestone(billing, &log, page.step);
        }
        log.end(result).map(|page| page.url)
    }
    .instrument(span)
    .await
}

/// A page that was opened.
struct OpenedPage {
    url: String,
    /// What the trace of the tenant's journey calls it.
    step: &'static str,
}

/// Where a wish leads.
enum Destination {
    /// The portal, or one thing to do there.
    Portal(Option<PortalFlow>),
    /// The page of the open invoice of this subscription.
    Invoice(SubscriptionId),
}

/// What the log says of a request that came to something else than it asked for.
mod note {
    /// A flow would give the customer another card, and the subscription's own would go on being charged.
    pub(super) const SUBSCRIPTION_CARD: &str = "card_is_on_subscription";
    /// The subscription is unpaid: Stripe tries no card any more, and the open invoice has to be paid.
    pub(super) const OPEN_INVOICE: &str = "open_invoice";
    /// The portal's settings do not offer what the flow is for.
    pub(super) const FLOW_DISABLED: &str = "flow_disabled";
    /// The subscription that was to be cancelled has an end already, which can be taken back in the portal.
    pub(super) const ALREADY_CANCELING: &str = "already_canceling";
    /// Stripe rejected the flow for another reason.
    pub(super) const FLOW_REJECTED: &str = "flow_rejected";
}

async fn open(
    billing: &Billing,
    caller: &Caller,
    wish: &PortalWish,
    log: &mut RequestLog<'_>,
) -> Result<OpenedPage, BillingError> {
    let stripe = billing.stripe()?;
    let app_url = billing.app_url()?;
    let tenant = billing.store.tenant(&caller.tenant).await?;
    follow_journey(tenant.as_ref(), log);
    let customer = tenant.and_then(|tenant| tenant.customer).ok_or(BillingError::NoCustomer)?;
    log.customer = Some(customer.clone());
    let stripe = stripe.on_behalf_of(log.whose());
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let flow = match destination(billing, caller, wish.flow, log).await? {
        Destination::Portal(flow) => flow,
        Destination::Invoice(subscription) => {
            if let Some(page) = open_invoice(&stripe, &subscription, deadline, log).await? {
                return Ok(page);
            }
            None
        }
    };
    let order = PortalOrder {
        customer: &customer,
        return_url: &app_url.join(&wish.return_path),
        locale: wish.locale.as_ref(),
        configuration: billing.portal_configuration.as_ref(),
        flow: flow.as_ref(),
    };
    let mut answer = stripe.create_portal_session(&order, deadline).await;
    if let Err(error) = &answer
        && flow.is_some()
        && is_about_flow(error)
    {
        log.note = Some(note_rejected_flow(error));
        answer = stripe.create_portal_session(&PortalOrder { flow: None, ..order }, deadline).await;
    }
    if answer.as_ref().is_err_and(StripeError::is_missing_customer) {
        let suspect = Suspect { tenant: &caller.tenant, customer: &customer };
        suspect.end_if_deleted(billing, &stripe, deadline).await?;
    }
    let answer = answer.map_err(|error| explain(error, log))?;
    log.request_id = answer.request_id;
    Ok(OpenedPage { url: answer.value, step: "portal opened" })
}

fn follow_journey(tenant: Option<&Tenant>, log: &mut RequestLog<'_>) {
    if let Some(journey) = tenant.and_then(|tenant| tenant.journey) {
        log.journey = Some(journey);
        spans::link(&Span::current(), journey.origin);
    }
}

/// Where the wish leads: the caller does not name a subscription, and need not have one for a new card.
///
/// Stripe's own flow for a new card sets the customer's (<https://docs.stripe.com/customer-management/portal-deep-links>).
/// A subscription that Checkout made has its card on itself, and Stripe goes on charging that one. On the portal's home both
/// can be changed, and what is owed can be paid. Once a subscription is `unpaid` no new card is tried at all
/// (<https://docs.stripe.com/billing/subscriptions/overview#unpaid-subscriptions>).
async fn destination(
    billing: &Billing,
    caller: &Caller,
    wish: Option<PortalFlowWish>,
    log: &mut RequestLog<'_>,
) -> Result<Destination, BillingError> {
    let Some(wish) = wish else { return Ok(Destination::Portal(None)) };
    let subscription = living_subscription(billing, caller).await?;
    Ok(match (wish, subscription) {
        (PortalFlowWish::PaymentMethodUpdate, None) => {
            Destination::Portal(Some(PortalFlow::PaymentMethodUpdate))
        }
        (PortalFlowWish::PaymentMethodUpdate, Some(Subscription { id, state, .. })) => {
            log.note = Some(note::SUBSCRIPTION_CARD);
            if state.status == Status::Unpaid { Destination::Invoice(id) } else { Destination::Portal(None) }
        }
        (PortalFlowWish::SubscriptionUpdate, Some(subscription)) => {
            Destination::Portal(Some(PortalFlow::SubscriptionUpdate(subscription.id)))
        }
        (PortalFlowWish::SubscriptionCancel, Some(subscription)) => {
            Destination::Portal(Some(PortalFlow::SubscriptionCancel(subscription.id)))
        }
        (_, None) => return Err(BillingError::NoSubscription),
    })
}

/// Of the subscriptions that are not over, the one that speaks. Whether it grants its plan or not, it can be paid, changed
/// and cancelled.
async fn living_subscription(
    billing: &Billing,
    caller: &Caller,
) -> Result<Option<Subscription>, BillingError> {
    let catalog = &billing.policy.catalog;
    let mut subscriptions = billing.store.subscriptions(&caller.tenant).await?;
    subscriptions.retain(|subscription| !subscription.state.status.is_final());
    let known = billing.store.known_prices(&catalog.prices_found_by_key(&subscriptions)).await?;
    Ok(catalog.speaker(&subscriptions, &known).cloned())
}

/// The page of the invoice that is to be paid, if there is one that can be read. In the portal it can be paid as well.
async fn open_invoice(
    stripe: &Stripe,
    subscription: &SubscriptionId,
    deadline: Deadline,
    log: &mut RequestLog<'_>,
) -> Result<Option<OpenedPage>, BillingError> {
    match stripe.open_invoice_page(subscription, deadline).await {
        Ok(Answer { value: Some(url), request_id }) => {
            log.request_id = request_id;
            log.note = Some(note::OPEN_INVOICE);
            Ok(Some(OpenedPage { url, step: "invoice opened" }))
        }
        Ok(Answer { value: None, .. }) => Ok(None),
        Err(error @ StripeError::Rejected(_)) => {
            tracing::warn!(%error, "could not look for the open invoice; opened the Customer Portal");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a session without the flow may still be made. What Stripe rejects about a flow has no code and no parameter, so
/// that only what is known to be about something else is left out.
fn is_about_flow(error: &StripeError) -> bool {
    error.is_invalid_request()
        && !error.is_missing_customer()
        && !error.is_of_portal_configuration()
        && error.portal_refusal() != Some(PortalRefusal::NotConfigured)
}

/// Logs why a flow was rejected, where an operator can do something about it, and returns the reason for the topic log.
fn note_rejected_flow(error: &StripeError) -> &'static str {
    match error.portal_refusal() {
        Some(PortalRefusal::AlreadyCanceling) => note::ALREADY_CANCELING,
        Some(PortalRefusal::FlowDisabled) => {
            tracing::warn!(
                "the Customer Portal's settings do not allow a flow; opened the plain portal; `billhook doctor` lists \
                 what is off"
            );
            note::FLOW_DISABLED
        }
        Some(PortalRefusal::NotConfigured) | None => {
            tracing::warn!(%error, "Stripe rejected a flow of the Customer Portal; opened the plain portal");
            note::FLOW_REJECTED
        }
    }
}

fn explain(error: StripeError, log: &mut RequestLog<'_>) -> BillingError {
    if error.portal_refusal() == Some(PortalRefusal::NotConfigured) {
        log.request_id = error.request_id().map(str::to_owned);
        tracing::error!(
            "the Customer Portal has no configuration: save its settings once at \
             https://dashboard.stripe.com/settings/billing/portal, in test and in live mode each"
        );
        return BillingError::NotConfigured("the Customer Portal's settings at Stripe");
    }
    if error.is_of_portal_configuration() {
        log.request_id = error.request_id().map(str::to_owned);
        tracing::error!(%error, "Stripe does not open the portal with BILLHOOK_PORTAL_CONFIGURATION; `billhook doctor` checks it");
        return BillingError::NotConfigured("BILLHOOK_PORTAL_CONFIGURATION");
    }
    log.explain(error)
}

/// Marks the page's opening in the trace of the checkout that it follows from.
fn leave_milestone(billing: &Billing, log: &RequestLog<'_>, step: &'static str) {
    if let Some(journey) = log.journey
        && billing.reporter.is_open(journey, billing.clock.now_ms())
    {
        let here = spans::current_trace();
        spans::milestone(journey.origin, step, &log.attributes(), here);
    }
}
