//! A verified event on its way to a lane.

use tracing::{Span, info_span};

use crate::domain::event::Event;
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::signature::Verified;
use crate::telemetry::metrics::Source;
use crate::telemetry::spans::{self, BillingAttributes};

#[derive(Debug)]
pub struct Delivery {
    pub event: Event,
    /// The event's JSON as received from Stripe.
    pub payload: Vec<u8>,
    /// The secret that verified the webhook, and the age of its signature. `None`: the backfill
    /// fetched the event.
    pub verified: Option<Verified>,
    /// In Unix milliseconds.
    pub received_at_ms: i64,
    /// The span that processes the event.
    pub span: Span,
    /// The trace and the id of `span`.
    pub(super) trace: Option<Traceparent>,
    /// The span of the webhook request. Disabled for an event of the backfill.
    pub request_span: Span,
}

impl Delivery {
    /// Called in the span of the webhook request, which becomes the parent of the event's span.
    pub fn from_webhook(event: Event, payload: Vec<u8>, verified: Verified, now_ms: i64) -> Self {
        let span = process_span(&event, Source::Webhook);
        let request_span = Span::current();
        Self { verified: Some(verified), request_span, ..Self::new(event, payload, now_ms, span) }
    }

    /// The event gets a trace of its own, since a journey may start with it. The trace links to
    /// that of the backfill run.
    pub fn from_backfill(event: Event, payload: Vec<u8>, now_ms: i64) -> Self {
        let span = process_span(&event, Source::Backfill);
        spans::detach(&span);
        if let Some(run) = spans::current_trace() {
            spans::link(&span, run);
        }
        Self::new(event, payload, now_ms, span)
    }

    /// `span` has its parent and its links: from here on they cannot change.
    fn new(event: Event, payload: Vec<u8>, received_at_ms: i64, span: Span) -> Self {
        let (event_id, event_type) = (Some(&event.id), Some(event.type_name.as_str()));
        BillingAttributes { event_id, event_type, ..BillingAttributes::default() }.record(&span);
        let trace = spans::traceparent_of(&span);
        Self { event, payload, verified: None, received_at_ms, span, trace, request_span: Span::none() }
    }

    pub(super) fn source(&self) -> Source {
        if self.verified.is_some() { Source::Webhook } else { Source::Backfill }
    }

    /// The journey that starts with this event if its tenant has none.
    pub(super) fn new_journey(&self, now_ms: i64) -> Option<Journey> {
        self.trace.map(|origin| Journey { origin, started_at_ms: now_ms })
    }
}

fn process_span(event: &Event, source: Source) -> Span {
    info_span!(
        "process event",
        otel.name = format!("process {}", event.type_name),
        otel.kind = "consumer",
        billing.event.source = source.as_str(),
    )
}
