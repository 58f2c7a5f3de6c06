//! What the rest of the service says about its spans: where they belong, what they link to, whose they are.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Span, info_span};
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

use super::loggable::{loggable, token};
use crate::domain::ids::{CustomerId, EventId, TenantId, UserId};
use crate::domain::journey::{JourneyId, Traceparent};

/// The span that the caller is in, if it is in one.
pub fn current_trace() -> Option<Traceparent> {
    // Not through the current `tracing` span: that may be a library's, which OpenTelemetry never saw.
    Context::map_current(traceparent)
}

/// The given span, named for others. This starts it: its place in a trace can no longer be changed.
pub fn traceparent_of(span: &Span) -> Option<Traceparent> {
    traceparent(&span.context())
}

/// Whether what is said on the span goes anywhere. This starts it.
pub fn is_recorded(span: &Span) -> bool {
    span.context().span().is_recording()
}

/// Points from the span to another one, of whatever trace.
pub fn link(span: &Span, to: Traceparent) {
    span.add_link(span_context(to));
}

/// Makes the span a child of one in another process. Only before it is entered or named.
pub fn continue_from(span: &Span, parent: Traceparent) {
    set_parent(span, Context::new().with_remote_span_context(span_context(parent)));
}

/// Makes the span the root of a new trace. Only before it is entered or named.
///
/// With the field `billing.journey.origin = true` the new trace is a journey, and the span is recorded whatever the
/// sampler would say:
///
/// ```
/// # use billhook::telemetry::spans;
/// let origin = tracing::info_span!("create checkout", billing.journey.origin = true);
/// spans::detach(&origin);
/// if let Some(caller) = spans::current_trace() {
///     spans::link(&origin, caller);
/// }
/// ```
pub fn detach(span: &Span) {
    set_parent(span, Context::new());
}

/// Leaves a mark in the trace that the journey began with: an instant span, a child of the origin, which links
/// forward to where it happened.
pub fn milestone(
    origin: Traceparent,
    what: &str,
    attributes: &BillingAttributes<'_>,
    link_to: Option<Traceparent>,
) {
    let name = format!("journey: {what}");
    let span = info_span!(parent: None, "journey", otel.name = name, billing.journey.milestone = true);
    continue_from(&span, origin);
    if let Some(there) = link_to {
        link(&span, there);
    }
    let journey = attributes.journey.or(Some(origin.journey_id()));
    BillingAttributes { journey, ..*attributes }.record(&span);
}

/// Whose a span is and what it is about. A search by tags must match inside one span, so they stand together.
#[derive(Debug, Clone, Copy, Default)]
pub struct BillingAttributes<'a> {
    /// The tenant.
    pub tenant: Option<&'a TenantId>,
    /// The journey.
    pub journey: Option<JourneyId>,
    /// Stripe's customer.
    pub customer: Option<&'a CustomerId>,
    /// Stripe's event.
    pub event_id: Option<&'a EventId>,
    /// The type of that event, as Stripe wrote it.
    pub event_type: Option<&'a str>,
    /// Stripe's id of our request.
    pub request_id: Option<&'a str>,
    /// What became of it.
    pub outcome: Option<&'a str>,
    /// Who asked. A name with an `@` is hashed.
    pub user: Option<&'a UserId>,
}

impl BillingAttributes<'_> {
    /// Sets what is known on the span, which need not have declared any of it. This starts the span. One that nobody records
    /// is left as it is.
    pub fn record(&self, span: &Span) {
        if !is_recorded(span) {
            return;
        }
        let attributes = [
            ("billing.tenant.id", self.tenant.map(ToString::to_string)),
            ("billing.journey.id", self.journey.map(|id| id.to_string())),
            ("billing.stripe.customer.id", self.customer.map(|customer| loggable(customer.as_str()))),
            ("billing.stripe.event.id", self.event_id.map(ToString::to_string)),
            ("billing.stripe.event.type", self.event_type.map(token)),
            ("billing.stripe.request.id", self.request_id.map(token)),
            ("billing.outcome", self.outcome.map(token)),
            ("user.id", self.user.map(|user| loggable(user.as_str()))),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                span.set_attribute(name, value);
            }
        }
    }
}

/// On whose behalf something is done, for as long as it takes.
#[derive(Debug, Clone, Default)]
pub struct Whose {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The journey that it is a part of.
    pub journey: Option<JourneyId>,
    /// Stripe's customer.
    pub customer: Option<CustomerId>,
}

impl Whose {
    /// The same, as a span bears it.
    pub fn attributes(&self) -> BillingAttributes<'_> {
        BillingAttributes {
            tenant: self.tenant.as_ref(),
            journey: self.journey,
            customer: self.customer.as_ref(),
            ..BillingAttributes::default()
        }
    }
}

fn set_parent(span: &Span, parent: Context) {
    let result = span.set_parent(parent);
    debug_assert!(
        !matches!(result, Err(SetParentError::AlreadyStarted)),
        "a span's parent is set before the span is entered or named"
    );
}

fn traceparent(cx: &Context) -> Option<Traceparent> {
    let span = cx.span();
    let context = span.span_context();
    let journey_id = JourneyId::from_bytes(context.trace_id().to_bytes()).ok()?;
    Traceparent::new(journey_id, context.span_id().to_bytes(), context.is_sampled()).ok()
}

