//! What a renewal burst costs: webhooks a second, how long each takes, cores and memory, against what the same machine can
//! do at most, measured in the same run.
//!
//!     make bench
//!     scripts/with-postgres --durable cargo bench --bench webhooks -- PostgreSQL 64x1   # that database, 64 connections, turns of 1 s
//!     scripts/with-postgres --durable cargo bench --bench webhooks -- SQLite rest       # all but the table
//!
//! It is compared with a bare server that verifies a webhook and does nothing with it, with the database and one transaction
//! for each event, and on PostgreSQL with the handler that teams write by hand. They and the service take turns, so that
//! whatever else the machine does falls on all of them. Generator, service, database and collector share the machine's cores.

#![allow(unreachable_pub, reason = "a benchmark has no outside to hide from")]
#![allow(clippy::print_stdout, reason = "what was measured is told there")]

mod answers;
mod bare;
mod event;
mod figures;
mod flood;
mod hand_written;
mod history;
mod load;
mod one_event;
mod process;
mod service;

use std::env;
use std::time::Duration;

use bare::Bare;
use figures::Figures;
use hand_written::HandWritten;
use load::Webhooks;
use one_event::OneEvent;
use service::{Collector, OwnDatabase, Service};

/// Webhooks on their way at once.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// Turns of each. The one of the median rate is told.
const TURNS: usize = 3;

/// How long a turn takes: long enough for hundreds of commits.
const TURN: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|word| word == bare::ARGUMENT) {
        return bare::serve().await;
    }
    let (connections, turn) = turns(&arguments);
    let is_table_wanted = !arguments.iter().any(|word| word == "rest");
    let collector = Collector::start().await;
    let bare = Bare::start();
    let databases = databases(&arguments);
    if is_table_wanted {
        println!("{HEADING}");
        for (name, server) in &databases {
            for connections in connections.iter().copied() {
                compare(name, server.as_deref(), &collector, &bare, connections, turn).await;
            }
        }
    }
    if connections.len() < CONNECTIONS.len() {
        return;
    }
    for (name, server) in &databases {
        let server = server.as_deref();
        answers::start(name, server).await;
        answers::reads(name, server, turn).await;
        answers::portal(name, server).await;
        flood::flood(name, server, turn).await;
        history::compare(name, server, TURNS, turn).await;
    }
}

/// Over how many connections, and how long a turn takes: what an argument such as `64x1` says, or all of it.
fn turns(arguments: &[String]) -> (Vec<usize>, Duration) {
    // Cargo adds arguments of its own.
    let asked = arguments.iter().find_map(|word| {
        let (connections, seconds) = word.split_once('x')?;
        Some((vec![connections.parse().ok()?], Duration::from_secs(seconds.parse().ok()?)))
    });
    asked.unwrap_or_else(|| (CONNECTIONS.to_vec(), TURN))
}

/// What is measured, and for PostgreSQL its server: both, or the one that an argument names.
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

/// What came of the turns of one of those that are compared.
struct Turns {
    what: &'static str,
    turns: Vec<Figures>,
}

impl Turns {
    fn of(what: &'static str) -> Self {
        Self { what, turns: Vec::new() }
    }

    /// The turn of the median rate.
    fn median(&mut self) -> &Figures {
        self.turns.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
        &self.turns[self.turns.len() / 2]
    }

    fn count(&self) -> usize {
        self.turns.iter().map(Figures::count).sum()
    }
}

/// A program that takes webhooks into a database of its own.
enum Program {
    Service(Service),
    HandWritten(HandWritten),
}

impl Program {
    fn process(&self) -> u32 {
        match self {
            Self::Service(service) => service.process(),
            Self::HandWritten(handler) => handler.process(),
        }
    }
}

/// One program that is measured, and what it had used before.
struct Candidate {
    turns: Turns,
    database: OwnDatabase,
    program: Program,
    webhooks: Webhooks,
    used_before: Duration,
}

impl Candidate {
    async fn service(what: &'static str, server: Option<&str>, collector: Option<&Collector>) -> Self {
        let database = OwnDatabase::make(server).await;
        let service = Service::start(&database, collector).await;
        let webhooks = Webhooks::to(service.address);
        Self::introduced(what, database, Program::Service(service), webhooks).await
    }

