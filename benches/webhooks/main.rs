//! What telemetry costs: webhooks a second with spans exported to a collector, against the same without, in one run.
//!
//!     make bench
//!
//! Two services stand side by side, alike but for the export, and take turns under the same load, so that whatever else
//! the machine does falls on both. The collector has the same cores, and its work counts against the export.

#![allow(unreachable_pub, reason = "a benchmark has no outside to hide from")]
#![allow(clippy::print_stdout, reason = "what was measured is told there")]

mod load;
mod service;

use std::env;
use std::time::Duration;

use load::Load;
use service::{Collector, Service};

/// Turns of each service. The median of them is told, and a warm-up before.
const TURNS: usize = 9;

/// How long a turn takes, unless the first argument says otherwise, in seconds: long enough for hundreds of commits.
const TURN_SECONDS: u64 = 3;

/// Webhooks on their way at once.
const CONNECTIONS: [usize; 2] = [1, 16];

#[tokio::main]
async fn main() {
    // Cargo adds arguments of its own.
    let seconds = env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(TURN_SECONDS);
    let turn = Duration::from_secs(seconds);
    let collector = Collector::start().await;
    let mut databases = vec![("SQLite", None)];
    if let Ok(server) = env::var("BILLHOOK_TEST_POSTGRES") {
        databases.push(("PostgreSQL", Some(server)));
    }
    for (name, server) in databases {
        for connections in CONNECTIONS {
            compare(name, server.as_deref(), &collector, connections, turn).await;
        }
    }
}

async fn compare(
    name: &str,
    server: Option<&str>,
    collector: &Collector,
    connections: usize,
    turn: Duration,
) {
    let off = Service::start(server, None).await;
    let on = Service::start(server, Some(collector)).await;
    let (mut without, mut with) = (Load::on(&off), Load::on(&on));
    for load in [&mut without, &mut with] {
        load.run(connections, turn).await;
    }
    let (mut rates_without, mut rates_with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let pair = [without.run(connections, turn).await, with.run(connections, turn).await];
        rates_without.push(pair[0]);
        rates_with.push(pair[1]);
        ratios.push(pair[1] / pair[0]);
    }
    // The last batches are on their way.
    on.until_spans_have_left().await;
    let [exported, no_room, not_taken] = on.spans().await;
    println!(
        "{name}, {connections} connections: {:.0}/s without, {:.0}/s with, ratio {:.2} (of pairs {:.2} to {:.2}); \
         spans: {exported} exported, {no_room} dropped for want of room, {not_taken} not taken",
        median(&mut rates_without),
        median(&mut rates_with),
        median(&mut ratios),
        ratios.first().copied().unwrap_or_default(),
        ratios.last().copied().unwrap_or_default(),
    );
    for service in [off, on] {
        service.stop().await;
    }
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
