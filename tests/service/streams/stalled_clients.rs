//! Clients that open streams and take nothing.

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use poem::http::{Request, Response};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::streams::subscription_stream::{following, quantity_of, until_streams};
use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM};

/// A connection of HTTP/2 whose client lets the server send no byte of a body, until it hears.
struct Deaf {
    requests: SendRequest<Bytes>,
    url: String,
    hears: oneshot::Sender<()>,
}

impl Deaf {
    async fn connect(app: &TestApp) -> Self {
        let address = app.url.strip_prefix("http://").expect("an address");
        let connection = TcpStream::connect(address).await.expect("the service listens");
        let shaken = h2::client::Builder::new().initial_window_size(0).handshake(connection).await;
        let (requests, mut connection) = shaken.expect("the service speaks HTTP/2");
        let (hears, told_to_hear) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut connection => return,
                Ok(()) = told_to_hear => connection.set_initial_window_size(64 * 1024).expect("a window"),
            }
            // It ends with the service's.
            let _ = connection.await;
        });
        Self { requests, url: format!("{}{STREAM}", app.url), hears }
    }

    async fn open(&mut self, token: &str) -> Response<RecvStream> {
        let request = Request::get(&self.url).header("Authorization", format!("Bearer {token}"));
        let request = request.body(()).expect("a request");
        let (answer, _) = self.requests.send_request(request, true).expect("it is sent");
        let answer = answer.await.expect("the service answers");
        assert_eq!(answer.status(), 200);
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_holds_nobody_up() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    let token = app.token("acme");
    let _unread = Deaf::connect(&app).await.open(&token).await;
    let mut stream = EventStream::open(following(&app, &token)).await;
    for quantity in 2..=10 {
        app.deliver(&quantity_of(&app, &subscription, quantity).await).await.ok();
        stream.until(|answer| answer["quantity"] == quantity).await;
    }
    drop(stream);
    // Not even a stop.
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_ends_with_its_token_and_leaves_its_place_to_others() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 60 }));
    let mut deaf = Deaf::connect(&app).await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        unread.push(deaf.open(&token).await);
    }
    let other = app.token("acme");
    let refused = EventStream::try_open(following(&app, &other)).await.expect_err("there is no room");
    refused.assert_is(503, "unavailable");

    app.clock.advance_seconds(90);
    until_streams(&app, 0).await;
    EventStream::open(following(&app, &other)).await;
    drop(unread);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_ends_when_its_client_gives_it_up_and_after_an_hour() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "exp": app.clock_seconds() + 7200 }));
    let mut deaf = Deaf::connect(&app).await;
    let unread = deaf.open(&token).await;
    until_streams(&app, 1).await;
    drop(unread);
    until_streams(&app, 0).await;

    let unread = deaf.open(&token).await;
    until_streams(&app, 1).await;
    app.clock.advance_seconds(3600);
    until_streams(&app, 0).await;
    drop(unread);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_late_is_told_the_latest_and_nothing_between_and_why_it_ends() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    let token = app.token("acme");
    let mut deaf = Deaf::connect(&app).await;
    let mut late = deaf.open(&token).await.into_body();
    let mut stream = EventStream::open(following(&app, &token)).await;
    for quantity in 2..=10 {
        app.deliver(&quantity_of(&app, &subscription, quantity).await).await.ok();
        stream.until(|answer| answer["quantity"] == quantity).await;
    }

    deaf.hears.send(()).expect("it is connected");
    let mut heard = String::new();
    while let Some(bytes) = late.data().await {
        let bytes = bytes.expect("the stream does not break");
        heard.push_str(std::str::from_utf8(&bytes).expect("text"));
        if heard.contains(r#""quantity":10"#) {
            app.clock.advance_seconds(3600);
        }
    }
    // Two are on their way to a client before it is known that it takes none.
    assert!(heard.matches("event: subscription").count() <= 3, "{heard}");
    assert!(heard.ends_with("event: end\ndata: {\"reason\":\"too_long\"}\n\n"), "{heard}");
    app.stop().await;
}