    async fn hand_written(server: &str) -> Self {
        let database = OwnDatabase::make(Some(server)).await;
        let handler = HandWritten::start(&database);
        let webhooks = Webhooks::to(handler.address);
        Self::introduced("written by hand", database, Program::HandWritten(handler), webhooks).await
    }

    async fn introduced(
        what: &'static str,
        database: OwnDatabase,
        program: Program,
        webhooks: Webhooks,
    ) -> Self {
        database.introduce(&webhooks).await;
        let used_before = process::cpu_time(program.process());
        Self { turns: Turns::of(what), database, program, webhooks, used_before }
    }

    /// Prints its line of the table, and ends it.
    async fn print(mut self, name: &str, connections: usize, rates: [Option<f64>; 3]) {
        let process = self.program.process();
        let used = process::cpu_time(process).saturating_sub(self.used_before);
        let [_, peak] = process::memory_mb(process);
        let used = per_thousand(used, self.turns.count());
        print!("{}  {used:>10.3}  {peak:>7.1}", line(name, connections, &mut self.turns, rates));
        match self.program {
            Program::Service(service) => {
                let rows = self.database.applied().await;
                assert_eq!(rows, self.webhooks.taken(), "what was taken is stored and applied");
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
    bare: &Bare,
    connections: usize,
    turn: Duration,
) {
    let mut candidates = Vec::new();
    if let Some(server) = server {
        candidates.push(Candidate::hand_written(server).await);
    }
    candidates.push(Candidate::service("telemetry off", server, None).await);
    candidates.push(Candidate::service("telemetry on", server, Some(collector)).await);
    let (mut bare_turns, mut one_event) =
        (Turns::of("bare HTTP + HMAC"), Turns::of("one event a transaction"));
    let to_bare = Webhooks::to(bare.address);
    let alone = OwnDatabase::introduced(server).await;
    let directly = OneEvent::on(&alone.url).await;
    for _ in 0..TURNS {
        bare_turns.turns.push(to_bare.post(connections, turn).await);
        one_event.turns.push(directly.measure(connections, turn).await);
        for candidate in &mut candidates {
            candidate.turns.turns.push(candidate.webhooks.post(connections, turn).await);
        }
    }
    drop(directly);
    alone.drop().await;
    let by_hand = candidates.iter_mut().find(|one| matches!(one.program, Program::HandWritten(_)));
    let rates = [
        Some(bare_turns.median().per_second()),
        Some(one_event.median().per_second()),
        by_hand.map(|one| one.turns.median().per_second()),
    ];
    for turns in [&mut bare_turns, &mut one_event] {
        println!("{}", line(name, connections, turns, rates));
    }
    let [exported, no_room, not_taken] = spans_of_last(&candidates).await;
    for candidate in candidates {
        candidate.print(name, connections, rates).await;
    }
    println!("spans: {exported} exported, {no_room} dropped for want of room, {not_taken} not taken");
}

/// The spans of the last candidate, the service that exports them, once its last batches have left.
async fn spans_of_last(candidates: &[Candidate]) -> [u64; 3] {
    let Some(Candidate { program: Program::Service(on), .. }) = candidates.last() else {
        unreachable!("it is a service")
    };
    on.until_spans_have_left().await;
    on.spans().await
}

/// Seconds for a thousand webhooks.
#[allow(clippy::cast_precision_loss, reason = "no run has so many")]
fn per_thousand(used: Duration, webhooks: usize) -> f64 {
    used.as_secs_f64() * 1000.0 / webhooks as f64
}

/// A line of the table: the turns, and their rate as a part of each of these.
fn line(name: &str, connections: usize, turns: &mut Turns, rates: [Option<f64>; 3]) -> String {
    let what = turns.what;
    let figures = turns.median();
    let rate = figures.per_second();
    let [p50, p99, max] = [500, 990, 1000].map(|permille| figures.permille(permille));
    let [bare, one, hand] =
        rates.map(|other| other.map_or_else(|| "-".to_owned(), |other| format!("{:.2}", rate / other)));
    format!(
        "{name:<10}  {connections:>5}  {what:<23}  {rate:>8.0}  {bare:>7}  {one:>7}  {hand:>7}  {p50:>9.2}  {p99:>9.2}  {max:>9.2}"
    )
}
