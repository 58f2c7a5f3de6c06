//! The lines of a request in `billing.log`: one for its start, one for its end with the outcome,
//! the duration and the id of the last request to Stripe.

use std::time::Instant;

use tracing::Span;

use super::{Billing, BillingError, TenantUser};
use crate::domain::ids::CustomerId;
use crate::domain::journey::Journey;
use crate::stripe::StripeError;
use crate::telemetry::spans::{self, BillingAttributes, BillingContext};
use crate::telemetry::topics::{Level, Line, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Checkout,
    CheckoutRefresh,
    Portal,
}

impl Operation {
    /// The names of the start, success and failure line.
    fn line_names(self) -> [&'static str; 3] {
        match self {
            Self::Checkout => ["checkout.create.start", "checkout.create.success", "checkout.create.failure"],
            Self::CheckoutRefresh => {
                ["checkout.refresh.start", "checkout.refresh.success", "checkout.refresh.failure"]
            }
            Self::Portal => ["portal.create.start", "portal.create.success", "portal.create.failure"],
        }
    }
}

/// Logs the start and the failure of a request with an invalid body.
pub fn log_invalid_request(billing: &Billing, caller: &TenantUser, operation: Operation) {
    log_failure(billing, caller, operation, BillingError::InvalidRequest("the request is invalid"));
}

/// Logs the start and the failure of a request by a user who may not manage billing, and returns
/// the error.
pub fn deny(billing: &Billing, caller: &TenantUser, operation: Operation) -> BillingError {
    log_failure(billing, caller, operation, BillingError::NotAllowed);
    BillingError::NotAllowed
}

fn log_failure(billing: &Billing, caller: &TenantUser, operation: Operation, error: BillingError) {
    let _ = RequestLog::start(billing, caller, operation, Span::current()).end::<()>(Err(error));
}

/// The log of one request. It collects the fields of the last line, which is written however the
/// request ends.
pub(super) struct RequestLog<'a> {
    billing: &'a Billing,
    caller: &'a TenantUser,
    operation: Operation,
    request_span: Span,
    started: Instant,
    pub(super) customer: Option<CustomerId>,
    pub(super) journey: Option<Journey>,
    pub(super) stripe_request_id: Option<String>,
    /// Why a successful request got something other than it asked for.
    pub(super) note: Option<&'static str>,
    has_ended: bool,
}

/// Logs a request that was cut off by a timeout or a panic as failed.
impl Drop for RequestLog<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.count("unavailable");
            let [_, _, failure] = self.operation.line_names();
            let line = self.line(Level::Warn, failure).outcome("unavailable");
            let line = line.duration(self.started.elapsed()).reason("cut_off");
            self.billing.topics.append(&[line.stripe_request(self.stripe_request_id.as_deref())]);
        }
    }
}

impl<'a> RequestLog<'a> {
    /// `request_span` is the span of the HTTP request; the current one may be that of the use case.
    pub(super) fn start(
        billing: &'a Billing,
        caller: &'a TenantUser,
        operation: Operation,
        request_span: Span,
    ) -> Self {
        let log = Self {
            billing,
            caller,
            operation,
            request_span,
            started: Instant::now(),
            customer: None,
            journey: None,
            stripe_request_id: None,
            note: None,
            has_ended: false,
        };
        let [start, ..] = operation.line_names();
        billing.topics.append(&[log.line(Level::Info, start)]);
        log
    }

    /// Logs the result and records it on both spans.
    pub(super) fn end<T>(mut self, result: Result<T, BillingError>) -> Result<T, BillingError> {
        let [_, success, failure] = self.operation.line_names();
        let (level, name, outcome, reason) = match &result {
            Ok(_) => (Level::Info, success, "success", self.note.map(str::to_owned)),
            Err(error) => (level_of(error), failure, error.code(), Some(reason_of(error))),
        };
        if let Err(BillingError::Store(error)) = &result {
            tracing::error!(%error, "a request failed because of the database");
        }
        if let Err(BillingError::Stripe(error)) = &result
            && error.is_not_permitted()
        {
            tracing::error!(
                %error,
                "STRIPE_SECRET_KEY lacks a permission; grant it to the restricted key in the Stripe Dashboard"
            );
        }
        let request_id = match &result {
            Err(BillingError::Stripe(error)) => error.request_id().or(self.stripe_request_id.as_deref()),
            _ => self.stripe_request_id.as_deref(),
        };
        let line = self.line(level, name).outcome(outcome).duration(self.started.elapsed());
        self.billing.topics.append(&[line.stripe_request(request_id).reason(reason.as_deref())]);
        let attributes = BillingAttributes { request_id, outcome: Some(outcome), ..self.attributes() };
        // The request's span has its tenant and user already.
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

    /// Translates a Stripe error for the caller and logs what the operator has to fix.
    pub(super) fn explain(&mut self, error: StripeError) -> BillingError {
        self.stripe_request_id = error.request_id().map(str::to_owned);
        if error.is_missing_customer() {
            let tenant = &self.caller.tenant;
            tracing::error!(%error, %tenant, "the tenant's customer is not at Stripe; link the tenant to an existing one");
            return BillingError::NoCustomer;
        }
        if error.is_missing_price() {
            tracing::error!(%error, "BILLHOOK_PLANS names a price that is not at Stripe; run `billhook doctor`");
            return BillingError::NotConfigured("BILLHOOK_PLANS with prices that are at Stripe");
        }
        BillingError::Stripe(error)
    }

    pub(super) fn billing_context(&self) -> BillingContext {
        BillingContext {
            tenant: Some(self.caller.tenant.clone()),
            journey: self.journey.map(|journey| journey.id()),
            customer: self.customer.clone(),
        }
    }

    /// Adds a step to the trace of the tenant's journey, while the journey is open.
    pub(super) fn record_milestone(&self, step: &'static str) {
        if let Some(journey) = self.journey
            && self.billing.reporter.is_open(journey, self.billing.clock.now_ms())
        {
            spans::record_milestone(journey.origin, step, &self.attributes(), spans::current_trace());
        }
    }

    fn attributes(&self) -> BillingAttributes<'_> {
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

/// The database's own message goes to stderr only.
fn reason_of(error: &BillingError) -> String {
    match error {
        BillingError::Store(error) => error.kind().as_str().to_owned(),
        other => other.to_string(),
    }
}

/// A caller's mistake is a warning, a problem for the operator an error.
fn level_of(error: &BillingError) -> Level {
    match error {
        BillingError::NotConfigured(_) | BillingError::Stripe(_) | BillingError::Store(_) => Level::Error,
        _ => Level::Warn,
    }
}
