//! The webhook secret is rolled while the service runs, and no webhook is refused on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::answer::Answer;
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;

const OLD: &str = "whsec_canary_old";
const NEW: &str = "whsec_canary_new";

#[tokio::test]
async fn a_secret_is_rolled_by_its_file_and_a_signal_and_no_webhook_is_refused() {
    let roll = Roll::begin().await;
    roll.post_signed_by(OLD).await.ok();
    roll.post_signed_by(NEW).await.assert_is(400, "invalid_signature");

    let rolled = AtomicBool::new(false);
    let steady = async {
        while !rolled.load(Ordering::Relaxed) {
            roll.post_signed_by(OLD).await.ok();
        }
    };
    let operator = async {
        roll.set("new=whsec_canary_new,old=whsec_canary_old\n");
        roll.until_taken(NEW).await;
        for _ in 0..20 {
            roll.app.hang_up();
            roll.post_signed_by(NEW).await.ok();
        }
        rolled.store(true, Ordering::Relaxed);
    };
    tokio::join!(steady, operator);
    for (secret, name) in [(OLD, "old"), (NEW, "new")] {
        roll.post_signed_by(secret).await.ok();
        eventually("its line names the secret", || async {
            let last = roll.app.lines("webhook_signatures").pop();
            last.filter(|line| line["secret_name"] == name)
        })
        .await;
    }

    roll.set("new=whsec_canary_new");
    eventually("the old secret is let go", || async {
        (roll.post_signed_by(OLD).await.status == 400).then_some(())
    })
    .await;
    roll.post_signed_by(NEW).await.ok();
    roll.app.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_leaves_the_secrets_as_they_were_and_is_told() {
    let roll = Roll::begin().await;
    for (contents, told) in [
        ("", "STRIPE_WEBHOOK_SECRET_FILE names an empty file"),
        ("new=canary", "STRIPE_WEBHOOK_SECRET_FILE has an item that is not of the form"),
    ] {
        roll.set(contents);
        eventually("it says what is wrong", || async { roll.app.stderr().contains(told).then_some(()) })
            .await;
        roll.post_signed_by(OLD).await.ok();
    }
    fs::remove_file(&roll.file).expect("removed");
    roll.app.hang_up();
    let told = "STRIPE_WEBHOOK_SECRET_FILE names a file that cannot be read";
    eventually("it says what is wrong", || async { roll.app.stderr().contains(told).then_some(()) }).await;
    roll.post_signed_by(OLD).await.ok();
    assert!(!roll.app.stderr().contains("canary"), "{}", roll.app.stderr());
    roll.app.stop().await;
}

/// A service that reads its webhook secrets from a file.
struct Roll {
    app: TestApp,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Roll {
    async fn begin() -> Self {
        let dir = tempfile::TempDir::new().expect("a directory");
        let file = dir.path().join("webhook_secret");
        fs::write(&file, "old=whsec_canary_old\n").expect("written");
        let app = TestApp::start_process_with(
            Database::Sqlite,
            &[("--stripe-webhook-secret", ""), ("--stripe-webhook-secret-file", path(&file))],
            &[("RUST_LOG", "info")],
        )
        .await;
        Self { app, file, _dir: dir }
    }

    /// Puts other secrets into the file, and tells the service.
    fn set(&self, contents: &str) {
        fs::write(&self.file, contents).expect("written");
        self.app.hang_up();
    }

    async fn until_taken(&self, secret: &str) {
        eventually("the secret is taken", || async {
            (self.post_signed_by(secret).await.status == 200).then_some(())
        })
        .await;
    }

    async fn post_signed_by(&self, secret: &str) -> Answer {
        let now = self.app.clock_seconds();
        let body = stripe_event("charge.succeeded", now, |_| {}).to_string().into_bytes();
        let header = sandbox::sign(secret, now, &body);
        self.app.post_webhook(body, Some(&header)).await
    }
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path")
}
