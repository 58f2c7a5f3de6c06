//! The double against Stripe's own SDK: see `honesty/`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use sandbox::{Options, Sandbox};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripes_own_sdk_takes_the_double_for_stripe() {
    let honesty = Path::new(env!("CARGO_MANIFEST_DIR")).join("honesty");
    install(&honesty).expect("the SDK should be installed");
    let sandbox = Sandbox::start(Options::default()).await.expect("the double should start");
    let url = sandbox.url();
    let run = tokio::task::spawn_blocking(move || {
        Command::new("node").arg("--test").current_dir(honesty).env("SANDBOX_URL", url).output()
    });
    let output = run.await.expect("the run should end").expect("node should start");
    sandbox.stop().await;
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Installs what the lockfile says unless that has been done. Whoever comes second waits for the first: two
/// installations in one directory would undo each other.
fn install(honesty: &Path) -> io::Result<()> {
    let turn = File::create(turnstile())?;
    turn.lock()?;
    // npm writes its own note of what it installed as its last step.
    let installed = changed(&honesty.join("node_modules/.package-lock.json"));
    let wanted = changed(&honesty.join("package-lock.json"));
    if installed.is_some() && installed >= wanted {
        return Ok(());
    }
    let output = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(honesty).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

fn turnstile() -> PathBuf {
    std::env::temp_dir().join("billhook-sandbox-honesty.lock")
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
