//! Parents, links and billing attributes of spans.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Span, info_span};
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

use super::redact::{hash_if_email, replace_special_chars};
use crate::domain::ids::{CustomerId, EventId, TenantId, UserId};
use crate::domain::journey::{JourneyId, Traceparent};

/// The caller's span, if it is in one.
pub fn current_trace() -> Option<Traceparent> {
    // The current `tracing` span may be a library's, which is unknown to OpenTelemetry.
    Context::map_current(traceparent)
}

/// Starts the span: its parent can no longer be changed.
pub fn traceparent_of(span: &Span) -> Option<Traceparent> {
    traceparent(&span.context())
}

/// Starts the span: its parent can no longer be changed.
pub fn is_recorded(span: &Span) -> bool {
    span.context().span().is_recording()
}

/// The other span may be in another trace.
pub fn link(span: &Span, to: Traceparent) {
    span.add_link(span_context(to));
}

/// Makes the span a child of one in another process. Call it before the span starts.
pub fn continue_from(span: &Span, parent: Traceparent) {
    set_parent(span, Context::new().with_remote_span_context(span_context(parent)));
}

/// Makes the span the root of a new trace. Call it before the span starts.
///
/// With the field `billing.journey.origin = true` the new trace is a journey, and the span is
/// always sampled:
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

/// Adds a step to the journey's trace: a child span of the origin with no duration, which links to
/// the span where the step happened.
pub fn record_milestone(
    origin: Traceparent,
    step: &str,
    attributes: &BillingAttributes<'_>,
    link_to: Option<Traceparent>,
) {
    let name = format!("journey: {step}");
    let span = info_span!(parent: None, "journey", otel.name = name, billing.journey.milestone = true);
    continue_from(&span, origin);
    if let Some(target) = link_to {
        link(&span, target);
    }
    let journey = attributes.journey.or(Some(origin.trace_id()));
    BillingAttributes { journey, ..*attributes }.record(&span);
}

/// All on the same span, because a tag search in Jaeger matches within one span only.
#[derive(Debug, Clone, Copy, Default)]
pub struct BillingAttributes<'a> {
    pub tenant: Option<&'a TenantId>,
    pub journey: Option<JourneyId>,
    pub customer: Option<&'a CustomerId>,
    pub event_id: Option<&'a EventId>,
    pub event_type: Option<&'a str>,
    /// Stripe's id of a request that we sent.
    pub request_id: Option<&'a str>,
    pub outcome: Option<&'a str>,
    /// Hashed if it contains an `@`.
    pub user: Option<&'a UserId>,
}

impl BillingAttributes<'_> {
    /// Sets the known attributes, which the span need not declare. Starts the span. Does nothing if
    /// it is not recorded.
    pub fn record(&self, span: &Span) {
        if !is_recorded(span) {
            return;
        }
        let attributes = [
            ("billing.tenant.id", self.tenant.map(ToString::to_string)),
            ("billing.journey.id", self.journey.map(|id| id.to_string())),
            ("billing.stripe.customer.id", self.customer.map(|customer| hash_if_email(customer.as_str()))),
            ("billing.stripe.event.id", self.event_id.map(ToString::to_string)),
            ("billing.stripe.event.type", self.event_type.map(replace_special_chars)),
            ("billing.stripe.request.id", self.request_id.map(replace_special_chars)),
            ("billing.outcome", self.outcome.map(replace_special_chars)),
            ("user.id", self.user.map(|user| hash_if_email(user.as_str()))),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                span.set_attribute(name, value);
            }
        }
    }
}

/// The tenant, journey and customer that a request to Stripe is made for.
#[derive(Debug, Clone, Default)]
pub struct BillingContext {
    pub tenant: Option<TenantId>,
    pub journey: Option<JourneyId>,
    pub customer: Option<CustomerId>,
}

impl BillingContext {
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
        "a span's parent must be set before the span starts"
    );
}

fn traceparent(cx: &Context) -> Option<Traceparent> {
    let span = cx.span();
    let context = span.span_context();
    let trace_id = JourneyId::from_bytes(context.trace_id().to_bytes()).ok()?;
    Traceparent::new(trace_id, context.span_id().to_bytes(), context.is_sampled()).ok()
}

