//! Metrics in Prometheus' format, on their own listener.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, peer_dir, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(requests_and_events_are_counted, waiting_events_are_counted_with_their_age);

async fn requests_and_events_are_counted(database: Database) {
    let app = TestApp::start_with(database, &[("--throttle-per-minute", "2")]).await;
    app.subscribe_to_pro("acme").await;
    let token = app.token("acme");
    app.open_portal(&token, &json!({})).await.ok();
    app.open_portal(&token, &json!({})).await.assert_problem(429, "throttled");
    let unknown = stripe_event("customer.tax_id.created", app.clock_seconds(), |_| {});
    app.deliver(&unknown).await.ok();
    app.deliver(&unknown).await.ok();
    app.post_webhook(b"{}".to_vec(), None).await.assert_problem(400, "invalid_signature");
    app.tenant_subscription("acme", &app.service_token()).await.ok();
    app.get("/wp-login.php").await.assert_problem(404, "not_found");

    for metric in [
        r#"billhook_checkout_sessions_total{outcome="success"} 1"#,
        r#"billhook_portal_sessions_total{outcome="success"} 1"#,
        "billhook_throttled_requests_total 1",
        r#"billhook_subscription_transitions_total{from="none",to="active"} 1"#,
        r#"billhook_events_total{source="webhook",type="customer.subscription.created",outcome="applied"} 1"#,
        r#"billhook_events_total{source="webhook",type="other",outcome="ignored"} "#,
        r#"billhook_events_total{source="webhook",type="other",outcome="duplicate"} 1"#,
        r#"billhook_webhook_rejections_total{reason="missing"} 1"#,
        r#"billhook_webhook_rejections_total{reason="no_match"} 0"#,
        r#"billhook_stripe_request_duration_seconds_count{operation="POST /v1/checkout/sessions",error="none"} 1"#,
        r#"billhook_http_request_duration_seconds_count{method="GET",route="/api/billing/tenants/{tenant}/subscription",status="200"} 1"#,
        r#"billhook_http_request_duration_seconds_count{method="GET",route="unmatched",status="404"} 1"#,
        r#"billhook_http_request_duration_seconds_count{method="POST",route="/api/billing/create-portal-session",status="429"} 1"#,
        r#"billhook_log_write_errors_total{topic="billing"} 0"#,
        match database {
            // One writer and four readers.
            Database::Sqlite => "billhook_database_connections_limit 5",
            Database::Postgres => "billhook_database_connections_limit 16",
        },
    ] {
        wait_for_metric(&app, metric).await;
    }
    eventually("every accepted webhook is counted", || async {
        let text = app.metrics().await;
        let is_accepted = |line: &&Value| line["outcome"] == "accepted";
        let accepted = Some(app.lines("webhook_signatures").iter().filter(is_accepted).count().to_string());
        let verified = value_of(&text, r#"billhook_webhook_verified_total{secret_name="1"}"#);
        (verified == accepted && value_of(&text, "billhook_webhook_lag_seconds_count") == accepted)
            .then_some(())
    })
    .await;
    app.stop().await;
}

async fn waiting_events_are_counted_with_their_age(database: Database) {
    let app = TestApp::start(database).await;
    wait_for_metric(&app, r#"billhook_events_waiting{outcome="parked"} 0"#).await;
    let stranger = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&stranger).await.ok();
    app.clock.advance_seconds(90);
    wait_for_metric(&app, r#"billhook_events_waiting{outcome="parked"} 1"#).await;
    wait_for_metric(&app, r#"billhook_oldest_waiting_event_age_seconds{outcome="parked"} 90.0"#).await;
    wait_for_metric(&app, "billhook_refreshes_waiting 0").await;
    wait_for_metric(&app, "billhook_backfill_age_seconds ").await;

    app.destroy_database().await;
    let text = app.metrics().await;
    assert!(!text.contains("billhook_events_waiting{"), "unknown values are left out: {text}");
    assert!(text.contains("billhook_events_total{"), "other metrics are exported: {text}");
    app.stop().await;
}

#[tokio::test]
async fn metric_labels_contain_no_ids() {
    let app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.open_portal(&app.token("acme"), &json!({})).await.ok();
    let event = stripe_event("customer.subscription.updated", app.clock_seconds(), |subscription| {
        subscription["status"] = json!("hibernating");
    });
    let event = app.for_customer_of("acme", event).await;
    app.deliver(&event).await.ok();
    wait_for_metric(&app, r#"billhook_subscription_transitions_total{from="none",to="other"} 1"#).await;

    let text = app.metrics().await;
    for name in ["acme", "user-1", "cus_", "sub_", "evt_", "cs_test", "hibernating", "req_", "whsec_"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    app.stop().await;
}

#[tokio::test]
async fn metrics_are_served_only_on_metrics_listener() {
    let app = TestApp::start(Database::Sqlite).await;
    app.get("/metrics").await.assert_problem(404, "not_found");
    let metrics = app.metrics_at("/metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    app.metrics_at("/healthz").await.assert_problem(404, "not_found");
    app.stop().await;
}

#[tokio::test]
async fn exported_metrics_match_documented_metrics() {
    const DOCS: &str = include_str!("../../../docs/metrics.md");
    let app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.open_portal(&app.token("acme"), &json!({})).await.ok();
    wait_for_metric(&app, "billhook_backfill_age_seconds ").await;
    let text = app.metrics().await;
    let mut exported: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let documented = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut documented: Vec<&str> = documented.collect();
    exported.sort_unstable();
    documented.sort_unstable();
    assert_eq!(exported, documented);
    app.stop().await;
}

/// Parses metrics with Prometheus' client and prints the name, type and sample count of each.
const PARSER: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families as read
for metric in read(sys.stdin.read()):
    assert metric.documentation, metric.name
    print(metric.name, metric.type, len(metric.samples))
";

#[tokio::test]
async fn prometheus_client_parses_metrics() {
    let app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    let mut parser = Command::new("python3")
        .args(["-c", PARSER])
        .env("PYTHONPATH", peer_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let text = app.metrics().await;
    parser.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("the parser reads stdin");
    let output = parser.wait_with_output().expect("the parser exits");
    let parsed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    for metric in
        ["billhook_events counter", "billhook_webhook_lag_seconds histogram", "billhook_events_waiting gauge"]
    {
        assert!(parsed.lines().any(|line| line.starts_with(metric)), "{metric} in {parsed}");
    }
    app.stop().await;
}

/// Waits for this line, or, if the text ends with a space, for a line that starts with it.
async fn wait_for_metric(app: &TestApp, text: &str) {
    let is_metric = |line: &str| line == text || (text.ends_with(' ') && line.starts_with(text));
    eventually(text, || async { app.metrics().await.lines().any(is_metric).then_some(()) }).await;
}

fn value_of(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map(|value| value.trim().to_owned())
}
