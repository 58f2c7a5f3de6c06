//! Two replicas are restarted in turn, as an upgrade does it, under load and behind a load balancer.

use std::env;

use tempfile::TempDir;

use crate::balancer::Balancer;
use crate::running::Running;
use crate::sender::Load;
use crate::support::database::{Database, Fresh};
use crate::told::Told;

/// And each event that was applied is told of once, by whichever replica applied it: a stop loses no line either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_are_restarted_in_turn_under_load_and_nothing_is_lost_or_refused() {
    let dirs = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let database = Fresh::make(Database::Postgres, &dirs[0]).await;
    let mut told = Told::default();
    let mut replicas = Vec::new();
    for dir in dirs {
        let replica = Running::start(dir, &database.url).await;
        told.look_in(&replica.log_dir());
        replicas.push(replica);
    }
    let balancer = Balancer::before(&replicas).await;
    let load = Load::at(&balancer.url());
    for _ in 0..rounds() {
        for replica in &mut replicas {
            load.until_taken(50).await;
            replica.terminate().await;
            // By the other, alone.
            load.until_taken(50).await;
            replica.launch();
            replica.until_up().await;
            balancer.until_all_are_ready().await;
        }
    }
    let (ledger, tally) = load.end().await;
    tally.assert_none_was_refused();
    tally.assert_every_request_was_answered();
    ledger.assert_kept_in(&database.url).await;
    // They write the lines that wait.
    for replica in &mut replicas {
        replica.terminate().await;
    }
    told.assert_each_once(&ledger);
    drop((balancer, replicas));
    database.drop().await;
}

/// Each restart takes the time that the replica gives the balancer.
fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 20 } else { 2 }
}
