//! Two replicas behind a load balancer are restarted one after the other under load, as in an
//! upgrade.

use std::env;

use tempfile::TempDir;

use crate::load::Load;
use crate::load_balancer::LoadBalancer;
use crate::log_audit::LogAudit;
use crate::service_process::ServiceProcess;
use crate::support::database::{Database, TestDatabase};

/// A graceful stop loses no log line either: over both replicas each applied event has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_loses_no_event_and_rejects_no_request() {
    let dirs = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let database = TestDatabase::create(Database::Postgres, &dirs[0]).await;
    let mut audit = LogAudit::default();
    let mut replicas = Vec::new();
    for dir in dirs {
        let replica = ServiceProcess::start(dir, &database.url).await;
        audit.add_dir(&replica.log_dir());
        replicas.push(replica);
    }
    let balancer = LoadBalancer::start(&replicas).await;
    let load = Load::start_at(&balancer.url());
    for _ in 0..rounds() {
        for replica in &mut replicas {
            load.until_accepted(50).await;
            replica.terminate().await;
            // The other replica accepts them alone.
            load.until_accepted(50).await;
            replica.launch();
            replica.until_started().await;
            balancer.until_all_ready().await;
        }
    }
    let (ledger, stats) = load.finish().await;
    stats.assert_no_503();
    stats.assert_no_connection_broke();
    ledger.assert_matches(&database.url).await;
    // A graceful stop writes the queued log lines.
    for replica in &mut replicas {
        replica.terminate().await;
    }
    audit.assert_one_line_per_event(&ledger);
    drop((balancer, replicas));
    database.drop().await;
}

/// Each restart takes as long as the replica waits for the load balancer to notice.
fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 20 } else { 2 }
}
