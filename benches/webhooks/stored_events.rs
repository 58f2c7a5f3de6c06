//! The same load on a database with few and with many stored events: what a write costs when the
//! indexes no longer fit into memory.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Database};

use crate::event;
use crate::load::WebhookSender;
use crate::process;
use crate::service::{BenchDatabase, Service};

/// Few, and as many as a busy service receives in a year.
const STORED_EVENTS: [u64; 2] = [5_000, 5_000_000];

const CONNECTIONS: usize = 64;

/// Rows of an INSERT.
const INSERT_ROWS: u64 = 100_000;

/// Measures the rates with few and with many stored events alternately.
pub async fn compare(name: &str, server: Option<&str>, runs: usize, run_duration: Duration) {
    let mut sides = Vec::new();
    for stored in STORED_EVENTS {
        let database = BenchDatabase::create(server).await;
        let service = Service::start(&database, None).await;
        let webhooks = WebhookSender::new(service.address);
        // Before the events are stored, because the first event of a new subscription reads all
        // stored events of it.
        database.create_subscriptions(&webhooks).await;
        store(&database.url, stored).await;
        database.analyze().await;
        let scans = database.scans_of_large_tables().await;
        sides.push((stored, database, service, webhooks, scans, Vec::new()));
    }
    for _ in 0..runs {
        for (_, _, _, webhooks, _, rates) in &mut sides {
            rates.push(webhooks.post(CONNECTIONS, run_duration).await.per_second());
        }
    }
    let mut medians = Vec::new();
    for (stored, database, service, webhooks, scans, mut rates) in sides {
        let [_, peak] = process::memory_mb(service.process_id());
        service.stop();
        // Of the small table too few pages exist for an index to pay, and the count below scans it.
        if stored == STORED_EVENTS[1] {
            assert_eq!(database.scans_of_large_tables().await, scans, "every statement should use an index");
        }
        assert!(database.applied().await >= webhooks.accepted(), "all accepted events are applied");
        database.drop().await;
        rates.sort_by(f64::total_cmp);
        medians.push((rates[rates.len() / 2], peak));
    }
    let [(few, _), (many, peak)] = medians[..] else { unreachable!("two sides") };
    println!(
        "{name}: {} stored events: {many:.0}/s, {:.2} of the rate with {}; peak {peak:.1} MB",
        STORED_EVENTS[1],
        many / few,
        STORED_EVENTS[0],
    );
}

/// Stores events without payload, as after their retention (docs/operations.md), for all
/// subscriptions in turn.
async fn store(url: &str, events: u64) {
    let connection = Database::connect(url).await.expect("the database answers");
    for first in (0..events).step_by(usize::try_from(INSERT_ROWS).expect("a small number")) {
        let last = (first + INSERT_ROWS).min(events) - 1;
        connection
            .execute_unprepared(&insert_statement(url, first, last))
            .await
            .expect("the events are stored");
    }
    connection.close().await.expect("the connection closes");
}

fn insert_statement(url: &str, first: u64, last: u64) -> String {
    let numbers = if url.starts_with("postgres") {
        format!("WITH number(n) AS (SELECT generate_series({first}::bigint, {last}))")
    } else {
        format!(
            "WITH RECURSIVE number(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM number WHERE n < {last})"
        )
    };
    let (first_subscription, subscriptions) = (event::FIRST_SUBSCRIPTION, event::SUBSCRIPTIONS);
    let subscription = format!("({first_subscription} + (n * 7919) % {subscriptions})");
    format!(
        "{numbers} INSERT INTO event (id, event_type, api_version, created, customer_id, subscription_id, tenant_id, \
         journey_id, trace_id, span_id, outcome, received_at_ms, attempts) \
         SELECT 'evt_0' || (1000000000000 + n), 'customer.subscription.updated', '2026-09-30.endive', 1700000000 + n, \
         'cus_' || {subscription}, 'sub_' || {subscription}, 'tenant-' || {subscription}, \
         '0af7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331', 'applied', \
         1700000000000 + n, 0 FROM number"
    )
}
