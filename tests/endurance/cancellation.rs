//! A cancelled database call leaves no open transaction and no blocked connection.

use std::time::Duration;

use billhook::store::Lease;
use futures_util::poll;

use crate::postgres_server::{PostgresServer, SSLMODES, connect_store, until_connections_idle};

const LONG: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_begin_leaves_no_transaction_open() {
    let postgres = PostgresServer::start().await;
    let (store, another) = (connect_store(&postgres.url()).await, connect_store(&postgres.url()).await);
    store.migrate().await.expect("the migrations run");
    until_connections_idle(&store).await;
    let mut beginning = Box::pin(store.begin());
    assert!(poll!(&mut beginning).is_pending(), "the server has not answered yet");
    drop(beginning);
    until_connections_idle(&store).await;
    let [ours, theirs] = [(); 2].map(|()| Lease::new("a lease", LONG));
    assert!(store.acquire_lease(&ours).await.expect("an answer"), "the lease is free");
    assert!(!another.acquire_lease(&theirs).await.expect("an answer"), "the lease is ours");
}

/// PostgreSQL ends the statement by its timeouts. Only the pool reads the error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_statement_returns_its_connection_to_the_pool() {
    let postgres = PostgresServer::start().await;
    for sslmode in SSLMODES {
        let store = connect_store(&format!("{}?sslmode={sslmode}", postgres.url())).await;
        store.migrate().await.expect("the migrations run");
        let held = postgres.lock_tables(&["event"]).await;
        tokio::select! {
            _ = store.backlog(0) => panic!("the table is locked"),
            () = postgres.until_blocked(1) => {}
        }
        until_connections_idle(&store).await;
        drop(held);
    }
}