fn span_context(traceparent: Traceparent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(traceparent.trace_id().as_bytes()),
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

    fn remote_parent() -> Traceparent {
        Traceparent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("well-formed")
    }

    fn finished_span(exporter: &InMemorySpanExporter, name: &str) -> SpanData {
        let spans = exporter.get_finished_spans().expect("spans");
        spans.into_iter().find(|span| span.name == name).expect("finished")
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|a| a.value.to_string())
    }

    #[test]
    fn current_trace_outside_any_span_is_none() {
        assert_eq!(current_trace(), None);
        let (_exporter, _guard) = recording();
        assert_eq!(current_trace(), None);
        assert_eq!(traceparent_of(&Span::none()), None);
    }

    #[test]
    fn current_trace_is_that_of_the_entered_span() {
        let (_exporter, _guard) = recording();
        let span = info_span!("request");
        let named = traceparent_of(&span);
        assert!(named.is_some_and(Traceparent::sampled));
        assert_eq!(span.in_scope(current_trace), named);
    }

    #[test]
    fn milestone_is_a_child_of_the_origin_and_links_to_its_cause() {
        let (exporter, _guard) = recording();
        let tenant = TenantId::parse("acme").expect("tenant");
        let customer = CustomerId::parse("cus_1").expect("customer");
        let attributes = BillingAttributes {
            tenant: Some(&tenant),
            customer: Some(&customer),
            ..BillingAttributes::default()
        };
        let here = info_span!("portal").in_scope(|| {
            record_milestone(remote_parent(), "portal opened", &attributes, current_trace());
            current_trace().expect("an id")
        });
        let milestone = finished_span(&exporter, "journey: portal opened");
        assert_eq!(milestone.span_context.trace_id().to_string(), remote_parent().trace_id().to_string());
        assert_eq!(milestone.parent_span_id.to_bytes(), remote_parent().span_id());
        assert!(milestone.parent_span_is_remote);
        let [link] = &milestone.links[..] else { panic!("not one link") };
        assert_eq!(link.span_context, span_context(here));
        assert_eq!(attribute(&milestone, "billing.tenant.id").as_deref(), Some("acme"));
        assert_eq!(attribute(&milestone, "billing.stripe.customer.id").as_deref(), Some("cus_1"));
        assert_eq!(attribute(&milestone, "billing.journey.id"), Some(remote_parent().trace_id().to_string()));
    }

    #[test]
    fn detached_span_is_the_root_of_a_new_trace() {
        let (exporter, _guard) = recording();
        info_span!("request").in_scope(|| {
            let request = current_trace().expect("an id");
            let root = info_span!("create checkout");
            detach(&root);
            link(&root, request);
            root.in_scope(|| info_span!("call stripe").in_scope(|| ()));
        });
        let request = finished_span(&exporter, "request");
        let root = finished_span(&exporter, "create checkout");
        let child = finished_span(&exporter, "call stripe");
        assert_eq!(root.parent_span_id, SpanId::INVALID);
        assert_ne!(root.span_context.trace_id(), request.span_context.trace_id());
        assert_eq!(root.links[0].span_context.span_id(), request.span_context.span_id());
        assert_eq!(child.parent_span_id, root.span_context.span_id());
        assert_eq!(child.span_context.trace_id(), root.span_context.trace_id());
    }

    #[test]
    fn parent_none_gives_a_root_span() {
        let (exporter, _guard) = recording();
        info_span!("request").in_scope(|| info_span!(parent: None, "batch").in_scope(|| ()));
        assert_eq!(finished_span(&exporter, "batch").parent_span_id, SpanId::INVALID);
    }

    #[test]
    fn continue_from_sets_a_remote_parent() {
        let (exporter, _guard) = recording();
        let span = info_span!("request");
        continue_from(&span, remote_parent());
        drop(span);
        let span = finished_span(&exporter, "request");
        assert_eq!(span.parent_span_id.to_bytes(), remote_parent().span_id());
    }

    #[test]
    fn link_can_be_added_after_the_span_started() {
        let (exporter, _guard) = recording();
        info_span!("batch").in_scope(|| link(&Span::current(), remote_parent()));
        assert_eq!(finished_span(&exporter, "batch").links[0].span_context, span_context(remote_parent()));
    }

    #[test]
    fn attributes_have_their_names_and_email_is_hashed() {
        let (exporter, _guard) = recording();
        BillingAttributes {
            tenant: Some(&TenantId::parse("acme").expect("tenant")),
            journey: Some(remote_parent().trace_id()),
            customer: Some(&CustomerId::parse("cus_1").expect("customer")),
            event_id: Some(&EventId::parse("evt_1").expect("event")),
            event_type: Some("invoice.paid\n"),
            request_id: Some("req_1"),
            outcome: Some("applied"),
            user: Some(&UserId::parse("jane@example.com").expect("user")),
        }
        .record(&info_span!("process"));
        let span = finished_span(&exporter, "process");
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
