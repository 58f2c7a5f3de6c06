//! Selling a plan to a tenant.

use tracing::{Instrument, Span, info_span};

use super::link::{LinkError, link_buyer, raise_generation};
use super::reconcile::reconcile;
use super::request_log::{Operation, RequestLog};
use super::stale_customer::Suspect;
use super::sync_checkout::take_over_session;
use super::{Billing, BillingError, Caller, STRIPE_DEADLINE};
use crate::domain::address::{AppUrl, ReturnPath};
use crate::domain::event::Session;
use crate::domain::ids::{CustomerId, PlanName, PriceId, SessionId};
use crate::domain::journey::{Journey, JourneyId, Traceparent};
use crate::domain::plan::Plan;
use crate::domain::subscription::Status;
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::domain::unit_of_work::LinkRefusal;
use crate::stripe::{Answer, CheckoutOrder, Deadline, SessionView, Stripe, StripeError};
use crate::telemetry::loggable::loggable;
use crate::telemetry::spans::{self, Whose};

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
        let mut log = RequestLog::start(billing, caller, Operation::Checkout, request_span);
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
    billing.catching_up.refuse_until_over()?;
    let sale = Sale {
        billing,
        stripe: stripe.on_behalf_of(Whose {
            tenant: Some(caller.tenant.clone()),
            // Which one, an open session or a new one will decide.
            journey: None,
            customer: None,
        }),
        app_url: billing.app_url()?,
        caller,
        plan: chosen_plan(billing, wish)?,
        wish,
        origin,
        deadline: Deadline::after(STRIPE_DEADLINE),
    };
    for _ in 1..TRIES {
        if let Some(purchase) = sale.attempt(log).await? {
            return Ok(purchase);
        }
    }
    sale.attempt(log).await?.ok_or(BillingError::Outpaced)
}

/// How often a sale starts again because another request of the tenant's was as fast.
const TRIES: u32 = 3;

/// A session with less time left is not handed out again: the user would fill in a page that expires. Stripe gives a new one
/// at least as long (<https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-expires_at>).
const MIN_SECONDS_LEFT: i64 = 30 * 60;

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

/// One request to sell a plan, and what it takes.
struct Sale<'a> {
    billing: &'a Billing,
    stripe: Stripe,
    app_url: &'a AppUrl,
    caller: &'a Caller,
    plan: &'a Plan,
    wish: &'a CheckoutWish,
    origin: Traceparent,
    deadline: Deadline,
}

/// What is sold.
struct SoldPrice {
    id: PriceId,
    is_metered: bool,
}

