//! HTTP/2 with prior knowledge and without TLS, as between a proxy and a service behind it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use h2::client::{self, SendRequest};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, WEBHOOK_SECRET, stripe_event};
use crate::support::database::Database;
use crate::support::http2_frames::{HEADERS, PING, PREFACE, SETTINGS, frame};

const WEBHOOK: &str = "/api/billing/webhook/";

/// Long, for slow machines. No test waits for it to pass.
const DEADLINE: Duration = Duration::from_mins(2);

/// Frame types (RFC 9113, section 6) and an error code (section 7).
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ENHANCE_YOUR_CALM: u8 = 11;

pub async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.url.trim_start_matches("http://")).await.expect("a connection")
}

/// Opens an HTTP/2 connection with a conforming client.
pub async fn handshake(app: &TestApp) -> SendRequest<Bytes> {
    handshake_over(connect(app).await).await
}

pub async fn handshake_over(
    wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> SendRequest<Bytes> {
    let (requests, connection) = client::handshake(wire).await.expect("the HTTP/2 handshake succeeds");
    tokio::spawn(async move {
        // It ends with the service or the client, whichever comes first.
        let _ = connection.await;
    });
    requests
}

/// Sends a request and checks the response with `assert_conforms`.
pub async fn send(
    requests: &SendRequest<Bytes>,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<ApiResponse, h2::Error> {
    let mut request = hyper::Request::builder().method(method).uri(format!("http://a{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let mut requests = requests.clone().ready().await?;
    let (response, mut sending) = requests.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(Bytes::copy_from_slice(body), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend(data);
    }
    let response = ApiResponse {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(text).expect("text"),
    };
    response.assert_conforms(&reqwest::Method::GET);
    Ok(response)
}

#[tokio::test]
async fn http2_serves_the_same_api_and_concurrent_requests() {
    let app = TestApp::start(Database::Sqlite).await;
    let requests = handshake(&app).await;
    send(&requests, "GET", "/healthz", &[], b"").await.expect("a response").ok();
    send(&requests, "GET", "/nowhere", &[], b"").await.expect("a response").assert_problem(404, "not_found");
    let token = format!("Bearer {}", app.token("acme"));
    let fields = [("authorization", &*token)];
    let response =
        send(&requests, "GET", "/api/billing/subscription/", &fields, b"").await.expect("a response");
    assert_eq!(response.ok()["plan"], "free");
    send(&requests, "POST", WEBHOOK, &[], b"{}")
        .await
        .expect("a response")
        .assert_problem(400, "invalid_signature");
    let forged = app.forged_signature();
    let large = vec![b' '; 1024 * 1024 + 1];
    let fields = [("stripe-signature", &*forged)];
    send(&requests, "POST", WEBHOOK, &fields, &large)
        .await
        .expect("a response")
        .assert_problem(413, "too_large");

    // More than the connection's limit of concurrent streams: the others wait.
    let deliveries = (0..300).map(|_| async {
        let body = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {}).to_string();
        let signature = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
        send(&requests, "POST", WEBHOOK, &[("stripe-signature", &signature)], body.as_bytes()).await
    });
    for response in join_all(deliveries).await {
        assert_eq!(response.expect("a response").ok(), json!({ "received": true }));
    }
    app.stop().await;
}

#[tokio::test]
async fn http2_head_size_is_limited() {
    let app = TestApp::start(Database::Sqlite).await;
    let requests = handshake(&app).await;
    let allowed = "y".repeat(20 * 1024);
    send(&requests, "GET", "/healthz", &[("x", &allowed)], b"").await.expect("a response").ok();
    let field = "y".repeat(1000);
    let too_large: Vec<_> = (0..64).map(|_| ("x", &*field)).collect();
    // h2 rejects it with a bare status, so `send` would find security headers missing.
    let mut request = hyper::Request::builder().uri("http://a/healthz");
    for (name, value) in too_large {
        request = request.header(name, value);
    }
    let mut ready = requests.clone().ready().await.expect("the connection is open");
    let sent = ready.send_request(request.body(()).expect("a request"), true);
    let refused = match sent {
        Ok((response, _)) => response.await.map(|response| response.status().as_u16()),
        Err(error) => Err(error),
    };
    assert!(refused.as_ref().map_or(true, |status| *status == 431), "{refused:?}");
    send(&handshake(&app).await, "GET", "/healthz", &[], b"").await.expect("a response").ok();
    app.stop().await;
}

/// HPACK for `GET http://a/`, by the static table.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// Sends frames until the service closes the connection. Returns the error code of its GOAWAY, if
/// one arrived.
async fn flood(app: &TestApp, first: Vec<u8>, more: impl Fn(u32) -> Vec<u8>) -> Option<u8> {
    let (mut from, mut to) = connect(app).await.into_split();
    let sending = async {
        let mut bytes = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), first].concat();
        for number in 0.. {
            bytes.extend(more(number));
            if bytes.len() > 32 * 1024 {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
                bytes.clear();
            }
        }
    };
    let mut answered = Vec::new();
    let reading = async {
        // A reset ends the connection, too.
        while from.read_buf(&mut answered).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(DEADLINE, join(sending, reading))
        .await
        .expect("the service closes the connection in time");
    goaway_of(&answered)
}

fn goaway_of(mut bytes: &[u8]) -> Option<u8> {
    let mut reason = None;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == GOAWAY {
            // The last byte of the error code. All codes are below 256.
            reason = rest.get(7).copied();
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    reason
}

#[tokio::test]
async fn http2_rapid_reset_ends_only_its_connection() {
    let app = TestApp::start(Database::Sqlite).await;
    let other = handshake(&app).await;
    let rapid = flood(&app, Vec::new(), |number| {
        let stream = 2 * number + 1;
        let cancel = 8_u32.to_be_bytes();
        [frame(HEADERS, 5, stream, &GET), frame(RST_STREAM, 0, stream, &cancel)].concat()
    })
    .await;
    assert!(rapid.is_none_or(|reason| reason == ENHANCE_YOUR_CALM), "{rapid:?}");
    send(&other, "GET", "/healthz", &[], b"").await.expect("a response").ok();
    app.stop().await;
}

#[tokio::test]
async fn http2_endless_head_ends_only_its_connection() {
    let app = TestApp::start(Database::Sqlite).await;
    let other = handshake(&app).await;
    // The same never-indexed field in every frame.
    let field = [&[0x10, 1, b'x', 0x7f, 0xe1, 0x06][..], &[b'y'; 992]].concat();
    flood(&app, frame(HEADERS, 1, 1, &GET), |_| frame(CONTINUATION, 0, 1, &field)).await;
    // Empty frames, which use no memory but never end the head.
    flood(&app, frame(HEADERS, 1, 1, &GET), |_| frame(CONTINUATION, 0, 1, &[])).await;
    send(&other, "GET", "/healthz", &[], b"").await.expect("a response").ok();
    app.stop().await;
}

/// A connection without requests counts as idle, whatever other frames it sends.
#[tokio::test]
async fn http2_connection_without_requests_ends_after_10_seconds() {
    let app = TestApp::start(Database::Sqlite).await;
    let pings = flood(&app, Vec::new(), |_| frame(PING, 0, 0, &[0; 8]));
    let settings = flood(&app, Vec::new(), |_| frame(SETTINGS, 0, 0, &[]));
    let nothing = async {
        let (_requests, connection) =
            client::handshake(connect(&app).await).await.expect("the HTTP/2 handshake succeeds");
        let ended = tokio::time::timeout(DEADLINE, connection)
            .await
            .expect("the service closes the connection in time");
        assert!(ended.is_ok(), "the service sends GOAWAY before it closes: {ended:?}");
    };
    join(join(pings, settings), nothing).await;
    let metrics = app.metrics().await;
    assert!(metrics.contains("billhook_connections_ended_total{reason=\"silent\"}"), "{metrics}");
    app.stop().await;
}
