//! Creating a checkout session for a tenant, or returning the open one.

use tracing::{Instrument, Span, info_span};

use super::completed_checkout::refresh_completed_checkout;
use super::link::{LinkError, link_created_customer, use_next_customer_key};
use super::missing_customer::MissingCustomer;
use super::reconcile::refresh_customer;
use super::request_log::{Operation, RequestLog};
use super::{Billing, BillingError, STRIPE_DEADLINE, TenantUser};
use crate::domain::app_url::{AppUrl, ReturnPath};
use crate::domain::batch::LinkRefusal;
use crate::domain::event::Session;
use crate::domain::ids::{CustomerId, PlanName, PriceId, SessionId};
use crate::domain::journey::{Journey, JourneyId, Traceparent};
use crate::domain::plan::Plan;
use crate::domain::subscription::Status;
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::stripe::{ApiResponse, CheckoutParams, Deadline, Stripe, StripeCheckoutState, StripeError};
use crate::telemetry::redact::hash_if_email;
use crate::telemetry::spans::{self, BillingContext};

#[derive(Debug)]
pub struct CheckoutRequest {
    /// Default: the first configured plan.
    pub plan: Option<PlanName>,
    pub success_path: ReturnPath,
    pub cancel_path: ReturnPath,
}

/// Stripe's page for a checkout session. Anyone with its URL can pay as the tenant, so it goes to
/// the caller only.
pub struct CheckoutPage {
    pub session: SessionId,
    pub url: String,
}

#[derive(Debug)]
pub struct CheckoutError {
    pub error: BillingError,
    /// The trace of the checkout, which is not that of the HTTP request.
    pub trace: JourneyId,
}

/// Creates a checkout session, or finds the open one for the same request.
///
/// Fails if Stripe, the plans or the app's URL are not configured, the plan is unknown, the tenant
/// already has a subscription, or Stripe or the database fails.
pub async fn create_checkout_session(
    billing: &Billing,
    caller: &TenantUser,
    request: CheckoutRequest,
) -> Result<CheckoutPage, CheckoutError> {
    // A caller must not choose a journey's id, so the journey gets a new trace. The checkout's span
    // and the request's span link to each other.
    let request_span = Span::current();
    let span = info_span!("create checkout session", billing.journey.origin = true);
    spans::detach(&span);
    let origin = spans::traceparent_of(&span).unwrap_or_else(random_origin);
    if let Some(http_request) = spans::traceparent_of(&request_span) {
        spans::link(&span, http_request);
        spans::link(&request_span, origin);
    }
    async {
        let mut log = RequestLog::start(billing, caller, Operation::Checkout, request_span);
        let result = sell(billing, caller, &request, origin, &mut log).await;
        log.end(result).map_err(|error| CheckoutError { error, trace: origin.trace_id() })
    }
    .instrument(span)
    .await
}

async fn sell(
    billing: &Billing,
    caller: &TenantUser,
    request: &CheckoutRequest,
    origin: Traceparent,
    log: &mut RequestLog<'_>,
) -> Result<CheckoutPage, BillingError> {
    let stripe = billing.stripe()?;
    billing.catch_up.ensure_over()?;
    let sale = Sale {
        billing,
        stripe: stripe.with_span_context(BillingContext {
            tenant: Some(caller.tenant.clone()),
            // Known once an open session is found or a new one is started.
            journey: None,
            customer: None,
        }),
        app_url: billing.app_url()?,
        caller,
        plan: chosen_plan(billing, request)?,
        request,
        origin,
        deadline: Deadline::after(STRIPE_DEADLINE),
    };
    for _ in 0..MAX_ATTEMPTS {
        if let Some(page) = sale.attempt(log).await? {
            return Ok(page);
        }
    }
    Err(BillingError::Contention)
}

/// How often a sale is attempted while the tenant's state changes during each attempt.
const MAX_ATTEMPTS: u32 = 3;

/// An open session with less time left is replaced, because the user would fill in a page that
/// expires. A new session lives at least this long
/// (<https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-expires_at>).
const MIN_SECONDS_LEFT: i64 = 30 * 60;

