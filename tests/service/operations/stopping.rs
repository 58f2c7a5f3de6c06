//! Being told to stop: first others hear of it, then what has begun is finished.

use crate::connections::http2;
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;
use crate::support::raw_http::Raw;
use h2::client;

/// Longer than any story takes: who waits for its end has failed.
const FOREVER: (&str, &str) = ("--stop-delay-seconds", "300");

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_told_to_stop_is_not_ready_first_and_serves_all_the_same() {
    let mut app = TestApp::start_process_with(Database::Sqlite, &[FOREVER], &[]).await;
    let mut open = Raw::to(&app).await;
    open.send(GET).await;
    assert_eq!(open.answer().await.expect("an answer").header("connection"), None);

    app.terminate();
    let told = eventually("it is not ready", || async {
        let answer = app.get("/readyz").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    told.assert_is(503, "unavailable");
    assert!(told.text.contains("The service is stopping"), "{}", told.text);

    // Whoever comes is served, and whoever is here is told to come to another the next time.
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    open.send(GET).await;
    let answers = open.answers().await;
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].status.as_u16(), answers[0].header("connection")), (200, Some("close")));

    app.terminate();
    assert_eq!(app.exit_code().await, Some(1), "the second signal stops at once");
    assert!(app.stderr().contains("stopped at once"), "{}", app.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_it_at_a_terminal_does_not_wait_for_others_to_hear_of_it() {
    let mut app = TestApp::start_process_with(Database::Sqlite, &[FOREVER], &[]).await;
    app.interrupt();
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_a_stop_says_goodbye() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let (requests, connection) =
        client::handshake(http2::connect(&app).await).await.expect("HTTP/2 is spoken");
    let connection = tokio::spawn(connection);
    http2::ask(&requests, "GET", "/healthz", &[], b"").await.expect("an answer").ok();
    app.go_down().await;
    connection.await.expect("it ends").expect("and nothing was cut off");
}
