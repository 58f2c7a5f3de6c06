//! Clients that take their time, and heads that are bombs.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use tokio::time::{MissedTickBehavior, interval};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;
use crate::support::raw_http::{Raw, is_of_hyper};

/// A byte now and then, so that nobody can say that nothing comes.
const DRIP: Duration = Duration::from_millis(100);

/// Sends the bytes one by one, again and again, until the service has had enough.
pub async fn drip(raw: &mut Raw, bytes: &[u8]) {
    let mut tick = interval(DRIP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for byte in bytes.iter().cycle() {
        tick.tick().await;
        if raw.has_ended().await || !raw.send([*byte]).await {
            return;
        }
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_waited_for_ten_seconds_and_no_longer() {
    let app = TestApp::start(Database::Sqlite).await;
    let silent = ["", "G", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n"];
    let heads = silent.map(|beginning| send_head(&app, beginning, "").boxed());
    let dripping = send_head(&app, "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", "a").boxed();
    join_all(heads.into_iter().chain([dripping])).await;
    let counted = "billhook_connections_ended_total{reason=\"silent\"} 5";
    eventually("they are counted", || async { app.metrics().await.contains(counted).then_some(()) }).await;
    app.stop().await;
}

/// Sends the beginning of a head, and drips more of it, until the connection is closed without a word.
async fn send_head(app: &TestApp, beginning: &str, more: &str) {
    let mut raw = Raw::to(app).await;
    raw.send(beginning).await;
    drip(&mut raw, more.as_bytes()).await;
    raw.closed().await;
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_waited_for_ten_seconds_and_no_longer() {
    let app = TestApp::start(Database::Sqlite).await;
    join_all([
        send_body(&app, "Content-Length: 100000\r\n", " "),
        send_body(&app, "Transfer-Encoding: chunked\r\n", "1\r\n \r\n"),
    ])
    .await;
    let metrics = app.metrics().await;
    assert!(metrics.contains("billhook_webhook_rejections_total{reason=\"body_timeout\"} 2"), "{metrics}");
    app.stop().await;
}

/// Drips a body until it is told that it takes too long.
async fn send_body(app: &TestApp, lines: &str, body: &str) {
    let forged = app.forged_signature();
    let mut raw = Raw::to(app).await;
    raw.send(format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nStripe-Signature: {forged}\r\n{lines}\r\n"
    ))
    .await;
    drip(&mut raw, body.as_bytes()).await;
    let answer = raw.answer().await.expect("an answer");
    answer.assert_is(400, "invalid_request");
    assert!(answer.text.contains("10 s"), "{}", answer.text);
    raw.closed().await;
}

/// More than there is room for, all of them slow and all from one address, as behind a proxy.
#[tokio::test]
async fn when_too_many_bodies_are_on_their_way_the_oldest_is_told_to_come_again_and_a_good_one_is_taken() {
    let app = TestApp::start(Database::Sqlite).await;
    let forged = app.forged_signature();
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nStripe-Signature: {forged}\r\n\
         Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    );
    let mut slow = join_all((0..128).map(|_| async {
        let mut raw = Raw::to(&app).await;
        raw.send(&head).await;
        // It is being read once its sender is told to go on.
        assert_eq!(raw.answer().await.expect("an answer").status.as_u16(), 100);
        raw
    }))
    .await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();

    let (told, gave_way, _) = select_all(slow.iter_mut().map(|raw| raw.answer().boxed())).await;
    let told = told.expect("an answer");
    told.assert_is(503, "unavailable");
    assert_eq!(told.header("retry-after"), Some("10"));
    drop(slow.remove(gave_way));
    let metrics = app.metrics().await;
    assert!(metrics.contains("billhook_webhook_rejections_total{reason=\"crowded\"} 1"), "{metrics}");

    // The others keep their places, and all is as before once they have left.
    slow[0].send(" ".repeat(1000)).await;
    slow[0].answer().await.expect("an answer").assert_is(400, "invalid_signature");
    drop(slow);
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn a_head_has_a_bound_in_fields_and_in_bytes() {
    let app = TestApp::start(Database::Sqlite).await;
    let fields = |number: usize| "X: y\r\n".repeat(number);
    for (name, fields, fits) in [
        ("99 fields", fields(99), true),
        ("101 fields", fields(101), false),
        ("a field of 30 KB", format!("X: {}\r\n", "y".repeat(30 * 1024)), true),
        ("a field of 40 KB", format!("X: {}\r\n", "y".repeat(40 * 1024)), false),
        ("fields of 40 KB", format!("X: {}\r\n", "y".repeat(1000)).repeat(41), false),
        ("a field of a megabyte", format!("X: {}\r\n", "y".repeat(1024 * 1024)), false),
    ] {
        let mut raw = Raw::to(&app).await;
        raw.send(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        match raw.answer().await {
            Some(answer) if fits => assert_eq!(answer.status, 200, "{name}"),
            Some(answer) => assert!(answer.status == 431 && is_of_hyper(&answer), "{name}: {answer:?}"),
            // Who still sends when the connection is closed may not hear why.
            None => assert!(!fits, "{name}"),
        }
    }
    let mut raw = Raw::to(&app).await;
    raw.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(40 * 1024))).await;
    assert!(raw.answer().await.is_none_or(|answer| answer.status == 431));
    app.stop().await;
}
