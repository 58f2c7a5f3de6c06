//! Asking about a checkout: the buyer is back, and the webhook is not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::app::{TestApp, ended_spans, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(
    a_purchase_whose_webhook_is_lost_is_found_by_asking,
    an_open_session_changes_nothing,
    a_purchase_that_is_known_is_not_asked_about,
    a_subscription_that_we_hold_as_it_was_before_the_payment_is_asked_about,
    nobody_learns_of_anothers_session_or_of_one_that_is_not,
    money_on_its_way_is_found_to_have_come,
    a_session_that_nobody_paid_is_closed,
    two_who_ask_at_once_find_the_same,
);

/// A tenant's checkout, with every webhook lost.
async fn at_checkout(database: Database) -> (TestApp, String) {
    let app = TestApp::start(database).await;
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let session = buy(&app, "acme").await;
    (app, session)
}

async fn buy(app: &TestApp, tenant: &str) -> String {
    let bought = app.check_out(&app.token(tenant), &json!({})).await.ok();
    bought["session_id"].as_str().expect("a session").to_owned()
}

async fn ask(app: &TestApp, tenant: &str, session: &str) -> Answer {
    let path = format!("/api/billing/checkout-sessions/{session}/refresh/");
    app.call(app.request(Method::POST, &path).bearer_auth(app.token(tenant))).await
}

async fn a_purchase_whose_webhook_is_lost_is_found_by_asking(database: Database) {
    let (app, session) = at_checkout(database).await;
    let token = app.token("acme");
    let mut stream = EventStream::open(app.request(Method::GET, STREAM).bearer_auth(&token)).await;
    assert_eq!(stream.next_subscription().await["plan"], "free");
    app.stripe.pay(&session).await;

    let answer = ask(&app, "acme", &session).await.ok();
    assert_eq!((&answer["plan"], &answer["status"]), (&json!("pro"), &json!("active")));
    assert_eq!(answer, app.subscription(&token).await.ok());
    assert_eq!(stream.next_subscription().await["plan"], "pro");
    app.until_checkout(&session, "complete").await;

    let told: Vec<Value> =
        app.lines("billing").into_iter().filter(|line| line["event"] != "checkout.create.start").collect();
    let names: Vec<&str> = told.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(names, ["checkout.create.success", "checkout.refresh.start", "checkout.refresh.success"]);
    let [bought, _, found] = told.as_slice() else { unreachable!() };
    assert_eq!(found["journey_id"], bought["journey_id"]);
    assert_eq!((&found["outcome"], &found["tenant_id"]), (&json!("success"), &json!("acme")));
    assert!(found["stripe_request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{found}");
    let metrics = app.metrics().await;
    assert!(metrics.contains(r#"billhook_checkout_refreshes_total{outcome="success"} 1"#), "{metrics}");
    is_part_of_the_journey(bought["journey_id"].as_str().expect("a journey")).await;
    app.stop().await;
}

/// The work links to the checkout, bears its journey and its tenant, and leaves a milestone in its trace.
async fn is_part_of_the_journey(journey: &str) {
    let milestone = eventually("the milestone", || async {
        let is = |span: &opentelemetry_sdk::trace::SpanData| {
            span.name == "journey: checkout refreshed" && span.span_context.trace_id().to_string() == journey
        };
        ended_spans().into_iter().find(is)
    })
    .await;
    let work = eventually("the work", || async {
        let there = milestone.links.iter().next().expect("a link").span_context.span_id();
        ended_spans().into_iter().find(|span| span.span_context.span_id() == there)
    })
    .await;
    assert_eq!(work.name, "refresh checkout session");
    assert!(work.links.iter().any(|link| link.span_context.trace_id().to_string() == journey));
    for (name, value) in [("billing.journey.id", journey), ("billing.tenant.id", "acme")] {
        let found = work.attributes.iter().find(|one| one.key.as_str() == name);
        assert_eq!(found.map(|one| one.value.as_str().into_owned()).as_deref(), Some(value), "{name}");
    }
}

async fn an_open_session_changes_nothing(database: Database) {
    let (app, session) = at_checkout(database).await;
    for _ in 0..2 {
        assert_eq!(ask(&app, "acme", &session).await.ok()["plan"], "free");
    }
    app.until_checkout(&session, "open").await;
    assert_eq!(buy(&app, "acme").await, session, "and it can still be paid");
    app.stop().await;
}

async fn a_purchase_that_is_known_is_not_asked_about(database: Database) {
    let app = TestApp::start(database).await;
    let session = buy(&app, "acme").await;
    app.stripe.pay(&session).await;
    app.until_plan("acme", "pro").await;
    app.until_checkout(&session, "complete").await;
    app.until_nothing_is_asked().await;

    let before = app.stripe.requests().await.len();
    assert_eq!(ask(&app, "acme", &session).await.ok()["plan"], "pro");
    assert_eq!(app.stripe.requests().await.len(), before);
    app.stop().await;
}

async fn a_subscription_that_we_hold_as_it_was_before_the_payment_is_asked_about(database: Database) {
    let (app, session) = at_checkout(database).await;
    app.stripe.pay(&session).await;
    before_the_payment(&app, &session).await;
    let known = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&known["plan"], &known["status"]), (&json!("free"), &json!("incomplete")));

    let answer = ask(&app, "acme", &session).await.ok();
    assert_eq!((&answer["plan"], &answer["status"]), (&json!("pro"), &json!("active")));
    app.stop().await;
}

/// Of a purchase's webhooks all come but the one that tells that the subscription has become active.
pub async fn before_the_payment(app: &TestApp, session: &str) {
    let object = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    let id = object["subscription"].as_str().expect("a subscription");
    let subscription = app.stripe.api("GET", &format!("/v1/subscriptions/{id}"), "").await;
    // Before what Stripe answers, as it happened.
    let created = subscription["created"].as_i64().expect("a time") - 1;
    let incomplete = stripe_event("customer.subscription.created", created, |it| {
        *it = subscription;
        it["status"] = json!("incomplete");
    });
    let completed = stripe_event("checkout.session.completed", created, |it| *it = object);
    for event in [incomplete, completed] {
        app.deliver(&event).await.ok();
    }
    app.until_checkout(session, "complete").await;
    app.until_nothing_is_asked().await;
}

async fn nobody_learns_of_anothers_session_or_of_one_that_is_not(database: Database) {
    let (app, session) = at_checkout(database).await;
    app.stripe.pay(&session).await;
    let before = app.stripe.requests().await.len();
    let foreign = ask(&app, "birch", &session).await;
    foreign.assert_is(404, "not_found");
    let unknown = ask(&app, "birch", "cs_test_unknown").await;
    assert_eq!(foreign.but_for_its_trace(), unknown.but_for_its_trace(), "they cannot be told apart");
    for malformed in
        ["nonsense", "cs_", "cs_a%20b", "%00", "%FF", "..%2F..", &format!("cs_{}", "a".repeat(300))]
    {
        ask(&app, "acme", malformed).await.assert_is(404, "not_found");
    }
    assert_eq!(app.stripe.requests().await.len(), before, "Stripe was not asked");
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "free");
    app.stop().await;
}

