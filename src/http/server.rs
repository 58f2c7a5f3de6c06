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
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::acceptor::NodelayAcceptor;
use super::connections::{Answering, Place};
use super::event_stream::EventStream;
use super::head::HEAD_BYTES;
use super::stage::Stages;
use super::tap::Tap;

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
    routes: impl Endpoint + 'static,
    stages: Stages,
    drain: Duration,
) {
    let mut stopping = pin!(stages.clone().stopping());
    let address = acceptor.address();
    let server = Arc::new(Server { routes, address, protocols: protocols(), stages, drain });
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut stopping => break,
            taken = acceptor.accept() => taken,
        };
        let (server, open) = (server.clone(), open.clone());
        tokio::spawn(async move {
            server.attend(stream, &place).await;
            drop(open);
        });
    }
    drop((acceptor, open));
    // Nothing is ever sent: it ends when the last connection has.
    all_closed.recv().await;
}

struct Server<E> {
    routes: E,
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
    /// Answers what comes over a connection until one side has had enough.
    async fn attend<Io>(self: Arc<Self>, io: Io, place: &Place)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let caller = place.caller();
        let (local, remote) = (LocalAddr(self.address.into()), RemoteAddr(place.address().into()));
        let (server, work) = (self.clone(), caller.work.clone());
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            let (server, answering) = (server.clone(), work.clone().answer());
            let (local, remote) = (local.clone(), remote.clone());
            async move {
                let version = request.version();
                let request = (request, local, remote, Scheme::HTTP).into();
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
