//! The service is killed, at any instruction, again and again.

use std::env;
use std::time::Duration;

use tempfile::TempDir;

use crate::chance;
use crate::running::Running;
use crate::sender::Load;
use crate::support::database::{Database, Fresh, on_both_databases};

on_both_databases!(killed_at_any_moment_it_loses_nothing_and_does_nothing_twice);

async fn killed_at_any_moment_it_loses_nothing_and_does_nothing_twice(database: Database) {
    let dir = TempDir::new().expect("a directory");
    let database = Fresh::make(database, &dir).await;
    let mut service = Running::start(dir, &database.url).await;
    let load = Load::on(&service);
    for _ in 0..kills() {
        if chance::one_in(5) {
            eprintln!("killed once more, before it is up");
            service.kill();
            service.launch();
            pass(chance::below(60)).await;
        } else {
            load.until_taken(1 + chance::below(60)).await;
            pass(20 + chance::below(380)).await;
        }
        service.kill();
        service.launch();
        service.until_up().await;
    }
    let (ledger, _) = load.end().await;
    ledger.assert_kept_in(&database.url).await;
    drop(service);
    database.drop().await;
}

fn kills() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 100 } else { 4 }
}

/// Not a wait for something: the moment of the kill is left to chance.
async fn pass(milliseconds: usize) {
    eprintln!("killed after {milliseconds} ms");
    tokio::time::sleep(Duration::from_millis(milliseconds.try_into().expect("a short time"))).await;
}
