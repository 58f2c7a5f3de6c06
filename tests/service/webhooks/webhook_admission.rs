//! Admission of webhooks: signatures, the rate limit for unverified requests, and the full queue.

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;
use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
use serde_json::{Value, json};

use crate::connections::http2;
use crate::support::api_response::ApiResponse;
use crate::support::app::{NEWER_BY_SECONDS, STRIPE_KEY, TestApp, WEBHOOK_SECRET, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    webhook_without_valid_v1_signature_is_rejected,
    replayed_delivery_is_duplicate_then_rejected_as_too_old,
    live_service_applies_no_event_of_test_endpoint,
);

pub const WEBHOOK: &str = "/api/billing/webhook/";

pub async fn is_in_inbox(app: &TestApp, event: &Value) -> bool {
    app.outcome(event["id"].as_str().expect("an id")).await.is_some()
}

async fn webhook_without_valid_v1_signature_is_rejected(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    let body = event.to_string().into_bytes();
    let valid = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &body);
    let mut items = valid.split(',');
    let time = items.next().expect("a time");
    let digits = items.next().and_then(|v1| v1.strip_prefix("v1=")).expect("a signature");
    let forged = "0".repeat(64);
    for (header, reason) in [
        (format!("{time},v0={digits}"), "malformed"),
        (format!("{time},v0={digits},v1={forged}"), "no_match"),
        (format!("{time},v1={forged},v0={digits}"), "no_match"),
        (format!("{time},v1={digits}0"), "no_match"),
        (format!("{time},V1={digits}"), "malformed"),
        (format!("{time},v1 ={digits}"), "malformed"),
        (format!("{time},v11={digits}"), "malformed"),
        (format!("{time},v1="), "no_match"),
    ] {
        app.post_webhook(body.clone(), Some(&header)).await.assert_problem(400, "invalid_signature");
        let line = app.lines("webhook_signatures").pop().expect("a line");
        assert_eq!(line["reason"], reason, "{header}");
    }
    assert!(!is_in_inbox(&app, &event).await);
    app.post_webhook(body, Some(&valid)).await.ok();
    assert!(is_in_inbox(&app, &event).await);
    app.stop().await;
}

async fn replayed_delivery_is_duplicate_then_rejected_as_too_old(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let change = |status: &'static str, second: i64| {
        let id = subscription.clone();
        stripe_event("customer.subscription.updated", app.clock_seconds() + second, move |object| {
            object["id"] = json!(id);
            object["status"] = json!(status);
        })
    };
    let replayed = app.for_customer_of("acme", change("unpaid", NEWER_BY_SECONDS)).await;
    let body = replayed.to_string().into_bytes();
    let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &body);
    app.post_webhook(body.clone(), Some(&header)).await.ok();
    app.deliver(&app.for_customer_of("acme", change("active", NEWER_BY_SECONDS + 10)).await).await.ok();
    assert_eq!(app.status_of(&subscription).await, "active");

    let latest_reason = || async { app.lines("webhook_signatures").pop().expect("a line")["reason"].clone() };
    app.clock.advance_seconds(300);
    app.post_webhook(body.clone(), Some(&header)).await.ok();
    app.wait_for_line("subscription_state", |line| line["event"] == "event.duplicate").await;
    app.clock.advance_seconds(1);
    app.post_webhook(body.clone(), Some(&header)).await.assert_problem(400, "invalid_signature");
    assert_eq!(latest_reason().await, "too_old");
    // The signature covers the timestamp.
    let newer = header.replacen(
        &format!("t={}", app.clock_seconds() - 301),
        &format!("t={}", app.clock_seconds()),
        1,
    );
    assert_ne!(newer, header);
    app.post_webhook(body, Some(&newer)).await.assert_problem(400, "invalid_signature");
    assert_eq!(latest_reason().await, "no_match");
    assert_eq!(app.status_of(&subscription).await, "active");
    app.stop().await;
}

