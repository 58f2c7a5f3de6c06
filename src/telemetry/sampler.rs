//! The trace sampler.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Config, Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// The span attribute of a journey's root span.
const JOURNEY_ORIGIN: &str = "billing.journey.origin";

/// The span attribute of a later step of a journey.
const JOURNEY_MILESTONE: &str = "billing.journey.milestone";

/// Always records the spans of a journey's own trace, and samples all others as configured. A
/// journey has only a few spans per checkout, and they link to all other traces.
#[derive(Debug, Clone)]
pub(super) struct JourneySampler {
    fallback: Box<dyn ShouldSample>,
}

impl JourneySampler {
    /// Samples as `OTEL_TRACES_SAMPLER` says. The SDK reads it only into `Config::default()`.
    pub(super) fn from_env() -> Self {
        Self { fallback: Config::default().sampler }
    }

    /// Other spans get ids, but are not recorded.
    pub(super) fn record_journeys_only() -> Self {
        Self { fallback: Box::new(Sampler::AlwaysOff) }
    }
}

impl ShouldSample for JourneySampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if !attributes.iter().any(marks_journey) {
            return self.fallback.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        SamplingResult {
            decision: SamplingDecision::RecordAndSample,
            attributes: Vec::new(),
            trace_state: parent.map(|cx| cx.span().span_context().trace_state().clone()).unwrap_or_default(),
        }
    }
}

fn marks_journey(attribute: &KeyValue) -> bool {
    matches!(attribute.key.as_str(), JOURNEY_ORIGIN | JOURNEY_MILESTONE)
        && attribute.value == Value::Bool(true)
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;
    use tracing::info_span;
    use tracing::subscriber::with_default;

    use super::*;
    use crate::telemetry::spans::{
        BillingAttributes, current_trace, detach, record_milestone, traceparent_of,
    };
    use crate::telemetry::{subscriber, tracer_provider};

    #[test]
    fn journey_spans_are_recorded_when_sampling_is_off() {
        let exporter = InMemorySpanExporter::default();
        let provider = tracer_provider()
            .with_sampler(JourneySampler::record_journeys_only())
            .with_simple_exporter(exporter.clone())
            .build();
        with_default(subscriber(&provider, None, std::io::sink), || {
            let unsampled = info_span!("request").entered();
            let trace = current_trace().expect("an unsampled span has an id");
            assert!(!trace.sampled());

            let origin = info_span!("origin", billing.journey.origin = true);
            detach(&origin);
            let journey = traceparent_of(&origin).expect("an id");
            assert!(journey.sampled());
            assert_ne!(journey.trace_id(), trace.trace_id());

            info_span!("no origin", billing.journey.origin = false).in_scope(|| ());
            record_milestone(journey, "portal opened", &BillingAttributes::default(), Some(trace));
            drop((origin, unsampled));
        });
        let spans = exporter.get_finished_spans().expect("spans");
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["journey: portal opened", "origin"]);
    }
}
