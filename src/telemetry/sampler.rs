//! Which traces are recorded.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Config, Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// On a span that begins a journey. Such a span is always recorded.
const JOURNEY_ORIGIN: &str = "billing.journey.origin";

/// On a span that marks what happened in a journey later on. Always recorded, like the origin that it belongs to.
const JOURNEY_MILESTONE: &str = "billing.journey.milestone";

/// Samples as the operator asked, except that what belongs to a journey's own trace is always recorded: it is a
/// handful of spans for each checkout, and the one thread that leads from there to all the rest.
#[derive(Debug, Clone)]
pub(super) struct JourneySampler {
    others: Box<dyn ShouldSample>,
}

impl JourneySampler {
    /// For spans that go somewhere. The SDK reads `OTEL_TRACES_SAMPLER` into its configuration's default, and nowhere
    /// else.
    pub(super) fn as_configured() -> Self {
        Self { others: Config::default().sampler }
    }

    /// For spans that go nowhere: they get their ids, and nothing else is kept of them.
    pub(super) fn for_ids_alone() -> Self {
        Self { others: Box::new(Sampler::AlwaysOff) }
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
        if !attributes.iter().any(is_of_a_journey) {
            return self.others.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        SamplingResult {
            decision: SamplingDecision::RecordAndSample,
            attributes: Vec::new(),
            trace_state: parent.map(|cx| cx.span().span_context().trace_state().clone()).unwrap_or_default(),
        }
    }
}

fn is_of_a_journey(attribute: &KeyValue) -> bool {
    matches!(attribute.key.as_str(), JOURNEY_ORIGIN | JOURNEY_MILESTONE)
        && attribute.value == Value::Bool(true)
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;
    use tracing::info_span;
    use tracing::subscriber::with_default;

    use super::*;
    use crate::telemetry::spans::{BillingAttributes, current_trace, detach, milestone, traceparent_of};
    use crate::telemetry::{subscriber, tracer_provider};

    #[test]
    fn what_belongs_to_a_journey_is_always_sampled_and_the_rest_as_the_operator_asked() {
        let exporter = InMemorySpanExporter::default();
        let provider = tracer_provider()
            .with_sampler(JourneySampler::for_ids_alone())
            .with_simple_exporter(exporter.clone())
            .build();
        with_default(subscriber(&provider, None, std::io::sink), || {
            let unsampled = info_span!("request").entered();
            let trace = current_trace().expect("an id nevertheless");
            assert!(!trace.sampled());

            let origin = info_span!("origin", billing.journey.origin = true);
            detach(&origin);
            let journey = traceparent_of(&origin).expect("an id");
            assert!(journey.sampled());
            assert_ne!(journey.journey_id(), trace.journey_id());

            info_span!("no origin", billing.journey.origin = false).in_scope(|| ());
            milestone(journey, "portal opened", &BillingAttributes::default(), Some(trace));
            drop((origin, unsampled));
        });
        let spans = exporter.get_finished_spans().expect("spans");
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["journey: portal opened", "origin"]);
    }
}
