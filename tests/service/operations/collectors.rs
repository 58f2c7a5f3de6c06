//! Collectors that somebody else wrote, and what reaches them when the service that runs in production walks the circle.

use std::net::TcpListener;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::collector::{Collector, Span};
use crate::support::database::{Database, on_both_databases};
use crate::support::rotel::Rotel;

on_both_databases!(the_whole_circle_reaches_a_collector);

/// The SPA's own trace.
const SPA: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn the_whole_circle_reaches_a_collector(database: Database) {
    let collector = Collector::start().await;
    let mut app =
        TestApp::start_process(database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await;
    let journey = walk_the_circle(&app).await;
    app.go_down().await;
    let (lines, stderr) = (app.all_lines(), app.stderr());
    app.stop().await;

    // Its stderr says nothing of losses: all that ended is on its way, if it has not come.
    eventually("the collector has the circle", || async {
        let spans = collector.spans();
        let has_line = |line: &Value| spans.iter().any(|span| span.trace == line["trace_id"]);
        (is_whole(&spans, &journey) && lines.iter().all(has_line)).then_some(())
    })
    .await;
    assert!(!stderr.contains("the collector"), "nothing was lost: {stderr}");
}

#[tokio::test]
async fn rotel_receives_the_circle_over_grpc() {
    let rotel = Rotel::start().await;
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc_port);
    rotel_receives_the_circle(&rotel, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
}

#[tokio::test]
async fn rotel_receives_the_circle_over_http() {
    let rotel = Rotel::start().await;
    let endpoint = format!("http://127.0.0.1:{}", rotel.http_port);
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    rotel_receives_the_circle(&rotel, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), protocol]).await;
}

async fn rotel_receives_the_circle(rotel: &Rotel, environment: &[(&str, &str)]) {
    let app = TestApp::start_process(Database::Sqlite, environment).await;
    let journey = walk_the_circle(&app).await;
    app.stop().await;
    eventually("rotel has the circle", || async { is_whole(&rotel.spans(), &journey).then_some(()) }).await;
}

/// A collector that takes connections and never answers holds up no request and no end, and what it did not get is told.
#[tokio::test]
async fn a_collector_that_hangs_costs_no_answer_and_no_orderly_end() {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port that nobody answers");
    let endpoint = format!("http://{}", deaf.local_addr().expect("an address"));
    let mut app =
        TestApp::start_process(Database::Sqlite, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    walk_the_circle(&app).await;
    app.go_down().await;
    let told = app.stderr();
    assert!(told.contains("the collector does not have every span"), "{told}");
    app.stop().await;
}

/// Upgrade, pay, turn pro, manage, cancel. Returns the journey.
async fn walk_the_circle(app: &TestApp) -> String {
    // Otherwise the backfill of the start could bring an event before its webhook does.
    app.until_backfilled().await;
    let token = app.token("acme");
    let checkout = app.request(Method::POST, "/api/billing/create-checkout-session/").bearer_auth(&token);
    let checkout = checkout
        .header("traceparent", format!("00-{SPA}-00f067aa0ba902b7-01"))
        .header("tracestate", "vendor=spa")
        .header("baggage", "tenant=mallory");
    let bought = app.call(checkout).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay(session).await;
    app.until_plan("acme", "pro").await;
    // From then on the journey is the tenant's.
    app.line("subscription_state", |line| line["stripe_event_type"] == "checkout.session.completed").await;
    let portal = app.open_portal(&token, &json!({})).await.ok();
    let subscription = app.stripe.subscription_of_session(session).await;
    app.stripe.cancel_in_portal(portal["url"].as_str().expect("a URL"), &subscription).await;
    app.until("acme", |answer| answer["scheduled_cancel"] == true).await;
    for kind in ["invoice.paid", "billing_portal.session.created"] {
        app.line("subscription_state", |line| line["stripe_event_type"] == kind).await;
    }
    no_trace_went_to_stripe(app).await;
    let told = app.line("billing", |line| line["event"] == "checkout.create.success").await;
    told["journey_id"].as_str().expect("a journey").to_owned()
}

async fn no_trace_went_to_stripe(app: &TestApp) {
    for request in app.stripe.requests().await {
        for header in ["traceparent", "tracestate", "baggage"] {
            assert!(request["headers"][header].is_null(), "{header} in {request}");
        }
    }
}

/// What follows from a checkout, in its own trace.
const MILESTONES: [&str; 6] = [
    "journey: customer.subscription.created",
    "journey: checkout.session.completed",
    "journey: invoice.paid",
    "journey: portal opened",
    "journey: billing_portal.session.created",
    "journey: customer.subscription.updated",
];

/// Whether the checkout's own trace holds what followed, each milestone links forward, and what it links to links back.
fn is_whole(spans: &[Span], journey: &str) -> bool {
    let Some(origin) = in_trace(spans, journey, "create checkout session") else { return false };
    let is_milestone = |name: &str| {
        in_trace(spans, journey, name).is_some_and(|milestone| {
            let there = milestone.links.first().and_then(|link| by_link(spans, link));
            let is_there = there.is_some_and(|there| links_to(there, origin) && is_acmes(there, journey));
            milestone.parent == origin.id && is_acmes(milestone, journey) && is_there
        })
    };
    let is_processed = |process: &Span| links_to(process, origin) && is_acmes(process, journey);
    let mut processed = spans.iter().filter(|span| span.name.starts_with("process ") && is_ours(span));
    origin.parent.is_empty()
        && is_acmes(origin, journey)
        && begins_with_the_request(spans, origin, journey)
        && asks_stripe(spans, origin, journey)
        && MILESTONES.into_iter().all(is_milestone)
        && processed.all(is_processed)
}

/// The request is in the caller's trace, which does not choose the journey's id, and the two link to each other.
fn begins_with_the_request(spans: &[Span], origin: &Span, journey: &str) -> bool {
    let request = origin.links.first().and_then(|link| by_link(spans, link));
    request.is_some_and(|request| {
        request.trace == SPA
            && request.name == "POST /api/billing/create-checkout-session"
            && links_to(request, origin)
            && is_acmes(request, journey)
    })
}

fn asks_stripe(spans: &[Span], origin: &Span, journey: &str) -> bool {
    in_trace(spans, journey, "POST /v1/checkout/sessions").is_some_and(|request| {
        let request_id = request.attributes.get("billing.stripe.request.id");
        request.parent == origin.id
            && request_id.is_some_and(|id| id.contains("req_"))
            && is_acmes(request, journey)
    })
}

fn in_trace<'a>(spans: &'a [Span], trace: &str, name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.trace == trace && span.name == name)
}

/// An event of the tenant's, and not one that no tenant has.
fn is_ours(span: &Span) -> bool {
    span.attributes.contains_key("billing.tenant.id")
}

fn links_to(span: &Span, other: &Span) -> bool {
    span.links.contains(&(other.trace.clone(), other.id.clone()))
}

fn by_link<'a>(spans: &'a [Span], link: &(String, String)) -> Option<&'a Span> {
    spans.iter().find(|span| span.trace == link.0 && span.id == link.1)
}

/// Tenant and journey stand together, since a search by tags must match inside one span.
fn is_acmes(span: &Span, journey: &str) -> bool {
    let bears = |name: &str, value: &str| span.attributes.get(name).is_some_and(|told| told.contains(value));
    bears("billing.tenant.id", "acme") && bears("billing.journey.id", journey)
}
