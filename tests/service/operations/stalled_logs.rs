//! Log writes that hang, on a stalled volume or with a stopped reader of stdout or stderr, lose
//! lines but block no request.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, WEBHOOK_SECRET, eventually, read_json_lines, stripe_event};
use crate::support::database::Database;

const WEBHOOK: &str = "/api/billing/webhook/";

/// The service's limit for stderr in each window, from src/telemetry/stderr.rs.
const BUDGET_BYTES: usize = 512 * 1024;
const BUDGET_WINDOW: Duration = Duration::from_secs(5);

/// Longer than any graceful stop.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// The acknowledgement of a PING that the service never sent (RFC 9113, section 6.7).
const PING_ACKNOWLEDGEMENT: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0unasked!";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0the-last";
const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_topic_files_block_no_webhook_and_recover() {
    let mut app = TestApp::without_service(Database::Sqlite, &[]).await;
    let stalled = ["webhook_signatures", "subscription_state"];
    let [signatures, states] = stalled.map(|topic| full_pipe(&app.log_dir(), topic));
    app.start_service_process(&[]).await;
    for _ in 0..24 {
        app.deliver(&long_event(&app)).await.ok();
        app.get("/healthz").await.ok();
    }
    let events = many_events(&app);
    while dropped_lines(&app, "subscription_state").await == 0 {
        deliver_all(&app, &events).await;
    }
    app.wait_for_stderr("subscription_state.log is too slow: lines dropped so far: ").await;

    let last = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let id = last["id"].as_str().expect("an id").to_owned();
    let readers = [signatures, states].map(|pipe| read_until(pipe, id.clone()));
    // Its line may be dropped until the queue has room, so it is delivered repeatedly.
    eventually("the last event's lines are read", || async {
        app.deliver(&last).await.ok();
        readers.iter().all(std::thread::JoinHandle::is_finished).then_some(())
    })
    .await;
    for reader in readers {
        let lines = reader.join().expect("every line is complete");
        assert!(lines.len() > 24, "{} lines", lines.len());
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_signatures_displaces_no_billing_line() {
    let mut app = TestApp::without_service(Database::Sqlite, &[]).await;
    let _stalled = full_pipe(&app.log_dir(), "webhook_signatures");
    app.start_service_process(&[]).await;
    let events = many_events(&app);
    while dropped_lines(&app, "webhook_signatures").await == 0 {
        let forged = app.forged_signature();
        let forgeries = (0..20).map(|_| app.post_webhook(b"{}".to_vec(), Some(&forged)));
        futures_util::future::join(deliver_all(&app, &events), futures_util::future::join_all(forgeries))
            .await;
    }
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.wait_for_line("billing", |line| line["event"] == "checkout.create.success").await;
    assert_eq!(dropped_lines(&app, "billing").await, 0);
    app.stop_service().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graceful_stop_writes_every_queued_line() {
    let mut app = TestApp::without_service(Database::Sqlite, &[]).await;
    let pipe = full_pipe(&app.log_dir(), "subscription_state");
    app.start_service_process(&[]).await;
    let events: Vec<_> = (0..24).map(|_| long_event(&app)).collect();
    for response in app.deliver_all(&events).await {
        response.ok();
    }
    let last = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&last).await.ok();
    app.send_sigterm();
    let reader = read_until(pipe, last["id"].as_str().expect("an id").to_owned());
    assert_eq!(app.exit_code().await, Some(0));
    let lines = reader.join().expect("every line is complete");
    for event in &events {
        assert!(lines.iter().any(|line| line["stripe_event_id"] == event["id"]), "{}", event["id"]);
    }
    assert!(!app.stderr().contains("hangs"), "{}", app.stderr());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graceful_stop_with_hanging_log_ends_in_time() {
    let mut app = TestApp::without_service(Database::Sqlite, &[]).await;
    let _stalled = full_pipe(&app.log_dir(), "subscription_state");
    app.start_service_process(&[]).await;
    app.deliver(&long_event(&app)).await.ok();
    app.send_sigterm();
    assert_eq!(app.exit_code().await, Some(0));
    assert!(
        app.stderr().contains("subscription_state.log hangs: 1 lines are not written"),
        "{}",
        app.stderr()
    );
    let written = read_json_lines(&app.log_dir().join("webhook_signatures.log"));
    assert_eq!(written.len(), 1, "other topics are written");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_reader_of_stdout_and_stderr_blocks_no_request() {
    let service = PipedService::start();
    // More lines than the pipes and queues hold.
    while service.metric("billhook_stderr_lines_dropped_total").await == 0 {
        send_pings(&service.url).await;
    }
    while service.metric("billhook_log_lines_dropped_total{topic=\"subscription_state\"}").await == 0 {
        let requests = (0..100).map(|_| async {
            service.deliver().await.ok();
            service.get("/healthz").await.ok();
        });
        futures_util::future::join_all(requests).await;
    }
    // The stop's own lines are not read either.
    assert_eq!(service.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_pings_leaves_few_bytes_on_stderr() {
    for (rust_log, is_printed) in [("", false), ("h2=warn,billhook=info", true)] {
        let app = TestApp::start_process(Database::Sqlite, &[("RUST_LOG", rust_log)]).await;
        let started = Instant::now();
        send_pings(&app.url).await;
        app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
        if is_printed {
            while metric(&app, "billhook_stderr_lines_dropped_total").await == 0 {
                send_pings(&app.url).await;
            }
            let printed = app.wait_for_stderr(" lines here: there were too many").await;
            assert!(printed.contains("recv PING ack that we never sent"), "the first lines are printed");
        }
        let printed = app.stderr().len();
        let windows = started.elapsed().as_secs().div_ceil(BUDGET_WINDOW.as_secs()) + 1;
        let bound = if is_printed { BUDGET_BYTES * usize::try_from(windows).expect("few") } else { 4096 };
        assert!(printed <= bound, "{printed} bytes, RUST_LOG={rust_log:?}");
        app.stop().await;
    }
}

/// A full pipe in place of a topic's file, which blocks from the first line like a stalled volume.
fn full_pipe(log_dir: &Path, topic: &str) -> File {
    let path = log_dir.join(format!("{topic}.log"));
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    let mut pipe = OpenOptions::new().read(true).write(true).open(path).expect("the pipe is opened");
    while is_writable(&pipe) {
        pipe.write_all("{ }\n".repeat(1024).as_bytes()).expect("the pipe is written");
    }
    pipe
}

fn is_writable(pipe: &File) -> bool {
    poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&Timespec::default())).expect("the pipe is polled")
        > 0
}

/// Reads JSON lines up to the first about this event.
fn read_until(pipe: File, event: String) -> std::thread::JoinHandle<Vec<Value>> {
    std::thread::spawn(move || {
        let lines = BufReader::new(&pipe).lines();
        let lines =
            lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("the line is JSON"));
        let mut read = Vec::new();
        for line in lines {
            let is_last = line["stripe_event_id"] == event.as_str();
            read.push(line);
            if is_last {
                break;
            }
        }
        read
    })
}

/// An event whose log lines have the maximum length.
fn long_event(app: &TestApp) -> Value {
    let mut event = stripe_event(&"invoice.upcoming".repeat(12), app.clock_seconds(), |_| {});
    event["id"] = format!("{}{}", event["id"].as_str().expect("an id"), "x".repeat(200)).into();
    event
}

/// Events for a burst. They may be delivered repeatedly.
fn many_events(app: &TestApp) -> Vec<Value> {
    (0..100).map(|_| long_event(app)).collect()
}

async fn deliver_all(app: &TestApp, events: &[Value]) {
    for response in app.deliver_all(events).await {
        response.ok();
    }
}

async fn dropped_lines(app: &TestApp, topic: &str) -> u64 {
    metric(app, &format!("billhook_log_lines_dropped_total{{topic=\"{topic}\"}}")).await
}

async fn metric(app: &TestApp, series: &str) -> u64 {
    value_in(&app.metrics().await, series)
}

fn value_in(metrics: &str, series: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{series} in {metrics}"))
}

/// Acknowledges 20 000 PINGs that the service never sent, and waits until it has read them or
/// closed the connection. One log line for each is 2 MB.
async fn send_pings(url: &str) {
    let address = url.trim_start_matches("http://");
    let (mut reading, mut writing) = TcpStream::connect(address).await.expect("a connection").into_split();
    let sending = tokio::spawn(async move {
        writing.write_all(PREFACE_AND_SETTINGS).await?;
        writing.write_all(&PING_ACKNOWLEDGEMENT.repeat(20_000)).await?;
        writing.write_all(PING).await?;
        Ok::<_, std::io::Error>(writing)
    });
    let mut read = Vec::new();
    while !read.windows(8).any(|eight| eight == b"the-last") {
        if reading.read_buf(&mut read).await.unwrap_or(0) == 0 {
            break;
        }
    }
    // Fails if the service has closed the connection.
    let _ = sending.await.expect("no panic");
}

/// A service process whose stdout and stderr are pipes that are not read once it listens.
struct PipedService {
    process: Child,
    _unread: BufReader<ChildStderr>,
    url: String,
    metrics_url: String,
    http: Client,
    _dir: TempDir,
}

impl PipedService {
    fn start() -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut process = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .arg("serve")
            .env_clear()
            .env("RUST_LOG", "trace")
            .env("BILLHOOK_LISTEN", "127.0.0.1:0")
            .env("BILLHOOK_METRICS_LISTEN", "127.0.0.1:0")
            .env("BILLHOOK_STOP_DELAY_SECONDS", "0")
            .env("BILLHOOK_LOG_SINK", "stdout")
            .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .current_dir(&dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut stderr = BufReader::new(process.stderr.take().expect("a pipe"));
        let [url, metrics_url] = ["listening on ", "metrics on "].map(|what| address_in(&mut stderr, what));
        Self { process, _unread: stderr, url, metrics_url, http: Client::new(), _dir: dir }
    }

    async fn deliver(&self) -> ApiResponse {
        let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is set").as_secs();
        let now = i64::try_from(now).expect("a time");
        let body = stripe_event("invoice.upcoming", now, |_| {}).to_string();
        let signature = sandbox::sign(WEBHOOK_SECRET, now, body.as_bytes());
        let request = self.http.request(Method::POST, format!("{}{WEBHOOK}", self.url));
        ApiResponse::send(request.header("Stripe-Signature", signature).body(body)).await
    }

    async fn get(&self, path: &str) -> ApiResponse {
        ApiResponse::send(self.http.get(format!("{}{path}", self.url))).await
    }

    async fn metric(&self, series: &str) -> u64 {
        value_in(&ApiResponse::send_to_metrics(self.http.get(&self.metrics_url)).await.text, series)
    }

    /// Stops it gracefully and returns its exit code.
    async fn stop(mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("the status is read") {
                return status.code();
            }
            assert!(started.elapsed() < STOP_TIMEOUT, "the process has not exited");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for PipedService {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn address_in(stderr: &mut impl BufRead, what: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "stderr ended");
        if let Some((_, address)) = line.split_once(what) {
            return address.split_whitespace().next().expect("an address").to_owned();
        }
    }
}
