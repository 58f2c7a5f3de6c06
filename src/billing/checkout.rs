//! Selling a plan to a tenant.

use tracing::{Instrument, Span, info_span};

use super::link::{LinkError, link_tenant};
use super::refresh::take_over_session;
use super::request_log::{Operation, RequestLog};
use super::{Billing, BillingError, Caller, STRIPE_DEADLINE};
use crate::domain::address::{AppUrl, ReturnPath};
use crate::domain::ids::{CustomerId, PlanName, PriceId, SessionId};
use crate::domain::journey::{Journey, JourneyId, Traceparent};
use crate::domain::plan::Plan;
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::domain::unit_of_work::LinkRefusal;
use crate::stripe::{Answer, CheckoutOrder, Deadline, SessionView, Stripe, StripeError};
use crate::telemetry::spans;

/// What a user wants to buy.
#[derive(Debug)]
pub struct CheckoutWish {
    /// The plan; the first configured one without it.
    pub plan: Option<PlanName>,
    /// Where Stripe's page goes when it is paid.
    pub success_path: ReturnPath,
    /// Where it goes when it is not.
    pub cancel_path: ReturnPath,
}

/// A session to pay on. Whoever has its URL can pay as the tenant: it goes to the caller and nowhere else.
pub struct Purchase {
    /// `cs_...`
    pub session: SessionId,
    /// Stripe's page.
    pub url: String,
}

/// A checkout that came to nothing, and the id of the trace that tells why: its own, not its caller's.
#[derive(Debug)]
pub struct CheckoutFailed {
    /// Why.
    pub error: BillingError,
    /// Where to look.
    pub trace: JourneyId,
}

/// Makes a checkout session, or finds the open one that asks for the same, and returns its page.
///
/// Fails if Stripe, the plans or the app's address are not configured, the plan is unknown, the tenant has a
/// subscription that another would double, or Stripe or the database refuses.
pub async fn create_checkout_session(
    billing: &Billing,
    caller: &Caller,
    wish: CheckoutWish,
) -> Result<Purchase, CheckoutFailed> {
    // A caller must not choose a journey's id: its trace is new, and the two only link to each other.
    let request_span = Span::current();
    let span = info_span!("create checkout session", billing.journey.origin = true);
    spans::detach(&span);
    let origin = spans::traceparent_of(&span).unwrap_or_else(made_up_origin);
    if let Some(request) = spans::traceparent_of(&request_span) {
        spans::link(&span, request);
        spans::link(&request_span, origin);
    }
    async {
        let mut log = RequestLog::start(billing, caller, Operation::Checkout);
        let result = sell(billing, caller, &wish, origin, &mut log).await;
        log.end(result).map_err(|error| CheckoutFailed { error, trace: origin.journey_id() })
    }
    .instrument(span)
    .await
}

async fn sell(
    billing: &Billing,
    caller: &Caller,
    wish: &CheckoutWish,
    origin: Traceparent,
    log: &mut RequestLog<'_>,
) -> Result<Purchase, BillingError> {
    let stripe = billing.stripe()?;
    let app_url = billing.app_url()?;
    let plan = chosen_plan(billing, wish)?;
    let deadline = Deadline::after(STRIPE_DEADLINE);

    refuse_a_second_subscription(billing, caller).await?;
    if let Some(last) = billing.store.last_checkout(&caller.tenant).await?
        && let Some(purchase) = settle_last(billing, stripe, &last, plan, wish, log, deadline).await?
    {
        return Ok(purchase);
    }
    refuse_a_second_subscription(billing, caller).await?;

    let customer = customer_of(billing, stripe, caller, log, deadline).await?;
    let price = price_of(stripe, plan, deadline).await?;
    let sale = Sale { caller, customer, plan, price, wish, origin };
    open(billing, stripe, app_url, &sale, log, deadline).await
}

