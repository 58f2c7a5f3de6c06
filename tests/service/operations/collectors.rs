//! The export of traces to third-party collectors.

use std::net::TcpListener;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::collector::{Collector, Span};
use crate::support::database::{Database, on_both_databases};
use crate::support::rotel::Rotel;

on_both_databases!(collector_receives_whole_journey);

/// The trace id of the SPA's request.
const SPA: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn collector_receives_whole_journey(database: Database) {
    let collector = Collector::start().await;
    let mut app =
        TestApp::start_process(database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await;
    let journey = complete_journey(&app).await;
    app.stop_service().await;
    let (lines, stderr) = (app.all_lines(), app.stderr());
    app.stop().await;

    // Nothing was lost, so the remaining spans are on their way.
    eventually("the collector has the journey", || async {
        let spans = collector.spans();
        let has_line = |line: &Value| spans.iter().any(|span| span.trace == line["trace_id"]);
        (is_complete(&spans, &journey) && lines.iter().all(has_line)).then_some(())
    })
    .await;
    assert!(!stderr.contains("the collector"), "nothing was lost: {stderr}");
}

#[tokio::test]
async fn rotel_receives_journey_over_grpc() {
    let rotel = Rotel::start().await;
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc_port);
    assert_rotel_receives_journey(&rotel, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
}

#[tokio::test]
async fn rotel_receives_journey_over_http() {
    let rotel = Rotel::start().await;
    let endpoint = format!("http://127.0.0.1:{}", rotel.http_port);
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    assert_rotel_receives_journey(&rotel, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), protocol]).await;
}

async fn assert_rotel_receives_journey(rotel: &Rotel, environment: &[(&str, &str)]) {
    let app = TestApp::start_process(Database::Sqlite, environment).await;
    let journey = complete_journey(&app).await;
    app.stop().await;
    eventually("rotel has the journey", || async { is_complete(&rotel.spans(), &journey).then_some(()) })
        .await;
}

/// The collector accepts connections and never responds. The lost spans are logged.
#[tokio::test]
async fn hanging_collector_blocks_no_request_and_no_shutdown() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
    let mut app =
        TestApp::start_process(Database::Sqlite, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    complete_journey(&app).await;
    app.stop_service().await;
    let stderr = app.stderr();
    assert!(stderr.contains("the collector did not receive every span"), "{stderr}");
    app.stop().await;
}

/// Checkout, payment, portal and cancellation. Returns the journey id.
async fn complete_journey(app: &TestApp) -> String {
    // Otherwise the backfill at start could fetch an event before its webhook arrives.
    app.wait_for_backfill().await;
    let token = app.token("acme");
    let checkout = app.request(Method::POST, "/api/billing/create-checkout-session/").bearer_auth(&token);
    let checkout = checkout
        .header("traceparent", format!("00-{SPA}-00f067aa0ba902b7-01"))
        .header("tracestate", "vendor=spa")
        .header("baggage", "tenant=mallory");
    let bought = app.call(checkout).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay(session).await;
    app.wait_for_plan("acme", "pro").await;
    // From then on the journey belongs to the tenant.
    app.wait_for_line("subscription_state", |line| line["stripe_event_type"] == "checkout.session.completed")
        .await;
    let portal = app.open_portal(&token, &json!({})).await.ok();
    let subscription = app.stripe.subscription_of_session(session).await;
    app.stripe.cancel_in_portal(portal["url"].as_str().expect("a URL"), &subscription).await;
    app.wait_for_subscription("acme", |subscription| subscription["scheduled_cancel"] == true).await;
    for kind in ["invoice.paid", "billing_portal.session.created"] {
        app.wait_for_line("subscription_state", |line| line["stripe_event_type"] == kind).await;
    }
    assert_no_trace_headers_at_stripe(app).await;
    let line = app.wait_for_line("billing", |line| line["event"] == "checkout.create.success").await;
    line["journey_id"].as_str().expect("a journey").to_owned()
}

async fn assert_no_trace_headers_at_stripe(app: &TestApp) {
    for request in app.stripe.requests().await {
        for header in ["traceparent", "tracestate", "baggage"] {
            assert!(request["headers"][header].is_null(), "{header} in {request}");
        }
    }
}

/// The milestones in a checkout's trace.
const MILESTONES: [&str; 6] = [
    "journey: customer.subscription.created",
    "journey: checkout.session.completed",
    "journey: invoice.paid",
    "journey: portal opened",
    "journey: billing_portal.session.created",
    "journey: customer.subscription.updated",
];

/// Whether the checkout's trace has every milestone, each milestone links to a span, and that span
/// links back.
fn is_complete(spans: &[Span], journey: &str) -> bool {
    let Some(origin) = in_trace(spans, journey, "create checkout session") else { return false };
    let is_milestone = |name: &str| {
        in_trace(spans, journey, name).is_some_and(|milestone| {
            let linked = milestone.links.first().and_then(|link| by_link(spans, link));
            let links_back = linked
                .is_some_and(|linked| links_to(linked, origin) && has_tenant_and_journey(linked, journey));
            milestone.parent == origin.id && has_tenant_and_journey(milestone, journey) && links_back
        })
    };
    let is_processed = |process: &Span| links_to(process, origin) && has_tenant_and_journey(process, journey);
    let mut processed = spans.iter().filter(|span| span.name.starts_with("process ") && has_tenant(span));
    origin.parent.is_empty()
        && has_tenant_and_journey(origin, journey)
        && starts_with_request(spans, origin, journey)
        && has_stripe_request(spans, origin, journey)
        && MILESTONES.into_iter().all(is_milestone)
        && processed.all(is_processed)
}

/// The request is in the caller's trace, which is not the journey's, and request and origin link to
/// each other.
fn starts_with_request(spans: &[Span], origin: &Span, journey: &str) -> bool {
    let request = origin.links.first().and_then(|link| by_link(spans, link));
    request.is_some_and(|request| {
        request.trace == SPA
            && request.name == "POST /api/billing/create-checkout-session"
            && links_to(request, origin)
            && has_tenant_and_journey(request, journey)
    })
}

fn has_stripe_request(spans: &[Span], origin: &Span, journey: &str) -> bool {
    in_trace(spans, journey, "POST /v1/checkout/sessions").is_some_and(|request| {
        let request_id = request.attributes.get("billing.stripe.request.id");
        request.parent == origin.id
            && request_id.is_some_and(|id| id.contains("req_"))
            && has_tenant_and_journey(request, journey)
    })
}

fn in_trace<'a>(spans: &'a [Span], trace: &str, name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.trace == trace && span.name == name)
}

/// Whether the event belongs to a tenant.
fn has_tenant(span: &Span) -> bool {
    span.attributes.contains_key("billing.tenant.id")
}

fn links_to(span: &Span, other: &Span) -> bool {
    span.links.contains(&(other.trace.clone(), other.id.clone()))
}

fn by_link<'a>(spans: &'a [Span], link: &(String, String)) -> Option<&'a Span> {
    spans.iter().find(|span| span.trace == link.0 && span.id == link.1)
}

/// Both attributes must be on one span, since a search by tags matches within a span.
fn has_tenant_and_journey(span: &Span, journey: &str) -> bool {
    let has = |name: &str, value: &str| span.attributes.get(name).is_some_and(|found| found.contains(value));
    has("billing.tenant.id", "acme") && has("billing.journey.id", journey)
}
