//! The cost of a renewal burst: webhooks a second, latencies, CPU time and memory, compared with
//! the limits of the same machine in the same run.
//!
//!     make bench
//!     scripts/with-postgres --durable cargo bench --bench webhooks -- PostgreSQL 64x1   # one database, 64 connections, runs of 1 s
//!     scripts/with-postgres --durable cargo bench --bench webhooks -- SQLite rest       # everything except the table
//!
//! The service is compared with a bare server that only verifies webhooks, with the database and
//! one transaction for each event, and on PostgreSQL with the handler that teams write by hand.
//! They are measured alternately, so that other load on the machine affects all of them. Load
//! generator, service, database and collector share the machine's cores.

#![allow(unreachable_pub, reason = "a benchmark exports nothing")]
#![allow(clippy::print_stdout, reason = "it prints its results")]

mod api;
mod bare_server;
mod event;
mod hand_written;
mod load;
mod overload;
mod process;
mod run_stats;
mod service;
mod single_event;
mod stored_events;

use std::env;
use std::time::Duration;

use bare_server::BareServer;
use hand_written::HandWritten;
use load::WebhookSender;
use run_stats::RunStats;
use service::{BenchDatabase, Collector, Service};
use single_event::SingleEventTransactions;

/// Connections, each with one webhook in flight.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// Runs of each. The one with the median rate is printed.
const RUNS: usize = 3;

/// Long enough for hundreds of commits.
const RUN_DURATION: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|word| word == bare_server::ARGUMENT) {
        return bare_server::serve().await;
    }
    let (connections, run_duration) = runs(&arguments);
    let print_table = !arguments.iter().any(|word| word == "rest");
    let collector = Collector::start().await;
    let bare = BareServer::start();
    let databases = databases(&arguments);
    if print_table {
        println!("{HEADING}");
        for (name, server) in &databases {
            for connections in connections.iter().copied() {
                compare(name, server.as_deref(), &collector, &bare, connections, run_duration).await;
            }
        }
    }
    if connections.len() < CONNECTIONS.len() {
        return;
    }
    for (name, server) in &databases {
        let server = server.as_deref();
        api::start(name, server).await;
        api::reads(name, server, run_duration).await;
        api::portal(name, server).await;
        overload::measure(name, server, run_duration).await;
        stored_events::compare(name, server, RUNS, run_duration).await;
    }
}

/// The connections and the duration of a run: from an argument such as `64x1`, or the defaults.
fn runs(arguments: &[String]) -> (Vec<usize>, Duration) {
    // Cargo adds arguments of its own.
    let chosen = arguments.iter().find_map(|word| {
        let (connections, seconds) = word.split_once('x')?;
        Some((vec![connections.parse().ok()?], Duration::from_secs(seconds.parse().ok()?)))
    });
    chosen.unwrap_or_else(|| (CONNECTIONS.to_vec(), RUN_DURATION))
}

/// The databases to measure, with the URL of the PostgreSQL server: both, or the one that an
/// argument names.
fn databases(arguments: &[String]) -> Vec<(&'static str, Option<String>)> {
    let sqlite = [("SQLite", None)];
    let postgres = env::var("BILLHOOK_TEST_POSTGRES").ok().map(|server| ("PostgreSQL", Some(server)));
    let all: Vec<_> = sqlite.into_iter().chain(postgres).collect();
    let is_named = |name: &str| arguments.iter().any(|word| word == name);
    let named: Vec<_> = all.iter().filter(|(name, _)| is_named(name)).cloned().collect();
    if named.is_empty() { all } else { named }
}

const HEADING: &str = "\
database    conns  what                   per second  of bare  of 1/tx  of hand     p50 ms     p99 ms     max ms  CPU s/1000  peak MB    rows";

/// The runs of one row of the table.
struct Series {
    label: &'static str,
    runs: Vec<RunStats>,
}

impl Series {
    fn new(label: &'static str) -> Self {
        Self { label, runs: Vec::new() }
    }

    /// The run with the median rate.
    fn median(&mut self) -> &RunStats {
        self.runs.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
        &self.runs[self.runs.len() / 2]
    }

    fn count(&self) -> usize {
        self.runs.iter().map(RunStats::count).sum()
    }
}

enum Program {
    Service(Service),
    HandWritten(HandWritten),
}

impl Program {
    fn process_id(&self) -> u32 {
        match self {
            Self::Service(service) => service.process_id(),
            Self::HandWritten(handler) => handler.process_id(),
        }
    }
}

/// A program with its database, and its CPU time before the first run.
struct Candidate {
    series: Series,
    database: BenchDatabase,
    program: Program,
    webhooks: WebhookSender,
    cpu_time_before: Duration,
}

impl Candidate {
    async fn service(label: &'static str, server: Option<&str>, collector: Option<&Collector>) -> Self {
        let database = BenchDatabase::create(server).await;
        let service = Service::start(&database, collector).await;
        let webhooks = WebhookSender::new(service.address);
        Self::new(label, database, Program::Service(service), webhooks).await
    }

