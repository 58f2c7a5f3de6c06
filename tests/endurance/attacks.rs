//! Unauthenticated attacks on the connection slots. During each, ordinary webhooks and reads, from
//! another address and from the attacker's own, must be answered.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::eventually::TEST_TIMEOUT;
use crate::flood::{delivery, peak_memory_kb};
use crate::full_disk::sqlite_url;
use crate::service_process::{RESPONSE_TIMEOUT, ServiceProcess, token_of};
use crate::support::api_response::ApiResponse;
use crate::support::http2_frames::{HEADERS, PING, PREFACE, SETTINGS, frame};
use crate::support::test_slot::raise_file_limit;

/// The service's connection slots, and a few more connections than that.
const SLOTS: usize = 2048;
const ATTACK_CONNECTIONS: usize = SLOTS + 52;

/// Connections with 128 streams each: two and a half times as many responses as may be unread in
/// the whole process.
const TRUSTED_CONNECTIONS: usize = 160;

/// Connections that are opened at a time.
const CONCURRENT_CONNECTS: usize = 10;

/// New connections a second once all slots are in use.
const RECONNECTS_PER_SECOND: u64 = 500;

/// The limit for the whole process with all slots in use.
const MAX_MEMORY_KB: u64 = 300 * 1024;

const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn is_soak() -> bool {
    std::env::var_os("BILLHOOK_SOAK").is_some()
}

/// How long an attack lasts once all its connections are open.
fn duration() -> Duration {
    Duration::from_secs(if is_soak() { 60 } else { 5 })
}

