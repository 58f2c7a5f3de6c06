//! Who asks, as fast as it is answered, over connections that stay open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::event;
use crate::figures::Figures;
use crate::service::WEBHOOK_SECRET;

/// Room for an answer's head and body: ours are small.
const ANSWER_BYTES: usize = 4096;

/// Who posts at once so that all subscriptions are soon held.
const INTRODUCERS: usize = 64;

/// Where webhooks are posted, and how many have been. The events of a later turn go on where the last one ended.
#[derive(Clone)]
pub struct Webhooks {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Webhooks {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, sent: Arc::default() }
    }

    /// How many were sent, and so taken: whatever is not taken ends the benchmark.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Posts over so many connections for so long.
    pub async fn post(&self, connections: usize, turn: Duration) -> Figures {
        let address = self.address;
        let sent = self.sent.clone();
        ask(address, connections, turn, move || {
            webhook(address, &event::body(sent.fetch_add(1, Ordering::Relaxed)))
        })
        .await
    }

    /// Posts one event for each subscription, so that all are held.
    pub async fn introduce(&self) {
        while self.sent() < event::SUBSCRIPTIONS {
            self.post(INTRODUCERS, Duration::from_millis(100)).await;
        }
    }
}

/// Sends a request again and again over so many connections for so long.
pub async fn ask(
    address: SocketAddr,
    connections: usize,
    turn: Duration,
    request: impl Fn() -> Vec<u8> + Clone + Send + 'static,
) -> Figures {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.expect("the service answers");
        stream.set_nodelay(true).expect("a socket");
        streams.push(stream);
    }
    let began = Instant::now();
    let askers =
        streams.into_iter().map(|stream| tokio::spawn(ask_until(stream, began + turn, request.clone())));
    let askers: Vec<_> = askers.collect();
    let mut latencies = Vec::new();
    for asker in askers {
        latencies.extend(asker.await.expect("every request is answered well"));
    }
    Figures::of(latencies, began.elapsed())
}

async fn ask_until(mut stream: TcpStream, until: Instant, request: impl Fn() -> Vec<u8>) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    while Instant::now() < until {
        let request = request();
        let began = Instant::now();
        stream.write_all(&request).await.expect("the request is sent");
        answer.clear();
        while !is_whole(&answer) {
            let read = stream.read_buf(&mut answer).await.expect("an answer");
            assert!(read > 0, "the service hung up");
        }
        latencies.push(began.elapsed());
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    latencies
}

/// Whether the head is there, and as much of the body as it announces.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().expect("a length"));
    answer.len() >= end + 4 + length
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
