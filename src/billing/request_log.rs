//! What `billing.log` says of a request: it started, and then it succeeded or failed, for whom, how long it took and by
//! which request of ours Stripe's support can find it.

use std::time::Instant;

use tracing::Span;

use super::{Billing, BillingError, Caller};
use crate::domain::ids::CustomerId;
use crate::domain::journey::Journey;
use crate::stripe::StripeError;
use crate::telemetry::spans::{BillingAttributes, Whose};
use crate::telemetry::topics::{Level, Line, Topic};

/// What was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// For a checkout session.
    Checkout,
    /// For a look at a checkout session.
    CheckoutRefresh,
    /// For a portal session.
    Portal,
}

impl Operation {
    fn start(self) -> &'static str {
        match self {
            Self::Checkout => "checkout.create.start",
            Self::CheckoutRefresh => "checkout.refresh.start",
            Self::Portal => "portal.create.start",
        }
    }

    fn success(self) -> &'static str {
        match self {
            Self::Checkout => "checkout.create.success",
            Self::CheckoutRefresh => "checkout.refresh.success",
            Self::Portal => "portal.create.success",
        }
    }

    fn failure(self) -> &'static str {
        match self {
            Self::Checkout => "checkout.create.failure",
            Self::CheckoutRefresh => "checkout.refresh.failure",
            Self::Portal => "portal.create.failure",
        }
    }
}

/// Logs a request that made no sense: it starts and fails at once.
pub fn log_invalid(billing: &Billing, caller: &Caller, operation: Operation) {
    let log = RequestLog::start(billing, caller, operation, Span::current());
    let invalid = BillingError::InvalidRequest("the body makes no sense");
    // The caller is told what is wrong by whoever read the body.
    let _ = log.end::<()>(Err(invalid));
}

/// Refuses a request of somebody who may not manage the tenant's billing, and logs that: it starts and fails at once.
pub fn refuse(billing: &Billing, caller: &Caller, operation: Operation) -> BillingError {
    let log = RequestLog::start(billing, caller, operation, Span::current());
    let _ = log.end::<()>(Err(BillingError::NotAllowed));
    BillingError::NotAllowed
}

/// The log of one request. What is learned on the way is noted in it, so that its last line can say it however it ends.
pub(super) struct RequestLog<'a> {
    billing: &'a Billing,
    caller: &'a Caller,
    operation: Operation,
    request_span: Span,
    began: Instant,
    pub(super) customer: Option<CustomerId>,
    pub(super) journey: Option<Journey>,
    pub(super) request_id: Option<String>,
    /// Why a request that succeeds came to something else than it asked for.
    pub(super) note: Option<&'static str>,
    has_ended: bool,
}

/// A request that was cut off, because it took too long or for a defect, has failed too.
impl Drop for RequestLog<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.count("unavailable");
            let line = self.line(Level::Warn, self.operation.failure()).outcome("unavailable");
            let line = line.duration(self.began.elapsed()).reason("cut_off");
            self.billing.topics.append(&[line.stripe_request(self.request_id.as_deref())]);
        }
    }
}

impl<'a> RequestLog<'a> {
    /// Says that a request has begun, whose own span is given; that of the work is the one that we are in.
    pub(super) fn start(
        billing: &'a Billing,
        caller: &'a Caller,
        operation: Operation,
        request_span: Span,
    ) -> Self {
        let log = Self {
            billing,
            caller,
            operation,
            request_span,
            began: Instant::now(),
            customer: None,
            journey: None,
            request_id: None,
            note: None,
            has_ended: false,
        };
        billing.topics.append(&[log.line(Level::Info, operation.start())]);
        log
    }

