//! Unauthenticated traffic that tries to lock everybody out, beside ordinary traffic: webhooks and reads, from another
//! address and from the attacker's own.

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

use crate::disk::sqlite;
use crate::flood::{delivery, peak_memory_kb};
use crate::running::{ANSWER, Running, token_of};
use crate::support::answer::Answer;
use crate::support::http2_frames::{HEADERS, PING, PREFACE, SETTINGS, frame};
use crate::support::test_slot::raise_file_limit;
use crate::waiting::DEADLINE;

/// The slots that the service has for connections, and a few more connections than that.
const SLOTS: usize = 2048;
const CROWD: usize = SLOTS + 52;

/// Connections with 128 streams each: two and a half times as many responses as may be unread in the whole process.
const TRUSTED_CONNECTIONS: usize = 160;

/// Connections that are being opened at a time.
const AT_ONCE: usize = 10;

/// Connections that a crowd opens in a second, once all slots are taken.
const OPENED_PER_SECOND: u64 = 500;

/// What the whole process may take with all slots in use.
const MAX_MEMORY_KB: u64 = 300 * 1024;

const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn is_soak() -> bool {
    std::env::var_os("BILLHOOK_SOAK").is_some()
}

/// How long an attack goes on once it is complete.
fn duration() -> Duration {
    Duration::from_secs(if is_soak() { 60 } else { 5 })
}

