//! Runs the tests in `honesty/`, which drive the double with Stripe's own SDK.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use sandbox::{Options, Sandbox};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripe_sdk_works_with_double() {
    let honesty = Path::new(env!("CARGO_MANIFEST_DIR")).join("honesty");
    install(&honesty).expect("install the SDK");
    let sandbox = Sandbox::start(Options::default()).await.expect("start the double");
    let url = sandbox.url();
    let run = tokio::task::spawn_blocking(move || {
        Command::new("node").arg("--test").current_dir(honesty).env("SANDBOX_URL", url).output()
    });
    let output = run.await.expect("test run").expect("start node");
    sandbox.stop().await;
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Installs the packages of the lock file if they are missing or out of date. A file lock prevents
/// two installations in one directory at the same time.
fn install(honesty: &Path) -> io::Result<()> {
    let lock = File::create(std::env::temp_dir().join("billhook-sandbox-honesty.lock"))?;
    lock.lock()?;
    // npm writes this file as its last step.
    let installed = modified(&honesty.join("node_modules/.package-lock.json"));
    let required = modified(&honesty.join("package-lock.json"));
    if installed.is_some() && installed >= required {
        return Ok(());
    }
    let output = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(honesty).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
