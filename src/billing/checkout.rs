//! Selling a plan to a tenant.

use tracing::{Instrument, info_span};

use super::link::{LinkError, link_tenant};
use super::refresh::take_over_session;
use super::telling::{Names, Telling};
use super::{Billing, BillingError, Caller, STRIPE_DEADLINE};
use crate::domain::address::{AppUrl, ReturnPath};
use crate::domain::ids::{CustomerId, PlanName, PriceId, SessionId};
use crate::domain::journey::{Journey, JourneyId, Traceparent};
use crate::domain::plan::Plan;
use crate::domain::scene::LinkRefusal;
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::stripe::{CheckoutOrder, Deadline, SessionView, Stripe, StripeError};
use crate::telemetry::spans;

const NAMES: Names = Names {
    start: "checkout.create.start",
    success: "checkout.create.success",
    failure: "checkout.create.failure",
};

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

/// Makes a checkout session, or finds the open one that asks for the same, and returns its page.
///
/// Fails if Stripe, the plans or the app's address are not configured, the plan is unknown, the tenant has a
/// subscription that another would double, or Stripe or the database refuses.
pub async fn create_checkout_session(
    billing: &Billing,
    caller: &Caller,
    wish: CheckoutWish,
) -> Result<Purchase, BillingError> {
    // A caller must not choose a journey's id: its trace is new, and only links to the caller's.
    let span = info_span!("create checkout session", billing.journey.origin = true);
    spans::detach(&span);
    if let Some(caller) = spans::current_trace() {
        spans::link(&span, caller);
    }
    async {
        let mut telling = Telling::start(billing, caller, NAMES);
        let result = sell(billing, caller, &wish, &mut telling).await;
        telling.end(result)
    }
    .instrument(span)
    .await
}

async fn sell(
    billing: &Billing,
    caller: &Caller,
    wish: &CheckoutWish,
    telling: &mut Telling<'_>,
) -> Result<Purchase, BillingError> {
    let stripe = billing.stripe()?;
    let app_url = billing.app_url()?;
    let plan = chosen_plan(billing, wish)?;
    let deadline = Deadline::after(STRIPE_DEADLINE);

    refuse_a_second_subscription(billing, caller).await?;
    if let Some(last) = billing.store.last_checkout(&caller.tenant).await?
        && let Some(purchase) = settle_last(billing, stripe, &last, plan, wish, telling, deadline).await?
    {
        return Ok(purchase);
    }
    refuse_a_second_subscription(billing, caller).await?;

    let customer = customer_of(billing, stripe, caller, telling, deadline).await?;
    let price = price_of(stripe, plan, deadline).await?;
    open(billing, stripe, app_url, &Sale { caller, customer, plan, price, wish }, telling, deadline).await
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

/// Looks the tenant's last session up at Stripe while, for all we know, it is open. One that was paid is taken over,
/// one that asks for the same is handed out again, and any other is closed, so that it cannot be paid beside a new one.
async fn settle_last(
    billing: &Billing,
    stripe: &Stripe,
    last: &Checkout,
    plan: &Plan,
    wish: &CheckoutWish,
    telling: &mut Telling<'_>,
    deadline: Deadline,
) -> Result<Option<Purchase>, BillingError> {
    if last.status != CheckoutStatus::Open {
        return Ok(None);
    }
    let seen = match stripe.retrieve_checkout_session(&last.session, deadline).await {
        Ok(seen) => seen,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match seen.value {
        SessionView::Complete(session) => {
            telling.request_id = seen.request_id;
            take_over_session(billing, stripe, &last.tenant, &session, deadline).await?;
            Err(BillingError::AlreadySubscribed)
        }
        SessionView::Open { url } if asks_for_the_same(last, plan, wish) => {
            telling.customer = Some(last.customer.clone());
            telling.journey = Some(last.journey);
            telling.request_id = seen.request_id;
            Ok(Some(Purchase { session: last.session.clone(), url }))
        }
        SessionView::Open { .. } => {
            stripe.expire_checkout_session(&last.session, deadline).await?;
            Ok(None)
        }
        SessionView::Expired => Ok(None),
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
    telling: &mut Telling<'_>,
    deadline: Deadline,
) -> Result<CustomerId, BillingError> {
    let tenant = billing.store.tenant(&caller.tenant).await?;
    let tenant = tenant.unwrap_or_else(|| Tenant::new(caller.tenant.clone()));
    let customer = match tenant.customer {
        Some(customer) => customer,
        None => make_customer(billing, stripe, &tenant, telling, deadline).await?,
    };
    telling.customer = Some(customer.clone());
    Ok(customer)
}

async fn make_customer(
    billing: &Billing,
    stripe: &Stripe,
    tenant: &Tenant,
    telling: &mut Telling<'_>,
    deadline: Deadline,
) -> Result<CustomerId, BillingError> {
    let made = stripe.create_customer(&tenant.id, tenant.generation, deadline).await?;
    telling.request_id = made.request_id;
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
}

async fn open(
    billing: &Billing,
    stripe: &Stripe,
    app_url: &AppUrl,
    sale: &Sale<'_>,
    telling: &mut Telling<'_>,
    deadline: Deadline,
) -> Result<Purchase, BillingError> {
    let now_ms = billing.clock.now_ms();
    let journey = Journey { origin: origin(), began_at_ms: now_ms };
    telling.journey = Some(journey);
    let order = CheckoutOrder {
        tenant: &sale.caller.tenant,
        customer: &sale.customer,
        price: &sale.price,
        journey: journey.origin,
        success_url: &app_url.join(&sale.wish.success_path),
        cancel_url: &app_url.join(&sale.wish.cancel_path),
    };
    let made = stripe.create_checkout_session(&order, deadline).await.map_err(explain)?;
    telling.request_id = made.request_id;
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

/// The span that we are in. Where nothing makes trace ids, one is made up: a journey has an id all the same.
fn origin() -> Traceparent {
    spans::current_trace().unwrap_or_else(|| {
        let chance = uuid::Uuid::new_v4().into_bytes();
        let mut span_id = [0; 8];
        span_id.copy_from_slice(&chance[8..]);
        let made_up = JourneyId::from_bytes(chance).and_then(|id| Traceparent::new(id, span_id, false));
        made_up.expect("a version 4 UUID is never zero, in neither half")
    })
}

fn explain(error: StripeError) -> BillingError {
    if error.is_missing_customer() {
        tracing::error!(%error, "Stripe does not know the tenant's customer: link the tenant to a living one");
        return BillingError::NoCustomer;
    }
    BillingError::Stripe(error)
}
