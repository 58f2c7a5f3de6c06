//! What `subscription_state.log` and the span say of a question to Stripe: what came of it, and why it was asked.

use tracing::Span;

use crate::billing::Billing;
use crate::domain::journey::Journey;
use crate::domain::refresh::Refresh;
use crate::telemetry::spans::{self, BillingAttributes, Whose};
use crate::telemetry::topics::{Level, Line, Topic};

/// What is said of one question.
pub(super) struct RefreshLog<'a> {
    billing: &'a Billing,
    refresh: &'a Refresh,
    journey: Option<Journey>,
}

impl<'a> RefreshLog<'a> {
    /// Says on the span that we are in whose question it is and what left it open, and links it to its journey.
    pub(super) fn begin(billing: &'a Billing, refresh: &'a Refresh, journey: Option<Journey>) -> Self {
        let log = Self { billing, refresh, journey };
        log.attributes().record(&Span::current());
        if let Some(journey) = journey {
            spans::link(&Span::current(), journey.origin);
        }
        log
    }

    /// On whose behalf Stripe is asked.
    pub(super) fn whose(&self) -> Whose {
        Whose {
            tenant: Some(self.refresh.tenant.clone()),
            journey: self.journey.map(|journey| journey.id()),
            customer: Some(self.refresh.customer.clone()),
        }
    }

    /// Stripe said something else than we held: a milestone of the journey, like an event.
    pub(super) fn changed(&self, request_id: Option<&str>) {
        let outcome = "refresh.changed";
        self.write(Level::Info, outcome, self.refresh.reason.as_str(), request_id);
        if let Some(journey) = self.journey
            && self.billing.reporter.is_open(journey, self.billing.clock.now_ms())
        {
            let attributes = BillingAttributes { request_id, outcome: Some(outcome), ..self.attributes() };
            spans::milestone(journey.origin, outcome, &attributes, spans::current_trace());
        }
    }

    /// Stripe said the same, or the question answered itself.
    pub(super) fn unchanged(&self, request_id: Option<&str>) {
        self.write(Level::Info, "refresh.unchanged", self.refresh.reason.as_str(), request_id);
    }

    /// There is no answer yet.
    pub(super) fn failed(&self, why: &str, request_id: Option<&str>) {
        self.write(Level::Error, "refresh.failed", why, request_id);
    }

    fn write(&self, level: Level, outcome: &'static str, reason: &str, request_id: Option<&str>) {
        let Refresh { tenant, customer, subject, event: cause, .. } = self.refresh;
        let line = Line::new(Topic::SubscriptionState, level, outcome, self.billing.clock.now_ms())
            .tenant(tenant)
            .customer(customer)
            .subscription(subject.subscription())
            .stripe_event(cause.as_ref())
            .stripe_request(request_id)
            .journey(self.journey.map(|journey| journey.id()))
            .traced()
            .reason(reason);
        self.billing.topics.append(&[line]);
        BillingAttributes { request_id, outcome: Some(outcome), ..BillingAttributes::default() }
            .record(&Span::current());
    }

    fn attributes(&self) -> BillingAttributes<'a> {
        BillingAttributes {
            tenant: Some(&self.refresh.tenant),
            journey: self.journey.map(|journey| journey.id()),
            customer: Some(&self.refresh.customer),
            event_id: self.refresh.event.as_ref(),
            ..BillingAttributes::default()
        }
    }
}