fn span_context(traceparent: Traceparent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(traceparent.journey_id().as_bytes()),
        SpanId::from_bytes(traceparent.span_id()),
        if traceparent.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() },
        true,
        TraceState::default(),
    )
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};

    use super::*;
    use crate::telemetry::recording;

    fn a_trace() -> Traceparent {
        Traceparent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("well-formed")
    }

    fn the_span(exporter: &InMemorySpanExporter, name: &str) -> SpanData {
        let spans = exporter.get_finished_spans().expect("spans");
        spans.into_iter().find(|span| span.name == name).expect("finished")
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|a| a.value.to_string())
    }

    #[test]
    fn outside_of_any_span_there_is_no_trace() {
        assert_eq!(current_trace(), None);
        let (_exporter, _guard) = recording();
        assert_eq!(current_trace(), None);
        assert_eq!(traceparent_of(&Span::none()), None);
    }

    #[test]
    fn the_current_trace_is_that_of_the_span_one_is_in() {
        let (_exporter, _guard) = recording();
        let span = info_span!("request");
        let named = traceparent_of(&span);
        assert!(named.is_some_and(Traceparent::sampled));
        assert_eq!(span.in_scope(current_trace), named);
    }

    #[test]
    fn a_milestone_is_a_child_of_the_origin_and_links_forward() {
        let (exporter, _guard) = recording();
        let tenant = TenantId::parse("acme").expect("tenant");
        let customer = CustomerId::parse("cus_1").expect("customer");
        let attributes = BillingAttributes {
            tenant: Some(&tenant),
            customer: Some(&customer),
            ..BillingAttributes::default()
        };
        let here = info_span!("portal").in_scope(|| {
            milestone(a_trace(), "portal opened", &attributes, current_trace());
            current_trace().expect("an id")
        });
        let milestone = the_span(&exporter, "journey: portal opened");
        assert_eq!(milestone.span_context.trace_id().to_string(), a_trace().journey_id().to_string());
        assert_eq!(milestone.parent_span_id.to_bytes(), a_trace().span_id());
        assert!(milestone.parent_span_is_remote);
        let [forward] = &milestone.links[..] else { panic!("not one link") };
        assert_eq!(forward.span_context, span_context(here));
        assert_eq!(attribute(&milestone, "billing.tenant.id").as_deref(), Some("acme"));
        assert_eq!(attribute(&milestone, "billing.stripe.customer.id").as_deref(), Some("cus_1"));
        assert_eq!(attribute(&milestone, "billing.journey.id"), Some(a_trace().journey_id().to_string()));
    }

    #[test]
    fn a_detached_span_is_the_root_of_a_trace_of_its_own_and_its_children_are_in_it() {
        let (exporter, _guard) = recording();
        info_span!("request").in_scope(|| {
            let request = current_trace().expect("an id");
            let root = info_span!("create checkout");
            detach(&root);
            link(&root, request);
            root.in_scope(|| info_span!("call stripe").in_scope(|| ()));
        });
        let request = the_span(&exporter, "request");
        let root = the_span(&exporter, "create checkout");
        let child = the_span(&exporter, "call stripe");
        assert_eq!(root.parent_span_id, SpanId::INVALID);
        assert_ne!(root.span_context.trace_id(), request.span_context.trace_id());
        assert_eq!(root.links[0].span_context.span_id(), request.span_context.span_id());
        assert_eq!(child.parent_span_id, root.span_context.span_id());
        assert_eq!(child.span_context.trace_id(), root.span_context.trace_id());
    }

    #[test]
    fn a_span_without_a_parent_for_tracing_has_none_for_opentelemetry_either() {
        let (exporter, _guard) = recording();
        info_span!("request").in_scope(|| info_span!(parent: None, "batch").in_scope(|| ()));
        assert_eq!(the_span(&exporter, "batch").parent_span_id, SpanId::INVALID);
    }

    #[test]
    fn a_span_continues_a_trace_from_elsewhere() {
        let (exporter, _guard) = recording();
        let span = info_span!("request");
        continue_from(&span, a_trace());
        drop(span);
        let span = the_span(&exporter, "request");
        assert_eq!(span.parent_span_id.to_bytes(), a_trace().span_id());
    }

    #[test]
    fn a_link_may_come_after_the_span_has_begun() {
        let (exporter, _guard) = recording();
        info_span!("batch").in_scope(|| link(&Span::current(), a_trace()));
        assert_eq!(the_span(&exporter, "batch").links[0].span_context, span_context(a_trace()));
    }

    #[test]
    fn every_attribute_has_its_name_and_an_email_address_is_hashed() {
        let (exporter, _guard) = recording();
        BillingAttributes {
            tenant: Some(&TenantId::parse("acme").expect("tenant")),
            journey: Some(a_trace().journey_id()),
            customer: Some(&CustomerId::parse("cus_1").expect("customer")),
            event_id: Some(&EventId::parse("evt_1").expect("event")),
            event_type: Some("invoice.paid\n"),
            request_id: Some("req_1"),
            outcome: Some("applied"),
            user: Some(&UserId::parse("jane@example.com").expect("user")),
        }
        .record(&info_span!("process"));
        let span = the_span(&exporter, "process");
        let attributes: Vec<_> =
            span.attributes.iter().map(|a| (a.key.as_str().to_owned(), a.value.to_string())).collect();
        let expected = [
            ("billing.tenant.id", "acme"),
            ("billing.journey.id", "0af7651916cd43dd8448eb211c80319c"),
            ("billing.stripe.customer.id", "cus_1"),
            ("billing.stripe.event.id", "evt_1"),
            ("billing.stripe.event.type", "invoice.paid?"),
            ("billing.stripe.request.id", "req_1"),
            ("billing.outcome", "applied"),
            ("user.id", "sha256:8c87b489ce35cf2e"),
        ];
        assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
