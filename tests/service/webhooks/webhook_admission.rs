//! The webhook's door, to which anybody can come: who is let in, who pays, and who is told to wait.

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;
use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
use serde_json::{Value, json};

use crate::connections::http2;
use crate::support::answer::Answer;
use crate::support::app::{LATER, STRIPE_KEY, TestApp, WEBHOOK_SECRET, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    a_signature_of_the_old_scheme_alone_opens_nothing,
    a_delivery_that_was_caught_changes_nothing_within_five_minutes_and_is_refused_after,
    the_events_of_a_test_endpoint_are_nothing_to_a_live_service,
);

pub const WEBHOOK: &str = "/api/billing/webhook/";

/// What `app` knows of an event, by the inbox.
pub async fn is_known(app: &TestApp, event: &Value) -> bool {
    app.outcome(event["id"].as_str().expect("an id")).await.is_some()
}

async fn a_signature_of_the_old_scheme_alone_opens_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    let body = event.to_string().into_bytes();
    let good = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &body);
    let mut items = good.split(',');
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
        app.post_webhook(body.clone(), Some(&header)).await.assert_is(400, "invalid_signature");
        let line = app.lines("webhook_signatures").pop().expect("a line");
        assert_eq!(line["reason"], reason, "{header}");
    }
    assert!(!is_known(&app, &event).await);
    app.post_webhook(body, Some(&good)).await.ok();
    assert!(is_known(&app, &event).await);
    app.stop().await;
}

async fn a_delivery_that_was_caught_changes_nothing_within_five_minutes_and_is_refused_after(
    database: Database,
) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let change = |status: &'static str, second: i64| {
        let id = subscription.clone();
        stripe_event("customer.subscription.updated", app.clock_seconds() + second, move |object| {
            object["id"] = json!(id);
            object["status"] = json!(status);
        })
    };
    let caught = app.for_customer_of("acme", change("unpaid", LATER)).await;
    let body = caught.to_string().into_bytes();
    let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &body);
    app.post_webhook(body.clone(), Some(&header)).await.ok();
    app.deliver(&app.for_customer_of("acme", change("active", LATER + 10)).await).await.ok();
    assert_eq!(app.status_of(&subscription).await, "active");

    let refused = || async { app.lines("webhook_signatures").pop().expect("a line")["reason"].clone() };
    app.clock.advance_seconds(300);
    app.post_webhook(body.clone(), Some(&header)).await.ok();
    app.line("subscription_state", |line| line["event"] == "event.duplicate").await;
    app.clock.advance_seconds(1);
    app.post_webhook(body.clone(), Some(&header)).await.assert_is(400, "invalid_signature");
    assert_eq!(refused().await, "too_old");
    // Its time is signed too.
    let younger = header.replacen(
        &format!("t={}", app.clock_seconds() - 301),
        &format!("t={}", app.clock_seconds()),
        1,
    );
    assert_ne!(younger, header);
    app.post_webhook(body, Some(&younger)).await.assert_is(400, "invalid_signature");
    assert_eq!(refused().await, "no_match");
    assert_eq!(app.status_of(&subscription).await, "active");
    app.stop().await;
}

async fn the_events_of_a_test_endpoint_are_nothing_to_a_live_service(database: Database) {
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

    // A secret of the other endpoint opens nothing.
    let app = live(WEBHOOK_SECRET).await;
    let event = purchase(&app);
    let body = event.to_string().into_bytes();
    let header = sandbox::sign(TEST_SECRET, app.clock_seconds(), &body);
    app.post_webhook(body.clone(), Some(&header)).await.assert_is(400, "invalid_signature");
    assert!(!is_known(&app, &event).await);
    // The test endpoint may have been given the live one's address, and its secret by mistake too.
    let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &body);
    app.post_webhook(body, Some(&header)).await.ok();
    assert_eq!(app.outcome_of(&event).await, ("quarantined".into(), Some("foreign_mode".into())));
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    app.stop().await;
}

#[tokio::test]
async fn who_is_not_verified_is_told_to_wait_after_a_minutes_worth_and_who_is_never() {
    let app = TestApp::start(Database::Sqlite).await;
    let good = |app: &TestApp| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    for _ in 0..15 {
        // Whatever is wrong with it is charged alike.
        app.post_webhook(b"{}".to_vec(), None).await.assert_is(400, "invalid_signature");
        app.post_webhook(b"{}".to_vec(), Some("t=1")).await.assert_is(400, "invalid_signature");
        let forged = app.forged_signature();
        app.post_webhook(b"{}".to_vec(), Some(&forged)).await.assert_is(400, "invalid_signature");
        app.post_webhook(vec![b' '; 1024 * 1024 + 1], Some(&forged)).await.assert_is(413, "too_large");
        app.deliver(&good(&app)).await.ok();
    }
    let forged = app.forged_signature();
    let throttled = app.post_webhook(b"{}".to_vec(), Some(&forged)).await;
    throttled.assert_is(429, "throttled");
    assert_eq!(throttled.header("retry-after"), Some("1"));
    app.post_webhook(vec![b' '; 1024 * 1024 + 1], Some(&forged)).await.assert_is(429, "throttled");
    let event = good(&app);
    app.deliver(&event).await.ok();
    assert!(is_known(&app, &event).await, "from the very same address");
    // The reasons are counted all the same, so that whoever watches sees why.
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
    app.post_webhook(b"{}".to_vec(), None).await.assert_is(400, "invalid_signature");
    app.post_webhook(b"{}".to_vec(), None).await.assert_is(429, "throttled");
    app.stop().await;
}