async fn money_on_its_way_is_found_to_have_come(database: Database) {
    let (app, session) = at_checkout(database).await;
    app.stripe.pay_with(&session, "delayed").await;
    let waiting = ask(&app, "acme", &session).await.ok();
    assert_eq!((&waiting["access"], &waiting["plan"]), (&json!(false), &json!("free")));
    assert!(!waiting["status"].is_null(), "{waiting}");

    app.stripe.settle(&session, true).await;
    assert_eq!(ask(&app, "acme", &session).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn a_session_that_nobody_paid_is_closed(database: Database) {
    let (app, session) = at_checkout(database).await;
    app.stripe.api("POST", &format!("/v1/checkout/sessions/{session}/expire"), "").await;
    assert_eq!(ask(&app, "acme", &session).await.ok()["plan"], "free");
    app.until_checkout(&session, "expired").await;
    let before = app.stripe.requests().await.len();
    ask(&app, "acme", &session).await.ok();
    assert_eq!(app.stripe.requests().await.len(), before, "what is over is not asked about again");
    app.stop().await;
}

async fn two_who_ask_at_once_find_the_same(database: Database) {
    let (app, session) = at_checkout(database).await;
    app.stripe.pay(&session).await;
    let (one, other) = tokio::join!(ask(&app, "acme", &session), ask(&app, "acme", &session));
    for answer in [one, other] {
        assert_eq!(answer.ok()["plan"], "pro");
    }
    let created = app.lines("subscription_state");
    let created = created.iter().filter(|line| line["event"] == "subscription.transition").count();
    assert_eq!(created, 1, "and it happened once");
    app.stop().await;
}

#[tokio::test]
async fn asking_needs_a_users_token_and_shares_the_quota_of_checkout_and_portal() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "2")]).await;
    let session = buy(&app, "acme").await;
    let path = format!("/api/billing/checkout-sessions/{session}/refresh/");
    app.call(app.request(Method::POST, &path)).await.assert_is(401, "not_authenticated");
    let service = app.request(Method::POST, &path).bearer_auth(app.service_token());
    app.call(service).await.assert_is(403, "not_allowed");
    ask(&app, "acme", &session).await.ok();
    let throttled = ask(&app, "acme", &session).await;
    throttled.assert_is(429, "throttled");
    assert_eq!(throttled.header("retry-after"), Some("30"));
    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(429, "throttled");
    app.stop().await;
}

#[tokio::test]
async fn without_stripe_nothing_is_lost_and_nothing_is_guessed() {
    let (app, session) = at_checkout(Database::Sqlite).await;
    app.stripe.pay(&session).await;
    let down = json!({ "match": "GET /v1/", "kind": "status", "status": 503 });
    app.stripe.fault(&down).await;
    let refused = ask(&app, "acme", &session).await;
    refused.assert_is(502, "stripe_unavailable");
    let detail = refused.json()["detail"].as_str().expect("a detail").to_owned();
    assert_eq!(detail, "A payment that was made is not lost. Ask again in a minute.");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    let failure = app.line("billing", |line| line["event"] == "checkout.refresh.failure").await;
    assert_eq!((&failure["outcome"], &failure["level"]), (&json!("stripe_unavailable"), &json!("error")));

    app.stripe.all_is_well().await;
    assert_eq!(ask(&app, "acme", &session).await.ok()["plan"], "pro");
    app.stop().await;
}

#[tokio::test]
async fn without_a_key_only_what_is_known_is_answered() {
    let (mut app, session) = at_checkout(Database::Sqlite).await;
    app.go_down().await;
    app.come_back_with("--stripe-secret-key", "").await;
    ask(&app, "acme", &session).await.assert_is(503, "billing_not_configured");
    ask(&app, "acme", "cs_test_unknown").await.assert_is(404, "not_found");
    app.stop().await;
}
