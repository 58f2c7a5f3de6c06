//! HTTP/2, as a proxy speaks it to a service behind it: with prior knowledge and without TLS.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use h2::client::{self, SendRequest};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::answer::Answer;
use crate::support::app::{TestApp, WEBHOOK_SECRET, stripe_event};
use crate::support::database::Database;
use crate::support::http2_frames::{HEADERS, PING, PREFACE, SETTINGS, frame};

const WEBHOOK: &str = "/api/billing/webhook/";

/// How long a story waits. Long, for slow machines; nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_mins(2);

/// Frames (RFC 9113, section 6), and why a connection ends (section 7).
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ENHANCE_YOUR_CALM: u8 = 11;

pub async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.url.trim_start_matches("http://")).await.expect("a connection")
}

/// A connection of HTTP/2 by a client that keeps to it.
pub async fn speak(app: &TestApp) -> SendRequest<Bytes> {
    speak_over(connect(app).await).await
}

/// The same, over a connection that is there already.
pub async fn speak_over(wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> SendRequest<Bytes> {
    let (requests, connection) = client::handshake(wire).await.expect("HTTP/2 is spoken");
    tokio::spawn(async move {
        // It ends with the service or with the client, whichever is first.
        let _ = connection.await;
    });
    requests
}

/// Asks, and holds the answer to the house's rules.
pub async fn ask(
    requests: &SendRequest<Bytes>,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, h2::Error> {
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
    let answer =
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(text).expect("text") };
    answer.assert_well_made(&reqwest::Method::GET);
    Ok(answer)
}

#[tokio::test]
async fn over_http_2_the_same_is_answered_and_many_at_once() {
    let app = TestApp::start(Database::Sqlite).await;
    let requests = speak(&app).await;
    ask(&requests, "GET", "/healthz", &[], b"").await.expect("an answer").ok();
    ask(&requests, "GET", "/nowhere", &[], b"").await.expect("an answer").assert_is(404, "not_found");
    let token = format!("Bearer {}", app.token("acme"));
    let fields = [("authorization", &*token)];
    let answer = ask(&requests, "GET", "/api/billing/subscription/", &fields, b"").await.expect("an answer");
    assert_eq!(answer.ok()["plan"], "free");
    ask(&requests, "POST", WEBHOOK, &[], b"{}").await.expect("an answer").assert_is(400, "invalid_signature");
    let forged = app.forged_signature();
    let large = vec![b' '; 1024 * 1024 + 1];
    let fields = [("stripe-signature", &*forged)];
    ask(&requests, "POST", WEBHOOK, &fields, &large).await.expect("an answer").assert_is(413, "too_large");

    // More than a connection takes at once: the others wait for their turn.
    let deliveries = (0..300).map(|_| async {
        let body = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {}).to_string();
        let signature = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
        ask(&requests, "POST", WEBHOOK, &[("stripe-signature", &signature)], body.as_bytes()).await
    });
    for answer in join_all(deliveries).await {
        assert_eq!(answer.expect("an answer").ok(), json!({ "received": true }));
    }
    app.stop().await;
}

#[tokio::test]
async fn over_http_2_a_head_has_a_bound_too() {
    let app = TestApp::start(Database::Sqlite).await;
    let requests = speak(&app).await;
    let fits = "y".repeat(20 * 1024);
    ask(&requests, "GET", "/healthz", &[("x", &fits)], b"").await.expect("an answer").ok();
    let field = "y".repeat(1000);
    let bomb: Vec<_> = (0..64).map(|_| ("x", &*field)).collect();
    // h2 refuses it itself, with a status and nothing else.
    let mut request = hyper::Request::builder().uri("http://a/healthz");
    for (name, value) in bomb {
        request = request.header(name, value);
    }
    let mut ready = requests.clone().ready().await.expect("it is open");
    let sent = ready.send_request(request.body(()).expect("a request"), true);
    let refused = match sent {
        Ok((response, _)) => response.await.map(|response| response.status().as_u16()),
        Err(error) => Err(error),
    };
    assert!(refused.as_ref().map_or(true, |status| *status == 431), "{refused:?}");
    ask(&speak(&app).await, "GET", "/healthz", &[], b"").await.expect("an answer").ok();
    app.stop().await;
}

/// `GET / http a`, by HPACK's static table.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// Sends frames without end and reads nothing, until the service has had enough; then says why, if it was told.
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
        // A reset is an end too.
        while from.read_buf(&mut answered).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(DEADLINE, join(sending, reading)).await.expect("it has had enough in time");
    goaway_of(&answered)
}

fn goaway_of(mut bytes: &[u8]) -> Option<u8> {
    let mut reason = None;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == GOAWAY {
            // The last byte of the error code, which is no larger.
            reason = rest.get(7).copied();
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    reason
}

#[tokio::test]
async fn streams_that_are_opened_to_be_reset_end_their_connection_and_no_other() {
    let app = TestApp::start(Database::Sqlite).await;
    let other = speak(&app).await;
    let rapid = flood(&app, Vec::new(), |number| {
        let stream = 2 * number + 1;
        let cancel = 8_u32.to_be_bytes();
        [frame(HEADERS, 5, stream, &GET), frame(RST_STREAM, 0, stream, &cancel)].concat()
    })
    .await;
    assert!(rapid.is_none_or(|reason| reason == ENHANCE_YOUR_CALM), "{rapid:?}");
    ask(&other, "GET", "/healthz", &[], b"").await.expect("an answer").ok();
    app.stop().await;
}

#[tokio::test]
async fn a_head_without_end_ends_its_connection_and_no_other() {
    let app = TestApp::start(Database::Sqlite).await;
    let other = speak(&app).await;
    // A field that is never indexed, again and again.
    let field = [&[0x10, 1, b'x', 0x7f, 0xe1, 0x06][..], &[b'y'; 992]].concat();
    flood(&app, frame(HEADERS, 1, 1, &GET), |_| frame(CONTINUATION, 0, 1, &field)).await;
    // And empty frames, which take no room but never end either.
    flood(&app, frame(HEADERS, 1, 1, &GET), |_| frame(CONTINUATION, 0, 1, &[])).await;
    ask(&other, "GET", "/healthz", &[], b"").await.expect("an answer").ok();
    app.stop().await;
}

/// What asks for nothing is silence, however much there is of it.
#[tokio::test]
async fn a_connection_of_pings_settings_or_nothing_is_ended_after_ten_seconds() {
    let app = TestApp::start(Database::Sqlite).await;
    let pings = flood(&app, Vec::new(), |_| frame(PING, 0, 0, &[0; 8]));
    let settings = flood(&app, Vec::new(), |_| frame(SETTINGS, 0, 0, &[]));
    let nothing = async {
        let (_requests, connection) = client::handshake(connect(&app).await).await.expect("HTTP/2 is spoken");
        let ended = tokio::time::timeout(DEADLINE, connection).await.expect("it is ended in time");
        assert!(ended.is_ok(), "and is told so before: {ended:?}");
    };
    join(join(pings, settings), nothing).await;
    let metrics = app.metrics().await;
    assert!(metrics.contains("billhook_connections_ended_total{reason=\"silent\"}"), "{metrics}");
    app.stop().await;
}
