//! PostgreSQL goes away under load, and comes back. The service stays, says so to everybody in time, and goes on by
//! itself.

use std::env;
use std::time::Duration;

use billhook::store::Lease;
use futures_util::future::{join, try_join_all};
use tempfile::TempDir;

use crate::postgres_server::{SSLMODES, Server, store_at, until_at_rest};
use crate::relay::Relay;
use crate::running::Running;
use crate::sender::Load;
use crate::waiting::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_stopped_everybody_is_told_and_its_return_is_enough() {
    let mut postgres = Server::start().await;
    let service = Running::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let load = Load::on(&service);
    for _ in 0..rounds() {
        for mode in ["fast", "immediate"] {
            load.until_taken(50).await;
            postgres.stop(mode);
            load.database_is_away();
            join(service.assert_unavailable(), load.until_refused(10)).await;
            load.database_comes_back();
            postgres.start_again().await;
            service.until_ready().await;
        }
    }
    load.until_taken(50).await;
    end(load, &postgres).await;
}

/// And although more events wait than one transaction takes, the last of them is told in time too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_stands_still_a_crowd_is_told_in_time_and_its_going_on_is_enough() {
    let postgres = Server::start().await;
    let service = Running::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let load = Load::of_tenants(&service, CROWD);
    for _ in 0..rounds() {
        load.until_taken(CROWD).await;
        let frozen = postgres.freeze().await;
        load.database_is_away();
        join(service.assert_unavailable(), load.until_refused(2 * CROWD)).await;
        load.database_comes_back();
        frozen.thaw();
        service.until_ready().await;
        // Otherwise an event could wait through one outage after another while others are taken.
        load.until_none_waits().await;
    }
    load.until_taken(CROWD).await;
    end(load, &postgres).await;
}

/// A session on the old primary answers, rejects writes, and is never closed by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_over_postgres_takes_webhooks_within_seconds() {
    let postgres = Server::start().await;
    let service = Running::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let load = Load::on(&service);
    for _ in 0..rounds() {
        load.until_taken(50).await;
        postgres.demote().await;
        load.database_is_away();
        load.until_refused(50).await;
        load.database_comes_back();
        postgres.promote().await;
        // Also over every connection that was made to the demoted server.
        load.until_taken_without_refusal(200).await;
    }
    end(load, &postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_over_postgres_keeps_no_pooled_connection() {
    let postgres = Server::start().await;
    let store = store_at(&postgres.url()).await;
    store.migrate().await.expect("the migrations run");
    postgres.demote().await;
    let lease = Lease::new("a lease", Duration::from_hours(1));
    eventually("a write is rejected", || async { store.take_lease(&lease).await.err() }).await;
    // Now every pooled connection is one to the demoted server.
    let reads = || try_join_all((0..10).map(|_| store.is_migrated()));
    eventually("reads are answered", || async { reads().await.ok() }).await;
    until_at_rest(&store).await;
    postgres.promote().await;
    eventually("a write is taken", || async { store.take_lease(&lease).await.ok() }).await;
}

/// What the server was asked already when it stood still is answered by nobody: only we can end that wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_being_served_when_postgres_stood_still_is_told_in_time() {
    let postgres = Server::start().await;
    let service = Running::start(TempDir::new().expect("a directory"), &postgres.url()).await;
    let held = postgres.hold(&["subscription", "seaql_migrations"]).await;
    let frozen = async {
        postgres.until_held_up(2).await;
        postgres.freeze().await
    };
    let (frozen, ()) = join(frozen, service.assert_unavailable()).await;
    frozen.thaw();
    drop(held);
    service.until_ready().await;
}

/// Nobody hangs up, and who connects anew is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fall_silent_under_load_are_given_up_for_new_ones() {
    let postgres = Server::start().await;
    let relay = Relay::before(&postgres).await;
    let service = Running::start(TempDir::new().expect("a directory"), &relay.url("require")).await;
    let load = Load::on(&service);
    // More of them are given up more slowly.
    for _ in 0..2 {
        load.until_taken(50).await;
        relay.fall_silent();
    }
    load.until_taken(50).await;
    end(load, &postgres).await;
}

/// However often that happens: here to as many as there may be, each in the middle of a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_connection_of_the_batches_has_fallen_silent_there_are_new_ones() {
    let postgres = Server::start().await;
    for sslmode in SSLMODES {
        let relay = Relay::before(&postgres).await;
        let store = store_at(&relay.url(sslmode)).await;
        let all = try_join_all((0..CONNECTIONS_OF_BATCHES).map(|_| store.begin_batch()));
        let all = all.await.expect("there are as many");
        relay.fall_silent();
        drop(all);
        eventually("there are new ones", || async { store.begin_batch().await.ok() }).await;
    }
}

/// One that rested meanwhile is found out before it is used, in time for a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_be_given_a_connection_that_has_fallen_silent_is_given_a_new_one() {
    let postgres = Server::start().await;
    for sslmode in SSLMODES {
        let relay = Relay::before(&postgres).await;
        let store = store_at(&relay.url(sslmode)).await;
        drop(store.begin_batch().await.expect("a connection"));
        until_at_rest(&store).await;
        tokio::time::sleep(TAKEN_FOR_GOOD).await;
        relay.fall_silent();
        store.begin_batch().await.expect("a new connection");
    }
}

/// How many connections the batches have.
const CONNECTIONS_OF_BATCHES: usize = 6;

/// How long a connection that was given back is used again without being tried.
const TAKEN_FOR_GOOD: Duration = Duration::from_secs(1);

/// Tenants with two events at a time, together several times what one transaction takes.
const CROWD: usize = 100;

fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 5 } else { 1 }
}

async fn end(load: Load, postgres: &Server) {
    let (ledger, tally) = load.end().await;
    tally.assert_every_request_was_answered();
    ledger.assert_kept_in(&postgres.url()).await;
}
