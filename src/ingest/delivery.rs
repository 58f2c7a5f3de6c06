//! A verified event on its way in.

use tracing::{Span, info_span};

use crate::domain::event::Event;
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::signature::Verified;
use crate::telemetry::metrics::Source;
use crate::telemetry::spans::{self, BillingAttributes};

/// A verified event on its way in.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// The bytes that came.
    pub payload: Vec<u8>,
    /// Which secret verified it, and how old it was; none if we fetched it ourselves.
    pub verified: Option<Verified>,
    /// When it came, in Unix milliseconds.
    pub received_at_ms: i64,
    /// The span that processes it.
    pub span: Span,
    /// The same, named for others.
    pub(super) trace: Option<Traceparent>,
    /// The span of the request that brought it, if one did.
    pub request_span: Span,
}

impl Delivery {
    /// An event that Stripe posted, in the span of its request.
    pub fn by_webhook(event: Event, payload: Vec<u8>, verified: Verified, now_ms: i64) -> Self {
        let span = span(&event, Source::Webhook);
        let request_span = Span::current();
        Self { verified: Some(verified), request_span, ..Self::new(event, payload, now_ms, span) }
    }

    /// An event that Stripe listed when asked. Its trace is its own, since a journey may begin with it, and links to that
    /// of the run that found it.
    pub fn by_backfill(event: Event, payload: Vec<u8>, now_ms: i64) -> Self {
        let span = span(&event, Source::Backfill);
        spans::detach(&span);
        if let Some(run) = spans::current_trace() {
            spans::link(&span, run);
        }
        Self::new(event, payload, now_ms, span)
    }

    /// In a span that has its place.
    fn new(event: Event, payload: Vec<u8>, received_at_ms: i64, span: Span) -> Self {
        let (event_id, event_type) = (Some(&event.id), Some(event.type_name.as_str()));
        BillingAttributes { event_id, event_type, ..BillingAttributes::default() }.record(&span);
        let trace = spans::traceparent_of(&span);
        Self { event, payload, verified: None, received_at_ms, span, trace, request_span: Span::none() }
    }

    /// How it came: what nobody signed for us we have fetched ourselves.
    pub(super) fn source(&self) -> Source {
        if self.verified.is_some() { Source::Webhook } else { Source::Backfill }
    }

    /// The journey that would begin where the event is processed.
    pub(super) fn here(&self, now_ms: i64) -> Option<Journey> {
        self.trace.map(|origin| Journey { origin, began_at_ms: now_ms })
    }
}

fn span(event: &Event, source: Source) -> Span {
    info_span!(
        "process event",
        otel.name = format!("process {}", event.type_name),
        otel.kind = "consumer",
        billing.event.source = source.as_str(),
    )
}