async fn live_service_applies_no_event_of_test_endpoint(database: Database) {
    const TEST_SECRET: &str = "whsec_of_the_test_endpoint";
    let live_key = STRIPE_KEY.replace("test", "live");
    let live = |secrets: &'static str| {
        let key = live_key.clone();
        async move {
            TestApp::start_with(
                database,
                &[("--stripe-secret-key", &key), ("--stripe-webhook-secret", secrets)],
            )
            .await
        }
    };
    let purchase = |app: &TestApp| {
        stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
            object["metadata"] = json!({ "tenant_id": "acme" });
        })
    };

    // The test endpoint's secret verifies nothing.
    let app = live(WEBHOOK_SECRET).await;
    let event = purchase(&app);
    let body = event.to_string().into_bytes();
    let header = sandbox::sign(TEST_SECRET, app.clock_seconds(), &body);
    app.post_webhook(body.clone(), Some(&header)).await.assert_problem(400, "invalid_signature");
    assert!(!is_in_inbox(&app, &event).await);
    // The test endpoint may have the live service's URL and, by mistake, its secret.
    let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &body);
    app.post_webhook(body, Some(&header)).await.ok();
    assert_eq!(app.outcome_of(&event).await, ("quarantined".into(), Some("foreign_mode".into())));
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    app.stop().await;
}

#[tokio::test]
async fn unverified_webhooks_are_rate_limited_and_verified_are_not() {
    let app = TestApp::start(Database::Sqlite).await;
    let good = |app: &TestApp| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    for _ in 0..15 {
        // Every kind of rejection counts against the limit.
        app.post_webhook(b"{}".to_vec(), None).await.assert_problem(400, "invalid_signature");
        app.post_webhook(b"{}".to_vec(), Some("t=1")).await.assert_problem(400, "invalid_signature");
        let forged = app.forged_signature();
        app.post_webhook(b"{}".to_vec(), Some(&forged)).await.assert_problem(400, "invalid_signature");
        app.post_webhook(vec![b' '; 1024 * 1024 + 1], Some(&forged)).await.assert_problem(413, "too_large");
        app.deliver(&good(&app)).await.ok();
    }
    let forged = app.forged_signature();
    let throttled = app.post_webhook(b"{}".to_vec(), Some(&forged)).await;
    throttled.assert_problem(429, "throttled");
    assert_eq!(throttled.header("retry-after"), Some("1"));
    app.post_webhook(vec![b' '; 1024 * 1024 + 1], Some(&forged)).await.assert_problem(429, "throttled");
    let event = good(&app);
    app.deliver(&event).await.ok();
    assert!(is_in_inbox(&app, &event).await, "verified events from the same address are not limited");
    // Throttled requests are counted by reason, too.
    let metrics = app.metrics().await;
    for counted in [
        "billhook_webhook_rejections_total{reason=\"no_match\"} 16",
        "billhook_webhook_rejections_total{reason=\"missing\"} 15",
        "billhook_webhook_rejections_total{reason=\"malformed\"} 15",
        "billhook_webhook_rejections_total{reason=\"too_large\"} 16",
        "billhook_webhook_throttled_total 2",
    ] {
        assert!(metrics.contains(counted), "{counted}: {metrics}");
    }
    app.clock.advance_seconds(1);
    app.post_webhook(b"{}".to_vec(), None).await.assert_problem(400, "invalid_signature");
    app.post_webhook(b"{}".to_vec(), None).await.assert_problem(429, "throttled");
    app.stop().await;
}

/// Sends `number` unverified webhooks, each with its own `X-Forwarded-For`. Returns how many got 429.
async fn count_throttled(app: &TestApp, number: u32, forwarded: impl Fn(u32) -> String) -> usize {
    let posts = (0..number).map(|number| {
        let request = app.request(Method::POST, WEBHOOK).body("{}");
        app.call(request.header("X-Forwarded-For", forwarded(number)))
    });
    let responses = join_all(posts).await;
    responses.iter().filter(|response| response.status == 429).count()
}

#[tokio::test]
async fn rate_limit_ignores_forwarded_headers_without_trusted_proxy() {
    let app = TestApp::start(Database::Sqlite).await;
    let many = |number: u32| format!("198.51.100.{number}");
    assert_eq!(count_throttled(&app, 100, many).await, 40);
    let request = app.request(Method::POST, WEBHOOK).header("Forwarded", "for=198.51.100.7").body("{}");
    app.call(request).await.assert_problem(429, "throttled");
    app.stop().await;
}