/// Sends so many that are not verified, with this in `X-Forwarded-For`, and says how many were told to wait.
async fn throttled_of(app: &TestApp, number: u32, forwarded: impl Fn(u32) -> String) -> usize {
    let posts = (0..number).map(|number| {
        let request = app.request(Method::POST, WEBHOOK).body("{}");
        app.call(request.header("X-Forwarded-For", forwarded(number)))
    });
    let answers = join_all(posts).await;
    answers.iter().filter(|answer| answer.status == 429).count()
}

#[tokio::test]
async fn without_a_trusted_proxy_nobody_chooses_who_pays() {
    let app = TestApp::start(Database::Sqlite).await;
    let many = |number: u32| format!("198.51.100.{number}");
    assert_eq!(throttled_of(&app, 100, many).await, 40);
    let request = app.request(Method::POST, WEBHOOK).header("Forwarded", "for=198.51.100.7").body("{}");
    app.call(request).await.assert_is(429, "throttled");
    app.stop().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_pays_for_itself_and_cannot_have_another_pay() {
    let trusted = ("--trusted-proxies", "127.0.0.1, 10.0.0.0/8");
    let app = TestApp::start_with(Database::Sqlite, &[trusted]).await;
    // Whatever the client writes before what the proxies add.
    let one = |number: u32| format!("198.51.100.{number}, 203.0.113.7, 10.1.2.3");
    assert_eq!(throttled_of(&app, 100, one).await, 40);
    assert_eq!(throttled_of(&app, 1, |_| "203.0.113.8".to_owned()).await, 0);
    assert_eq!(throttled_of(&app, 1, |_| "203.0.113.7".to_owned()).await, 1);
    // One machine has a whole /64 to choose its addresses from.
    assert_eq!(throttled_of(&app, 100, |number| format!("2001:db8:0:1::{number:x}")).await, 40);
    assert_eq!(throttled_of(&app, 1, |_| "2001:db8:0:2::1".to_owned()).await, 0);
    // The standard's own field is not read.
    let request = app.request(Method::POST, WEBHOOK).header("X-Forwarded-For", "203.0.113.7").body("{}");
    let request = request.header("Forwarded", "for=198.51.100.9");
    app.call(request).await.assert_is(429, "throttled");

    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    post_signed(&app, event.to_string().as_bytes(), &[("X-Forwarded-For", "203.0.113.7")]).await.ok();
    app.stop().await;
}

/// More at once than wait for their turn, while the database takes none: Stripe is told so at once, and told when to come
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_finds_the_queue_full_is_told_at_once_and_is_taken_when_it_comes_again() {
    let app = TestApp::start(Database::Sqlite).await;
    let connection = app.database.connect().await;
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    // All is ready before, so that they come in the time that a batch may take.
    let events: Vec<Value> =
        (0..1200).map(|_| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).collect();
    let signed = |event: &Value| {
        let body = event.to_string();
        let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
        (event.clone(), body, header)
    };
    let signed: Vec<_> = events.iter().map(signed).collect();
    // From an address that has sent a verified event as many come over one connection as from a proxy.
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    let many = join_all((0..10).map(|_| http2::speak(&app))).await;
    let refused = loop {
        let busy = connection.begin_with_options(options).await.expect("the write lock");
        let deliveries =
            signed.iter().zip(many.iter().cycle()).map(|((event, body, header), requests)| async move {
                let fields = [("stripe-signature", &**header)];
                loop {
                    let answer = http2::ask(requests, "POST", WEBHOOK, &fields, body.as_bytes()).await;
                    let answer = answer.expect("an answer");
                    // On a slow machine bodies crowd each other out before they come to the queue.
                    if answer.header("retry-after") != Some("10") {
                        return (event, answer);
                    }
                }
            });
        let mut deliveries: FuturesUnordered<_> = deliveries.collect();
        let mut refused = Vec::new();
        while refused.len() < 1200 - 1024 - 64 {
            let (event, told) = deliveries.next().await.expect("an answer while nothing is taken");
            told.assert_is(503, "unavailable");
            assert_eq!(told.header("retry-after"), Some("5"));
            refused.push(event);
        }
        let metrics = app.metrics().await;
        busy.rollback().await.expect("the lock is let go");
        while let Some((event, answer)) = deliveries.next().await {
            if answer.status != 200 {
                answer.assert_is(503, "unavailable");
                refused.push(event);
            }
        }
        // On a slow machine a batch gives up before the queue is full. Then all are sent again.
        if !metrics.contains("billhook_webhook_rejections_total{reason=\"queue_full\"} 0") {
            break refused;
        }
    };
    for event in refused {
        app.deliver(event).await.ok();
    }
    for event in &events {
        assert!(is_known(&app, event).await);
    }
    connection.close().await.expect("the connection closes");
    app.stop().await;
}

/// Posts bytes as Stripe would: signed now.
pub async fn post_signed(app: &TestApp, body: &[u8], fields: &[(&str, &str)]) -> Answer {
    let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body);
    let mut request = app.request(Method::POST, WEBHOOK).header("Stripe-Signature", header);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    app.call(request.body(body.to_vec())).await
}
