//! The service is killed with SIGKILL at random moments.

use std::env;
use std::time::Duration;

use tempfile::TempDir;

use crate::load::Load;
use crate::random;
use crate::service_process::ServiceProcess;
use crate::support::database::{Database, TestDatabase, on_both_databases};

on_both_databases!(sigkill_loses_no_event_and_applies_none_twice);

async fn sigkill_loses_no_event_and_applies_none_twice(database: Database) {
    let dir = TempDir::new().expect("a directory");
    let database = TestDatabase::create(database, &dir).await;
    let mut service = ServiceProcess::start(dir, &database.url).await;
    let load = Load::start(&service);
    for _ in 0..kills() {
        if random::one_in(5) {
            eprintln!("killing it during its start");
            service.kill();
            service.launch();
            wait_before_kill(random::below(60)).await;
        } else {
            load.until_accepted(1 + random::below(60)).await;
            wait_before_kill(20 + random::below(380)).await;
        }
        service.kill();
        service.launch();
        service.until_started().await;
    }
    let (ledger, _) = load.finish().await;
    ledger.assert_matches(&database.url).await;
    drop(service);
    database.drop().await;
}

fn kills() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 100 } else { 4 }
}

async fn wait_before_kill(milliseconds: usize) {
    eprintln!("killing it after {milliseconds} ms");
    tokio::time::sleep(Duration::from_millis(milliseconds.try_into().expect("a short time"))).await;
}
