//! Following a tenant's subscription.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::app::{LATER, TestApp, ended_spans, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, Heard, STREAM};

on_both_databases!(
    a_stream_that_is_open_before_the_webhook_comes_hears_the_purchase,
    a_stream_hears_of_its_own_tenant_and_of_no_other,
    a_link_at_the_command_line_is_heard,
);

async fn a_stream_that_is_open_before_the_webhook_comes_hears_the_purchase(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "hold" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;

    let mut stream = EventStream::open(following(&app, &token)).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("cache-control"), Some("no-store"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    hears_what_is_answered(&app, &mut stream, &token, |answer| answer["plan"] == "free").await;

    app.stripe.all_is_well().await;
    hears_what_is_answered(&app, &mut stream, &token, |answer| answer["plan"] == "pro").await;
    app.stop().await;
}

/// What the stream tells is the answer of `getSubscription`, with its ETag.
async fn hears_what_is_answered(
    app: &TestApp,
    stream: &mut EventStream,
    token: &str,
    is: impl Fn(&Value) -> bool,
) {
    loop {
        let Heard::Subscription { etag, data } = stream.next().await else { panic!("not a subscription") };
        let answer = app.subscription(token).await;
        // Several events make a purchase, and the stream may still be at an earlier one.
        if is(&data) && Some(etag.as_str()) == answer.header("etag") {
            assert_eq!(data, answer.ok());
            return;
        }
    }
}

async fn a_stream_hears_of_its_own_tenant_and_of_no_other(database: Database) {
    let app = TestApp::start(database).await;
    let mut birch = EventStream::open(following(&app, &app.token("birch"))).await;
    assert_eq!(birch.next_subscription().await["tenant"], "birch");
    app.make_pro("acme").await;
    app.make_pro("birch").await;
    let is_pro = |answer: &Value| {
        assert_eq!(answer["tenant"], "birch");
        answer["plan"] == "pro"
    };
    birch.until(is_pro).await;
    app.stop().await;
}

async fn a_link_at_the_command_line_is_heard(database: Database) {
    let app = TestApp::start(database).await;
    let stranger = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&stranger).await.ok();
    let mut stream = EventStream::open(following(&app, &app.token("acme"))).await;
    assert_eq!(stream.next_subscription().await["plan"], "free");

    let linked = app.run_command(&["tenant", "link", "acme", "cus_webhook"]);
    assert!(linked.status.success(), "{linked:?}");
    // On SQLite nothing tells of it, and it is found at the next look.
    app.clock.advance_seconds(5);
    assert_eq!(stream.next_subscription().await["plan"], "pro");
    app.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 60 }));
    let mut stream = EventStream::open(following(&app, &token)).await;
    stream.next_subscription().await;
    app.clock.advance_seconds(89);
    assert_eq!(stream.next().await, Heard::Heartbeat, "the clocks may be 30 s apart");
    app.clock.advance_seconds(1);
    assert_eq!(stream.next().await, Heard::End("token_expired".to_owned()));
    assert_eq!(stream.next().await, Heard::Closed);
    let refused = EventStream::try_open(following(&app, &token)).await.expect_err("nor is it taken any more");
    refused.assert_is(401, "not_authenticated");
    app.stop().await;
}

#[tokio::test]
async fn a_silent_stream_has_heartbeats_and_after_an_hour_an_end() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 7200 }));
    let mut stream = EventStream::open(following(&app, &token)).await;
    stream.next_subscription().await;
    for _ in 0..3 {
        app.clock.advance_seconds(15);
        assert_eq!(stream.next().await, Heard::Heartbeat);
    }
    app.clock.advance_seconds(3600);
    assert_eq!(stream.next().await, Heard::End("too_long".to_owned()));
    assert_eq!(stream.next().await, Heard::Closed);
    app.stop().await;
}

#[tokio::test]
async fn whoever_comes_back_with_the_present_state_is_told_nothing_until_it_changes() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let Heard::Subscription { etag, .. } = EventStream::open(following(&app, &token)).await.next().await
    else {
        panic!("not a subscription");
    };
    let back = following(&app, &token).header("Last-Event-ID", &etag);
    let mut stream = EventStream::open(back).await;
    assert_eq!(stream.next().await, Heard::Heartbeat);
    app.make_pro("acme").await;
    let linked = stream.next_subscription().await;
    assert_ne!((&linked["plan"], &linked["can_manage"]), (&json!("free"), &json!(false)), "it has changed");
    stream.until(|answer| answer["plan"] == "pro").await;

    let back = following(&app, &token).header("Last-Event-ID", &etag);
    let mut stream = EventStream::open(back).await;
    assert_eq!(stream.next_subscription().await["plan"], "pro", "what it had is no more");
    app.stop().await;
}

