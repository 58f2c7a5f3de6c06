//! Whoever waits for PostgreSQL may leave at any moment, and leaves nothing behind.

use std::time::Duration;

use billhook::store::Lease;
use futures_util::poll;

use crate::postgres_server::{SSLMODES, Server, store_at, until_at_rest};

const LONG: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_a_transaction_begins_leaves_none_open_for_others() {
    let postgres = Server::start().await;
    let (store, another) = (store_at(&postgres.url()).await, store_at(&postgres.url()).await);
    store.migrate().await.expect("the migrations run");
    until_at_rest(&store).await;
    let mut beginning = Box::pin(store.begin());
    assert!(poll!(&mut beginning).is_pending(), "nobody has answered yet");
    drop(beginning);
    until_at_rest(&store).await;
    let [ours, theirs] = [(); 2].map(|()| Lease::new("a lease", LONG));
    assert!(store.take_lease(&ours).await.expect("an answer"), "it is free");
    assert!(!another.take_lease(&theirs).await.expect("an answer"), "it is ours");
}

/// By its time limits PostgreSQL ends it with an error, which nobody reads but the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_a_statement_leaves_its_connection_to_others() {
    let postgres = Server::start().await;
    for sslmode in SSLMODES {
        let store = store_at(&format!("{}?sslmode={sslmode}", postgres.url())).await;
        store.migrate().await.expect("the migrations run");
        let held = postgres.hold(&["event"]).await;
        tokio::select! {
            _ = store.backlog(0) => panic!("the table is held"),
            () = postgres.until_held_up(1) => {}
        }
        until_at_rest(&store).await;
        drop(held);
    }
}