fn chosen_plan<'a>(billing: &'a Billing, wish: &CheckoutWish) -> Result<&'a Plan, BillingError> {
    let catalog = &billing.policy.catalog;
    let default = catalog.default_plan().ok_or(BillingError::NotConfigured("BILLHOOK_PLANS"))?;
    match &wish.plan {
        None => Ok(default),
        Some(name) => {
            catalog.plan(name.as_str()).ok_or(BillingError::InvalidRequest("there is no plan of that name"))
        }
    }
}

async fn refuse_a_second_subscription(billing: &Billing, caller: &Caller) -> Result<(), BillingError> {
    let subscriptions = billing.store.subscriptions(&caller.tenant).await?;
    if subscriptions.iter().any(|subscription| subscription.state.status.blocks_checkout()) {
        return Err(BillingError::AlreadySubscribed);
    }
    Ok(())
}

/// Looks the tenant's last session up at Stripe, unless it is known how it ended. One that was paid is taken over, one
/// that asks for the same is handed out again, and any other is closed, so that it cannot be paid beside a new one.
async fn settle_last(
    billing: &Billing,
    stripe: &Stripe,
    last: &Checkout,
    plan: &Plan,
    wish: &CheckoutWish,
    log: &mut RequestLog<'_>,
    deadline: Deadline,
) -> Result<Option<Purchase>, BillingError> {
    if is_settled(billing, last).await? {
        return Ok(None);
    }
    let Some(seen) = look_up(stripe, last, deadline).await? else { return Ok(None) };
    log.request_id = seen.request_id;
    match seen.value {
        SessionView::Open { url } if asks_for_the_same(last, plan, wish) => {
            log.customer = Some(last.customer.clone());
            log.journey = Some(last.journey);
            spans::link(&Span::current(), last.journey.origin);
            return Ok(Some(Purchase { session: last.session.clone(), url }));
        }
        SessionView::Open { .. } => {
            if let Err(error) = stripe.expire_checkout_session(&last.session, deadline).await {
                // Somebody may have paid it since we looked.
                let Some(seen) = look_up(stripe, last, deadline).await? else { return Ok(None) };
                let SessionView::Complete(session) = seen.value else { return Err(error.into()) };
                take_over_session(billing, stripe, last, &session, deadline).await?;
            }
        }
        SessionView::Complete(session) => {
            take_over_session(billing, stripe, last, &session, deadline).await?;
        }
        SessionView::Expired => {}
    }
    Ok(None)
}

/// Whether nothing is to be learned about a session: it ended without a purchase, or we hold what it made.
async fn is_settled(billing: &Billing, last: &Checkout) -> Result<bool, BillingError> {
    Ok(match last.status {
        CheckoutStatus::Open => false,
        CheckoutStatus::Expired => true,
        CheckoutStatus::AwaitingPayment | CheckoutStatus::Complete | CheckoutStatus::PaymentFailed => {
            match &last.subscription {
                Some(id) => billing.store.revision(id).await?.is_some(),
                None => true,
            }
        }
    })
}

