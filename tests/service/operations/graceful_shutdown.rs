//! Graceful shutdown: readiness fails first, then open requests finish.

use crate::connections::http2;
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;
use crate::support::raw_http::RawConnection;
use h2::client;

/// Longer than any test: a test that waits for the delay to pass fails.
const LONG_DRAIN: (&str, &str) = ("--stop-delay-seconds", "300");

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_fails_readiness_while_requests_are_still_served() {
    let mut app = TestApp::start_process_with(Database::Sqlite, &[LONG_DRAIN], &[]).await;
    let mut open = RawConnection::to(&app).await;
    open.send(GET).await;
    assert_eq!(open.response().await.expect("a response").header("connection"), None);

    app.send_sigterm();
    let not_ready = eventually("it is not ready", || async {
        let response = app.get("/readyz").await;
        (response.status == 503).then_some(response)
    })
    .await;
    not_ready.assert_problem(503, "unavailable");
    assert!(not_ready.text.contains("The service is stopping"), "{}", not_ready.text);

    // New requests are served, and the responses close their connections.
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    open.send(GET).await;
    let responses = open.responses().await;
    assert_eq!(responses.len(), 1);
    assert_eq!((responses[0].status.as_u16(), responses[0].header("connection")), (200, Some("close")));

    app.send_sigterm();
    assert_eq!(app.exit_code().await, Some(1), "the second signal stops at once");
    assert!(app.stderr().contains("stopped at once"), "{}", app.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_stops_without_drain_delay() {
    let mut app = TestApp::start_process_with(Database::Sqlite, &[LONG_DRAIN], &[]).await;
    app.send_sigint();
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_closes_http2_connection_gracefully() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let (requests, connection) =
        client::handshake(http2::connect(&app).await).await.expect("an HTTP/2 connection");
    let connection = tokio::spawn(connection);
    http2::send(&requests, "GET", "/healthz", &[], b"").await.expect("a response").ok();
    app.stop_service().await;
    connection.await.expect("the connection task ends").expect("the connection closes without an error");
}
