//! What `subscription_state.log` and the span say of a question to Stripe: what came of it, and why it was asked.

use tracing::Span;

use super::Billing;
use crate::domain::journey::Journey;
use crate::domain::refresh::Refresh;
use crate::telemetry::spans::{self, BillingAttributes};
use crate::telemetry::topics::{Level, Line, Topic};

/// What is said of one question.
pub(super) struct RefreshLog<'a> {
    pub(super) billing: &'a Billing,
    pub(super) refresh: &'a Refresh,
    pub(super) journey: Option<Journey>,
}

impl RefreshLog<'_> {
    pub(super) fn ended(&self, event: &'static str, request_id: Option<&str>) {
        self.write(Level::Info, event, self.refresh.reason.as_str(), request_id);
    }

    pub(super) fn failed(&self, why: &str, request_id: Option<&str>) {
        self.write(Level::Error, "refresh.failed", why, request_id);
    }

    fn write(&self, level: Level, event: &'static str, reason: &str, request_id: Option<&str>) {
        let Refresh { tenant, customer, subject, event: cause, .. } = self.refresh;
        let journey = self.journey.map(|journey| journey.id());
        let line = Line::new(Topic::SubscriptionState, level, event, self.billing.clock.now_ms())
            .tenant(tenant)
            .customer(customer)
            .subscription(subject.subscription())
            .stripe_event(cause.as_ref())
            .stripe_request(request_id)
            .journey(journey)
            .traced()
            .reason(reason);
        self.billing.topics.append(&[line]);
        let attributes = BillingAttributes {
            tenant: Some(tenant),
            journey,
            customer: Some(customer),
            event_id: cause.as_ref(),
            request_id,
            outcome: Some(event),
            ..BillingAttributes::default()
        };
        attributes.record(&Span::current());
        if let Some(journey) = self.journey {
            spans::link(&Span::current(), journey.origin);
        }
    }
}