async fn look_up(
    stripe: &Stripe,
    last: &Checkout,
    deadline: Deadline,
) -> Result<Option<Answer<SessionView>>, BillingError> {
    match stripe.retrieve_checkout_session(&last.session, deadline).await {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn asks_for_the_same(last: &Checkout, plan: &Plan, wish: &CheckoutWish) -> bool {
    last.plan == plan.name
        && last.success_path == wish.success_path.as_str()
        && last.cancel_path == wish.cancel_path.as_str()
}

/// The tenant's customer, made on its first checkout.
async fn customer_of(
    billing: &Billing,
    stripe: &Stripe,
    caller: &Caller,
    log: &mut RequestLog<'_>,
    deadline: Deadline,
) -> Result<CustomerId, BillingError> {
    let tenant = billing.store.tenant(&caller.tenant).await?;
    let tenant = tenant.unwrap_or_else(|| Tenant::new(caller.tenant.clone()));
    let customer = match tenant.customer {
        Some(customer) => customer,
        None => make_customer(billing, stripe, &tenant, log, deadline).await?,
    };
    log.customer = Some(customer.clone());
    Ok(customer)
}

async fn make_customer(
    billing: &Billing,
    stripe: &Stripe,
    tenant: &Tenant,
    log: &mut RequestLog<'_>,
    deadline: Deadline,
) -> Result<CustomerId, BillingError> {
    let made = stripe.create_customer(&tenant.id, tenant.generation, deadline).await?;
    log.request_id = made.request_id;
    match link_tenant(billing, &tenant.id, &made.value, "checkout").await {
        Ok(()) => Ok(made.value),
        Err(LinkError::Store(error)) => Err(error.into()),
        // Somebody linked the tenant while we asked: theirs stands.
        Err(LinkError::Refused(LinkRefusal::TenantHasCustomer)) => {
            let linked = billing.store.tenant(&tenant.id).await?.and_then(|tenant| tenant.customer);
            linked.ok_or(BillingError::NoCustomer)
        }
        Err(LinkError::Refused(refusal)) => {
            tracing::error!(tenant = %tenant.id, customer = %made.value, %refusal, "a new customer cannot be linked");
            Err(BillingError::NoCustomer)
        }
    }
}

/// The id of the plan's first price. What looks like an id is one; anything else is a lookup key first, and the id of
/// a price that began as a plan if no price has that key.
async fn price_of(stripe: &Stripe, plan: &Plan, deadline: Deadline) -> Result<PriceId, BillingError> {
    let Some(first) = plan.prices.first() else {
        return Err(BillingError::NotConfigured("BILLHOOK_PLANS"));
    };
    if first.as_str().starts_with("price_") {
        return Ok(first.clone());
    }
    Ok(stripe.price_by_lookup_key(first, deadline).await?.unwrap_or_else(|| first.clone()))
}

struct Sale<'a> {
    caller: &'a Caller,
    customer: CustomerId,
    plan: &'a Plan,
    price: PriceId,
    wish: &'a CheckoutWish,
    origin: Traceparent,
}

async fn open(
    billing: &Billing,
    stripe: &Stripe,
    app_url: &AppUrl,
    sale: &Sale<'_>,
    log: &mut RequestLog<'_>,
    deadline: Deadline,
) -> Result<Purchase, BillingError> {
    let now_ms = billing.clock.now_ms();
    let journey = Journey { origin: sale.origin, began_at_ms: now_ms };
    log.journey = Some(journey);
    let order = CheckoutOrder {
        tenant: &sale.caller.tenant,
        customer: &sale.customer,
        price: &sale.price,
        journey: journey.origin,
        success_url: &app_url.join(&sale.wish.success_path),
        cancel_url: &app_url.join(&sale.wish.cancel_path),
    };
    let made = stripe.create_checkout_session(&order, deadline).await;
    let made = made.map_err(|error| explain(error, log))?;
    log.request_id = made.request_id;
    let checkout = Checkout {
        session: made.value.id.clone(),
        tenant: sale.caller.tenant.clone(),
        customer: sale.customer.clone(),
        plan: sale.plan.name.clone(),
        success_path: sale.wish.success_path.as_str().to_owned(),
        cancel_path: sale.wish.cancel_path.as_str().to_owned(),
        status: CheckoutStatus::Open,
        subscription: None,
        journey,
    };
    billing.store.insert_checkout(&checkout, now_ms).await?;
    Ok(Purchase { session: made.value.id, url: made.value.url })
}

/// An origin where nothing makes trace ids: a journey has an id all the same.
fn made_up_origin() -> Traceparent {
    let chance = uuid::Uuid::new_v4().into_bytes();
    let mut span_id = [0; 8];
    span_id.copy_from_slice(&chance[8..]);
    let origin = JourneyId::from_bytes(chance).and_then(|id| Traceparent::new(id, span_id, false));
    origin.expect("a version 4 UUID is never zero, in neither half")
}

fn explain(error: StripeError, log: &mut RequestLog<'_>) -> BillingError {
    log.request_id = error.request_id().map(str::to_owned);
    if error.is_missing_customer() {
        tracing::error!(%error, "Stripe does not know the tenant's customer: link the tenant to a living one");
        return BillingError::NoCustomer;
    }
    BillingError::Stripe(error)
}
