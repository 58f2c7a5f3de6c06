//! Whoever wants to keep Stripe out: with forged webhooks as fast as they can be sent, or with connections that ask for
//! nothing.

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

use crate::disk::{sqlite, words};
use crate::running::{ANSWER, Running, WEBHOOK_SECRET};
use crate::sender::Load;
use crate::waiting::eventually;

/// Senders of forged webhooks: more than the machine has cores.
const FORGERS: usize = 8;

/// Requests that a forger sends before it waits for an answer.
const AT_ONCE: usize = 32;

/// How long they flood before the memory is looked at for the first time, and how much it may have grown at the end: what a
/// flood keeps for each of its requests would be many times that.
const WARM_UP: Duration = Duration::from_secs(2);
const GROWTH_KB: u64 = 32 * 1024;

/// Lines about refused signatures that may be written: sixty at once and one for each second, and one a minute for those
/// that are not told.
const LINES_AT_ONCE: u64 = 60;

fn duration() -> Duration {
    if env::var_os("BILLHOOK_SOAK").is_some() { Duration::from_mins(1) } else { Duration::from_secs(5) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_webhooks_as_fast_as_they_come_take_no_memory_no_disk_and_no_good_webhooks_place() {
    let dir = TempDir::new().expect("a directory");
    let url = sqlite(dir.path());
    let log_dir = dir.path().join("logs");
    let began_ms = SystemClock.now_ms();
    let service = Running::start(dir, &url).await;
    let load = Load::of_tenants(&service, 2);
    let flood = Flood::on(&service);
    flood.pass(WARM_UP).await;
    let (before_kb, taken) = (memory_kb(&service), load.taken());
    flood.pass(duration()).await;
    load.until_taken(20).await;
    let (after_kb, refused) = (memory_kb(&service), flood.end().await);
    eprintln!(
        "{refused} refused, {} good ones taken; {before_kb} KB, then {after_kb} KB",
        load.taken() - taken
    );
    let (ledger, tally) = load.end().await;
    tally.assert_every_request_was_answered();
    tally.assert_none_was_refused();
    assert!(refused > 1000, "that is no flood: {refused}");
    assert!(after_kb < before_kb + GROWTH_KB, "{before_kb} KB became {after_kb} KB");

    let seconds = u64::try_from((SystemClock.now_ms() - began_ms) / 1000).expect("time goes on");
    let lines = fs::read_to_string(log_dir.join("webhook_signatures.log")).expect("the log");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let told = lines.filter(|line| line["event"] == "signature.rejected").count();
    let may_be_told = LINES_AT_ONCE + seconds + seconds / 60 + 2;
    assert!(told as u64 <= may_be_told, "{told} lines in {seconds} s");
    assert_says_nothing(&service);
    ledger.assert_kept_in(&url).await;
}

/// Many senders of webhooks that are not Stripe's.
struct Flood {
    ending: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    forgers: Vec<JoinHandle<()>>,
}

impl Flood {
    fn on(service: &Running) -> Self {
        let (ending, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let forgers = (0..FORGERS)
            .map(|number| tokio::spawn(forge(service.url(), number, ending.clone(), refused.clone())));
        Self { forgers: forgers.collect(), ending, refused }
    }

    /// Lets the flood go on.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        assert!(!self.forgers.iter().any(JoinHandle::is_finished), "a forger has given up");
    }

    async fn end(self) -> usize {
        self.ending.store(true, SeqCst);
        for forger in self.forgers {
            forger.await.expect("the forger has done its work");
        }
        self.refused.load(SeqCst)
    }
}

/// Sends batch after batch, and holds every answer to what it must be: no, in the house's form.
async fn forge(url: String, number: usize, ending: Arc<AtomicBool>, refused: Arc<AtomicUsize>) {
    let address = url.trim_start_matches("http://").to_owned();
    while !ending.load(SeqCst) {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        while !ending.load(SeqCst) {
            let batch = forgery(number).repeat(AT_ONCE);
            if stream.write_all(batch.as_bytes()).await.is_err() {
                break;
            }
            let answers = read_answers(&mut stream).await;
            refused.fetch_add(answers, SeqCst);
            if answers < AT_ONCE {
                // The service closes a connection whose body it does not want to see.
                break;
            }
        }
    }
}

/// One of several kinds, each as cheap to refuse as it can be; and one that is not, for it has to be read.
fn forgery(number: usize) -> String {
    let now = SystemClock.now_seconds();
    let zeros = "0".repeat(64);
    let (header, body) = match number % 4 {
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

/// Reads the answers to a batch, or as many as there are before the connection is closed.
async fn read_answers(stream: &mut TcpStream) -> usize {
    let mut read = Vec::new();
    loop {
        let more = stream.read_buf(&mut read).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&read);
        // A problem is one line, and nothing of it can be mistaken for a status line.
        let of = |what: &str| text.matches(what).count();
        let answers = of("HTTP/1.1 ");
        assert_eq!(of("HTTP/1.1 400 ") + of("HTTP/1.1 429 "), answers, "{text}");
        let whole = of("\"trace_id\":\"");
        if more == 0 || whole == AT_ONCE {
            assert!(of("application/problem+json") >= whole, "{text}");
            return whole;
        }
    }
}

/// stderr has the warnings of the start, and one if the first forgery came before the first good webhook: neither a flood
/// nor a crowd fills it.
fn assert_says_nothing(service: &Running) {
    let said = service.said();
    let (refused, others): (Vec<_>, Vec<_>) =
        said.lines().partition(|line| line.contains("webhooks are refused, and none was verified"));
    assert!(refused.len() <= 1 && others.iter().all(|line| line.contains("is not set")), "{said}");
}

/// The memory that the service has, in KB.
fn memory_kb(service: &Running) -> u64 {
    status_kb(service, "VmRSS:")
}

/// The most memory that the service has had, in KB.
pub fn peak_memory_kb(service: &Running) -> u64 {
    status_kb(service, "VmHWM:")
}

fn status_kb(service: &Running, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// More connections than the service may have files for, most of which say nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_connections_that_ask_for_nothing_keeps_nobody_out() {
    let dir = TempDir::new().expect("a directory");
    let url = sqlite(dir.path());
    // Room for 192 connections.
    let launcher = words(&["sh", "-c", "ulimit -n 448; exec \"$@\"", "sh"]);
    let service = Running::start_by(launcher, dir, &url).await;
    let mut crowd = Vec::new();
    for number in 0..600_usize {
        crowd.push(silent(&service, number).await);
        if number % 20 == 19 {
            deliver_over_a_new_connection(&service).await;
        }
    }
    // Those that came first have given way, and know it.
    eventually("the first is told", || async {
        let mut byte = [0];
        matches!(crowd[0].try_read(&mut byte), Ok(0)).then_some(())
    })
    .await;
    assert_says_nothing(&service);
}

async fn silent(service: &Running, number: usize) -> TcpStream {
    let url = service.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.expect("a connection");
    let beginnings =
        ["", "P", "POST /api/billing/webhook/ HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\n"];
    // It may have given way already.
    let _ = stream.write_all(beginnings[number % beginnings.len()].as_bytes()).await;
    stream
}

async fn deliver_over_a_new_connection(service: &Running) {
    let http = Client::builder().timeout(ANSWER).build().expect("a client");
    let answer = delivery(&http, &service.url()).send().await;
    assert_eq!(answer.expect("an answer in time").status(), 200);
}

/// A signed webhook of an event that changes nothing.
pub fn delivery(http: &Client, url: &str) -> RequestBuilder {
    let now = SystemClock.now_seconds();
    let id = Uuid::new_v4().simple();
    let body = format!(r#"{{"id":"evt_{id}","object":"event","type":"invoice.upcoming","created":{now}}}"#);
    let signature = sandbox::sign(WEBHOOK_SECRET, now, body.as_bytes());
    http.post(format!("{url}/api/billing/webhook/")).header("Stripe-Signature", signature).body(body)
}
