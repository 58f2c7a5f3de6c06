//! The warning on stderr when the webhook secret is wrong.

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::Database;

const WARNING: &str = "webhooks are rejected, and none was verified";

/// Waits until `count` rejections are in the log, which is written after the warning.
async fn wait_for_rejections(app: &TestApp, count: usize) {
    eventually("the rejections are logged", || async {
        let lines = app.lines("webhook_signatures");
        (lines.iter().filter(|line| line["outcome"] == "rejected").count() >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_secret_is_logged_once_a_minute() {
    let wrong = ("--stripe-webhook-secret", "whsec_canary_of_another_endpoint");
    let app = TestApp::start_process_with(Database::Sqlite, &[wrong], &[]).await;
    // A request without a signature says nothing about the secret.
    app.post_webhook(b"{}".to_vec(), None).await.assert_problem(400, "invalid_signature");
    wait_for_rejections(&app, 1).await;
    assert!(!app.stderr().contains(WARNING), "{}", app.stderr());

    for _ in 0..3 {
        let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
        app.deliver(&event).await.assert_problem(400, "invalid_signature");
    }
    wait_for_rejections(&app, 4).await;
    eventually("the warning is printed", || async { app.stderr().contains(WARNING).then_some(()) }).await;
    let stderr = app.stderr();
    assert_eq!(stderr.matches(WARNING).count(), 1, "{stderr}");
    assert!(stderr.contains("STRIPE_WEBHOOK_SECRET with the endpoint's signing secret"), "{stderr}");
    assert!(!stderr.contains("canary"), "{stderr}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_webhook_beside_verified_ones_logs_no_warning() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    let forged = app.forged_signature();
    app.post_webhook(b"{}".to_vec(), Some(&forged)).await.assert_problem(400, "invalid_signature");
    wait_for_rejections(&app, 1).await;
    assert!(!app.stderr().contains(WARNING), "{}", app.stderr());
    app.stop().await;
}