impl Sale<'_> {
    /// Finds or makes a page to pay on; none if another request of the tenant's made one at the same time that stands.
    async fn attempt(&self, log: &mut RequestLog<'_>) -> Result<Option<Purchase>, BillingError> {
        self.ask_what_it_has().await?;
        self.refuse_a_second_subscription().await?;
        self.refuse_beside_another_customer().await?;
        let price = self.price(log).await?;
        for checkout in self.billing.store.pending_checkouts(&self.caller.tenant).await? {
            if let Some(purchase) = self.settle(&checkout, &price.id, log).await? {
                return Ok(Some(purchase));
            }
        }
        self.refuse_a_second_subscription().await?;

        let journey = Journey { origin: self.origin, began_at_ms: self.billing.clock.now_ms() };
        log.journey = Some(journey);
        let Some(customer) = self.customer(log).await? else { return Ok(None) };
        log.customer = Some(customer.clone());
        self.open(customer, &price, journey, log).await
    }

    /// What a customer has is not known when it was linked lately, or its events were missed. The service asks for it, but
    /// its turn may be hours away: the buyer's comes now.
    async fn ask_what_it_has(&self) -> Result<(), BillingError> {
        let (store, tenant) = (&self.billing.store, &self.caller.tenant);
        let customer = store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
        if let Some(customer) = customer
            && store.is_asked_about(&customer).await?
        {
            reconcile(self.billing, tenant, &customer, true).await?;
        }
        Ok(())
    }

    async fn refuse_a_second_subscription(&self) -> Result<(), BillingError> {
        let subscriptions = self.billing.store.subscriptions(&self.caller.tenant).await?;
        if subscriptions.iter().any(|subscription| subscription.state.status.blocks_checkout()) {
            return Err(BillingError::AlreadySubscribed);
        }
        Ok(())
    }

    /// A purchase by a Payment Link or in the Dashboard can be of another customer than the tenant's, and waits for the
    /// operator. Meanwhile nothing is sold beside it.
    async fn refuse_beside_another_customer(&self) -> Result<(), BillingError> {
        let tenant = &self.caller.tenant;
        for customer in self.billing.store.other_customers_of(tenant).await? {
            let answer = match self.stripe.list_subscriptions(&customer, self.deadline).await {
                Err(error) if error.is_missing_customer() => continue,
                answer => answer?.value,
            };
            if answer.snapshots.iter().any(|snapshot| snapshot.state.status.blocks_checkout()) {
                tracing::error!(
                    %tenant, customer = loggable(customer.as_str()),
                    "the tenant has a subscription as another customer: `billhook tenant link --replace` moves it there"
                );
                // What is open could still be paid beside it.
                for checkout in self.billing.store.pending_checkouts(tenant).await? {
                    if checkout.status == CheckoutStatus::Open {
                        self.close(&checkout).await?;
                    }
                }
                return Err(BillingError::SubscribedElsewhere);
            }
        }
        Ok(())
    }

    /// Looks a session of the tenant's up at Stripe, unless it is known how it ended. One that was paid is taken over,
    /// one that asks for the same is handed out again, and any other is closed, so that it cannot be paid beside a new
    /// one. Its row is closed too, whatever Stripe says: an event that would do so may be late, or lost.
    async fn settle(
        &self,
        last: &Checkout,
        price: &PriceId,
        log: &mut RequestLog<'_>,
    ) -> Result<Option<Purchase>, BillingError> {
        if self.is_settled(last).await? {
            return Ok(None);
        }
        let Some(seen) = self.look_up(last).await? else { return self.expire(last).await.map(|()| None) };
        log.request_id = seen.request_id;
        match seen.value {
            SessionView::Open { url, seconds_left }
                if seconds_left >= MIN_SECONDS_LEFT
                    && self.asks_for(last, price)
                    && self.pays_for_the_tenant(last).await? =>
            {
                log.customer = Some(last.customer.clone());
                log.journey = Some(last.journey);
                spans::link(&Span::current(), last.journey.origin);
                Ok(Some(Purchase { session: last.session.clone(), url }))
            }
            SessionView::Open { .. } => self.close(last).await.map(|()| None),
            SessionView::Complete(session) => self.take_over(last, &session).await.map(|()| None),
            SessionView::Expired => self.expire(last).await.map(|()| None),
        }
    }

    /// Whether nothing is to be learned about a session: it ended without a purchase, or we hold what it made. An incomplete
    /// subscription may have been paid since, and another one beside it would be paid twice.
    async fn is_settled(&self, last: &Checkout) -> Result<bool, BillingError> {
        let id = match (last.status, &last.subscription) {
            (CheckoutStatus::Open, _) => return Ok(false),
            (CheckoutStatus::Expired, _) | (_, None) => return Ok(true),
            (_, Some(id)) => id,
        };
        let held = self.billing.store.subscription(id).await?;
        Ok(held.is_some_and(|held| held.state.status != Status::Incomplete))
    }

    fn asks_for(&self, last: &Checkout, price: &PriceId) -> bool {
        last.plan == self.plan.name
            && last.price.as_ref() == Some(price)
            && last.success_path == self.wish.success_path.as_str()
            && last.cancel_path == self.wish.cancel_path.as_str()
    }

    /// What is paid for a customer that the tenant has lost grants nothing.
    async fn pays_for_the_tenant(&self, last: &Checkout) -> Result<bool, BillingError> {
        let tenant = self.billing.store.tenant(&last.tenant).await?;
        Ok(tenant.and_then(|tenant| tenant.customer).as_ref() == Some(&last.customer))
    }

    async fn look_up(&self, checkout: &Checkout) -> Result<Option<Answer<SessionView>>, BillingError> {
        match self.stripe.retrieve_checkout_session(&checkout.session, self.deadline).await {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes an open session. Somebody may have paid or closed it since it was looked up.
    async fn close(&self, open: &Checkout) -> Result<(), BillingError> {
        if let Err(error) = self.stripe.expire_checkout_session(&open.session, self.deadline).await {
            match self.look_up(open).await?.map(|seen| seen.value) {
                Some(SessionView::Complete(session)) => return self.take_over(open, &session).await,
                Some(SessionView::Open { .. }) => return Err(error.into()),
                Some(SessionView::Expired) | None => {}
            }
        }
        self.expire(open).await
    }

    async fn expire(&self, checkout: &Checkout) -> Result<(), BillingError> {
        Ok(self.billing.store.expire_checkout(&checkout.session, self.billing.clock.now_ms()).await?)
    }

    async fn take_over(&self, checkout: &Checkout, session: &Session) -> Result<(), BillingError> {
        take_over_session(self.billing, &self.stripe, checkout, session, self.deadline).await
    }

    /// The tenant's customer, created on its first checkout. None if the idempotency key turned out to be used up, and the
    /// next attempt uses another one.
    async fn customer(&self, log: &mut RequestLog<'_>) -> Result<Option<CustomerId>, BillingError> {
        let tenant = self.billing.store.tenant(&self.caller.tenant).await?;
        let tenant = tenant.unwrap_or_else(|| Tenant::new(self.caller.tenant.clone()));
        if tenant.customer.is_some() {
            return Ok(tenant.customer);
        }
        let stripe = self.stripe.on_behalf_of(log.whose());
        let made = match self.create_customer(&stripe, &tenant).await {
            Err(error) if error.is_replayed() => {
                tracing::warn!(tenant = %tenant.id, "Stripe replays a failure; creating the customer with another key");
                return raise_generation(self.billing, &tenant).await.map(|()| None);
            }
            made => made?,
        };
        log.request_id = made.request_id;
        match link_buyer(self.billing, &tenant.id, &made.value).await {
            Ok(()) => Ok(Some(made.value)),
            Err(LinkError::Store(error)) => Err(error.into()),
            // Another request linked the tenant meanwhile: its customer stands.
            Err(LinkError::Refused(LinkRefusal::TenantHasCustomer)) => {
                let linked = self.billing.store.tenant(&tenant.id).await?.and_then(|tenant| tenant.customer);
                Ok(Some(linked.ok_or(BillingError::NoCustomer)?))
            }
            // Stripe replays a customer that was created under this key before, and was deleted or moved since.
            Err(LinkError::Refused(refusal)) => {
                tracing::warn!(
                    tenant = %tenant.id, customer = loggable(made.value.as_str()), %refusal,
                    "Stripe replays an earlier customer; creating another one with another key"
                );
                raise_generation(self.billing, &tenant).await.map(|()| None)
            }
        }
    }

    async fn create_customer(
        &self,
        stripe: &Stripe,
        tenant: &Tenant,
    ) -> Result<Answer<CustomerId>, StripeError> {
        let deployment = &self.billing.policy.deployment;
        stripe.create_customer(deployment, &tenant.id, tenant.generation, self.deadline).await
    }

    /// The plan's first price. A restricted key that may not read prices can still sell one that is configured by its id.
    async fn price(&self, log: &RequestLog<'_>) -> Result<SoldPrice, BillingError> {
        let Some(first) = self.plan.prices.first() else {
            return Err(BillingError::NotConfigured("BILLHOOK_PLANS"));
        };
        let stripe = self.stripe.on_behalf_of(log.whose());
        match stripe.price(first, self.deadline).await {
            Ok(Some(price)) => Ok(SoldPrice { is_metered: price.is_metered(), id: price.id }),
            // Stripe rejects a session with a price that it does not have.
            Ok(None) => Ok(SoldPrice { id: first.clone(), is_metered: false }),
            Err(StripeError::Rejected(_)) if first.looks_like_an_id() => {
                Ok(SoldPrice { id: first.clone(), is_metered: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets a customer go that Stripe does not have, so that the sale begins anew with another one.
    async fn let_go(&self, customer: &CustomerId) -> Result<bool, BillingError> {
        let suspect = Suspect { tenant: &self.caller.tenant, customer };
        suspect.let_go(self.billing, &self.stripe, self.deadline).await
    }

    async fn open(
        &self,
        customer: CustomerId,
        price: &SoldPrice,
        journey: Journey,
        log: &mut RequestLog<'_>,
    ) -> Result<Option<Purchase>, BillingError> {
        let CheckoutWish { success_path, cancel_path, .. } = self.wish;
        let now_ms = self.billing.clock.now_ms();
        let order = CheckoutOrder {
            deployment: &self.billing.policy.deployment,
            tenant: &self.caller.tenant,
            customer: &customer,
            price: &price.id,
            is_metered: price.is_metered,
            journey: self.origin,
            success_url: &self.app_url.join(success_path),
            cancel_url: &self.app_url.join(cancel_path),
        };
        let stripe = self.stripe.on_behalf_of(log.whose());
        let made = match stripe.create_checkout_session(&order, self.deadline).await {
            Err(error) if error.is_missing_customer() && self.let_go(&customer).await? => return Ok(None),
            made => made,
        };
        let Answer { value: made, request_id } = made.map_err(|error| log.explain(error))?;
        log.request_id = request_id;
        let checkout = Checkout {
            session: made.id.clone(),
            tenant: self.caller.tenant.clone(),
            customer,
            plan: self.plan.name.clone(),
            price: Some(price.id.clone()),
            success_path: success_path.as_str().to_owned(),
            cancel_path: cancel_path.as_str().to_owned(),
            status: CheckoutStatus::Open,
            subscription: None,
            journey,
        };
        if !self.billing.store.insert_checkout(&checkout, now_ms).await? {
            // Another request of the tenant's was faster. Nobody has seen this page: the other one stands.
            self.close(&checkout).await?;
            return Ok(None);
        }
        if let Err(refusal) = self.refuse_a_second_subscription().await {
            self.close(&checkout).await?;
            return Err(refusal);
        }
        Ok(Some(Purchase { session: made.id, url: made.url }))
    }
}

/// An origin where nothing makes trace ids: a journey has an id all the same.
fn made_up_origin() -> Traceparent {
    let chance = uuid::Uuid::new_v4().into_bytes();
    let mut span_id = [0; 8];
    span_id.copy_from_slice(&chance[8..]);
    let origin = JourneyId::from_bytes(chance).and_then(|id| Traceparent::new(id, span_id, false));
    origin.expect("a version 4 UUID is never zero, in neither half")
}
