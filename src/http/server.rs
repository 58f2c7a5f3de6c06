//! Answering what comes over connections. poem's own server has no bound on how long a head may take, holds a connection
//! whose peer is silent for good once it has begun to close it, and leaves hyper's bounds as they are.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use poem::Endpoint;
use poem::http::{HeaderValue, Response, Version, header, uri::Scheme};
use poem::web::{LocalAddr, RemoteAddr};
use poem_openapi::payload::Payload;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::acceptor::NodelayAcceptor;
use super::connections::{Answering, Place};
use super::event_stream::EventStream;
use super::head::HEAD_BYTES;
use super::stage::Stages;
use super::tap::Tap;
use super::tls::{Agreement, Tls};

/// Requests at once over one connection of HTTP/2: what a proxy in front of many clients has under way.
const STREAMS: u32 = 128;

/// What a stream may send before it is read (the standard's own), and all of a connection's: a webhook of the largest.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long an answer may take to be fetched: the largest, a page's script, over a slow line.
const FETCHED: Duration = Duration::from_mins(2);

/// The same for a stream of events: a minute more than one is open for.
const STREAMED: Duration = Duration::from_mins(61);

/// How long a connection that has nothing to answer, or nothing but streams, may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long what else is being answered over a connection may take, when one answer on it is not fetched.
const OTHERS: Duration = Duration::from_secs(15);

/// Answers requests until the service stops, and then for as long as `drain` those that have begun.
pub async fn serve(
    acceptor: NodelayAcceptor,
    tls: Option<Tls>,
    routes: impl Endpoint + 'static,
    stages: Stages,
    drain: Duration,
) {
    let mut stopping = pin!(stages.clone().stopping());
    let address = acceptor.address();
    let server = Arc::new(Server { routes, tls, address, protocols: protocols(), stages, drain });
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut stopping => break,
            taken = acceptor.accept() => taken,
        };
        let (server, open) = (server.clone(), open.clone());
        tokio::spawn(async move {
            server.welcome(stream, &place).await;
            drop(open);
        });
    }
    drop((acceptor, open));
    // Nothing is ever sent: it ends when the last connection has.
    all_closed.recv().await;
}

struct Server<E> {
    routes: E,
    tls: Option<Tls>,
    address: SocketAddr,
    protocols: auto::Builder<TokioExecutor>,
    stages: Stages,
    drain: Duration,
}

/// HTTP/1 and, if it begins so, HTTP/2. hyper itself answers heads of more than 100 fields with 431, and ends connections
/// of HTTP/2 whose streams are opened only to be reset.
fn protocols() -> auto::Builder<TokioExecutor> {
    let head_bytes = u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX);
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols.http1().max_buf_size(HEAD_BYTES);
    protocols
        .http2()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(head_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    protocols
}

impl<E: Endpoint + 'static> Server<E> {
    /// Attends to a connection that has been taken, once TLS is agreed on where it is to be. That has the time of a first
    /// head: however it is used, there is silence until then.
    async fn welcome(self: Arc<Self>, stream: TcpStream, place: &Place) {
        let Some(tls) = &self.tls else { return self.attend(stream, Scheme::HTTP, place).await };
        let caller = place.caller();
        let agreement = tokio::select! {
            agreement = tls.agree(stream) => agreement,
            () = caller.given_way() => return caller.ended("crowded"),
            overdue = caller.work.overdue() => return caller.ended(overdue.as_str()),
            () = self.stages.clone().stopping() => return,
        };
        match agreement {
            Agreement::Reached(stream) => self.attend(stream, Scheme::HTTPS, place).await,
            Agreement::Failed => caller.ended("no_tls"),
            Agreement::Left => {}
        }
    }

    /// Answers what comes over a connection until one side has had enough.
    async fn attend<Io>(self: Arc<Self>, io: Io, scheme: Scheme, place: &Place)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let caller = place.caller();
        let (local, remote) = (LocalAddr(self.address.into()), RemoteAddr(place.address().into()));
        let (server, work) = (self.clone(), caller.work.clone());
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            let (server, answering) = (server.clone(), work.clone().answer());
            let (local, remote, scheme) = (local.clone(), remote.clone(), scheme.clone());
            async move {
                let version = request.version();
                let request = (request, local, remote, scheme).into();
                let mut response: Response<_> = server.routes.get_response(request).await.into();
                if is_stream(&response) {
                    answering.stream_for(STREAMED);
                } else {
                    answering.be_out_in(FETCHED);
                }
                if server.stages.is_leaving() && version <= Version::HTTP_11 {
                    // Or the next request could meet a connection that is just being closed. HTTP/2 has a word for that.
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| UnderWay { body, _answering: answering }))
            }
        });
        let io = TokioIo::new(Tap::new(io, caller.clone()));
        let mut connection = pin!(self.protocols.serve_connection(io, answer));
        let patience = tokio::select! {
            // Over, or given up by hyper because its sender has hung up: what had come whole may not have been looked at yet
            // then. Asked again, hyper goes on with it; poem's own server asks again too.
            _ = &mut connection => {
                if caller.work.is_silent() {
                    return;
                }
                OTHERS
            }
            () = caller.given_way() => return caller.ended("crowded"),
            overdue = caller.work.overdue() => {
                caller.ended(overdue.as_str());
                OTHERS
            }
            () = self.stages.clone().stopping() => self.drain,
        };
        connection.as_mut().graceful_shutdown();
        if timeout(GOODBYE, &mut connection).await.is_err() {
            tokio::select! {
                _ = timeout(patience, &mut connection) => {}
                // The streams were told, and nobody has read it.
                () = caller.work.only_streams() => {}
            }
        }
    }
}

