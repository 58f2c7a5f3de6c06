//! Serves the requests of one connection, from its first byte to its end.
//!
//! poem's own server bounds neither how long a head may take nor how long a client may leave a response unread, and leaves
//! hyper's limits as they are.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use poem::http::{HeaderValue, Response, Version, header, uri::Scheme};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::activity::Exchange;
use super::inspected_stream::InspectedStream;
use super::lifecycle::LifecycleWatch;
use super::request_framing::MAX_HEAD_BYTES;
use super::response_body::TrackedBody;
use super::slots::{ConnectionSlot, EndReason};
use super::tls::{Handshake, Tls};

/// What one HTTP/2 connection may use.
struct Http2Limits {
    /// Requests at once.
    streams: u32,
    /// What all requests of the connection may send before it is read.
    connection_window: u32,
}

/// For clients that have shown nothing genuine: enough for a browser, and for a proxy that opens a few connections. The
/// windows of all slots together hold 128 MB.
const UNTRUSTED: Http2Limits = Http2Limits { streams: 16, connection_window: 64 * 1024 - 1 };

/// For clients that sent a genuine request within the hour: as a proxy in front of many clients needs it. The window holds
/// the largest webhook.
const TRUSTED: Http2Limits = Http2Limits { streams: 128, connection_window: 1024 * 1024 };

/// What one request may send before it is read: the standard's default.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;

/// When an HTTP/2 client is asked whether it is still there, and how long it may take to answer. Without it a stream of
/// events to a machine that has lost its power would stay open for a quarter of an hour.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the other responses of a connection may take, when one is stalled or the client has closed its side.
const OTHER_RESPONSES_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a connection that is being closed is checked for having nothing left but streams.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last pieces of a connection's responses may take: hyper has them, so that no response is in progress.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What connections are served with.
pub(super) struct Server<E> {
    routes: E,
    tls: Option<Tls>,
    address: SocketAddr,
    for_trusted: auto::Builder<TokioExecutor>,
    for_untrusted: auto::Builder<TokioExecutor>,
    lifecycle: LifecycleWatch,
    drain: Duration,
}

impl<E: Endpoint + 'static> Server<E> {
    pub(super) fn new(
        routes: E,
        tls: Option<Tls>,
        address: SocketAddr,
        lifecycle: LifecycleWatch,
        drain: Duration,
    ) -> Self {
        let (for_trusted, for_untrusted) = (protocols(&TRUSTED), protocols(&UNTRUSTED));
        Self { routes, tls, address, for_trusted, for_untrusted, lifecycle, drain }
    }

    /// Serves a connection until it ends or its slot is needed for another.
    pub(super) async fn run(self: Arc<Self>, stream: TcpStream, slot: ConnectionSlot) {
        tokio::select! {
            () = self.serve(stream, &slot) => {}
            () = slot.evicted() => slot.count_end(EndReason::Evicted),
        }
    }

    /// Completes the TLS handshake, if there is one, within the time for the first request.
    async fn serve(self: Arc<Self>, stream: TcpStream, slot: &ConnectionSlot) {
        let Some(tls) = &self.tls else { return self.serve_http(stream, Scheme::HTTP, slot).await };
        let handshake = tokio::select! {
            handshake = tls.accept(stream) => handshake,
            overdue = slot.overdue() => return slot.count_end(EndReason::Overdue(overdue)),
            () = self.lifecycle.clone().stopping() => return,
        };
        match handshake {
            Handshake::Completed(stream) => self.serve_http(stream, Scheme::HTTPS, slot).await,
            Handshake::Failed => slot.count_end(EndReason::NoTls),
            Handshake::Abandoned => {}
        }
    }

    async fn serve_http<Io>(self: Arc<Self>, io: Io, scheme: Scheme, slot: &ConnectionSlot)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let protocols = if slot.is_trusted() { &self.for_trusted } else { &self.for_untrusted };
        let remote = RemoteAddr(slot.address().into());
        let (server, activity, trust_mark) = (self.clone(), slot.activity().clone(), slot.trust_mark());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let exchange = activity.start_exchange();
            let local = LocalAddr(server.address.into());
            let mut request: Request = (request, local, remote.clone(), scheme.clone()).into();
            request.extensions_mut().insert(trust_mark.clone());
            // In a box: hyper keeps this future's room for as long as the response is unread.
            Box::pin(server.clone().respond(request, exchange)) as Pin<Box<dyn Future<Output = _> + Send>>
        });
        let io = TokioIo::new(InspectedStream::new(io));
        let mut connection = pin!(protocols.serve_connection(io, service));
        let time_left = tokio::select! {
            // It has ended, or hyper gives it up since the client has closed its side. Polled again, hyper 1.12 still handles
            // requests that arrived whole and sends their responses, which a client that only closed its side can read.
            _ = &mut connection => {
                if slot.activity().has_only_streams() {
                    return;
                }
                OTHER_RESPONSES_TIMEOUT
            }
            overdue = slot.overdue() => {
                slot.count_end(EndReason::Overdue(overdue));
                connection.as_mut().graceful_shutdown();
                OTHER_RESPONSES_TIMEOUT
            }
            () = self.lifecycle.clone().stopping() => {
                connection.as_mut().graceful_shutdown();
                self.drain
            }
        };
        finish(connection, slot, time_left).await;
    }

    async fn respond(
        self: Arc<Self>,
        request: Request,
        exchange: Exchange,
    ) -> Result<Response<TrackedBody<impl Body<Data = Bytes, Error = io::Error> + Send + Unpin>>, Infallible>
    {
        let version = request.version();
        let mut response: Response<_> = self.routes.get_response(request).await.into();
        exchange.respond(is_event_stream(&response));
        if self.lifecycle.is_draining() && version <= Version::HTTP_11 {
            // Else the client's next request could meet a connection that is being closed. HTTP/2 sends GOAWAY for that.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| TrackedBody::new(body, exchange)))
    }
}

