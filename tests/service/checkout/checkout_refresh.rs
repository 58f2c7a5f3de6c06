//! The checkout refresh endpoint: the buyer has returned, and the webhook has not arrived.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, ended_spans, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(
    refresh_applies_purchase_whose_webhook_was_lost,
    refresh_of_open_session_changes_nothing,
    refresh_of_applied_purchase_does_not_call_stripe,
    refresh_updates_subscription_stored_before_payment,
    refresh_of_foreign_or_unknown_session_is_not_found,
    refresh_finds_delayed_payment_that_arrived,
    refresh_closes_expired_session,
    concurrent_refreshes_agree_and_apply_once,
);

/// Opens a checkout for `acme` and drops every webhook.
async fn check_out_without_webhooks(database: Database) -> (TestApp, String) {
    let app = TestApp::start(database).await;
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let session = buy(&app, "acme").await;
    (app, session)
}

async fn buy(app: &TestApp, tenant: &str) -> String {
    let bought = app.check_out(&app.token(tenant), &json!({})).await.ok();
    bought["session_id"].as_str().expect("a session").to_owned()
}

async fn refresh(app: &TestApp, tenant: &str, session: &str) -> ApiResponse {
    let path = format!("/api/billing/checkout-sessions/{session}/refresh/");
    app.call(app.request(Method::POST, &path).bearer_auth(app.token(tenant))).await
}

async fn refresh_applies_purchase_whose_webhook_was_lost(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    let token = app.token("acme");
    let mut stream = EventStream::open(app.request(Method::GET, STREAM).bearer_auth(&token)).await;
    assert_eq!(stream.next_subscription().await["plan"], "free");
    app.stripe.pay(&session).await;

    let response = refresh(&app, "acme", &session).await.ok();
    assert_eq!((&response["plan"], &response["status"]), (&json!("pro"), &json!("active")));
    assert_eq!(response, app.subscription(&token).await.ok());
    assert_eq!(stream.next_subscription().await["plan"], "pro");
    app.wait_for_checkout(&session, "complete").await;

    let lines: Vec<Value> =
        app.lines("billing").into_iter().filter(|line| line["event"] != "checkout.create.start").collect();
    let names: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(names, ["checkout.create.success", "checkout.refresh.start", "checkout.refresh.success"]);
    let [success, _, refreshed] = lines.as_slice() else { unreachable!() };
    assert_eq!(refreshed["journey_id"], success["journey_id"]);
    assert_eq!((&refreshed["outcome"], &refreshed["tenant_id"]), (&json!("success"), &json!("acme")));
    assert!(refreshed["stripe_request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{refreshed}");
    let metrics = app.metrics().await;
    assert!(metrics.contains(r#"billhook_checkout_refreshes_total{outcome="success"} 1"#), "{metrics}");
    assert_part_of_journey(success["journey_id"].as_str().expect("a journey")).await;
    app.stop().await;
}

/// Asserts that the refresh's span links to the checkout's journey, names the journey and the
/// tenant, and leaves a milestone in the journey's trace.
async fn assert_part_of_journey(journey: &str) {
    let milestone = eventually("the milestone is recorded", || async {
        let is_milestone = |span: &opentelemetry_sdk::trace::SpanData| {
            span.name == "journey: checkout refreshed" && span.span_context.trace_id().to_string() == journey
        };
        ended_spans().into_iter().find(is_milestone)
    })
    .await;
    let work = eventually("the refresh's span is recorded", || async {
        let span_id = milestone.links.iter().next().expect("a link").span_context.span_id();
        ended_spans().into_iter().find(|span| span.span_context.span_id() == span_id)
    })
    .await;
    assert_eq!(work.name, "refresh checkout session");
    assert!(work.links.iter().any(|link| link.span_context.trace_id().to_string() == journey));
    for (name, value) in [("billing.journey.id", journey), ("billing.tenant.id", "acme")] {
        let found = work.attributes.iter().find(|one| one.key.as_str() == name);
        assert_eq!(found.map(|one| one.value.as_str().into_owned()).as_deref(), Some(value), "{name}");
    }
}

async fn refresh_of_open_session_changes_nothing(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    for _ in 0..2 {
        assert_eq!(refresh(&app, "acme", &session).await.ok()["plan"], "free");
    }
    app.wait_for_checkout(&session, "open").await;
    assert_eq!(buy(&app, "acme").await, session, "the session is reused and can be paid");
    app.stop().await;
}

async fn refresh_of_applied_purchase_does_not_call_stripe(database: Database) {
    let app = TestApp::start(database).await;
    let session = buy(&app, "acme").await;
    app.stripe.pay(&session).await;
    app.wait_for_plan("acme", "pro").await;
    app.wait_for_checkout(&session, "complete").await;
    app.wait_for_refreshes().await;

    let before = app.stripe.requests().await.len();
    assert_eq!(refresh(&app, "acme", &session).await.ok()["plan"], "pro");
    assert_eq!(app.stripe.requests().await.len(), before);
    app.stop().await;
}

async fn refresh_updates_subscription_stored_before_payment(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    app.stripe.pay(&session).await;
    deliver_events_before_payment(&app, &session).await;
    let stored = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&stored["plan"], &stored["status"]), (&json!("free"), &json!("incomplete")));

    let response = refresh(&app, "acme", &session).await.ok();
    assert_eq!((&response["plan"], &response["status"]), (&json!("pro"), &json!("active")));
    app.stop().await;
}

/// Delivers all webhooks of a purchase but the one with the active subscription.
pub async fn deliver_events_before_payment(app: &TestApp, session: &str) {
    let object = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    let id = object["subscription"].as_str().expect("a subscription");
    let subscription = app.stripe.api("GET", &format!("/v1/subscriptions/{id}"), "").await;
    // Created before the state that Stripe returns.
    let created = subscription["created"].as_i64().expect("a time") - 1;
    let incomplete = stripe_event("customer.subscription.created", created, |it| {
        *it = subscription;
        it["status"] = json!("incomplete");
    });
    let completed = stripe_event("checkout.session.completed", created, |it| *it = object);
    for event in [incomplete, completed] {
        app.deliver(&event).await.ok();
    }
    app.wait_for_checkout(session, "complete").await;
    app.wait_for_refreshes().await;
}

async fn refresh_of_foreign_or_unknown_session_is_not_found(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    app.stripe.pay(&session).await;
    let before = app.stripe.requests().await.len();
    let foreign = refresh(&app, "birch", &session).await;
    foreign.assert_problem(404, "not_found");
    let unknown = refresh(&app, "birch", "cs_test_unknown").await;
    assert_eq!(
        foreign.without_trace_id(),
        unknown.without_trace_id(),
        "a foreign session is indistinguishable from an unknown one"
    );
    for malformed in
        ["nonsense", "cs_", "cs_a%20b", "%00", "%FF", "..%2F..", &format!("cs_{}", "a".repeat(300))]
    {
        refresh(&app, "acme", malformed).await.assert_problem(404, "not_found");
    }
    assert_eq!(app.stripe.requests().await.len(), before, "Stripe was not called");
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "free");
    app.stop().await;
}