fn chosen_plan<'a>(billing: &'a Billing, request: &CheckoutRequest) -> Result<&'a Plan, BillingError> {
    let catalog = &billing.policy.catalog;
    let default = catalog.default_plan().ok_or(BillingError::NotConfigured("BILLHOOK_PLANS"))?;
    match &request.plan {
        None => Ok(default),
        Some(name) => {
            catalog.plan(name.as_str()).ok_or(BillingError::InvalidRequest("there is no plan of that name"))
        }
    }
}

/// One request to sell a plan.
struct Sale<'a> {
    billing: &'a Billing,
    stripe: Stripe,
    app_url: &'a AppUrl,
    caller: &'a TenantUser,
    plan: &'a Plan,
    request: &'a CheckoutRequest,
    origin: Traceparent,
    deadline: Deadline,
}

struct SoldPrice {
    id: PriceId,
    is_metered: bool,
}

impl Sale<'_> {
    /// Finds or creates a page to pay on. None if the state changed and the attempt must be
    /// repeated.
    async fn attempt(&self, log: &mut RequestLog<'_>) -> Result<Option<CheckoutPage>, BillingError> {
        self.run_queued_refresh().await?;
        self.ensure_no_subscription().await?;
        self.ensure_no_subscription_elsewhere().await?;
        let price = self.resolve_price(log).await?;
        for checkout in self.billing.store.checkouts_to_check(&self.caller.tenant).await? {
            if let Some(page) = self.reuse_or_end(&checkout, &price.id, log).await? {
                return Ok(Some(page));
            }
        }
        self.ensure_no_subscription().await?;

        let journey = Journey { origin: self.origin, started_at_ms: self.billing.clock.now_ms() };
        log.journey = Some(journey);
        let Some(customer) = self.get_or_create_customer(log).await? else { return Ok(None) };
        log.customer = Some(customer.clone());
        self.open_session(customer, &price, journey, log).await
    }

    /// Refreshes the customer now if its refresh is still queued, because the queue can take hours
    /// and the buyer waits. A refresh is queued when the customer was linked recently, or events
    /// were missed.
    async fn run_queued_refresh(&self) -> Result<(), BillingError> {
        let (store, tenant) = (&self.billing.store, &self.caller.tenant);
        let customer = store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
        if let Some(customer) = customer
            && store.has_customer_refresh(&customer).await?
        {
            refresh_customer(self.billing, &self.stripe, tenant, &customer, self.deadline).await?;
        }
        Ok(())
    }

    async fn ensure_no_subscription(&self) -> Result<(), BillingError> {
        let subscriptions = self.billing.store.subscriptions(&self.caller.tenant).await?;
        if subscriptions.iter().any(|subscription| subscription.state.status.blocks_checkout()) {
            return Err(BillingError::AlreadySubscribed);
        }
        Ok(())
    }

    /// A purchase by a Payment Link or in the Dashboard can belong to a customer that is not the
    /// tenant's, until the operator moves the tenant there. Nothing else is sold until then.
    async fn ensure_no_subscription_elsewhere(&self) -> Result<(), BillingError> {
        let tenant = &self.caller.tenant;
        for customer in self.billing.store.other_customers_of(tenant).await? {
            let subscriptions = match self.stripe.list_subscriptions(&customer, self.deadline).await {
                Err(error) if error.is_missing_customer() => continue,
                listed => listed?.value,
            };
            if subscriptions.snapshots.iter().any(|snapshot| snapshot.state.status.blocks_checkout()) {
                tracing::error!(
                    %tenant, customer = hash_if_email(customer.as_str()),
                    "the tenant has a subscription under another Stripe customer; move it there with `billhook tenant link --replace`"
                );
                // An open session could still be paid in addition.
                for checkout in self.billing.store.checkouts_to_check(tenant).await? {
                    if checkout.status == CheckoutStatus::Open {
                        self.expire(&checkout).await?;
                    }
                }
                return Err(BillingError::SubscribedAsOtherCustomer);
            }
        }
        Ok(())
    }

    /// Decides on one of the tenant's earlier sessions by its state at Stripe, unless no check is
    /// needed. A paid one is refreshed, a matching open one is returned, and any other is expired,
    /// so that it cannot be paid in addition to a new one. The result is stored here at once,
    /// because its event can be late or lost.
    async fn reuse_or_end(
        &self,
        earlier: &Checkout,
        price: &PriceId,
        log: &mut RequestLog<'_>,
    ) -> Result<Option<CheckoutPage>, BillingError> {
        if self.needs_no_check_before_sale(earlier).await? {
            return Ok(None);
        }
        let Some(found) = self.retrieve(earlier).await? else {
            return self.mark_expired(earlier).await.map(|()| None);
        };
        log.stripe_request_id = found.request_id;
        match found.value {
            StripeCheckoutState::Open { url, seconds_left }
                if seconds_left >= MIN_SECONDS_LEFT
                    && self.matches_request(earlier, price)
                    && self.is_for_current_customer(earlier).await? =>
            {
                log.customer = Some(earlier.customer.clone());
                log.journey = Some(earlier.journey);
                spans::link(&Span::current(), earlier.journey.origin);
                Ok(Some(CheckoutPage { session: earlier.session.clone(), url }))
            }
            StripeCheckoutState::Open { .. } => self.expire(earlier).await.map(|()| None),
            StripeCheckoutState::Complete(session) => {
                self.refresh_completed(earlier, &session).await.map(|()| None)
            }
            StripeCheckoutState::Expired => self.mark_expired(earlier).await.map(|()| None),
        }
    }

    /// Whether the session ended without a subscription, or its subscription is stored, because
    /// [`Self::ensure_no_subscription`] then decides. An incomplete one does not block a sale, so
    /// it is checked: it may have been paid since, and the tenant would pay for two. A buyer who
    /// returns needs a stricter rule: `needs_no_refresh` in `refresh_checkout`.
    async fn needs_no_check_before_sale(&self, earlier: &Checkout) -> Result<bool, BillingError> {
        let id = match (earlier.status, &earlier.subscription) {
            (CheckoutStatus::Open, _) => return Ok(false),
            (CheckoutStatus::Expired, _) | (_, None) => return Ok(true),
            (_, Some(id)) => id,
        };
        let held = self.billing.store.subscription(id).await?;
        Ok(held.is_some_and(|held| held.state.status != Status::Incomplete))
    }

    fn matches_request(&self, earlier: &Checkout, price: &PriceId) -> bool {
        earlier.plan == self.plan.name
            && earlier.price.as_ref() == Some(price)
            && earlier.success_path == self.request.success_path.as_str()
            && earlier.cancel_path == self.request.cancel_path.as_str()
    }

    /// A payment for a customer that is no longer the tenant's would grant nothing.
    async fn is_for_current_customer(&self, earlier: &Checkout) -> Result<bool, BillingError> {
        let tenant = self.billing.store.tenant(&earlier.tenant).await?;
        Ok(tenant.and_then(|tenant| tenant.customer).as_ref() == Some(&earlier.customer))
    }

    async fn retrieve(
        &self,
        checkout: &Checkout,
    ) -> Result<Option<ApiResponse<StripeCheckoutState>>, BillingError> {
        match self.stripe.retrieve_checkout_session(&checkout.session, self.deadline).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Expires an open session at Stripe and here. It may have been paid or have expired since it
    /// was retrieved.
    async fn expire(&self, open: &Checkout) -> Result<(), BillingError> {
        if let Err(error) = self.stripe.expire_checkout_session(&open.session, self.deadline).await {
            match self.retrieve(open).await?.map(|found| found.value) {
                Some(StripeCheckoutState::Complete(session)) => {
                    return self.refresh_completed(open, &session).await;
                }
                Some(StripeCheckoutState::Open { .. }) => return Err(error.into()),
                Some(StripeCheckoutState::Expired) | None => {}
            }
        }
        self.mark_expired(open).await
    }

    async fn mark_expired(&self, checkout: &Checkout) -> Result<(), BillingError> {
        Ok(self.billing.store.expire_checkout(&checkout.session, self.billing.clock.now_ms()).await?)
    }

    async fn refresh_completed(&self, checkout: &Checkout, session: &Session) -> Result<(), BillingError> {
        refresh_completed_checkout(self.billing, &self.stripe, checkout, session, self.deadline).await
    }

    /// Returns the tenant's customer, created on its first checkout. None if the idempotency key
    /// was used before: the next attempt uses another one.
    async fn get_or_create_customer(
        &self,
        log: &mut RequestLog<'_>,
    ) -> Result<Option<CustomerId>, BillingError> {
        let tenant = self.billing.store.tenant(&self.caller.tenant).await?;
        let tenant = tenant.unwrap_or_else(|| Tenant::new(self.caller.tenant.clone()));
        if tenant.customer.is_some() {
            return Ok(tenant.customer);
        }
        let stripe = self.stripe.with_span_context(log.billing_context());
        let deployment = &self.billing.policy.deployment;
        let created = stripe.create_customer(deployment, &tenant.id, tenant.generation, self.deadline).await;
        let created = match created {
            Err(error) if error.is_replayed() => {
                tracing::warn!(tenant = %tenant.id, "Stripe replays a failure; creating the customer with another idempotency key");
                return use_next_customer_key(self.billing, &tenant).await.map(|()| None);
            }
            created => created?,
        };
        log.stripe_request_id = created.request_id;
        match link_created_customer(self.billing, &tenant.id, &created.value).await {
            Ok(()) => Ok(Some(created.value)),
            Err(LinkError::Store(error)) => Err(error.into()),
            // A concurrent request linked the tenant; use its customer.
            Err(LinkError::Refused(LinkRefusal::TenantHasCustomer)) => {
                let linked = self.billing.store.tenant(&tenant.id).await?.and_then(|tenant| tenant.customer);
                Ok(Some(linked.ok_or(BillingError::NoCustomer)?))
            }
            // Stripe replays the creation of a customer that was deleted or moved since.
            Err(LinkError::Refused(refusal)) => {
                tracing::warn!(
                    tenant = %tenant.id, customer = hash_if_email(created.value.as_str()), %refusal,
                    "Stripe replays an earlier customer; creating another one with another idempotency key"
                );
                use_next_customer_key(self.billing, &tenant).await.map(|()| None)
            }
        }
    }

    /// Returns the plan's first price. A restricted key that may not read prices can still sell one
    /// that is configured by its id.
    async fn resolve_price(&self, log: &RequestLog<'_>) -> Result<SoldPrice, BillingError> {
        let Some(first) = self.plan.prices.first() else {
            return Err(BillingError::NotConfigured("BILLHOOK_PLANS"));
        };
        let stripe = self.stripe.with_span_context(log.billing_context());
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

    async fn open_session(
        &self,
        customer: CustomerId,
        price: &SoldPrice,
        journey: Journey,
        log: &mut RequestLog<'_>,
    ) -> Result<Option<CheckoutPage>, BillingError> {
        let CheckoutRequest { success_path, cancel_path, .. } = self.request;
        let now_ms = self.billing.clock.now_ms();
        let params = CheckoutParams {
            deployment: &self.billing.policy.deployment,
            tenant: &self.caller.tenant,
            customer: &customer,
            price: &price.id,
            is_metered: price.is_metered,
            journey: self.origin,
            success_url: &self.app_url.join(success_path),
            cancel_url: &self.app_url.join(cancel_path),
        };
        let stripe = self.stripe.with_span_context(log.billing_context());
        let created = stripe.create_checkout_session(&params, self.deadline).await;
        if created.as_ref().is_err_and(StripeError::is_missing_customer) {
            let missing = MissingCustomer { tenant: &self.caller.tenant, customer: &customer };
            if missing.unlink_missing(self.billing, &self.stripe, self.deadline).await? {
                return Ok(None);
            }
        }
        let ApiResponse { value: created, request_id } = created.map_err(|error| log.explain(error))?;
        log.stripe_request_id = request_id;
        let checkout = Checkout {
            session: created.id.clone(),
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
            // A concurrent request of the tenant won. No user has seen this page.
            self.expire(&checkout).await?;
            return Ok(None);
        }
        if let Err(error) = self.ensure_no_subscription().await {
            self.expire(&checkout).await?;
            return Err(error);
        }
        Ok(Some(CheckoutPage { session: created.id, url: created.url }))
    }
}

/// If no tracing subscriber is installed: a journey always has an id.
fn random_origin() -> Traceparent {
    let random = uuid::Uuid::new_v4().into_bytes();
    let mut span_id = [0; 8];
    span_id.copy_from_slice(&random[8..]);
    let origin = JourneyId::from_bytes(random).and_then(|id| Traceparent::new(id, span_id, false));
    origin.expect("neither half of a version 4 UUID is zero")
}