fn is_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind == EventStream::CONTENT_TYPE)
}

/// The body of an answer, which is under way until it is dropped.
struct UnderWay<B> {
    body: B,
    _answering: Answering,
}

impl<B: Body + Unpin> Body for UnderWay<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use bytes::Bytes;
    use poem::{Body, IntoEndpoint, Route, get, handler};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::clock::SystemClock;
    use crate::http::connections::Connections;
    use crate::http::stage::Stage;
    use crate::http::tls::{CertificateFiles, CertificateKeeper};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::topics::{LogConfig, TopicLogs};

    const DRAIN: Duration = Duration::from_secs(15);

    #[handler]
    fn endless() -> poem::Response {
        let body = futures_util::stream::pending::<io::Result<Bytes>>();
        poem::Response::builder().content_type(EventStream::CONTENT_TYPE).body(Body::from_bytes_stream(body))
    }

    #[handler]
    async fn slow() -> &'static str {
        sleep(DRAIN / 2).await;
        "answered"
    }

    fn metrics() -> Metrics {
        let dir = tempfile::tempdir().expect("a directory");
        Metrics::new(TopicLogs::open(&LogConfig::in_dir(dir.path())), Arc::default())
    }

    fn server(tls: Option<Tls>) -> (Arc<Server<impl Endpoint>>, watch::Sender<Stage>) {
        let (stage, stages) = Stages::begin();
        let routes = Route::new().at("/endless", get(endless)).at("/slow", get(slow)).into_endpoint();
        let address = SocketAddr::from(([192, 0, 2, 2], 443));
        (Arc::new(Server { routes, tls, address, protocols: protocols(), stages, drain: DRAIN }), stage)
    }

    /// A connection on which this was asked for, and whoever attends to it.
    async fn asked(path: &str) -> (DuplexStream, JoinHandle<()>, watch::Sender<Stage>) {
        let caller = SocketAddr::from(([192, 0, 2, 1], 1));
        let place = Connections::of_few(metrics()).open(caller).expect("room");
        let (server, stage) = server(None);
        let (mut client, io) = duplex(1024);
        let attending = tokio::spawn(async move { server.attend(io, Scheme::HTTP, &place).await });
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("it is sent");
        // Long enough for it to be read, by a clock that stands still until then.
        sleep(Duration::from_millis(1)).await;
        (client, attending, stage)
    }

    /// TLS with a certificate of nobody's.
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
    async fn whoever_does_not_finish_a_handshake_makes_room_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, taken) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (stream, caller)) = (client.expect("a connection"), taken.expect("a connection"));
        let connections = Connections::of_few(metrics());
        let place = connections.open(caller).expect("room");
        let (server, _stage) = server(Some(tls()));
        let welcoming = tokio::spawn(async move { server.welcome(stream, &place).await });
        client.write_all(&[22, 3, 1]).await.expect("it is sent");
        // As many as there is room for, and each of them more lately.
        let others: Vec<_> =
            (1..=192).map(|port| connections.open(SocketAddr::from(([192, 0, 2, 1], port)))).collect();
        assert!(others.iter().all(Option::is_some), "there is room");
        welcoming.await.expect("it has given way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_an_answer() {
        let (mut client, attending, stage) = asked("/slow").await;
        stage.send_replace(Stage::Stopping);
        attending.await.expect("it ends");
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered") && read.contains("\r\nconnection: close\r\n"), "{read}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_no_stream_longer_than_for_a_goodbye() {
        let (_client, attending, stage) = asked("/endless").await;
        let begun = Instant::now();
        stage.send_replace(Stage::Stopping);
        attending.await.expect("it ends");
        assert!(begun.elapsed() < 2 * GOODBYE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_says_so_to_whoever_asks_and_answers_all_the_same() {
        let (mut client, attending, stage) = asked("/slow").await;
        stage.send_replace(Stage::Leaving);
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("text");
        assert!(read.ends_with("answered") && read.contains("\r\nconnection: close\r\n"), "{read}");
        attending.await.expect("it ends");
    }
}
