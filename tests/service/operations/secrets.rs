//! Nothing that is secret is ever written down or told.

use std::fs;

use reqwest::Method;
use serde_json::json;

use crate::support::app::{JWT_SECRET, STRIPE_KEY, TestApp, WEBHOOK_SECRET, eventually};
use crate::support::collector::{Collector, Span};
use crate::support::database::Database;

const EMAIL: &str = "canary@example.com";
const WRONG_SECRET: &str = "whsec_canary_wrong";

#[tokio::test]
async fn no_secret_reaches_a_line_a_span_a_metric_an_error_or_the_database() {
    let collector = Collector::start().await;
    let exported = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    let mut app =
        TestApp::start_process(Database::Sqlite, &[exported, ("RUST_LOG", "info,billhook=trace")]).await;
    let token = app.token_with(&json!({ "tenant": "acme", "sub": EMAIL }));
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.until_plan("acme", "pro").await;
    let portal = app.open_portal(&token, &json!({})).await.ok();
    app.line("subscription_state", |line| line["stripe_event_type"] == "billing_portal.session.created")
        .await;
    let body = br#"{"id":"evt_1"}"#.to_vec();
    let signature = sandbox::sign(WRONG_SECRET, app.clock_seconds(), &body);
    let errors = errors(&app, &token, &signature).await;
    let metrics = app.metrics().await;

    let checkout_url = bought["url"].as_str().expect("a URL");
    let portal_url = portal["url"].as_str().expect("a URL");
    let secrets = [
        STRIPE_KEY,
        WEBHOOK_SECRET,
        JWT_SECRET,
        WRONG_SECRET,
        EMAIL,
        token.as_str(),
        checkout_url,
        portal_url,
        portal_url.rsplit('/').next().expect("the portal's secret"),
        signature.rsplit('=').next().expect("a signature"),
        "4242424242424242",
    ];
    let customer = app.customer_of("acme").await;
    app.go_down().await;

    let hashed = app.line("billing", |line| line["event"] == "portal.create.success").await;
    assert!(hashed["user_id"].as_str().is_some_and(|user| user.starts_with("sha256:")), "{hashed}");
    for topic in ["billing", "webhook_signatures", "subscription_state"] {
        let text = fs::read_to_string(app.log_dir().join(format!("{topic}.log"))).expect("the log file");
        holds_none(&format!("{topic}.log"), &text, "\"trace_id\"", &secrets);
    }
    holds_none("stderr", &app.stderr(), "listening", &secrets);
    // The flush at the stop has handed over all; the last of it may be on its way from the collector to us.
    let spans = eventually("the portal's own span has come", || async {
        let spans = collector.spans();
        let is_last = |span: &Span| {
            span.name.starts_with("POST /api/billing/create-portal-session")
                && span.all.contains("stripe_rejected")
        };
        spans.iter().any(is_last).then_some(spans)
    })
    .await;
    let spans: String = spans.into_iter().map(|span| span.all).collect();
    holds_none("a span", &spans, "acme", &secrets);
    holds_none("a metric", &metrics, "billhook_portal_sessions_total", &secrets);
    holds_none("an error", &errors, "stripe_rejected", &secrets);

    let mut database = fs::read(app.dir().join("billhook.db")).expect("the database");
    database.extend(fs::read(app.dir().join("billhook.db-wal")).unwrap_or_default());
    let database = String::from_utf8_lossy(&database);
    let kept = [STRIPE_KEY, WEBHOOK_SECRET, JWT_SECRET, token.as_str(), checkout_url, portal_url];
    holds_none("the database", &database, &customer, &kept);
    app.stop().await;
}

/// What the service says when something is wrong, with a secret in whatever made it so.
async fn errors(app: &TestApp, token: &str, signature: &str) -> String {
    let refused = app.post_webhook(br#"{"id":"evt_1"}"#.to_vec(), Some(signature)).await;
    refused.assert_is(400, "invalid_signature");
    let not_authenticated = app.open_portal(&format!("{token}x"), &json!({})).await;
    not_authenticated.assert_is(401, "not_authenticated");
    let nowhere = app.call(app.request(Method::GET, &format!("/{STRIPE_KEY}?token={token}"))).await;
    nowhere.assert_is(404, "not_found");
    let senseless = app.open_portal(token, &json!({ "return_path": format!("//{EMAIL}") })).await;
    senseless.assert_is(400, "invalid_request");
    let body = json!({ "error": { "type": "card_error", "message": format!("{EMAIL} has no money on 4242424242424242") } });
    let fault = json!({ "match": "POST /v1/billing_portal/sessions", "kind": "status", "status": 402, "times": 1,
        "body": body.to_string() });
    app.stripe.fault(&fault).await;
    let rejected = app.open_portal(token, &json!({})).await;
    rejected.assert_is(502, "stripe_rejected");
    [refused, not_authenticated, nowhere, senseless, rejected].map(|answer| answer.text).join("\n")
}

/// `told` is in the text, so that it is the right one; no secret is.
fn holds_none(place: &str, text: &str, told: &str, secrets: &[&str]) {
    assert!(text.contains(told), "what is told is found in {place}: {text}");
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in {place}");
    }
}
