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

/// Where webhooks are posted. The events of a later turn go on where the last one ended.
#[derive(Clone)]
pub struct Webhooks {
    address: SocketAddr,
    next: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
}

impl Webhooks {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, next: Arc::default(), taken: Arc::default() }
    }

    /// How many were taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Posts over so many connections for so long. All are taken, or the benchmark ends.
    pub async fn post(&self, connections: usize, turn: Duration) -> Figures {
        let figures = ask(self.address, connections, turn, self.webhooks()).await;
        self.taken.fetch_add(figures.count() as u64, Ordering::Relaxed);
        figures
    }

    /// The same, but an event may be refused as long as it is told when to come again.
    pub async fn flood(&self, connections: usize, turn: Duration) -> Flood {
        let (answers, lasted) = ask_all(self.address, connections, turn, self.webhooks()).await;
        let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert!(
            refused.iter().all(|answer| answer.status == 503 && answer.says_when),
            "what is not taken is told when to come again"
        );
        self.taken.fetch_add(taken.len() as u64, Ordering::Relaxed);
        let [taken, refused] = [taken, refused]
            .map(|answers| Figures::of(answers.into_iter().map(|answer| answer.took).collect(), lasted));
        Flood { taken, refused }
    }

    fn webhooks(&self) -> impl Fn() -> Vec<u8> + Clone + Send + 'static {
        let (address, next) = (self.address, self.next.clone());
        move || webhook(address, &event::body(next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Posts one event for each subscription, so that all are held.
    pub async fn introduce(&self) {
        while self.taken() < event::SUBSCRIPTIONS {
            self.post(INTRODUCERS, Duration::from_millis(100)).await;
        }
    }
}

/// What came of a flood.
pub struct Flood {
    pub taken: Figures,
    pub refused: Figures,
}

impl Flood {
    pub fn offered_per_second(&self) -> f64 {
        self.taken.per_second() + self.refused.per_second()
    }
}

/// Sends a request again and again over so many connections for so long. All are answered well.
pub async fn ask(
    address: SocketAddr,
    connections: usize,
    turn: Duration,
    request: impl Fn() -> Vec<u8> + Clone + Send + 'static,
) -> Figures {
    let (answers, lasted) = ask_all(address, connections, turn, request).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "every request is answered well");
    Figures::of(answers.into_iter().map(|answer| answer.took).collect(), lasted)
}

struct Answer {
    took: Duration,
    status: u16,
    says_when: bool,
}

async fn ask_all(
    address: SocketAddr,
    connections: usize,
    turn: Duration,
    request: impl Fn() -> Vec<u8> + Clone + Send + 'static,
) -> (Vec<Answer>, Duration) {
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
    let mut answers = Vec::new();
    for asker in askers {
        answers.extend(asker.await.expect("every request is answered"));
    }
    (answers, began.elapsed())
}

async fn ask_until(mut stream: TcpStream, until: Instant, request: impl Fn() -> Vec<u8>) -> Vec<Answer> {
    let mut answers = Vec::new();
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
        answers.push(told(&answer, began.elapsed()));
    }
    answers
}

fn told(answer: &[u8], took: Duration) -> Answer {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { took, status, says_when: text.to_ascii_lowercase().contains("\r\nretry-after: ") }
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
