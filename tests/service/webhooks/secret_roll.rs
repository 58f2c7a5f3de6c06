//! Rolling the webhook secret while the service runs: no webhook is rejected during it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;

const OLD: &str = "whsec_canary_old";
const NEW: &str = "whsec_canary_new";

#[tokio::test]
async fn secret_file_reload_rejects_no_webhook() {
    let service = SecretFileService::start().await;
    service.post_signed_by(OLD).await.ok();
    service.post_signed_by(NEW).await.assert_problem(400, "invalid_signature");

    let is_rolled = AtomicBool::new(false);
    let stripe = async {
        while !is_rolled.load(Ordering::Relaxed) {
            service.post_signed_by(OLD).await.ok();
        }
    };
    let operator = async {
        service.write_secrets("new=whsec_canary_new,old=whsec_canary_old\n");
        service.wait_until_accepted(NEW).await;
        for _ in 0..20 {
            service.app.send_sighup();
            service.post_signed_by(NEW).await.ok();
        }
        is_rolled.store(true, Ordering::Relaxed);
    };
    tokio::join!(stripe, operator);
    for (secret, name) in [(OLD, "old"), (NEW, "new")] {
        service.post_signed_by(secret).await.ok();
        eventually("the log line names the secret", || async {
            let last = service.app.lines("webhook_signatures").pop();
            last.filter(|line| line["secret_name"] == name)
        })
        .await;
    }

    service.write_secrets("new=whsec_canary_new");
    eventually("the old secret is removed", || async {
        (service.post_signed_by(OLD).await.status == 400).then_some(())
    })
    .await;
    service.post_signed_by(NEW).await.ok();
    service.app.stop().await;
}

#[tokio::test]
async fn unreadable_secret_file_keeps_old_secrets_and_is_logged() {
    let service = SecretFileService::start().await;
    for (contents, error) in [
        ("", "STRIPE_WEBHOOK_SECRET_FILE names an empty file"),
        ("new=canary", "STRIPE_WEBHOOK_SECRET_FILE has an item that is not of the form"),
    ] {
        service.write_secrets(contents);
        eventually("the error is logged", || async { service.app.stderr().contains(error).then_some(()) })
            .await;
        service.post_signed_by(OLD).await.ok();
    }
    fs::remove_file(&service.file).expect("removed");
    service.app.send_sighup();
    let error = "STRIPE_WEBHOOK_SECRET_FILE names a file that cannot be read";
    eventually("the error is logged", || async { service.app.stderr().contains(error).then_some(()) }).await;
    service.post_signed_by(OLD).await.ok();
    assert!(!service.app.stderr().contains("canary"), "{}", service.app.stderr());
    service.app.stop().await;
}

/// A service that reads its webhook secrets from a file.
struct SecretFileService {
    app: TestApp,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl SecretFileService {
    async fn start() -> Self {
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

    /// Writes secrets to the file and sends SIGHUP.
    fn write_secrets(&self, contents: &str) {
        fs::write(&self.file, contents).expect("written");
        self.app.send_sighup();
    }

    async fn wait_until_accepted(&self, secret: &str) {
        eventually("the secret is accepted", || async {
            (self.post_signed_by(secret).await.status == 200).then_some(())
        })
        .await;
    }

    async fn post_signed_by(&self, secret: &str) -> ApiResponse {
        let now = self.app.clock_seconds();
        let body = stripe_event("charge.succeeded", now, |_| {}).to_string().into_bytes();
        let header = sandbox::sign(secret, now, &body);
        self.app.post_webhook(body, Some(&header)).await
    }
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path")
}