fn rounds() -> usize {
    if is_soak() { 10 } else { 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_crowd_that_keeps_coming_locks_nobody_out() {
    for _ in 0..rounds() {
        under_attack("idle connections", async |address| {
            let mut crowd: VecDeque<_> = connect_all(address, &[]).await.into();
            let mut tick = interval(Duration::from_secs(1) / u32::try_from(OPENED_PER_SECOND).expect("few"));
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let begun = Instant::now();
            while begun.elapsed() < duration() {
                tick.tick().await;
                if let Ok(stream) = connect(address, &[]).await {
                    crowd.pop_front();
                    crowd.push_back(stream);
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_http2_response_on_every_slot_locks_nobody_out() {
    under_attack("zero windows, one stream each", async |address| stall(address, CROWD, 0, 1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_unread_http2_responses_take_bounded_memory() {
    // The ordinary webhooks come from the attacker's address too, which makes it trusted with as many streams.
    let streams_of_trusted = 128;
    under_attack("zero windows, 128 streams each", async |address| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stall(address, TRUSTED_CONNECTIONS, 0, streams_of_trusted).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_windows_of_one_byte_lock_nobody_out() {
    under_attack("windows of a byte", async |address| stall(address, CROWD, 1, 16).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_heads_and_bodies_lock_nobody_out() {
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(30 * 1024));
    let body = "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{";
    let unread = "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{";
    for (name, bytes) in [("long heads", &*long), ("webhook bodies", body), ("unwanted bodies", unread)] {
        under_attack(name, async |address| {
            let crowd = connect_all(address, bytes.as_bytes()).await;
            tokio::time::sleep(duration()).await;
            drop(crowd);
        })
        .await;
    }
}

/// Runs an attack on a service of its own. Ordinary requests are answered throughout, the memory stays bounded, and the
/// service serves on afterwards.
async fn under_attack(name: &str, attack: impl AsyncFnOnce(SocketAddr)) {
    raise_file_limit();
    let dir = TempDir::new().expect("a directory");
    let url = sqlite(dir.path());
    let service = Running::start(dir, &url).await;
    let address = service.url().trim_start_matches("http://").parse().expect("an address");
    let ordinary = [ATTACKER, OTHER].map(|from| OrdinaryTraffic::start(&service, from));
    attack(address).await;
    let memory_kb = peak_memory_kb(&service);
    for traffic in ordinary {
        traffic.end(name).await;
    }
    eprintln!("{name}: {} MB", memory_kb / 1024);
    assert!(memory_kb < MAX_MEMORY_KB, "{name}: {memory_kb} KB");
    service.until_ready().await;
}

/// Webhooks and reads, one after the other, over a connection that is kept and over new ones.
struct OrdinaryTraffic {
    from: IpAddr,
    is_ending: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<Duration>,
}

impl OrdinaryTraffic {
    fn start(service: &Running, from: IpAddr) -> Self {
        let (is_ending, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(ask_on(service.url(), from, is_ending.clone(), answered.clone()));
        Self { from, is_ending, answered, task }
    }

    async fn end(self, attack: &str) {
        self.is_ending.store(true, SeqCst);
        let slowest = self.task.await.expect("every request was answered");
        let answered = self.answered.load(SeqCst);
        eprintln!("{attack}: {answered} requests from {} answered, the slowest in {slowest:?}", self.from);
        assert!(answered > 10, "{attack}: {answered} requests in all that time");
    }
}

/// Sends requests until told to end. Returns how long the slowest answer took.
async fn ask_on(
    url: String,
    from: IpAddr,
    is_ending: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Duration {
    let client = || Client::builder().timeout(ANSWER).local_address(from);
    let kept = client().build().expect("a client");
    let token = token_of("ordinary");
    let mut slowest = Duration::ZERO;
    while !is_ending.load(SeqCst) {
        let fresh = client().pool_max_idle_per_host(0).build().expect("a client");
        for http in [&kept, &fresh] {
            let read = http.get(format!("{url}/api/billing/subscription/")).bearer_auth(&token);
            for request in [delivery(http, &url), read] {
                let begun = Instant::now();
                let answer = Answer::to(request).await;
                assert_eq!(answer.status, 200, "{from}: {}", answer.text);
                slowest = slowest.max(begun.elapsed());
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

/// Opens the crowd's connections. Some may be closed already when the last is open.
async fn connect_all(address: SocketAddr, first: &[u8]) -> Vec<TcpStream> {
    open_all(CROWD, async || connect(address, first).await).await
}

/// Opens the crowd's connections, some at a time.
async fn open_all(count: usize, open: impl AsyncFn() -> std::io::Result<TcpStream>) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    let begun = Instant::now();
    while crowd.len() < count {
        assert!(begun.elapsed() < DEADLINE, "{} of {count} connections could be opened", crowd.len());
        crowd.extend(join_all((0..AT_ONCE).map(|_| open())).await.into_iter().flatten());
    }
    crowd
}

/// Opens so many connections, requests `/healthz` over so many streams of each, grants each stream this window, and
/// acknowledges every PING.
async fn stall(address: SocketAddr, connections: usize, window: u32, streams: u32) {
    let mut first = PREFACE.to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
    first.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    // `GET /healthz`, by HPACK's static table.
    let head = [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x41, 1, b'a']].concat();
    first.extend((0..streams).flat_map(|number| frame(HEADERS, 5, 2 * number + 1, &head)));
    // Each waits for a response's head, so that the crowd is no faster than the service.
    let crowd = open_all(connections, async || {
        let mut stream = connect(address, &first).await?;
        while next_frame(&mut stream).await?.0 != HEADERS {}
        Ok(stream)
    });
    let mut acknowledging: JoinSet<_> = crowd.await.into_iter().map(acknowledge_pings).collect();
    tokio::time::sleep(duration()).await;
    acknowledging.shutdown().await;
}

async fn acknowledge_pings(mut stream: TcpStream) {
    while let Ok((kind, flags, payload)) = next_frame(&mut stream).await {
        if kind == PING && flags == 0 && stream.write_all(&frame(PING, 1, 0, &payload)).await.is_err() {
            return;
        }
    }
}

/// A frame's type, flags and payload.
async fn next_frame(stream: &mut TcpStream) -> std::io::Result<(u8, u8, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let [a, b, c, kind, flags, ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, payload))
}