async fn refresh_finds_delayed_payment_that_arrived(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    app.stripe.pay_with(&session, "delayed").await;
    let waiting = refresh(&app, "acme", &session).await.ok();
    assert_eq!((&waiting["access"], &waiting["plan"]), (&json!(false), &json!("free")));
    assert!(!waiting["status"].is_null(), "{waiting}");

    app.stripe.settle(&session, true).await;
    assert_eq!(refresh(&app, "acme", &session).await.ok()["plan"], "pro");
    let lines = app.lines("subscription_state");
    let refreshes: Vec<_> = lines
        .iter()
        .filter_map(|line| line["event"].as_str())
        .filter(|name| name.starts_with("refresh."))
        .collect();
    assert_eq!(refreshes, ["refresh.changed", "refresh.changed"], "the payment granted access");
    app.stop().await;
}

async fn refresh_closes_expired_session(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    app.stripe.api("POST", &format!("/v1/checkout/sessions/{session}/expire"), "").await;
    assert_eq!(refresh(&app, "acme", &session).await.ok()["plan"], "free");
    app.wait_for_checkout(&session, "expired").await;
    let before = app.stripe.requests().await.len();
    refresh(&app, "acme", &session).await.ok();
    assert_eq!(app.stripe.requests().await.len(), before, "a closed session is not fetched again");
    app.stop().await;
}

async fn concurrent_refreshes_agree_and_apply_once(database: Database) {
    let (app, session) = check_out_without_webhooks(database).await;
    app.stripe.pay(&session).await;
    let (one, other) = tokio::join!(refresh(&app, "acme", &session), refresh(&app, "acme", &session));
    for response in [one, other] {
        assert_eq!(response.ok()["plan"], "pro");
    }
    let created = app.lines("subscription_state");
    let created = created.iter().filter(|line| line["event"] == "subscription.transition").count();
    assert_eq!(created, 1, "the subscription was applied once");
    app.stop().await;
}

#[tokio::test]
async fn refresh_needs_user_token_and_shares_checkout_quota() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "2")]).await;
    let session = buy(&app, "acme").await;
    let path = format!("/api/billing/checkout-sessions/{session}/refresh/");
    app.call(app.request(Method::POST, &path)).await.assert_problem(401, "not_authenticated");
    let service = app.request(Method::POST, &path).bearer_auth(app.service_token());
    app.call(service).await.assert_problem(403, "not_allowed");
    refresh(&app, "acme", &session).await.ok();
    let throttled = refresh(&app, "acme", &session).await;
    throttled.assert_problem(429, "throttled");
    assert_eq!(throttled.header("retry-after"), Some("30"));
    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(429, "throttled");
    app.stop().await;
}

#[tokio::test]
async fn refresh_fails_while_stripe_is_down_then_succeeds() {
    let (app, session) = check_out_without_webhooks(Database::Sqlite).await;
    app.stripe.pay(&session).await;
    let down = json!({ "match": "GET /v1/", "kind": "status", "status": 503 });
    app.stripe.inject_fault(&down).await;
    let refused = refresh(&app, "acme", &session).await;
    refused.assert_problem(502, "stripe_unavailable");
    let detail = refused.json()["detail"].as_str().expect("a detail").to_owned();
    assert_eq!(
        detail,
        "The payment provider does not respond. A completed payment is not lost. Try again in a minute."
    );
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    let failure = app.wait_for_line("billing", |line| line["event"] == "checkout.refresh.failure").await;
    assert_eq!((&failure["outcome"], &failure["level"]), (&json!("stripe_unavailable"), &json!("error")));

    app.stripe.clear_faults().await;
    assert_eq!(refresh(&app, "acme", &session).await.ok()["plan"], "pro");
    app.stop().await;
}

#[tokio::test]
async fn refresh_without_stripe_key_is_not_configured() {
    let (mut app, session) = check_out_without_webhooks(Database::Sqlite).await;
    app.stop_service().await;
    app.start_service_with("--stripe-secret-key", "").await;
    refresh(&app, "acme", &session).await.assert_problem(503, "billing_not_configured");
    refresh(&app, "acme", "cs_test_unknown").await.assert_problem(404, "not_found");
    app.stop().await;
}
