//! The event stream of a tenant's subscription.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::app::{NEWER_BY_SECONDS, TestApp, ended_spans, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM, StreamMessage};

on_both_databases!(
    stream_opened_before_the_webhook_receives_the_purchase,
    stream_receives_only_its_own_tenant,
    stream_receives_link_made_by_command,
);

async fn stream_opened_before_the_webhook_receives_the_purchase(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // Wait for the first backfill, which would apply the held events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "hold" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;

    let mut stream = EventStream::open(stream_request(&app, &token)).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("cache-control"), Some("no-store"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert_stream_matches_response(&app, &mut stream, &token, |subscription| subscription["plan"] == "free")
        .await;

    app.stripe.clear_faults().await;
    assert_stream_matches_response(&app, &mut stream, &token, |subscription| subscription["plan"] == "pro")
        .await;
    app.stop().await;
}

/// Waits for the state and asserts that the stream's message is the response of `getSubscription`
/// with its ETag.
async fn assert_stream_matches_response(
    app: &TestApp,
    stream: &mut EventStream,
    token: &str,
    is: impl Fn(&Value) -> bool,
) {
    loop {
        let StreamMessage::Subscription { etag, data } = stream.next().await else {
            panic!("not a subscription")
        };
        let response = app.subscription(token).await;
        // A purchase has several events, and the stream may still be at an earlier one.
        if is(&data) && Some(etag.as_str()) == response.header("etag") {
            assert_eq!(data, response.ok());
            return;
        }
    }
}

async fn stream_receives_only_its_own_tenant(database: Database) {
    let app = TestApp::start(database).await;
    let mut birch = EventStream::open(stream_request(&app, &app.token("birch"))).await;
    assert_eq!(birch.next_subscription().await["tenant"], "birch");
    app.subscribe_to_pro("acme").await;
    app.subscribe_to_pro("birch").await;
    let is_pro = |subscription: &Value| {
        assert_eq!(subscription["tenant"], "birch");
        subscription["plan"] == "pro"
    };
    birch.wait_for(is_pro).await;
    app.stop().await;
}

async fn stream_receives_link_made_by_command(database: Database) {
    let app = TestApp::start(database).await;
    let unknown_customer = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&unknown_customer).await.ok();
    let mut stream = EventStream::open(stream_request(&app, &app.token("acme"))).await;
    assert_eq!(stream.next_subscription().await["plan"], "free");

    let linked = app.run_command(&["tenant", "link", "acme", "cus_webhook"]);
    assert!(linked.status.success(), "{linked:?}");
    // SQLite has no notifications, so the change is found by the next poll.
    app.clock.advance_seconds(5);
    assert_eq!(stream.next_subscription().await["plan"], "pro");
    app.stop().await;
}

#[tokio::test]
async fn stream_ends_when_its_token_expires() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 60 }));
    let mut stream = EventStream::open(stream_request(&app, &token)).await;
    stream.next_subscription().await;
    app.clock.advance_seconds(89);
    assert_eq!(stream.next().await, StreamMessage::Heartbeat, "the leeway for clocks is 30 s");
    app.clock.advance_seconds(1);
    assert_eq!(stream.next().await, StreamMessage::End("token_expired".to_owned()));
    assert_eq!(stream.next().await, StreamMessage::Closed);
    let refused = EventStream::try_open(stream_request(&app, &token))
        .await
        .expect_err("the token is no longer accepted");
    refused.assert_problem(401, "not_authenticated");
    app.stop().await;
}

#[tokio::test]
async fn silent_stream_gets_heartbeats_and_ends_after_an_hour() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 7200 }));
    let mut stream = EventStream::open(stream_request(&app, &token)).await;
    stream.next_subscription().await;
    for _ in 0..3 {
        app.clock.advance_seconds(15);
        assert_eq!(stream.next().await, StreamMessage::Heartbeat);
    }
    app.clock.advance_seconds(3600);
    assert_eq!(stream.next().await, StreamMessage::End("too_long".to_owned()));
    assert_eq!(stream.next().await, StreamMessage::Closed);
    app.stop().await;
}

#[tokio::test]
async fn reconnect_with_current_state_sends_nothing_until_change() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let StreamMessage::Subscription { etag, .. } =
        EventStream::open(stream_request(&app, &token)).await.next().await
    else {
        panic!("not a subscription");
    };
    let request = stream_request(&app, &token).header("Last-Event-ID", &etag);
    let mut stream = EventStream::open(request).await;
    assert_eq!(stream.next().await, StreamMessage::Heartbeat);
    app.subscribe_to_pro("acme").await;
    let linked = stream.next_subscription().await;
    assert_ne!(
        (&linked["plan"], &linked["can_manage"]),
        (&json!("free"), &json!(false)),
        "the state has changed"
    );
    stream.wait_for(|subscription| subscription["plan"] == "pro").await;

    let request = stream_request(&app, &token).header("Last-Event-ID", &etag);
    let mut stream = EventStream::open(request).await;
    assert_eq!(stream.next_subscription().await["plan"], "pro", "the client's state is outdated");
    app.stop().await;
}

#[tokio::test]
async fn stream_requires_user_token() {
    let app = TestApp::start(Database::Sqlite).await;
    for (token, status, code) in
        [("nonsense".to_owned(), 401, "not_authenticated"), (app.service_token(), 403, "not_allowed")]
    {
        let refused = EventStream::try_open(stream_request(&app, &token)).await.expect_err("no stream");
        refused.assert_problem(status, code);
    }
    let in_the_url = format!("{STREAM}?access_token={}", app.token("acme"));
    app.get(&in_the_url).await.assert_problem(401, "not_authenticated");
    app.stop().await;
}

