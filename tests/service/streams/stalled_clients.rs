//! Clients that open streams and read nothing.

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use poem::http::{Request, Response};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::streams::subscription_stream::{quantity_update, stream_request, wait_for_stream_count};
use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM};

/// An HTTP/2 connection with a flow-control window of 0: the service can send no byte of a body
/// until `start_reading`.
struct StalledClient {
    requests: SendRequest<Bytes>,
    url: String,
    start_reading: oneshot::Sender<()>,
}

impl StalledClient {
    async fn connect(app: &TestApp) -> Self {
        let address = app.url.strip_prefix("http://").expect("an address");
        let connection = TcpStream::connect(address).await.expect("the service listens");
        let handshake = h2::client::Builder::new().initial_window_size(0).handshake(connection).await;
        let (requests, mut connection) = handshake.expect("the service speaks HTTP/2");
        let (start_reading, reading_started) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut connection => return,
                Ok(()) = reading_started => connection.set_initial_window_size(64 * 1024).expect("a window"),
            }
            // It ends when the service closes it.
            let _ = connection.await;
        });
        Self { requests, url: format!("{}{STREAM}", app.url), start_reading }
    }

    async fn open(&mut self, token: &str) -> Response<RecvStream> {
        let request = Request::get(&self.url).header("Authorization", format!("Bearer {token}"));
        let request = request.body(()).expect("a request");
        let (response, _) = self.requests.send_request(request, true).expect("the request is sent");
        let response = response.await.expect("the service responds");
        assert_eq!(response.status(), 200);
        response
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_stream_delays_no_other_stream_or_shutdown() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let token = app.token("acme");
    let _unread = StalledClient::connect(&app).await.open(&token).await;
    let mut stream = EventStream::open(stream_request(&app, &token)).await;
    for quantity in 2..=10 {
        app.deliver(&quantity_update(&app, &subscription, quantity).await).await.ok();
        stream.wait_for(|subscription| subscription["quantity"] == quantity).await;
    }
    drop(stream);
    // Nor does the unread stream delay the shutdown.
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_stream_ends_with_its_token_and_frees_its_slot() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 60 }));
    let mut client = StalledClient::connect(&app).await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        unread.push(client.open(&token).await);
    }
    let other = app.token("acme");
    let refused = EventStream::try_open(stream_request(&app, &other)).await.expect_err("all slots are taken");
    refused.assert_problem(503, "unavailable");

    app.clock.advance_seconds(90);
    wait_for_stream_count(&app, 0).await;
    EventStream::open(stream_request(&app, &other)).await;
    drop(unread);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_stream_ends_when_canceled_or_after_an_hour() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 7200 }));
    let mut client = StalledClient::connect(&app).await;
    let unread = client.open(&token).await;
    wait_for_stream_count(&app, 1).await;
    drop(unread);
    wait_for_stream_count(&app, 0).await;

    let unread = client.open(&token).await;
    wait_for_stream_count(&app, 1).await;
    app.clock.advance_seconds(3600);
    wait_for_stream_count(&app, 0).await;
    drop(unread);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_reader_gets_only_latest_state_and_end_reason() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let token = app.token("acme");
    let mut client = StalledClient::connect(&app).await;
    let mut late = client.open(&token).await.into_body();
    let mut stream = EventStream::open(stream_request(&app, &token)).await;
    for quantity in 2..=10 {
        app.deliver(&quantity_update(&app, &subscription, quantity).await).await.ok();
        stream.wait_for(|subscription| subscription["quantity"] == quantity).await;
    }

    client.start_reading.send(()).expect("the client is connected");
    let mut received = String::new();
    while let Some(bytes) = late.data().await {
        let bytes = bytes.expect("the stream does not break");
        received.push_str(std::str::from_utf8(&bytes).expect("text"));
        if received.contains(r#""quantity":10"#) {
            app.clock.advance_seconds(3600);
        }
    }
    // Up to two messages are sent before flow control stops them.
    assert!(received.matches("event: subscription").count() <= 3, "{received}");
    assert!(received.ends_with("event: end\ndata: {\"reason\":\"too_long\"}\n\n"), "{received}");
    app.stop().await;
}
