//! The load generator: over keep-alive connections, each of which sends its next request as soon as
//! it has a response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::event;
use crate::run_stats::RunStats;
use crate::service::WEBHOOK_SECRET;

/// The initial capacity for a response's head and body.
const RESPONSE_BYTES: usize = 4096;

/// Connections that create the subscriptions before a measurement.
const SETUP_CONNECTIONS: usize = 64;

/// Sends events to one address. Event numbers continue from run to run.
#[derive(Clone)]
pub struct WebhookSender {
    address: SocketAddr,
    next: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
}

impl WebhookSender {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, next: Arc::default(), accepted: Arc::default() }
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Panics unless every event is accepted.
    pub async fn post(&self, connections: usize, run_duration: Duration) -> RunStats {
        let stats = send_requests(self.address, connections, run_duration, self.webhooks()).await;
        self.accepted.fetch_add(stats.count() as u64, Ordering::Relaxed);
        stats
    }

    /// Panics unless every event is accepted, or rejected with 503 and `Retry-After`.
    pub async fn overload(&self, connections: usize, run_duration: Duration) -> Overload {
        let (responses, elapsed) = send_all(self.address, connections, run_duration, self.webhooks()).await;
        let (accepted, rejected): (Vec<_>, Vec<_>) =
            responses.into_iter().partition(|response| response.status == 200);
        assert!(
            rejected.iter().all(|response| response.status == 503 && response.has_retry_after),
            "a rejected event gets 503 with Retry-After"
        );
        self.accepted.fetch_add(accepted.len() as u64, Ordering::Relaxed);
        let [accepted, rejected] = [accepted, rejected].map(|responses| stats(responses, elapsed));
        Overload { accepted, rejected }
    }

    fn webhooks(&self) -> impl Fn() -> Vec<u8> + Clone + Send + 'static {
        let (address, next) = (self.address, self.next.clone());
        move || webhook(address, &event::body(next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Sends at least one event for each subscription.
    pub async fn create_subscriptions(&self) {
        while self.accepted() < event::SUBSCRIPTIONS {
            self.post(SETUP_CONNECTIONS, Duration::from_millis(100)).await;
        }
    }
}

pub struct Overload {
    pub accepted: RunStats,
    pub rejected: RunStats,
}

impl Overload {
    pub fn offered_per_second(&self) -> f64 {
        self.accepted.per_second() + self.rejected.per_second()
    }
}

/// Panics unless every response is 200.
pub async fn send_requests(
    address: SocketAddr,
    connections: usize,
    run_duration: Duration,
    request: impl Fn() -> Vec<u8> + Clone + Send + 'static,
) -> RunStats {
    let (responses, elapsed) = send_all(address, connections, run_duration, request).await;
    assert!(responses.iter().all(|response| response.status == 200), "every response is 200");
    stats(responses, elapsed)
}

fn stats(responses: Vec<Response>, elapsed: Duration) -> RunStats {
    RunStats::new(responses.into_iter().map(|response| response.latency).collect(), elapsed)
}

struct Response {
    latency: Duration,
    status: u16,
    has_retry_after: bool,
}

async fn send_all(
    address: SocketAddr,
    connections: usize,
    run_duration: Duration,
    request: impl Fn() -> Vec<u8> + Clone + Send + 'static,
) -> (Vec<Response>, Duration) {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.expect("the service answers");
        stream.set_nodelay(true).expect("a socket");
        streams.push(stream);
    }
    let started = Instant::now();
    let until = started + run_duration;
    let tasks = streams.into_iter().map(|stream| tokio::spawn(send_until(stream, until, request.clone())));
    let tasks: Vec<_> = tasks.collect();
    let mut responses = Vec::new();
    for task in tasks {
        responses.extend(task.await.expect("every request is answered"));
    }
    (responses, started.elapsed())
}

async fn send_until(mut stream: TcpStream, until: Instant, request: impl Fn() -> Vec<u8>) -> Vec<Response> {
    let mut responses = Vec::new();
    let mut response = Vec::with_capacity(RESPONSE_BYTES);
    while Instant::now() < until {
        let request = request();
        let started = Instant::now();
        stream.write_all(&request).await.expect("the request is sent");
        response.clear();
        while !is_complete(&response) {
            let read = stream.read_buf(&mut response).await.expect("a response");
            assert!(read > 0, "the service closed the connection");
        }
        responses.push(parse_response(&response, started.elapsed()));
    }
    responses
}

fn parse_response(response: &[u8], latency: Duration) -> Response {
    let text = String::from_utf8_lossy(response);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Response { latency, status, has_retry_after: text.to_ascii_lowercase().contains("\r\nretry-after: ") }
}

fn is_complete(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().expect("a length"));
    response.len() >= end + 4 + length
}

fn webhook(address: SocketAddr, body: &str) -> Vec<u8> {
    let signature = event::signature(WEBHOOK_SECRET, body);
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json; charset=utf-8\r\n\
         User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nAccept: */*; q=0.5, application/xml\r\n\
         Stripe-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    head.into_bytes()
}
