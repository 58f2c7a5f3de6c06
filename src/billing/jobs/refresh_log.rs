//! The line of a refresh in `subscription_state.log`, and its span attributes.

use tracing::Span;

use crate::billing::Billing;
use crate::domain::journey::Journey;
use crate::domain::refresh::Refresh;
use crate::telemetry::spans::{self, BillingAttributes, BillingContext};
use crate::telemetry::topics::{Level, Line, Topic};

pub(super) struct RefreshLog<'a> {
    billing: &'a Billing,
    refresh: &'a Refresh,
    journey: Option<Journey>,
}

impl<'a> RefreshLog<'a> {
    /// Records the refresh on the current span and links that to the tenant's journey.
    pub(super) fn start(billing: &'a Billing, refresh: &'a Refresh, journey: Option<Journey>) -> Self {
        let log = Self { billing, refresh, journey };
        log.attributes().record(&Span::current());
        if let Some(journey) = journey {
            spans::link(&Span::current(), journey.origin);
        }
        log
    }

    pub(super) fn billing_context(&self) -> BillingContext {
        BillingContext {
            tenant: Some(self.refresh.tenant.clone()),
            journey: self.journey.map(|journey| journey.id()),
            customer: Some(self.refresh.customer.clone()),
        }
    }

    /// A change is also a milestone of the journey, like an event.
    pub(super) fn changed(&self, request_id: Option<&str>) {
        let outcome = "refresh.changed";
        self.write(Level::Info, outcome, self.refresh.reason.as_str(), request_id);
        if let Some(journey) = self.journey
            && self.billing.reporter.is_open(journey, self.billing.clock.now_ms())
        {
            let attributes = BillingAttributes { request_id, outcome: Some(outcome), ..self.attributes() };
            spans::record_milestone(journey.origin, outcome, &attributes, spans::current_trace());
        }
    }

    pub(super) fn unchanged(&self, request_id: Option<&str>) {
        self.write(Level::Info, "refresh.unchanged", self.refresh.reason.as_str(), request_id);
    }

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
