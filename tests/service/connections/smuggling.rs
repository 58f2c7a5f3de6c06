//! Request smuggling: bytes that one parser reads as one request and another as two, and bytes that
//! are no request.

use crate::support::api_response::ApiResponse;
use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::raw_http::{RawConnection, is_from_hyper};

/// The smuggled request. It gets a response if the first request is read as shorter than it is.
const SECOND: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Posts to the webhook with these lines in the head and this body, followed by the smuggled
/// request.
async fn post(app: &TestApp, lines: &str, body: &str) -> Vec<ApiResponse> {
    let forged = app.forged_signature();
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nStripe-Signature: {forged}\r\n{lines}\r\n"
    );
    send(app, &format!("{head}{body}{SECOND}")).await
}

async fn send(app: &TestApp, bytes: &str) -> Vec<ApiResponse> {
    let mut raw = RawConnection::to(app).await;
    raw.send(bytes).await;
    raw.responses().await
}

/// Asserts that the only response was a 400.
fn assert_rejected(responses: &[ApiResponse], what: &str) {
    let statuses: Vec<_> = responses.iter().map(|response| response.status.as_u16()).collect();
    assert_eq!(statuses, [400], "{what:?} got {responses:?}");
}

#[tokio::test]
async fn ambiguous_head_is_rejected_and_ends_connection() {
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
        assert_rejected(&post(&app, lines, "0\r\n\r\n").await, lines);
    }
    app.stop().await;
}

#[tokio::test]
async fn ambiguous_chunked_body_is_rejected_and_ends_connection() {
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
        assert_rejected(&post(&app, "Transfer-Encoding: chunked\r\n", body).await, body);
    }
    app.stop().await;
}

#[tokio::test]
async fn unread_body_is_never_parsed_as_a_request() {
    let app = TestApp::start(Database::Sqlite).await;
    let length = format!("Content-Length: {}\r\n", SECOND.len());
    for head in [
        // Rejected for its head, so the body is not read.
        format!("POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\n{length}"),
        format!("POST /api/billing/create-portal-session/ HTTP/1.1\r\nHost: a\r\n{length}"),
        format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{length}"),
        format!("GET /nowhere HTTP/1.1\r\nHost: a\r\n{length}"),
    ] {
        let mut raw = RawConnection::to(&app).await;
        raw.send(format!("{head}Connection: close\r\n\r\n{SECOND}")).await;
        assert_eq!(raw.responses().await.len(), 1, "{head:?}");
        // If the body never arrives, later bytes are not parsed as another request.
        let mut raw = RawConnection::to(&app).await;
        raw.send(format!("{head}\r\n")).await;
        assert!(raw.response().await.expect("a response").status.as_u16() >= 400);
        raw.send(format!("{SECOND}{SECOND}")).await;
        assert!(raw.responses().await.len() <= 1, "{head:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn malformed_request_line_or_host_is_rejected() {
    let app = TestApp::start(Database::Sqlite).await;
    for (head, is_hyper) in [
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
        let responses = send(&app, &format!("{head}\r\n{SECOND}")).await;
        assert_rejected(&responses, head);
        assert_eq!(is_from_hyper(&responses[0]), is_hyper, "{head:?}");
    }
    app.stop().await;
}

/// An absolute URL, `CONNECT` or `Upgrade` makes the service contact nothing and switch no
/// protocol.
#[tokio::test]
async fn proxy_and_upgrade_requests_are_not_honored() {
    let app = TestApp::start(Database::Sqlite).await;
    for (head, status) in [
        ("GET http://evil.example/nowhere HTTP/1.1\r\nHost: a\r\n", 404),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 404),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", 200),
        ("TRACE /healthz HTTP/1.1\r\nHost: a\r\n", 405),
    ] {
        let responses = send(&app, &format!("{head}\r\n{SECOND}")).await;
        let statuses: Vec<_> = responses.iter().map(|response| response.status.as_u16()).collect();
        assert_eq!(statuses, [status, 200], "{head:?}");
    }
    app.stop().await;
}
