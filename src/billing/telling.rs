//! Telling a request's story in `billing.log`: it started, and then it succeeded or failed, for whom, how long it took
//! and by which request of ours Stripe's support can find it.

use std::time::Instant;

use tracing::Span;

use super::{Billing, BillingError, Caller};
use crate::domain::ids::CustomerId;
use crate::domain::journey::Journey;
use crate::telemetry::spans::BillingAttributes;
use crate::telemetry::topics::{Level, Line, Topic};

/// The names of a story's lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) start: &'static str,
    pub(super) success: &'static str,
    pub(super) failure: &'static str,
}

/// A story being told. What is learned on the way is noted in it, so that the last line can tell it however it ends.
pub(super) struct Telling<'a> {
    billing: &'a Billing,
    caller: &'a Caller,
    names: Names,
    began: Instant,
    pub(super) customer: Option<CustomerId>,
    pub(super) journey: Option<Journey>,
    pub(super) request_id: Option<String>,
}

impl<'a> Telling<'a> {
    pub(super) fn start(billing: &'a Billing, caller: &'a Caller, names: Names) -> Self {
        let telling = Self {
            billing,
            caller,
            names,
            began: Instant::now(),
            customer: None,
            journey: None,
            request_id: None,
        };
        billing.topics.append(&[telling.line(Level::Info, names.start)]);
        telling
    }

    /// Tells how it ended, in the log and on the span.
    pub(super) fn end<T>(self, result: Result<T, BillingError>) -> Result<T, BillingError> {
        let (level, name, outcome, reason) = match &result {
            Ok(_) => (Level::Info, self.names.success, "success", None),
            Err(error) => (level_of(error), self.names.failure, error.code(), Some(error.to_string())),
        };
        let request_id = match &result {
            Err(BillingError::Stripe(error)) => error.request_id().or(self.request_id.as_deref()),
            _ => self.request_id.as_deref(),
        };
        let line = self.line(level, name).outcome(outcome).duration(self.began.elapsed());
        self.billing.topics.append(&[line.stripe_request(request_id).reason(reason.as_deref())]);
        BillingAttributes { request_id, outcome: Some(outcome), ..self.attributes() }
            .record(&Span::current());
        result
    }

    /// What a span of this story bears.
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

/// The caller's mistakes are warnings; what an operator has to mend is an error.
fn level_of(error: &BillingError) -> Level {
    match error {
        BillingError::NotConfigured(_) | BillingError::Stripe(_) | BillingError::Store(_) => Level::Error,
        BillingError::InvalidRequest(_)
        | BillingError::NoCustomer
        | BillingError::NoSubscription
        | BillingError::AlreadySubscribed => Level::Warn,
    }
}