fn rounds() -> usize {
    if is_soak() { 10 } else { 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_idle_connections_blocks_no_request() {
    for _ in 0..rounds() {
        under_attack("idle connections", async |address| {
            let mut connections: VecDeque<_> = connect_all(address, &[]).await.into();
            let per_second = u32::try_from(RECONNECTS_PER_SECOND).expect("it fits");
            let mut tick = interval(Duration::from_secs(1) / per_second);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let started = Instant::now();
            while started.elapsed() < duration() {
                tick.tick().await;
                if let Ok(stream) = connect(address, &[]).await {
                    connections.pop_front();
                    connections.push_back(stream);
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_http2_response_on_every_slot_blocks_no_request() {
    under_attack("zero windows, one stream each", async |address| {
        stall(address, ATTACK_CONNECTIONS, 0, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_unread_http2_responses_take_bounded_memory() {
    // Ordinary webhooks come from the attacker's address too. They make it trusted, which allows
    // this many streams.
    let trusted_streams = 128;
    under_attack("zero windows, 128 streams each", async |address| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stall(address, TRUSTED_CONNECTIONS, 0, trusted_streams).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_windows_of_one_byte_block_no_request() {
    under_attack("one-byte windows", async |address| stall(address, ATTACK_CONNECTIONS, 1, 16).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_heads_and_bodies_block_no_request() {
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(30 * 1024));
    let body = "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{";
    let unread = "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{";
    for (name, bytes) in [("long heads", &*long), ("webhook bodies", body), ("unwanted bodies", unread)] {
        under_attack(name, async |address| {
            let connections = connect_all(address, bytes.as_bytes()).await;
            tokio::time::sleep(duration()).await;
            drop(connections);
        })
        .await;
    }
}

/// Runs an attack on a new service. During it ordinary requests are answered and memory stays
/// bounded, and afterwards the service is ready.
async fn under_attack(name: &str, attack: impl AsyncFnOnce(SocketAddr)) {
    raise_file_limit();
    let dir = TempDir::new().expect("a directory");
    let url = sqlite_url(dir.path());
    let service = ServiceProcess::start(dir, &url).await;
    let address = service.url().trim_start_matches("http://").parse().expect("an address");
    let ordinary = [ATTACKER, OTHER].map(|from| OrdinaryTraffic::start(&service, from));
    attack(address).await;
    let memory_kb = peak_memory_kb(&service);
    for traffic in ordinary {
        traffic.finish(name).await;
    }
    eprintln!("{name}: {} MB", memory_kb / 1024);
    assert!(memory_kb < MAX_MEMORY_KB, "{name}: {memory_kb} KB");
    service.until_ready().await;
}

/// Webhooks and reads, one at a time, over a kept-alive connection and over new ones.
struct OrdinaryTraffic {
    from: IpAddr,
    is_finishing: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<Duration>,
}

impl OrdinaryTraffic {
    fn start(service: &ServiceProcess, from: IpAddr) -> Self {
        let (is_finishing, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(send_requests(service.url(), from, is_finishing.clone(), answered.clone()));
        Self { from, is_finishing, answered, task }
    }

    async fn finish(self, attack: &str) {
        self.is_finishing.store(true, SeqCst);
        let slowest = self.task.await.expect("every request was answered");
        let answered = self.answered.load(SeqCst);
        eprintln!("{attack}: {answered} requests from {} answered, the slowest in {slowest:?}", self.from);
        assert!(answered > 10, "{attack}: only {answered} requests answered");
    }
}

/// Returns the slowest response time.
async fn send_requests(
    url: String,
    from: IpAddr,
    is_finishing: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Duration {
    let client = || Client::builder().timeout(RESPONSE_TIMEOUT).local_address(from);
    let kept = client().build().expect("a client");
    let token = token_of("ordinary");
    let mut slowest = Duration::ZERO;
    while !is_finishing.load(SeqCst) {
        let fresh = client().pool_max_idle_per_host(0).build().expect("a client");
        for http in [&kept, &fresh] {
            let read = http.get(format!("{url}/api/billing/subscription/")).bearer_auth(&token);
            for request in [delivery(http, &url), read] {
                let started = Instant::now();
                let response = ApiResponse::send(request).await;
                assert_eq!(response.status, 200, "{from}: {}", response.text);
                slowest = slowest.max(started.elapsed());
                answered.fetch_add(1, SeqCst);
            }
        }
    }
    slowest
}

async fn connect(address: SocketAddr, first: &[u8]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((ATTACKER, 0)))?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(first).await?;
    Ok(stream)
}

/// The service may have closed some connections before the last is open.
async fn connect_all(address: SocketAddr, first: &[u8]) -> Vec<TcpStream> {
    open_all(ATTACK_CONNECTIONS, async || connect(address, first).await).await
}

async fn open_all(count: usize, open: impl AsyncFn() -> std::io::Result<TcpStream>) -> Vec<TcpStream> {
    let mut opened = Vec::new();
    let started = Instant::now();
    while opened.len() < count {
        assert!(started.elapsed() < TEST_TIMEOUT, "opened only {} of {count} connections", opened.len());
        opened.extend(join_all((0..CONCURRENT_CONNECTS).map(|_| open())).await.into_iter().flatten());
    }
    opened
}

/// Opens connections, requests `/healthz` over several streams of each, grants each stream the
/// given window in bytes, and acknowledges every PING.
async fn stall(address: SocketAddr, connections: usize, window: u32, streams: u32) {
    let mut first = PREFACE.to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
    first.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    // `GET /healthz` in HPACK, with indexes of its static table.
    let head = [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x41, 1, b'a']].concat();
    first.extend((0..streams).flat_map(|number| frame(HEADERS, 5, 2 * number + 1, &head)));
    // Each waits for the head of a response, so that connections are opened no faster than the
    // service accepts them.
    let opened = open_all(connections, async || {
        let mut stream = connect(address, &first).await?;
        while next_frame(&mut stream).await?.0 != HEADERS {}
        Ok(stream)
    });
    let mut tasks: JoinSet<_> = opened.await.into_iter().map(acknowledge_pings).collect();
    tokio::time::sleep(duration()).await;
    tasks.shutdown().await;
}

async fn acknowledge_pings(mut stream: TcpStream) {
    while let Ok((kind, flags, payload)) = next_frame(&mut stream).await {
        if kind == PING && flags == 0 && stream.write_all(&frame(PING, 1, 0, &payload)).await.is_err() {
            return;
        }
    }
}

/// Returns the frame's type, flags and payload.
async fn next_frame(stream: &mut TcpStream) -> std::io::Result<(u8, u8, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let [a, b, c, kind, flags, ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, payload))
}
