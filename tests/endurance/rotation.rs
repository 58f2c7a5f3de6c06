//! The topic files are rotated under load, by the service and by somebody else who moves them away and says so.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::disk::{sqlite, words};
use crate::running::Running;
use crate::sender::Load;
use crate::told::Told;
use crate::waiting::eventually;

/// Rotated as soon as it may be, and none of it thrown away.
const OFTEN: [&str; 3] = ["env", "BILLHOOK_LOG_MAX_MB=1", "BILLHOOK_LOG_KEEP=365"];

const TOPICS: [&str; 2] = ["subscription_state", "webhook_signatures"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_logs_are_rotated_under_load_no_line_is_lost_and_nobody_is_refused() {
    let (dir, moved) = (TempDir::new().expect("a directory"), TempDir::new().expect("another"));
    let url = sqlite(dir.path());
    let mut service = Running::start_by(words(&OFTEN), dir, &url).await;
    let mut told = Told::default();
    told.look_in(&service.log_dir());
    let load = Load::on(&service);
    for round in 0..rounds() {
        let before = rotated(&service.log_dir());
        for topic in TOPICS {
            fill(&service.log_dir(), topic);
        }
        eventually("the service rotates by itself", || async {
            (rotated(&service.log_dir()) > before).then_some(())
        })
        .await;
        // Several times, so that some come in the midst of a write.
        for time in 0..5 {
            let away = moved.path().join(format!("{round}.{time}"));
            fs::create_dir(&away).expect("a directory");
            load.until_taken(10).await;
            for topic in TOPICS {
                let file = format!("{topic}.log");
                // It is there, unless the service is rotating it right now.
                let _ = fs::rename(service.log_dir().join(&file), away.join(&file));
            }
            service.hang_up();
            told.look_in(&away);
        }
    }
    let (ledger, tally) = load.end().await;
    tally.assert_none_was_refused();
    tally.assert_every_request_was_answered();
    ledger.assert_kept_in(&url).await;
    // It writes the lines that wait.
    service.terminate().await;
    told.assert_each_once(&ledger);
}

/// Adds lines of somebody else's, so many that the service has room for some of its own before it is to rotate the file.
fn fill(dir: &Path, topic: &str) {
    let line = json!({ "topic": topic, "filler": "x".repeat(900) }).to_string() + "\n";
    let file = File::options().create(true).append(true).open(dir.join(format!("{topic}.log")));
    file.expect("a file").write_all(line.repeat(1000).as_bytes()).expect("written");
}

/// How many files the service has rotated.
fn rotated(dir: &Path) -> usize {
    let names = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let numbered = |name: &std::ffi::OsString| name.to_string_lossy().contains(".log.");
    names.filter(numbered).count()
}

fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 10 } else { 2 }
}