#[tokio::test]
async fn a_stream_needs_a_users_token() {
    let app = TestApp::start(Database::Sqlite).await;
    for (token, status, code) in
        [("nonsense".to_owned(), 401, "not_authenticated"), (app.service_token(), 403, "not_allowed")]
    {
        let refused = EventStream::try_open(following(&app, &token)).await.expect_err("no stream");
        refused.assert_is(status, code);
    }
    let in_the_url = format!("{STREAM}?access_token={}", app.token("acme"));
    app.get(&in_the_url).await.assert_is(401, "not_authenticated");
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_may_have_sixteen_streams_and_is_told_when_to_come_back() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(EventStream::open(following(&app, &token)).await);
    }
    let refused = EventStream::try_open(following(&app, &token)).await.expect_err("no seventeenth");
    refused.assert_is(503, "unavailable");
    assert_eq!(refused.header("retry-after"), Some("60"));
    EventStream::open(following(&app, &app.token("birch"))).await;

    open.pop();
    eventually("there is room again", || async { EventStream::try_open(following(&app, &token)).await.ok() })
        .await;
    app.stop().await;
}

#[tokio::test]
async fn without_a_database_no_stream_opens_and_those_that_are_open_wait() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let mut open = EventStream::open(following(&app, &token)).await;
    open.next_subscription().await;
    app.lose_database().await;
    let refused = EventStream::try_open(following(&app, &token)).await.expect_err("nothing to tell");
    refused.assert_is(503, "unavailable");
    app.clock.advance_seconds(15);
    assert_eq!(open.next().await, Heard::Heartbeat);
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_of_one_tenant_takes_no_stream_from_another() {
    let app = TestApp::start(Database::Sqlite).await;
    make_unreadable(&app, "acme").await;
    let mut birch = EventStream::open(following(&app, &app.token("birch"))).await;
    birch.next_subscription().await;
    let acme = EventStream::try_open(following(&app, &app.token("acme")));
    let birch = EventStream::try_open(following(&app, &app.token("birch")));
    let (acme, birch) = tokio::join!(acme, birch);
    acme.expect_err("nothing to tell").assert_is(500, "internal");
    app.subscription(&app.token("acme")).await.assert_is(500, "internal");
    assert_eq!(birch.expect("the stream is open").next_subscription().await["plan"], "free");
    app.stop().await;
}

#[tokio::test]
async fn the_trace_id_of_a_stream_that_did_not_open_leads_to_the_log() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    make_unreadable(&app, "acme").await;
    let refused = EventStream::try_open(following(&app, &app.token("acme"))).await.expect_err("a defect");
    let trace = format!("trace_id={}", refused.json()["trace_id"].as_str().expect("a trace"));
    let told = app.until_printed(&trace).await;
    let told: Vec<_> = told.lines().filter(|line| line.contains(&trace)).collect();
    assert!(matches!(told[..], [line] if line.contains("ERROR") && line.contains("acme")), "{told:?}");
    app.stop().await;
}

/// As if somebody had written into our database.
async fn make_unreadable(app: &TestApp, tenant: &str) {
    let subscription = app.make_pro(tenant).await;
    app.database.execute(&format!("UPDATE subscription SET items = '?' WHERE id = '{subscription}'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_service_stops_its_streams_are_told_and_nobody_waits_for_them() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let mut streams = Vec::new();
    for tenant in ["acme", "birch", "birch"] {
        let mut stream = EventStream::open(following(&app, &app.token(tenant))).await;
        stream.next_subscription().await;
        streams.push(stream);
    }
    let told = async {
        for stream in &mut streams {
            assert_eq!(stream.next().await, Heard::End("stopping".to_owned()));
            assert_eq!(stream.next().await, Heard::Closed);
        }
    };
    // The server would wait for what it is answering, and then cut it off.
    tokio::join!(app.go_down(), told);
}

#[tokio::test]
async fn open_streams_are_counted_and_leave_no_span_open() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "sub": "follower" }));
    let mut stream = EventStream::open(following(&app, &token)).await;
    stream.next_subscription().await;
    until_streams(&app, 1).await;

    let of_stream = || {
        let spans = ended_spans();
        let is_ours = |span: &opentelemetry_sdk::trace::SpanData| {
            span.attributes
                .iter()
                .any(|one| one.key.as_str() == "user.id" && one.value.as_str() == "follower")
        };
        spans.into_iter().filter(is_ours).collect::<Vec<_>>()
    };
    let span = eventually("its span has ended", || async { of_stream().pop() }).await;
    assert_eq!(span.name, "GET /api/billing/subscription/events");
    app.clock.advance_seconds(15);
    assert_eq!(stream.next().await, Heard::Heartbeat);
    assert_eq!(of_stream().len(), 1, "and a heartbeat is none");

    drop(stream);
    until_streams(&app, 0).await;
    app.stop().await;
}

pub async fn until_streams(app: &TestApp, open: usize) {
    let line = format!("billhook_subscription_streams {open}\n");
    eventually("the streams are counted", || async { app.metrics().await.contains(&line).then_some(()) })
        .await;
}

/// A change of the tenant's subscription, later than all before it.
pub async fn quantity_of(app: &TestApp, subscription: &str, quantity: i64) -> Value {
    let created = app.clock_seconds() + LATER + quantity;
    let event = stripe_event("customer.subscription.updated", created, |object| {
        object["id"] = json!(subscription);
        object["items"]["data"][0]["quantity"] = json!(quantity);
    });
    app.for_customer_of("acme", event).await
}

pub fn following(app: &TestApp, token: &str) -> RequestBuilder {
    app.request(Method::GET, STREAM).bearer_auth(token)
}