#[tokio::test]
async fn seventeenth_stream_of_a_tenant_returns_503() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(EventStream::open(stream_request(&app, &token)).await);
    }
    let refused =
        EventStream::try_open(stream_request(&app, &token)).await.expect_err("the tenant has 16 streams");
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), Some("60"));
    EventStream::open(stream_request(&app, &app.token("birch"))).await;

    open.pop();
    eventually("a slot is free again", || async {
        EventStream::try_open(stream_request(&app, &token)).await.ok()
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn lost_database_opens_no_stream_and_keeps_open_ones() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let mut open = EventStream::open(stream_request(&app, &token)).await;
    open.next_subscription().await;
    app.destroy_database().await;
    let refused =
        EventStream::try_open(stream_request(&app, &token)).await.expect_err("the database is lost");
    refused.assert_problem(503, "unavailable");
    app.clock.advance_seconds(15);
    assert_eq!(open.next().await, StreamMessage::Heartbeat);
    app.stop().await;
}

#[tokio::test]
async fn unreadable_tenant_does_not_affect_streams_of_others() {
    let app = TestApp::start(Database::Sqlite).await;
    make_unreadable(&app, "acme").await;
    let mut birch = EventStream::open(stream_request(&app, &app.token("birch"))).await;
    birch.next_subscription().await;
    let acme = EventStream::try_open(stream_request(&app, &app.token("acme")));
    let birch = EventStream::try_open(stream_request(&app, &app.token("birch")));
    let (acme, birch) = tokio::join!(acme, birch);
    acme.expect_err("the row is unreadable").assert_problem(500, "internal");
    app.subscription(&app.token("acme")).await.assert_problem(500, "internal");
    assert_eq!(birch.expect("the stream is open").next_subscription().await["plan"], "free");
    app.stop().await;
}

#[tokio::test]
async fn failed_stream_trace_id_matches_its_log_line() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    make_unreadable(&app, "acme").await;
    let refused = EventStream::try_open(stream_request(&app, &app.token("acme")))
        .await
        .expect_err("the row is unreadable");
    let trace_field = format!("trace_id={}", refused.json()["trace_id"].as_str().expect("a trace"));
    let lines = app.wait_for_stderr(&trace_field).await;
    let lines: Vec<_> = lines.lines().filter(|line| line.contains(&trace_field)).collect();
    assert!(matches!(lines[..], [line] if line.contains("ERROR") && line.contains("acme")), "{lines:?}");
    app.stop().await;
}

/// Stores invalid JSON, as a change of the database from outside could.
async fn make_unreadable(app: &TestApp, tenant: &str) {
    let subscription = app.subscribe_to_pro(tenant).await;
    app.database.execute(&format!("UPDATE subscription SET items = '?' WHERE id = '{subscription}'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_streams_without_delay() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let mut streams = Vec::new();
    for tenant in ["acme", "birch", "birch"] {
        let mut stream = EventStream::open(stream_request(&app, &app.token(tenant))).await;
        stream.next_subscription().await;
        streams.push(stream);
    }
    let ends = async {
        for stream in &mut streams {
            assert_eq!(stream.next().await, StreamMessage::End("stopping".to_owned()));
            assert_eq!(stream.next().await, StreamMessage::Closed);
        }
    };
    // Otherwise the shutdown would wait for the open responses and then cut them off.
    tokio::join!(app.stop_service(), ends);
}

#[tokio::test]
async fn open_streams_are_counted_and_hold_no_span_open() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "sub": "follower" }));
    let mut stream = EventStream::open(stream_request(&app, &token)).await;
    stream.next_subscription().await;
    wait_for_stream_count(&app, 1).await;

    let stream_spans = || {
        let spans = ended_spans();
        let is_ours = |span: &opentelemetry_sdk::trace::SpanData| {
            span.attributes
                .iter()
                .any(|one| one.key.as_str() == "user.id" && one.value.as_str() == "follower")
        };
        spans.into_iter().filter(is_ours).collect::<Vec<_>>()
    };
    let span = eventually("the request's span has ended", || async { stream_spans().pop() }).await;
    assert_eq!(span.name, "GET /api/billing/subscription/events");
    app.clock.advance_seconds(15);
    assert_eq!(stream.next().await, StreamMessage::Heartbeat);
    assert_eq!(stream_spans().len(), 1, "a heartbeat has no span");

    drop(stream);
    wait_for_stream_count(&app, 0).await;
    app.stop().await;
}

pub async fn wait_for_stream_count(app: &TestApp, open: usize) {
    let line = format!("billhook_subscription_streams {open}\n");
    eventually("the streams are counted", || async { app.metrics().await.contains(&line).then_some(()) })
        .await;
}

/// An update of `acme`'s subscription, newer than all before it.
pub async fn quantity_update(app: &TestApp, subscription: &str, quantity: i64) -> Value {
    let created = app.clock_seconds() + NEWER_BY_SECONDS + quantity;
    let event = stripe_event("customer.subscription.updated", created, |object| {
        object["id"] = json!(subscription);
        object["items"]["data"][0]["quantity"] = json!(quantity);
    });
    app.for_customer_of("acme", event).await
}

pub fn stream_request(app: &TestApp, token: &str) -> RequestBuilder {
    app.request(Method::GET, STREAM).bearer_auth(token)
}
