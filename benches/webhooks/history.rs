//! The same load on a database that has seen much: what a write costs when the indexes no longer fit where they did.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Database};

use crate::event;
use crate::load::Webhooks;
use crate::process;
use crate::service::{OwnDatabase, Service};

/// Events stored before: few, and as many as a busy service has in a year.
const STORED: [u64; 2] = [5_000, 5_000_000];

/// Who posts at once.
const CONNECTIONS: usize = 64;

/// How many are stored at a time.
const PORTION: u64 = 100_000;

/// The rate of renewals behind few stored events and behind many, in turns.
pub async fn compare(name: &str, server: Option<&str>, turns: usize, turn: Duration) {
    let mut sides = Vec::new();
    for stored in STORED {
        let database = OwnDatabase::make(server).await;
        let service = Service::start(&database, None).await;
        let webhooks = Webhooks::to(service.address);
        // First: of a subscription that is not held yet all that is stored is read.
        database.introduce(&webhooks).await;
        store(&database.url, stored).await;
        database.look_again().await;
        let scans = database.scans_of_large_tables().await;
        sides.push((database, service, webhooks, scans, Vec::new()));
    }
    for _ in 0..turns {
        for (_, _, webhooks, _, rates) in &mut sides {
            rates.push(webhooks.post(CONNECTIONS, turn).await.per_second());
        }
    }
    let mut medians = Vec::new();
    for (database, service, webhooks, scans, mut rates) in sides {
        let [_, peak] = process::memory_mb(service.process());
        service.stop();
        assert!(database.applied().await >= webhooks.taken(), "what was taken is stored and applied");
        assert_eq!(
            database.scans_of_large_tables().await,
            scans,
            "every statement finds its rows by an index"
        );
        database.drop().await;
        rates.sort_by(f64::total_cmp);
        medians.push((rates[rates.len() / 2], peak));
    }
    let [(few, _), (many, peak)] = medians[..] else { unreachable!("two sides") };
    println!(
        "{name}: {} stored events: {many:.0}/s, {:.2} of that behind {}; peak {peak:.1} MB",
        STORED[1],
        many / few,
        STORED[0],
    );
}

/// Stores events as they are when their bytes have been given up (docs/operations.md), spread over all subscriptions.
async fn store(url: &str, events: u64) {
    let connection = Database::connect(url).await.expect("the database answers");
    for first in (0..events).step_by(usize::try_from(PORTION).expect("a small number")) {
        let last = (first + PORTION).min(events) - 1;
        connection.execute_unprepared(&statement(url, first, last)).await.expect("they are stored");
    }
    connection.close().await.expect("the connection closes");
}

fn statement(url: &str, first: u64, last: u64) -> String {
    let numbers = if url.starts_with("postgres") {
        format!("WITH number(n) AS (SELECT generate_series({first}::bigint, {last}))")
    } else {
        format!(
            "WITH RECURSIVE number(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM number WHERE n < {last})"
        )
    };
    let (beginning, subscriptions) = (event::FIRST_SUBSCRIPTION, event::SUBSCRIPTIONS);
    let subscription = format!("({beginning} + (n * 7919) % {subscriptions})");
    format!(
        "{numbers} INSERT INTO event (id, event_type, api_version, created, customer_id, subscription_id, tenant_id, \
         journey_id, trace_id, span_id, outcome, received_at_ms, attempts) \
         SELECT 'evt_0' || (1000000000000 + n), 'customer.subscription.updated', '2026-09-30.endive', 1700000000 + n, \
         'cus_' || {subscription}, 'sub_' || {subscription}, 'tenant-' || {subscription}, \
         '0af7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331', 'applied', \
         1700000000000 + n, 0 FROM number"
    )
}