    async fn hand_written(server: &str) -> Self {
        let database = BenchDatabase::create(Some(server)).await;
        let handler = HandWritten::start(&database);
        let webhooks = WebhookSender::new(handler.address);
        Self::new("written by hand", database, Program::HandWritten(handler), webhooks).await
    }

    async fn new(
        label: &'static str,
        database: BenchDatabase,
        program: Program,
        webhooks: WebhookSender,
    ) -> Self {
        database.create_subscriptions(&webhooks).await;
        let cpu_time_before = process::cpu_time(program.process_id());
        Self { series: Series::new(label), database, program, webhooks, cpu_time_before }
    }

    /// Prints its line of the table, and stops the program.
    async fn print(mut self, name: &str, connections: usize, rates: [Option<f64>; 3]) {
        let process = self.program.process_id();
        let cpu_time = process::cpu_time(process).saturating_sub(self.cpu_time_before);
        let [_, peak] = process::memory_mb(process);
        let cpu_time = seconds_per_thousand(cpu_time, self.series.count());
        print!("{}  {cpu_time:>10.3}  {peak:>7.1}", line(name, connections, &mut self.series, rates));
        match self.program {
            Program::Service(service) => {
                let rows = self.database.applied().await;
                assert_eq!(rows, self.webhooks.accepted(), "all accepted events are applied");
                println!("  {rows:>6}");
                service.stop();
            }
            Program::HandWritten(handler) => {
                println!();
                drop(handler);
            }
        }
        self.database.drop().await;
    }
}

async fn compare(
    name: &str,
    server: Option<&str>,
    collector: &Collector,
    bare: &BareServer,
    connections: usize,
    run_duration: Duration,
) {
    let mut candidates = Vec::new();
    if let Some(server) = server {
        candidates.push(Candidate::hand_written(server).await);
    }
    candidates.push(Candidate::service("telemetry off", server, None).await);
    candidates.push(Candidate::service("telemetry on", server, Some(collector)).await);
    let (mut bare_series, mut single_event) =
        (Series::new("bare HTTP + HMAC"), Series::new("one event a transaction"));
    let bare_webhooks = WebhookSender::new(bare.address);
    let database = BenchDatabase::with_subscriptions(server).await;
    let transactions = SingleEventTransactions::connect(&database.url).await;
    for _ in 0..RUNS {
        bare_series.runs.push(bare_webhooks.post(connections, run_duration).await);
        single_event.runs.push(transactions.measure(connections, run_duration).await);
        for candidate in &mut candidates {
            candidate.series.runs.push(candidate.webhooks.post(connections, run_duration).await);
        }
    }
    drop(transactions);
    database.drop().await;
    let hand_written =
        candidates.iter_mut().find(|candidate| matches!(candidate.program, Program::HandWritten(_)));
    let rates = [
        Some(bare_series.median().per_second()),
        Some(single_event.median().per_second()),
        hand_written.map(|candidate| candidate.series.median().per_second()),
    ];
    for series in [&mut bare_series, &mut single_event] {
        println!("{}", line(name, connections, series, rates));
    }
    let [exported, no_room, not_taken] = spans_of_last(&candidates).await;
    for candidate in candidates {
        candidate.print(name, connections, rates).await;
    }
    println!(
        "spans: {exported} exported, {no_room} dropped because the queue was full, {not_taken} not accepted"
    );
}

/// The spans of the last candidate, which is the service with a collector, after all are exported.
async fn spans_of_last(candidates: &[Candidate]) -> [u64; 3] {
    let Some(Candidate { program: Program::Service(on), .. }) = candidates.last() else {
        unreachable!("the last candidate is a service")
    };
    on.until_spans_exported().await;
    on.spans().await
}

#[allow(clippy::cast_precision_loss, reason = "the count is small")]
fn seconds_per_thousand(cpu_time: Duration, webhooks: usize) -> f64 {
    cpu_time.as_secs_f64() * 1000.0 / webhooks as f64
}

/// A line of the table. `rates` are those of the limits and of the hand-written handler, which the
/// rate is divided by.
fn line(name: &str, connections: usize, series: &mut Series, rates: [Option<f64>; 3]) -> String {
    let label = series.label;
    let stats = series.median();
    let rate = stats.per_second();
    let [p50, p99, max] = [500, 990, 1000].map(|permille| stats.permille(permille));
    let [bare, single, hand] =
        rates.map(|other| other.map_or_else(|| "-".to_owned(), |other| format!("{:.2}", rate / other)));
    format!(
        "{name:<10}  {connections:>5}  {label:<23}  {rate:>8.0}  {bare:>7}  {single:>7}  {hand:>7}  {p50:>9.2}  {p99:>9.2}  {max:>9.2}"
    )
}