/// Lets a connection that is being closed finish its responses, but waits for no stream of events: those were told to end,
/// and a client may not be reading.
async fn finish<C: Future>(mut connection: Pin<&mut C>, slot: &ConnectionSlot, time_left: Duration) {
    let deadline = Instant::now() + time_left;
    let flush_deadline = Instant::now() + FLUSH_TIMEOUT;
    while timeout(CLOSE_CHECK_INTERVAL, &mut connection).await.is_err() {
        let (activity, now) = (slot.activity(), Instant::now());
        let is_flushed = !activity.is_idle() || now >= flush_deadline;
        if now >= deadline || (activity.has_only_streams() && is_flushed) {
            return;
        }
    }
}

/// HTTP/1 and, if the client starts with its preface, HTTP/2. hyper itself answers heads of more than 100 fields with 431,
/// and ends HTTP/2 connections that open streams only to reset them.
///
/// hyper's `header_read_timeout` is not used: it also runs while an HTTP/1 connection is idle, so that it could not be
/// shorter for a head than for a pause between requests. The connection's activity bounds both, for all versions.
fn protocols(limits: &Http2Limits) -> auto::Builder<TokioExecutor> {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols.http1().max_buf_size(MAX_HEAD_BYTES);
    protocols
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(limits.connection_window);
    protocols
}

