//! Clients that send slowly, and oversized heads.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use tokio::time::{MissedTickBehavior, interval};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;
use crate::support::raw_http::{RawConnection, is_from_hyper};

/// Short, so that a limit on idle time alone would not end the connection.
const DRIP_INTERVAL: Duration = Duration::from_millis(100);

/// Sends the bytes one by one, repeatedly, until the service responds or closes the connection.
pub async fn drip(raw: &mut RawConnection, bytes: &[u8]) {
    let mut tick = interval(DRIP_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for byte in bytes.iter().cycle() {
        tick.tick().await;
        if raw.has_ended().await || !raw.send([*byte]).await {
            return;
        }
    }
}

#[tokio::test]
async fn slow_head_closes_connection_after_10_seconds() {
    let app = TestApp::start(Database::Sqlite).await;
    let silent = ["", "G", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n"];
    let heads = silent.map(|start| send_head(&app, start, "").boxed());
    let dripping = send_head(&app, "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", "a").boxed();
    join_all(heads.into_iter().chain([dripping])).await;
    let counted = "billhook_connections_ended_total{reason=\"silent\"} 5";
    eventually("the connections are counted", || async {
        app.metrics().await.contains(counted).then_some(())
    })
    .await;
    app.stop().await;
}

/// Sends the start of a head and drips more of it, until the service closes the connection without
/// a response.
async fn send_head(app: &TestApp, start: &str, more: &str) {
    let mut raw = RawConnection::to(app).await;
    raw.send(start).await;
    drip(&mut raw, more.as_bytes()).await;
    raw.assert_closed().await;
}

#[tokio::test]
async fn slow_body_is_rejected_after_10_seconds() {
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

/// Drips a body until the service rejects it for taking too long.
async fn send_body(app: &TestApp, lines: &str, body: &str) {
    let forged = app.forged_signature();
    let mut raw = RawConnection::to(app).await;
    raw.send(format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nStripe-Signature: {forged}\r\n{lines}\r\n"
    ))
    .await;
    drip(&mut raw, body.as_bytes()).await;
    let response = raw.response().await.expect("a response");
    response.assert_problem(400, "invalid_request");
    assert!(response.text.contains("10 s"), "{}", response.text);
    raw.assert_closed().await;
}

/// All bodies come from one address, as behind a proxy.
#[tokio::test]
async fn too_many_slow_bodies_evict_the_oldest() {
    let app = TestApp::start(Database::Sqlite).await;
    let forged = app.forged_signature();
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nStripe-Signature: {forged}\r\n\
         Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    );
    let mut slow = join_all((0..128).map(|_| async {
        let mut raw = RawConnection::to(&app).await;
        raw.send(&head).await;
        // `100 Continue` means that the service reads the body.
        assert_eq!(raw.response().await.expect("a response").status.as_u16(), 100);
        raw
    }))
    .await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();

    let (response, evicted, _) = select_all(slow.iter_mut().map(|raw| raw.response().boxed())).await;
    let response = response.expect("a response");
    response.assert_problem(503, "unavailable");
    assert_eq!(response.header("retry-after"), Some("10"));
    drop(slow.remove(evicted));
    let metrics = app.metrics().await;
    assert!(metrics.contains("billhook_webhook_rejections_total{reason=\"crowded\"} 1"), "{metrics}");

    // The other bodies keep their slots, and all slots are free once those clients have left.
    slow[0].send(" ".repeat(1000)).await;
    slow[0].response().await.expect("a response").assert_problem(400, "invalid_signature");
    drop(slow);
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn head_is_limited_in_fields_and_bytes() {
    let app = TestApp::start(Database::Sqlite).await;
    let fields = |number: usize| "X: y\r\n".repeat(number);
    for (name, fields, is_allowed) in [
        ("99 fields", fields(99), true),
        ("101 fields", fields(101), false),
        ("a field of 30 KB", format!("X: {}\r\n", "y".repeat(30 * 1024)), true),
        ("a field of 40 KB", format!("X: {}\r\n", "y".repeat(40 * 1024)), false),
        ("fields of 40 KB", format!("X: {}\r\n", "y".repeat(1000)).repeat(41), false),
        ("a field of a megabyte", format!("X: {}\r\n", "y".repeat(1024 * 1024)), false),
    ] {
        let mut raw = RawConnection::to(&app).await;
        raw.send(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        match raw.response().await {
            Some(response) if is_allowed => assert_eq!(response.status, 200, "{name}"),
            Some(response) => {
                assert!(response.status == 431 && is_from_hyper(&response), "{name}: {response:?}");
            }
            // A client that is still sending when the connection closes may not receive the
            // response.
            None => assert!(!is_allowed, "{name}"),
        }
    }
    let mut raw = RawConnection::to(&app).await;
    raw.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(40 * 1024))).await;
    assert!(raw.response().await.is_none_or(|response| response.status == 431));
    app.stop().await;
}