#[tokio::test]
async fn rate_limit_counts_each_client_behind_trusted_proxy() {
    let trusted = ("--trusted-proxies", "127.0.0.1, 10.0.0.0/8");
    let app = TestApp::start_with(Database::Sqlite, &[trusted]).await;
    // A client can write addresses before those that the proxies append. They are ignored.
    let one = |number: u32| format!("198.51.100.{number}, 203.0.113.7, 10.1.2.3");
    assert_eq!(count_throttled(&app, 100, one).await, 40);
    assert_eq!(count_throttled(&app, 1, |_| "203.0.113.8".to_owned()).await, 0);
    assert_eq!(count_throttled(&app, 1, |_| "203.0.113.7".to_owned()).await, 1);
    // A single machine can use every address of its /64.
    assert_eq!(count_throttled(&app, 100, |number| format!("2001:db8:0:1::{number:x}")).await, 40);
    assert_eq!(count_throttled(&app, 1, |_| "2001:db8:0:2::1".to_owned()).await, 0);
    // The standard `Forwarded` header is not read.
    let request = app.request(Method::POST, WEBHOOK).header("X-Forwarded-For", "203.0.113.7").body("{}");
    let request = request.header("Forwarded", "for=198.51.100.9");
    app.call(request).await.assert_problem(429, "throttled");

    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    post_signed(&app, event.to_string().as_bytes(), &[("X-Forwarded-For", "203.0.113.7")]).await.ok();
    app.stop().await;
}

/// The database is locked and the queue full. Further webhooks get 503 with `Retry-After` at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queue_returns_503_and_retry_is_accepted() {
    let app = TestApp::start(Database::Sqlite).await;
    let connection = app.database.connect().await;
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    // Signed in advance, so that all arrive within the timeout of a batch.
    let events: Vec<Value> =
        (0..1200).map(|_| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).collect();
    let signed = |event: &Value| {
        let body = event.to_string();
        let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
        (event.clone(), body, header)
    };
    let signed: Vec<_> = events.iter().map(signed).collect();
    // After a verified event, an address may have as many concurrent requests on one connection as
    // a proxy.
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    let http2_connections = join_all((0..10).map(|_| http2::handshake(&app))).await;
    let refused = loop {
        let lock = connection.begin_with_options(options).await.expect("the write lock");
        let deliveries = signed.iter().zip(http2_connections.iter().cycle()).map(
            |((event, body, header), requests)| async move {
                let fields = [("stripe-signature", &**header)];
                loop {
                    let response = http2::send(requests, "POST", WEBHOOK, &fields, body.as_bytes()).await;
                    let response = response.expect("a response");
                    // On a slow machine the body slots can be full before the queue is. Send again.
                    if response.header("retry-after") != Some("10") {
                        return (event, response);
                    }
                }
            },
        );
        let mut deliveries: FuturesUnordered<_> = deliveries.collect();
        let mut refused = Vec::new();
        while refused.len() < 1200 - 1024 - 64 {
            let (event, response) = deliveries.next().await.expect("a response while the database is locked");
            response.assert_problem(503, "unavailable");
            assert_eq!(response.header("retry-after"), Some("5"));
            refused.push(event);
        }
        let metrics = app.metrics().await;
        lock.rollback().await.expect("the lock is released");
        while let Some((event, response)) = deliveries.next().await {
            if response.status != 200 {
                response.assert_problem(503, "unavailable");
                refused.push(event);
            }
        }
        // On a slow machine a batch times out before the queue is full. Then all are sent again.
        if !metrics.contains("billhook_webhook_rejections_total{reason=\"queue_full\"} 0") {
            break refused;
        }
    };
    for event in refused {
        app.deliver(event).await.ok();
    }
    for event in &events {
        assert!(is_in_inbox(&app, event).await);
    }
    connection.close().await.expect("the connection closes");
    app.stop().await;
}

/// Posts a body with a valid signature of the current time.
pub async fn post_signed(app: &TestApp, body: &[u8], fields: &[(&str, &str)]) -> ApiResponse {
    let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body);
    let mut request = app.request(Method::POST, WEBHOOK).header("Stripe-Signature", header);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    app.call(request.body(body.to_vec())).await
}
