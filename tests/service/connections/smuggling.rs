//! Requests that one reader takes for one and another for two, and what is no request at all.

use crate::support::answer::Answer;
use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::raw_http::{Raw, is_of_hyper};

/// What would be answered too, if the first request did not reach as far as it says.
const SECOND: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Posts to the webhook with these lines in the head and this body, and what is smuggled behind it.
async fn post(app: &TestApp, lines: &str, body: &str) -> Vec<Answer> {
    let forged = app.forged_signature();
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nStripe-Signature: {forged}\r\n{lines}\r\n"
    );
    send(app, &format!("{head}{body}{SECOND}")).await
}

async fn send(app: &TestApp, bytes: &str) -> Vec<Answer> {
    let mut raw = Raw::to(app).await;
    raw.send(bytes).await;
    raw.answers().await
}

/// Nothing but a 400 has come, and then the end.
fn assert_refused(answers: &[Answer], what: &str) {
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [400], "{what:?} was answered {answers:?}");
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_answered() {
    let app = TestApp::start(Database::Sqlite).await;
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked\x0b\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: y\r\n\tz\r\n",
        "X: y\nContent-Length: 5\r\n",
        "X: y\rContent-Length: 5\r\n",
        "X: y\0\r\n",
        "X y\r\n",
        ": y\r\n",
        "Host: b\r\n",
    ] {
        assert_refused(&post(&app, lines, "0\r\n\r\n").await, lines);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_body_whose_chunks_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_answered() {
    let app = TestApp::start(Database::Sqlite).await;
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_refused(&post(&app, "Transfer-Encoding: chunked\r\n", body).await, body);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_body_is_never_read_as_a_request_whether_it_was_wanted_or_not() {
    let app = TestApp::start(Database::Sqlite).await;
    let length = format!("Content-Length: {}\r\n", SECOND.len());
    for head in [
        // Refused for its head, so that nobody reads the body.
        format!("POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\n{length}"),
        format!("POST /api/billing/create-portal-session/ HTTP/1.1\r\nHost: a\r\n{length}"),
        format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{length}"),
        format!("GET /nowhere HTTP/1.1\r\nHost: a\r\n{length}"),
    ] {
        let mut raw = Raw::to(&app).await;
        raw.send(format!("{head}Connection: close\r\n\r\n{SECOND}")).await;
        assert_eq!(raw.answers().await.len(), 1, "{head:?}");
        // And if the body never comes, nothing that comes later is taken for another request.
        let mut raw = Raw::to(&app).await;
        raw.send(format!("{head}\r\n")).await;
        assert!(raw.answer().await.expect("an answer").status.as_u16() >= 400);
        raw.send(format!("{SECOND}{SECOND}")).await;
        assert!(raw.answers().await.len() <= 1, "{head:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_no_request_to_one_host_is_refused() {
    let app = TestApp::start(Database::Sqlite).await;
    for (head, by_hyper) in [
        ("GET / HTTP/1.1\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", false),
        ("GET  / HTTP/1.1\r\nHost: a\r\n", true),
        ("GET / http/1.1\r\nHost: a\r\n", true),
        ("GET / HTTP/1.2\r\nHost: a\r\n", true),
        ("GET / HTTP/2.0\r\nHost: a\r\n", true),
        ("GET / HTTP/9.9\r\nHost: a\r\n", true),
        ("GET /\r\nHost: a\r\n", true),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n", true),
        ("G\0T / HTTP/1.1\r\nHost: a\r\n", true),
        ("\x16\x03\x01\x02\r\n", true),
        ("PRI * HTTP/2.0\n", true),
    ] {
        let answers = send(&app, &format!("{head}\r\n{SECOND}")).await;
        assert_refused(&answers, head);
        assert_eq!(is_of_hyper(&answers[0]), by_hyper, "{head:?}");
    }
    app.stop().await;
}

/// Nobody is sent anywhere else by what stands where a proxy would look.
#[tokio::test]
async fn it_is_no_proxy_and_speaks_nothing_else_when_asked_to() {
    let app = TestApp::start(Database::Sqlite).await;
    for (head, status) in [
        ("GET http://evil.example/nowhere HTTP/1.1\r\nHost: a\r\n", 404),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 404),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", 200),
        ("TRACE /healthz HTTP/1.1\r\nHost: a\r\n", 405),
    ] {
        let answers = send(&app, &format!("{head}\r\n{SECOND}")).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses, [status, 200], "{head:?}");
    }
    app.stop().await;
}
