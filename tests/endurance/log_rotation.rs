//! The topic files are rotated under load, by the service itself and by another program that moves
//! them and sends SIGHUP.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::full_disk::{owned_words, sqlite_url};
use crate::load::Load;
use crate::log_audit::LogAudit;
use crate::service_process::ServiceProcess;

/// The smallest size of a file, and the most files to keep.
const LAUNCHER: [&str; 3] = ["env", "BILLHOOK_LOG_MAX_MB=1", "BILLHOOK_LOG_KEEP=365"];

const TOPICS: [&str; 2] = ["subscription_state", "webhook_signatures"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_rotation_under_load_loses_no_line_and_rejects_no_request() {
    let (dir, moved) = (TempDir::new().expect("a directory"), TempDir::new().expect("another"));
    let url = sqlite_url(dir.path());
    let mut service = ServiceProcess::start_by(owned_words(&LAUNCHER), dir, &url).await;
    let mut audit = LogAudit::default();
    audit.add_dir(&service.log_dir());
    let load = Load::start(&service);
    for round in 0..rounds() {
        let before = rotated(&service.log_dir());
        for topic in TOPICS {
            fill(&service.log_dir(), topic);
        }
        eventually("the service rotates by itself", || async {
            (rotated(&service.log_dir()) > before).then_some(())
        })
        .await;
        // Several times, so that some moves happen during a write.
        for time in 0..5 {
            let away = moved.path().join(format!("{round}.{time}"));
            fs::create_dir(&away).expect("a directory");
            load.until_accepted(10).await;
            for topic in TOPICS {
                let file = format!("{topic}.log");
                // The file exists, unless the service is rotating it.
                let _ = fs::rename(service.log_dir().join(&file), away.join(&file));
            }
            service.send_sighup();
            audit.add_dir(&away);
        }
    }
    let (ledger, stats) = load.finish().await;
    stats.assert_no_503();
    stats.assert_no_connection_broke();
    ledger.assert_matches(&url).await;
    // A graceful stop writes the queued log lines.
    service.terminate().await;
    audit.assert_one_line_per_event(&ledger);
}

/// Appends about 0.9 MB, so that the service can still write some lines before it must rotate the
/// file.
fn fill(dir: &Path, topic: &str) {
    let line = json!({ "topic": topic, "filler": "x".repeat(900) }).to_string() + "\n";
    let file = File::options().create(true).append(true).open(dir.join(format!("{topic}.log")));
    file.expect("a file").write_all(line.repeat(1000).as_bytes()).expect("written");
}

/// The number of rotated files.
fn rotated(dir: &Path) -> usize {
    let names = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let numbered = |name: &std::ffi::OsString| name.to_string_lossy().contains(".log.");
    names.filter(numbered).count()
}

fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 10 } else { 2 }
}
