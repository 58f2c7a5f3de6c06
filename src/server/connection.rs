//! Serves one connection.
//!
//! poem's own server has no timeout for a request head or for an unread response, and does not
//! expose hyper's limits.

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
use super::inspected_stream::{InspectedStream, MAX_HEAD_BYTES};
use super::lifecycle::LifecycleWatch;
use super::response_body::TrackedBody;
use super::slots::{ConnectionSlot, EndReason};
use super::tls::{Handshake, Tls};

struct Http2Limits {
    /// Concurrent requests.
    streams: u32,
    /// Bytes that all requests of the connection may send before the service reads them.
    connection_window: u32,
}

/// For clients without a recent verified request: enough for a browser, or for a proxy that opens a
/// few connections. The windows of all slots together hold 128 MB.
const UNTRUSTED: Http2Limits = Http2Limits { streams: 16, connection_window: 64 * 1024 - 1 };

/// For clients that sent a verified request within the last hour: what a proxy in front of many
/// clients needs. The window holds the largest webhook.
const TRUSTED: Http2Limits = Http2Limits { streams: 128, connection_window: 1024 * 1024 };

/// Bytes that one request may send before the service reads them: the HTTP/2 default.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;

/// HTTP/2 pings. Without them an event stream to a machine that lost power would stay open for a
/// quarter of an hour.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the other responses of a connection may take after one has stalled or the client has
/// closed its side.
const OTHER_RESPONSES_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a closing connection is checked for having only event streams left.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long hyper may take to flush the ends of the last responses, which no longer count as in
/// progress.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Server<E> {
    routes: E,
    tls: Option<Tls>,
    address: SocketAddr,
    for_trusted: auto::Builder<TokioExecutor>,
    for_untrusted: auto::Builder<TokioExecutor>,
    lifecycle: LifecycleWatch,
    finish_timeout: Duration,
}

impl<E: Endpoint + 'static> Server<E> {
    pub(super) fn new(
        routes: E,
        tls: Option<Tls>,
        address: SocketAddr,
        lifecycle: LifecycleWatch,
        finish_timeout: Duration,
    ) -> Self {
        let (for_trusted, for_untrusted) = (protocols(&TRUSTED), protocols(&UNTRUSTED));
        Self { routes, tls, address, for_trusted, for_untrusted, lifecycle, finish_timeout }
    }

    /// Serves a connection until it ends or is evicted from its slot.
    pub(super) async fn run(self: Arc<Self>, stream: TcpStream, slot: ConnectionSlot) {
        tokio::select! {
            () = self.serve(stream, &slot) => {}
            () = slot.evicted() => slot.count_end(EndReason::Evicted),
        }
    }

    /// Does the TLS handshake, if TLS is configured, within the timeout of the first request.
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
            // Boxed, since hyper keeps the memory of this future until the client has read the
            // response.
            Box::pin(server.clone().respond(request, exchange)) as Pin<Box<dyn Future<Output = _> + Send>>
        });
        let io = TokioIo::new(InspectedStream::new(io));
        let mut connection = pin!(protocols.serve_connection(io, service));
        let time_left = tokio::select! {
            // The connection has ended, or the client has closed its side. If polled again, hyper
            // 1.12 still handles requests that arrived completely. A client that only closed its
            // sending side can read their responses.
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
                self.finish_timeout
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
            // Otherwise the client could send its next request on a connection that is being
            // closed. HTTP/2 has GOAWAY.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| TrackedBody::new(body, exchange)))
    }
}

/// Lets a closing connection finish its responses. Does not wait for event streams: they have been
/// asked to end, and the client may not be reading.
async fn finish<C: Future>(mut connection: Pin<&mut C>, slot: &ConnectionSlot, time_left: Duration) {
    let deadline = Instant::now() + time_left;
    let flush_deadline = Instant::now() + FLUSH_TIMEOUT;
    while timeout(CLOSE_CHECK_INTERVAL, &mut connection).await.is_err() {
        let (activity, now) = (slot.activity(), Instant::now());
        let may_still_flush = activity.is_idle() && now < flush_deadline;
        if now >= deadline || (activity.has_only_streams() && !may_still_flush) {
            return;
        }
    }
}

