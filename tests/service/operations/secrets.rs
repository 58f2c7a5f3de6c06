//! Secrets never appear in logs, traces, metrics, responses or the database.

use std::fs;

use reqwest::Method;
use serde_json::json;

use crate::support::app::{JWT_SECRET, STRIPE_KEY, TestApp, WEBHOOK_SECRET, eventually};
use crate::support::collector::{Collector, Span};
use crate::support::database::Database;

const EMAIL: &str = "canary@example.com";
const WRONG_SECRET: &str = "whsec_canary_wrong";

#[tokio::test]
async fn secrets_never_reach_logs_traces_metrics_errors_or_database() {
    let collector = Collector::start().await;
    let exported = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    let mut app =
        TestApp::start_process(Database::Sqlite, &[exported, ("RUST_LOG", "info,billhook=trace")]).await;
    let token = app.token_with(&json!({ "tenant": "acme", "sub": EMAIL }));
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.wait_for_plan("acme", "pro").await;
    let portal = app.open_portal(&token, &json!({})).await.ok();
    app.wait_for_line("subscription_state", |line| {
        line["stripe_event_type"] == "billing_portal.session.created"
    })
    .await;
    let body = br#"{"id":"evt_1"}"#.to_vec();
    let signature = sandbox::sign(WRONG_SECRET, app.clock_seconds(), &body);
    let errors = error_responses(&app, &token, &signature).await;
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
    app.stop_service().await;

    let hashed = app.wait_for_line("billing", |line| line["event"] == "portal.create.success").await;
    assert!(hashed["user_id"].as_str().is_some_and(|user| user.starts_with("sha256:")), "{hashed}");
    for topic in ["billing", "webhook_signatures", "subscription_state"] {
        let text = fs::read_to_string(app.log_dir().join(format!("{topic}.log"))).expect("the log file");
        assert_no_secret(&format!("{topic}.log"), &text, "\"trace_id\"", &secrets);
    }
    assert_no_secret("stderr", &app.stderr(), "listening", &secrets);
    // The service flushes its spans when it stops. The collector may still be handing over the last
    // ones.
    let spans = eventually("the collector has the portal's span", || async {
        let spans = collector.spans();
        let is_last = |span: &Span| {
            span.name.starts_with("POST /api/billing/create-portal-session")
                && span.text.contains("stripe_rejected")
        };
        spans.iter().any(is_last).then_some(spans)
    })
    .await;
    let spans: String = spans.into_iter().map(|span| span.text).collect();
    assert_no_secret("a span", &spans, "acme", &secrets);
    assert_no_secret("a metric", &metrics, "billhook_portal_sessions_total", &secrets);
    assert_no_secret("an error", &errors, "stripe_rejected", &secrets);

    let mut database = fs::read(app.dir().join("billhook.db")).expect("the database");
    database.extend(fs::read(app.dir().join("billhook.db-wal")).unwrap_or_default());
    let database = String::from_utf8_lossy(&database);
    let kept = [STRIPE_KEY, WEBHOOK_SECRET, JWT_SECRET, token.as_str(), checkout_url, portal_url];
    assert_no_secret("the database", &database, &customer, &kept);
    app.stop().await;
}

/// The problems of requests that contain secrets.
async fn error_responses(app: &TestApp, token: &str, signature: &str) -> String {
    let refused = app.post_webhook(br#"{"id":"evt_1"}"#.to_vec(), Some(signature)).await;
    refused.assert_problem(400, "invalid_signature");
    let not_authenticated = app.open_portal(&format!("{token}x"), &json!({})).await;
    not_authenticated.assert_problem(401, "not_authenticated");
    let unknown_path = app.call(app.request(Method::GET, &format!("/{STRIPE_KEY}?token={token}"))).await;
    unknown_path.assert_problem(404, "not_found");
    let invalid = app.open_portal(token, &json!({ "return_path": format!("//{EMAIL}") })).await;
    invalid.assert_problem(400, "invalid_request");
    let body = json!({ "error": { "type": "card_error", "message": format!("{EMAIL} has no money on 4242424242424242") } });
    let fault = json!({ "match": "POST /v1/billing_portal/sessions", "kind": "status", "status": 402, "times": 1,
        "body": body.to_string() });
    app.stripe.inject_fault(&fault).await;
    let rejected = app.open_portal(token, &json!({})).await;
    rejected.assert_problem(502, "stripe_rejected");
    [refused, not_authenticated, unknown_path, invalid, rejected].map(|response| response.text).join("\n")
}

/// `marker` must be in the text, which shows that it is the right text.
fn assert_no_secret(place: &str, text: &str, marker: &str, secrets: &[&str]) {
    assert!(text.contains(marker), "{marker} is not in {place}: {text}");
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in {place}");
    }
}
