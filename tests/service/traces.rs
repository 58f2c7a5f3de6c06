//! One trace id leads from a checkout to everything that followed.

use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_sdk::trace::SpanData;
use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, ended_spans, eventually};
use crate::database::{Database, on_both_databases};

on_both_databases!(a_checkouts_trace_holds_what_followed_and_everything_links_to_it);

const SPA: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn a_checkouts_trace_holds_what_followed_and_everything_links_to_it(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let checkout = app.request(Method::POST, "/api/billing/create-checkout-session/").bearer_auth(&token);
    let checkout = checkout.header("traceparent", format!("00-{SPA}-00f067aa0ba902b7-01"));
    let bought = app.call(checkout).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.until_plan("acme", "pro").await;
    app.line("subscription_state", |line| line["stripe_event_type"] == "checkout.session.completed").await;
    app.open_portal(&token, &json!({})).await.ok();

    let told = app.line("billing", |line| line["event"] == "checkout.create.success").await;
    let journey = told["journey_id"].as_str().expect("a journey").to_owned();
    assert_ne!(journey, SPA, "a caller does not choose a journey's id");

    let origin = span(&journey, "create checkout session").await;
    assert_eq!(origin.parent_span_id, SpanId::INVALID, "the origin is a root");
    let request = span_of_caller(&origin).await;
    assert_eq!(request.name, "POST /api/billing/create-checkout-session");
    assert!(links_to(&request, &origin), "and the request links back");

    let stripe = span(&journey, "POST /v1/checkout/sessions").await;
    assert_eq!(
        (stripe.parent_span_id, &stripe.span_kind),
        (origin.span_context.span_id(), &SpanKind::Client)
    );
    assert_eq!(attribute(&stripe, "http.response.status_code").as_deref(), Some("200"));
    assert!(attribute(&stripe, "billing.stripe.request.id").is_some_and(|id| id.starts_with("req_")));

    for milestone in ["journey: customer.subscription.created", "journey: checkout.session.completed"] {
        let milestone = span(&journey, milestone).await;
        assert_eq!(milestone.parent_span_id, origin.span_context.span_id());
        assert_eq!(attribute(&milestone, "billing.tenant.id").as_deref(), Some("acme"));
        webhook_spans_tell_their_story(&milestone, &origin).await;
    }
    let portal = span(&journey, "journey: portal opened").await;
    assert_eq!(attribute(&portal, "user.id").as_deref(), Some("user-1"));

    every_line_is_in_a_trace(&app).await;
    app.stop().await;
}

/// A milestone links forward to the span that processed the event, which links back to the origin, stands under the
/// webhook's own request in a trace of its own, and shares a transaction that links to it.
async fn webhook_spans_tell_their_story(milestone: &SpanData, origin: &SpanData) {
    let process = linked_from(milestone).await;
    assert_eq!(process.span_kind, SpanKind::Consumer);
    assert!(process.name.starts_with("process "), "{}", process.name);
    assert!(links_to(&process, origin));
    let request = span_by_id(process.parent_span_id).await;
    assert_eq!(request.name, "POST /api/billing/webhook");
    assert_eq!(request.parent_span_id, SpanId::INVALID);
    for span in [&process, &request] {
        let journey = origin.span_context.trace_id().to_string();
        assert_eq!(attribute(span, "billing.journey.id"), Some(journey));
        assert_eq!(attribute(span, "billing.outcome").as_deref(), Some("applied"));
        for name in ["billing.tenant.id", "billing.stripe.customer.id", "billing.stripe.event.id"] {
            assert!(attribute(span, name).is_some(), "{name} on {}", span.name);
        }
    }
    eventually("the batch's span links to the event's", || async {
        ended_spans().into_iter().find(|span| span.name == "ingest batch" && links_to(span, &process))
    })
    .await;
}

async fn every_line_is_in_a_trace(app: &TestApp) {
    for topic in ["billing", "webhook_signatures", "subscription_state"] {
        for line in app.lines(topic) {
            let trace = line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace: {line}")).to_owned();
            eventually("the line's trace has a span", || async {
                let in_trace = |span: &SpanData| span.span_context.trace_id().to_string() == trace;
                ended_spans().into_iter().find(in_trace)
            })
            .await;
        }
    }
}

async fn span(trace: &str, name: &str) -> SpanData {
    eventually(name, || async {
        let is = |span: &SpanData| span.name == name && span.span_context.trace_id().to_string() == trace;
        ended_spans().into_iter().find(is)
    })
    .await
}

async fn span_by_id(id: SpanId) -> SpanData {
    eventually("the span has ended", || async {
        ended_spans().into_iter().find(|span| span.span_context.span_id() == id)
    })
    .await
}

async fn linked_from(span: &SpanData) -> SpanData {
    let link = span.links.iter().next().expect("a link");
    span_by_id(link.span_context.span_id()).await
}

/// The caller's own request: the span that the origin links to, in the caller's trace.
async fn span_of_caller(origin: &SpanData) -> SpanData {
    let request = linked_from(origin).await;
    assert_eq!(request.span_context.trace_id().to_string(), SPA);
    request
}

fn links_to(span: &SpanData, other: &SpanData) -> bool {
    span.links.iter().any(|link| link.span_context.span_id() == other.span_context.span_id())
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map(|attribute| attribute.value.as_str().into_owned())
}
