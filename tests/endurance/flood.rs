//! Floods of forged webhooks and of idle connections do not keep valid webhooks out.

use std::env;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use billhook::clock::{Clock, SystemClock};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::eventually::eventually;
use crate::full_disk::{owned_words, sqlite_url};
use crate::load::Load;
use crate::service_process::{RESPONSE_TIMEOUT, ServiceProcess, WEBHOOK_SECRET};

/// More than the machine has cores.
const FLOOD_CONNECTIONS: usize = 8;

/// Requests that are sent before the responses are read.
const PIPELINED_REQUESTS: usize = 32;

/// The flood before the first measurement of memory, and the limit for its growth. A leak of a few
/// bytes per request would exceed it many times.
const WARM_UP: Duration = Duration::from_secs(2);
const MAX_GROWTH_KB: u64 = 32 * 1024;

/// The burst of log lines about rejected signatures. Besides, one a second is allowed, and one a
/// minute for the suppressed lines.
const LOG_BURST: u64 = 60;

fn duration() -> Duration {
    if env::var_os("BILLHOOK_SOAK").is_some() { Duration::from_mins(1) } else { Duration::from_secs(5) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_forged_webhooks_takes_bounded_memory_and_log() {
    let dir = TempDir::new().expect("a directory");
    let url = sqlite_url(dir.path());
    let log_dir = dir.path().join("logs");
    let started_ms = SystemClock.now_ms();
    let service = ServiceProcess::start(dir, &url).await;
    let load = Load::start_with_tenants(&service, 2);
    let flood = Flood::start(&service);
    flood.run_for(WARM_UP).await;
    let (before_kb, accepted) = (memory_kb(&service), load.accepted());
    flood.run_for(duration()).await;
    load.until_accepted(20).await;
    let (after_kb, rejected) = (memory_kb(&service), flood.stop().await);
    eprintln!(
        "{rejected} rejected, {} valid ones accepted; {before_kb} KB, then {after_kb} KB",
        load.accepted() - accepted
    );
    let (ledger, stats) = load.finish().await;
    stats.assert_no_connection_broke();
    stats.assert_no_503();
    assert!(rejected > 1000, "that is no flood: {rejected}");
    assert!(after_kb < before_kb + MAX_GROWTH_KB, "{before_kb} KB became {after_kb} KB");

    let seconds = u64::try_from((SystemClock.now_ms() - started_ms) / 1000).expect("not negative");
    let lines = fs::read_to_string(log_dir.join("webhook_signatures.log")).expect("the log");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let rejected_lines = lines.filter(|line| line["event"] == "signature.rejected").count();
    let max_lines = LOG_BURST + seconds + seconds / 60 + 2;
    assert!(rejected_lines as u64 <= max_lines, "{rejected_lines} lines in {seconds} s");
    assert_stderr_is_quiet(&service);
    ledger.assert_matches(&url).await;
}

/// Sends forged webhooks over several connections.
struct Flood {
    is_stopping: Arc<AtomicBool>,
    rejected: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(service: &ServiceProcess) -> Self {
        let (is_stopping, rejected) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let tasks = (0..FLOOD_CONNECTIONS).map(|kind| {
            tokio::spawn(send_forged(service.url(), kind, is_stopping.clone(), rejected.clone()))
        });
        Self { tasks: tasks.collect(), is_stopping, rejected }
    }

    async fn run_for(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
        assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a sender has failed");
    }

    /// Returns the number of rejected requests.
    async fn stop(self) -> usize {
        self.is_stopping.store(true, SeqCst);
        for task in self.tasks {
            task.await.expect("the sender did not fail");
        }
        self.rejected.load(SeqCst)
    }
}

async fn send_forged(url: String, kind: usize, is_stopping: Arc<AtomicBool>, rejected: Arc<AtomicUsize>) {
    let address = url.trim_start_matches("http://").to_owned();
    while !is_stopping.load(SeqCst) {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        while !is_stopping.load(SeqCst) {
            let batch = forged_request(kind).repeat(PIPELINED_REQUESTS);
            if stream.write_all(batch.as_bytes()).await.is_err() {
                break;
            }
            let responses = read_responses(&mut stream).await;
            rejected.fetch_add(responses, SeqCst);
            if responses < PIPELINED_REQUESTS {
                // The service closes a connection when it rejects a request without reading its
                // body.
                break;
            }
        }
    }
}

/// Three kinds that are rejected by their headers, and one whose body must be read first.
fn forged_request(kind: usize) -> String {
    let now = SystemClock.now_seconds();
    let zeros = "0".repeat(64);
    let (header, body) = match kind % 4 {
        0 => (String::new(), "{}".to_owned()),
        1 => (format!("Stripe-Signature: t={},v1={zeros}\r\n", now - 301), "{}".to_owned()),
        2 => (format!("Stripe-Signature: t={now},v1={zeros}\r\n"), "{}".to_owned()),
        _ => (format!("Stripe-Signature: t={now},v1={zeros}\r\n"), " ".repeat(4096)),
    };
    format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads the responses to a batch, or as many as come before the connection is closed. Each must be
/// a 400 or 429 with a problem document.
async fn read_responses(stream: &mut TcpStream) -> usize {
    let mut read = Vec::new();
    loop {
        let more = stream.read_buf(&mut read).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&read);
        // A problem document is one line and contains no status line.
        let count = |part: &str| text.matches(part).count();
        let responses = count("HTTP/1.1 ");
        assert_eq!(count("HTTP/1.1 400 ") + count("HTTP/1.1 429 "), responses, "{text}");
        let whole = count("\"trace_id\":\"");
        if more == 0 || whole == PIPELINED_REQUESTS {
            assert!(count("application/problem+json") >= whole, "{text}");
            return whole;
        }
    }
}

/// stderr only has the warnings of the start, and one about rejected webhooks if the first forged
/// webhook came before the first valid one.
fn assert_stderr_is_quiet(service: &ServiceProcess) {
    let stderr = service.stderr_tail();
    let (rejected, others): (Vec<_>, Vec<_>) =
        stderr.lines().partition(|line| line.contains("webhooks are rejected, and none was verified"));
    assert!(rejected.len() <= 1 && others.iter().all(|line| line.contains("is not set")), "{stderr}");
}

fn memory_kb(service: &ServiceProcess) -> u64 {
    status_kb(service, "VmRSS:")
}

pub fn peak_memory_kb(service: &ServiceProcess) -> u64 {
    status_kb(service, "VmHWM:")
}

fn status_kb(service: &ServiceProcess, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// More connections than the service may have open files, most of which send nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_over_the_file_limit_block_no_webhook() {
    let dir = TempDir::new().expect("a directory");
    let url = sqlite_url(dir.path());
    // Leaves 192 connection slots.
    let launcher = owned_words(&["sh", "-c", "ulimit -n 448; exec \"$@\"", "sh"]);
    let service = ServiceProcess::start_by(launcher, dir, &url).await;
    let mut idle = Vec::new();
    for number in 0..600_usize {
        idle.push(open_idle_connection(&service, number).await);
        if number % 20 == 19 {
            deliver_over_new_connection(&service).await;
        }
    }
    eventually("the first connection is closed", || async {
        let mut byte = [0];
        matches!(idle[0].try_read(&mut byte), Ok(0)).then_some(())
    })
    .await;
    assert_stderr_is_quiet(&service);
}

async fn open_idle_connection(service: &ServiceProcess, number: usize) -> TcpStream {
    let url = service.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.expect("a connection");
    let partial_requests =
        ["", "P", "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\n"];
    // The service may have closed it.
    let _ = stream.write_all(partial_requests[number % partial_requests.len()].as_bytes()).await;
    stream
}

async fn deliver_over_new_connection(service: &ServiceProcess) {
    let http = Client::builder().timeout(RESPONSE_TIMEOUT).build().expect("a client");
    let response = delivery(&http, &service.url()).send().await;
    assert_eq!(response.expect("a response in time").status(), 200);
}

/// A signed webhook with an event that changes nothing.
pub fn delivery(http: &Client, url: &str) -> RequestBuilder {
    let now = SystemClock.now_seconds();
    let id = Uuid::new_v4().simple();
    let body = format!(r#"{{"id":"evt_{id}","object":"event","type":"invoice.upcoming","created":{now}}}"#);
    let signature = sandbox::sign(WEBHOOK_SECRET, now, body.as_bytes());
    http.post(format!("{url}/api/billing/webhook/")).header("Stripe-Signature", signature).body(body)
}
