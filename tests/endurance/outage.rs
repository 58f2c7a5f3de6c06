//! PostgreSQL goes down under load and comes back. The service keeps running, answers 503 in time,
//! and recovers without a restart.

use std::env;
use std::time::Duration;

use billhook::store::Lease;
use futures_util::future::{join, try_join_all};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::load::Load;
use crate::postgres_server::{PostgresServer, SSLMODES, connect_store, until_connections_idle};
use crate::service_process::ServiceProcess;
use crate::tcp_proxy::TcpProxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_postgres_returns_503_then_recovers() {
    let mut postgres = PostgresServer::start().await;
    let service = ServiceProcess::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let load = Load::start(&service);
    for _ in 0..rounds() {
        for mode in ["fast", "immediate"] {
            load.until_accepted(50).await;
            postgres.stop(mode);
            load.database_went_down();
            join(service.assert_unavailable(), load.until_503(10)).await;
            load.database_came_back();
            postgres.restart().await;
            service.until_ready().await;
        }
    }
    load.until_accepted(50).await;
    finish(load, &postgres).await;
}

/// More events wait than one transaction takes, and the last also gets its 503 in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_postgres_returns_503_in_time_to_many_tenants() {
    let postgres = PostgresServer::start().await;
    let service = ServiceProcess::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let load = Load::start_with_tenants(&service, MANY_TENANTS);
    for _ in 0..rounds() {
        load.until_accepted(MANY_TENANTS).await;
        let frozen = postgres.freeze().await;
        load.database_went_down();
        join(service.assert_unavailable(), load.until_503(2 * MANY_TENANTS)).await;
        load.database_came_back();
        frozen.thaw();
        service.until_ready().await;
        // Otherwise an event could wait through several outages while others are accepted.
        load.until_current_events_accepted().await;
    }
    load.until_accepted(MANY_TENANTS).await;
    finish(load, &postgres).await;
}

/// A session on the old primary answers, rejects writes, and is never closed by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_over_postgres_accepts_webhooks_within_seconds() {
    let postgres = PostgresServer::start().await;
    let service = ServiceProcess::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let load = Load::start(&service);
    for _ in 0..rounds() {
        load.until_accepted(50).await;
        postgres.demote().await;
        load.database_went_down();
        load.until_503(50).await;
        load.database_came_back();
        postgres.promote().await;
        // The pool must also replace every connection to the demoted server.
        load.until_accepted_without_503(200).await;
    }
    finish(load, &postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_over_postgres_keeps_no_pooled_connection() {
    let postgres = PostgresServer::start().await;
    let store = connect_store(&postgres.url()).await;
    store.migrate().await.expect("the migrations run");
    postgres.demote().await;
    let lease = Lease::new("a lease", Duration::from_hours(1));
    eventually("a write is rejected", || async { store.acquire_lease(&lease).await.err() }).await;
    // Fills the pool with connections to the demoted server.
    let reads = || try_join_all((0..10).map(|_| store.is_migrated()));
    eventually("reads are answered", || async { reads().await.ok() }).await;
    until_connections_idle(&store).await;
    postgres.promote().await;
    eventually("a write is accepted", || async { store.acquire_lease(&lease).await.ok() }).await;
}

/// A frozen server never answers the statements that it has received, so that the service must time
/// out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_statements_time_out_when_postgres_freezes() {
    let postgres = PostgresServer::start().await;
    let service = ServiceProcess::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let held = postgres.lock_tables(&["subscription", "seaql_migrations"]).await;
    let frozen = async {
        postgres.until_blocked(2).await;
        postgres.freeze().await
    };
    let (frozen, ()) = join(frozen, service.assert_unavailable()).await;
    frozen.thaw();
    drop(held);
    service.until_ready().await;
}

/// The silent connections stay open, and new ones work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_under_load_are_replaced() {
    let postgres = PostgresServer::start().await;
    let proxy = TcpProxy::start(&postgres).await;
    let service = ServiceProcess::start(TempDir::new().expect("a directory"), &proxy.url("require")).await;
    let load = Load::start(&service);
    // Only twice, because further rounds take longer to recover.
    for _ in 0..2 {
        load.until_accepted(50).await;
        proxy.silence_connections();
    }
    load.until_accepted(50).await;
    finish(load, &postgres).await;
}

/// All connections of the batch pool go silent during a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_the_whole_batch_pool_are_replaced() {
    let postgres = PostgresServer::start().await;
    for sslmode in SSLMODES {
        let proxy = TcpProxy::start(&postgres).await;
        let store = connect_store(&proxy.url(sslmode)).await;
        let all = try_join_all((0..BATCH_POOL_CONNECTIONS).map(|_| store.begin_batch()));
        let all = all.await.expect("the pool has as many");
        proxy.silence_connections();
        drop(all);
        eventually("the pool opens a new connection", || async { store.begin_batch().await.ok() }).await;
    }
}

/// The pool tests an idle connection before it reuses it, and replaces a silent one within the
/// acquire timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_idle_connection_is_replaced_before_use() {
    let postgres = PostgresServer::start().await;
    for sslmode in SSLMODES {
        let proxy = TcpProxy::start(&postgres).await;
        let store = connect_store(&proxy.url(sslmode)).await;
        drop(store.begin_batch().await.expect("a connection"));
        until_connections_idle(&store).await;
        tokio::time::sleep(UNTESTED_REUSE_TIME).await;
        proxy.silence_connections();
        store.begin_batch().await.expect("a new connection");
    }
}

const BATCH_POOL_CONNECTIONS: usize = 6;

/// How long after its last use the pool reuses a connection without a test.
const UNTESTED_REUSE_TIME: Duration = Duration::from_secs(1);

/// Each tenant sends two events at a time: together several times what one transaction takes.
const MANY_TENANTS: usize = 100;

fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 5 } else { 1 }
}

async fn finish(load: Load, postgres: &PostgresServer) {
    let (ledger, stats) = load.finish().await;
    stats.assert_no_connection_broke();
    ledger.assert_matches(&postgres.url()).await;
}