    /// Says how it ended, in the log and on the span.
    pub(super) fn end<T>(mut self, result: Result<T, BillingError>) -> Result<T, BillingError> {
        let (level, name, outcome, reason) = match &result {
            Ok(_) => (Level::Info, self.operation.success(), "success", self.note.map(str::to_owned)),
            Err(error) => (level_of(error), self.operation.failure(), error.code(), Some(reason_of(error))),
        };
        if let Err(BillingError::Store(error)) = &result {
            tracing::error!(%error, "a request failed for want of the database");
        }
        if let Err(BillingError::Stripe(error)) = &result
            && error.is_not_permitted()
        {
            tracing::error!(
                %error,
                "STRIPE_SECRET_KEY lacks a permission: grant it to the restricted key in Stripe's Dashboard"
            );
        }
        let request_id = match &result {
            Err(BillingError::Stripe(error)) => error.request_id().or(self.request_id.as_deref()),
            _ => self.request_id.as_deref(),
        };
        let line = self.line(level, name).outcome(outcome).duration(self.began.elapsed());
        self.billing.topics.append(&[line.stripe_request(request_id).reason(reason.as_deref())]);
        let attributes = BillingAttributes { request_id, outcome: Some(outcome), ..self.attributes() };
        // The request's span bears its tenant and user already, if it is another.
        BillingAttributes { tenant: None, user: None, ..attributes }.record(&self.request_span);
        if Span::current() != self.request_span {
            attributes.record(&Span::current());
        }
        self.count(outcome);
        self.has_ended = true;
        result
    }

    fn count(&self, outcome: &'static str) {
        match self.operation {
            Operation::Checkout => self.billing.metrics.checkout_session(outcome),
            Operation::CheckoutRefresh => self.billing.metrics.checkout_refresh(outcome),
            Operation::Portal => self.billing.metrics.portal_session(outcome),
        }
    }

    /// What Stripe's refusal means for the caller.
    pub(super) fn explain(&mut self, error: StripeError) -> BillingError {
        self.request_id = error.request_id().map(str::to_owned);
        if error.is_missing_customer() {
            let tenant = &self.caller.tenant;
            tracing::error!(%error, %tenant, "Stripe does not know the tenant's customer: link it to a living one");
            return BillingError::NoCustomer;
        }
        if error.is_missing_price() {
            tracing::error!(%error, "BILLHOOK_PLANS names a price that is not at Stripe; `billhook doctor` checks it");
            return BillingError::NotConfigured("BILLHOOK_PLANS with prices that are at Stripe");
        }
        BillingError::Stripe(error)
    }

    /// On whose behalf Stripe is asked, as far as that is known by now.
    pub(super) fn whose(&self) -> Whose {
        Whose {
            tenant: Some(self.caller.tenant.clone()),
            journey: self.journey.map(|journey| journey.id()),
            customer: self.customer.clone(),
        }
    }

    /// What a span of this request bears.
    pub(super) fn attributes(&self) -> BillingAttributes<'_> {
        BillingAttributes {
            tenant: Some(&self.caller.tenant),
            journey: self.journey.map(|journey| journey.id()),
            customer: self.customer.as_ref(),
            user: Some(&self.caller.user),
            ..BillingAttributes::default()
        }
    }

    fn line(&self, level: Level, name: &'static str) -> Line {
        Line::new(Topic::Billing, level, name, self.billing.clock.now_ms())
            .tenant(&self.caller.tenant)
            .user(&self.caller.user)
            .customer(self.customer.as_ref())
            .journey(self.journey.map(|journey| journey.id()))
            .traced()
    }
}

/// Why, in words of our own: what the database said is for stderr alone.
fn reason_of(error: &BillingError) -> String {
    match error {
        BillingError::Store(error) => error.failure().as_str().to_owned(),
        other => other.to_string(),
    }
}

/// The caller's mistakes are warnings; what an operator has to mend is an error.
fn level_of(error: &BillingError) -> Level {
    match error {
        BillingError::NotConfigured(_) | BillingError::Stripe(_) | BillingError::Store(_) => Level::Error,
        BillingError::InvalidRequest(_)
        | BillingError::NotAllowed
        | BillingError::NoCustomer
        | BillingError::NoSubscription
        | BillingError::UnknownCheckout
        | BillingError::CatchingUp
        | BillingError::Outpaced
        | BillingError::AlreadySubscribed
        | BillingError::SubscribedElsewhere => Level::Warn,
    }
}