fn is_event_stream<B>(response: &Response<B>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type == "text/event-stream")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use poem::{IntoEndpoint, Route, get, handler};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::clock::SystemClock;
    use crate::server::accept::end_overdue;
    use crate::server::lifecycle::Lifecycle;
    use crate::server::slots::ConnectionSlots;
    use crate::server::tls::{CertificateFiles, CertificateKeeper};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::topics::TopicLogs;

    const DRAIN: Duration = Duration::from_secs(15);

    /// As large as a page's script with its map.
    const LARGE_BYTES: usize = 3_000_000;

    #[handler]
    fn endless() -> poem::Response {
        let body = futures_util::stream::pending::<io::Result<Bytes>>();
        poem::Response::builder().content_type("text/event-stream").body(poem::Body::from_bytes_stream(body))
    }

    #[handler]
    fn large() -> Vec<u8> {
        vec![b'x'; LARGE_BYTES]
    }

    #[handler]
    async fn slow() -> &'static str {
        sleep(DRAIN / 2).await;
        "answered"
    }

    fn metrics() -> Metrics {
        Metrics::new(TopicLogs::none(), Arc::default())
    }

    fn server(tls: Option<Tls>) -> (Arc<Server<impl Endpoint>>, watch::Sender<Lifecycle>) {
        let (lifecycle, watch) = LifecycleWatch::start();
        let routes =
            Route::new().at("/endless", get(endless)).at("/slow", get(slow)).at("/large", get(large));
        let routes = routes.into_endpoint();
        let address = SocketAddr::from(([192, 0, 2, 2], 443));
        (Arc::new(Server::new(routes, tls, address, watch, DRAIN)), lifecycle)
    }

    /// A connection over which this was requested, and the task that serves it.
    async fn requested(path: &str) -> (DuplexStream, JoinHandle<()>, watch::Sender<Lifecycle>) {
        let client = SocketAddr::from(([192, 0, 2, 1], 1));
        let slots = ConnectionSlots::for_operators(metrics());
        let slot = slots.acquire(client).await.expect("a slot");
        let (server, lifecycle) = server(None);
        let (mut client, io) = duplex(1024);
        let serving = tokio::spawn(async move {
            tokio::select! {
                () = server.serve_http(io, Scheme::HTTP, &slot) => {}
                () = end_overdue(&slots) => {}
            }
        });
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("it is sent");
        // Long enough for it to be read, by a clock that stands still until then.
        sleep(Duration::from_millis(1)).await;
        (client, serving, lifecycle)
    }

    /// TLS with a self-signed certificate.
    fn tls() -> Tls {
        let dir = tempfile::tempdir().expect("a directory");
        let files =
            CertificateFiles { certificate: dir.path().join("certificate"), key: dir.path().join("key") };
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        fs::write(&files.certificate, made.cert.pem()).expect("written");
        fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        let certificate = files.read().expect("they fit");
        CertificateKeeper::new(files, certificate, Arc::new(SystemClock), metrics()).tls()
    }

    #[tokio::test]
    async fn unfinished_handshake_gives_its_slot_to_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (stream, remote)) = (client.expect("a connection"), accepted.expect("a connection"));
        let slots = ConnectionSlots::for_operators(metrics());
        let slot = slots.acquire(remote).await.expect("a slot");
        let (server, _lifecycle) = server(Some(tls()));
        let serving = tokio::spawn(server.run(stream, slot));
        client.write_all(&[22, 3, 1]).await.expect("it is sent");
        // As many as there are slots, each of another client and at work.
        let mut others = Vec::new();
        for host in 1..=192 {
            let other = slots.acquire(SocketAddr::from(([192, 0, 2, host], 1))).await.expect("a slot");
            others.push((other.activity().start_exchange(), other));
        }
        serving.await.expect("it was evicted");
    }

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_a_response() {
        let (mut client, serving, lifecycle) = requested("/slow").await;
        lifecycle.send_replace(Lifecycle::Stopping);
        serving.await.expect("it ends");
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered") && read.contains("\r\nconnection: close\r\n"), "{read}");
    }

    #[tokio::test(start_paused = true)]
    async fn stop_does_not_wait_for_a_stream() {
        let (_client, serving, lifecycle) = requested("/endless").await;
        let stopped_at = Instant::now();
        lifecycle.send_replace(Lifecycle::Stopping);
        serving.await.expect("it ends");
        assert!(stopped_at.elapsed() < 2 * CLOSE_CHECK_INTERVAL, "{:?}", stopped_at.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn draining_answers_and_closes_the_connection() {
        let (mut client, serving, lifecycle) = requested("/slow").await;
        lifecycle.send_replace(Lifecycle::Draining);
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered") && read.contains("\r\nconnection: close\r\n"), "{read}");
        serving.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn closed_stream_ends_its_connection_at_once() {
        let (client, serving, _lifecycle) = requested("/endless").await;
        drop(client);
        let closed_at = Instant::now();
        serving.await.expect("it ends");
        assert!(closed_at.elapsed() < CLOSE_CHECK_INTERVAL, "{:?}", closed_at.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_closed_its_side_gets_its_response() {
        let (mut client, serving, _lifecycle) = requested("/slow").await;
        client.shutdown().await.expect("its side is closed");
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered"), "{read}");
        serving.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_download_is_completed_while_it_makes_progress() {
        let (mut client, serving, _lifecycle) = requested("/large").await;
        let (mut received, mut piece) = (Vec::new(), vec![0; 20_000]);
        while received.len() < LARGE_BYTES {
            let read = client.read(&mut piece).await.expect("it is not cut");
            assert_ne!(read, 0, "it was cut after {} bytes", received.len());
            received.extend_from_slice(&piece[..read]);
            // A thousand bytes a second.
            sleep(Duration::from_millis(read as u64)).await;
        }
        drop(client);
        serving.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn unread_download_is_ended_after_a_minute() {
        let (client, serving, _lifecycle) = requested("/large").await;
        let requested_at = Instant::now();
        serving.await.expect("it is ended");
        assert!((60..90).contains(&requested_at.elapsed().as_secs()), "{:?}", requested_at.elapsed());
        drop(client);
    }
}
