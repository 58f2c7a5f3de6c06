//! Collectors that somebody else wrote, and what reaches them when the service that runs in production walks the circle.

use std::net::TcpListener;

use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, eventually};
use crate::collector::{Collector, Span};
use crate::database::{Database, on_both_databases};
use crate::rotel::Rotel;

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

    let spans = all_of_the_circle(|| collector.spans(), &journey).await;
    the_circle_is_whole(&spans, &journey);
    for line in lines {
        let trace = line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace: {line}"));
        assert!(spans.iter().any(|span| span.trace == trace), "no span is in the trace of {line}");
    }
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
    let spans = all_of_the_circle(|| rotel.spans(), &journey).await;
    the_circle_is_whole(&spans, &journey);
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

/// Waits until a collector has them all.
async fn all_of_the_circle(received: impl Fn() -> Vec<Span>, journey: &str) -> Vec<Span> {
    eventually("the collector has the circle", || async {
        let spans = received();
        let is_there = |name: &str| spans.iter().any(|span| span.trace == journey && span.name == name);
        (MILESTONES.into_iter().all(is_there) && is_there("create checkout session")).then_some(spans)
    })
    .await
}

/// The checkout's own trace holds what followed; each milestone links forward, and what it links to links back.
fn the_circle_is_whole(spans: &[Span], journey: &str) {
    assert_ne!(journey, SPA, "a caller does not choose a journey's id");
    let in_journey = |name: &str| {
        let found = spans.iter().find(|span| span.trace == journey && span.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in the journey's trace"))
    };
    let origin = in_journey("create checkout session");
    assert_eq!(origin.parent, "", "the origin is a root");
    let request = &by_link(spans, &origin.links[0]);
    assert_eq!((request.trace.as_str(), &*request.name), (SPA, "POST /api/billing/create-checkout-session"));
    whose_it_is(request, journey);
    whose_it_is(origin, journey);

    let stripe = in_journey("POST /v1/checkout/sessions");
    assert_eq!(stripe.parent, origin.id);
    assert!(stripe.attributes["billing.stripe.request.id"].contains("req_"));
    whose_it_is(stripe, journey);

    for name in MILESTONES {
        let milestone = in_journey(name);
        assert_eq!(milestone.parent, origin.id, "{name}");
        whose_it_is(milestone, journey);
        let there = by_link(spans, &milestone.links[0]);
        assert!(links_to(&there, origin), "{} links back", there.name);
        whose_it_is(&there, journey);
    }
    for process in spans.iter().filter(|span| span.name.starts_with("process ") && is_ours(span)) {
        assert!(links_to(process, origin), "{} links to the origin", process.name);
        whose_it_is(process, journey);
    }
}

/// An event of the tenant's, and not one that no tenant has.
fn is_ours(span: &Span) -> bool {
    span.attributes.contains_key("billing.tenant.id")
}

fn links_to(span: &Span, other: &Span) -> bool {
    span.links.contains(&(other.trace.clone(), other.id.clone()))
}

fn by_link(spans: &[Span], link: &(String, String)) -> Span {
    let found = spans.iter().find(|span| span.trace == link.0 && span.id == link.1);
    found.unwrap_or_else(|| panic!("{link:?} leads nowhere")).clone()
}

/// Tenant and journey stand together, since a search by tags must match inside one span.
fn whose_it_is(span: &Span, journey: &str) {
    for (name, value) in [("billing.tenant.id", "acme"), ("billing.journey.id", journey)] {
        let told = span.attributes.get(name);
        assert!(told.is_some_and(|told| told.contains(value)), "{name} on {}: {told:?}", span.name);
    }
}