/// HTTP/1, and HTTP/2 if the client starts with its preface. hyper itself rejects heads of more
/// than 100 fields with 431 and closes HTTP/2 connections that open streams only to reset them.
///
/// hyper's `header_read_timeout` is not used: it also runs while an HTTP/1 connection is idle, so
/// the timeout for a head could not be shorter than the idle timeout. `ConnectionActivity` has
/// both, for all versions.
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
    use crate::server::tls::{CertificateFiles, CertificateReloader};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::topics::TopicLogs;

    const DRAIN: Duration = Duration::from_secs(15);

    /// The size of a frontend bundle with its source map.
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

    /// Opens a connection, requests the path, and returns the client with the serving task.
    async fn request(path: &str) -> (DuplexStream, JoinHandle<()>, watch::Sender<Lifecycle>) {
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
        client.write_all(request.as_bytes()).await.expect("sent");
        // Lets the server read the request. The clock is paused.
        sleep(Duration::from_millis(1)).await;
        (client, serving, lifecycle)
    }

    /// TLS with a self-signed certificate.
    fn tls() -> Tls {
        let dir = tempfile::tempdir().expect("a directory");
        let files =
            CertificateFiles { certificate: dir.path().join("certificate"), key: dir.path().join("key") };
        let generated = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        fs::write(&files.certificate, generated.cert.pem()).expect("written");
        fs::write(&files.key, generated.signing_key.serialize_pem()).expect("written");
        let certificate = files.read().expect("the key belongs to the certificate");
        CertificateReloader::new(files, certificate, Arc::new(SystemClock), metrics()).tls()
    }

    #[tokio::test]
    async fn unfinished_tls_handshake_is_evicted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (stream, remote)) = (client.expect("a connection"), accepted.expect("a connection"));
        let slots = ConnectionSlots::for_operators(metrics());
        let slot = slots.acquire(remote).await.expect("a slot");
        let (server, _lifecycle) = server(Some(tls()));
        let serving = tokio::spawn(server.run(stream, slot));
        client.write_all(&[22, 3, 1]).await.expect("sent");
        // One busy connection for each slot, from different clients.
        let mut others = Vec::new();
        for host in 1..=192 {
            let other = slots.acquire(SocketAddr::from(([192, 0, 2, host], 1))).await.expect("a slot");
            others.push((other.activity().start_exchange(), other));
        }
        serving.await.expect("it was evicted");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_waits_for_a_response() {
        let (mut client, serving, lifecycle) = request("/slow").await;
        lifecycle.send_replace(Lifecycle::Stopping);
        serving.await.expect("it ends");
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered") && read.contains("\r\nconnection: close\r\n"), "{read}");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_does_not_wait_for_a_stream() {
        let (_client, serving, lifecycle) = request("/endless").await;
        let stopped_at = Instant::now();
        lifecycle.send_replace(Lifecycle::Stopping);
        serving.await.expect("it ends");
        assert!(stopped_at.elapsed() < 2 * CLOSE_CHECK_INTERVAL, "{:?}", stopped_at.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn draining_responds_and_closes_the_connection() {
        let (mut client, serving, lifecycle) = request("/slow").await;
        lifecycle.send_replace(Lifecycle::Draining);
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered") && read.contains("\r\nconnection: close\r\n"), "{read}");
        serving.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn client_closing_a_stream_ends_its_connection_at_once() {
        let (client, serving, _lifecycle) = request("/endless").await;
        drop(client);
        let closed_at = Instant::now();
        serving.await.expect("it ends");
        assert!(closed_at.elapsed() < CLOSE_CHECK_INTERVAL, "{:?}", closed_at.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn half_closed_client_receives_its_response() {
        let (mut client, serving, _lifecycle) = request("/slow").await;
        client.shutdown().await.expect("its side is closed");
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered"), "{read}");
        serving.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_download_completes_while_it_makes_progress() {
        let (mut client, serving, _lifecycle) = request("/large").await;
        let (mut received, mut piece) = (Vec::new(), vec![0; 20_000]);
        while received.len() < LARGE_BYTES {
            let read = client.read(&mut piece).await.expect("the connection is open");
            assert_ne!(read, 0, "the connection was closed after {} bytes", received.len());
            received.extend_from_slice(&piece[..read]);
            // 1000 bytes a second.
            sleep(Duration::from_millis(read as u64)).await;
        }
        drop(client);
        serving.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn unread_download_is_closed_after_a_minute() {
        let (client, serving, _lifecycle) = request("/large").await;
        let requested_at = Instant::now();
        serving.await.expect("it ends");
        assert!((60..90).contains(&requested_at.elapsed().as_secs()), "{:?}", requested_at.elapsed());
        drop(client);
    }
}
