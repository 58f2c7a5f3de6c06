//! `billhook webhook`: creates the endpoint at Stripe and rotates its secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use billhook::clock::{Clock, SystemClock};
use billhook::domain::event::HANDLED_EVENT_TYPES;
use serde_json::{Value, json};

use crate::support::app::{TestApp, WEBHOOK_SECRET, eventually};
use crate::support::command_output::unwrap_lines;
use crate::support::database::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_creates_one_endpoint_with_handled_event_types() {
    let app = without_endpoint().await;
    let dry = app.run_command(&["webhook", "register", "--dry-run"]);
    assert_eq!(stdout_of(&dry), format!("Would create an endpoint at {}/api/billing/webhook/.\n", app.url));
    assert_eq!(endpoints(&app).await.len(), 0);

    let created = stdout_of(&app.run_command(&["webhook", "register"]));
    let [endpoint] = endpoints(&app).await.try_into().expect("one endpoint");
    assert_eq!(endpoint["url"], format!("{}/api/billing/webhook/", app.url));
    assert_eq!(endpoint["enabled_events"], json!(HANDLED_EVENT_TYPES));
    assert_eq!(endpoint["api_version"], "2026-09-30.endive");
    assert!(created.contains(endpoint["id"].as_str().expect("an id")), "{created}");
    assert_eq!(created.matches("whsec_").count(), 1, "the secret is printed once: {created}");

    let again = stdout_of(&app.run_command(&["webhook", "register"]));
    assert!(again.ends_with("is up to date.\n"), "{again}");
    assert_eq!(endpoints(&app).await, [endpoint]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registered_secret_verifies_webhooks() {
    let mut app = without_endpoint().await;
    let created =
        stdout_of(&app.run_command(&["webhook", "register", "--url", "https://billing.example.com"]));
    let (_, secret) = created.split_once("shown only once: ").expect("the secret");
    let secret = secret.lines().next().expect("a line");
    app.start_service_with("--stripe-webhook-secret", secret).await;

    let endpoint = endpoints(&app)
        .await
        .into_iter()
        .find(|one| one["url"].as_str().is_some_and(|url| url.starts_with("https")));
    let id = endpoint.expect("the endpoint")["id"].as_str().expect("an id").to_owned();
    let url = format!("url={}/api/billing/webhook/", app.url);
    app.stripe.api("POST", &format!("/v1/webhook_endpoints/{id}"), &url).await;
    app.subscribe_to_pro("acme").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_fixes_disabled_endpoint_but_not_old_api_version() {
    let app = TestApp::start(Database::Sqlite).await;
    let [endpoint] = endpoints(&app).await.try_into().expect("one endpoint");
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().expect("an id"));
    app.stripe.api("POST", &path, "disabled=true&enabled_events[]=invoice.paid").await;
    let dry = stdout_of(&app.run_command(&["webhook", "register", "--dry-run"]));
    assert!(dry.starts_with("Would update endpoint"), "{dry}");
    let updated = unwrap_lines(&stdout_of(&app.run_command(&["webhook", "register"])));
    assert!(updated.contains("is enabled, with exactly the event types that Billhook handles"), "{updated}");
    let [endpoint] = endpoints(&app).await.try_into().expect("one endpoint");
    assert_eq!(
        (&endpoint["status"], &endpoint["enabled_events"]),
        (&json!("enabled"), &json!(HANDLED_EVENT_TYPES))
    );

    app.stripe.api("DELETE", &path, "").await;
    let old = format!("url={}/api/billing/webhook/&enabled_events[]=*&api_version=2019-12-03", app.url);
    app.stripe.api("POST", "/v1/webhook_endpoints", &old).await;
    let refused = stderr_of(&app.run_command(&["webhook", "register"]));
    assert!(refused.contains("2019-12-03") && refused.contains("billhook webhook rotate"), "{refused}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_file_must_be_new_and_is_readable_only_by_owner() {
    let app = without_endpoint().await;
    let file = app.dir().join("secret");
    fs::write(&file, "existing").expect("the file is written");
    let path = file.to_str().expect("a path");
    let refused = stderr_of(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(refused.contains("--secret-file") && refused.contains("exists"), "{refused}");
    assert_eq!(endpoints(&app).await.len(), 0, "nothing was created");

    fs::remove_file(&file).expect("the file is removed");
    let created = stdout_of(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(!created.contains("whsec_"), "{created}");
    let secret = fs::read_to_string(&file).expect("the secret");
    assert!(secret.starts_with("whsec_") && secret.ends_with('\n'), "{secret}");
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_register_leaves_no_secret_file() {
    let app = without_endpoint().await;
    let file = app.dir().join("secret");
    let path = file.to_str().expect("a path");
    let failure =
        json!({ "match": "POST /v1/webhook_endpoints", "kind": "status", "status": 400, "times": 1 });
    app.stripe.inject_fault(&failure).await;
    let refused = stderr_of(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(refused.contains("Stripe refused with status 400") && !file.exists(), "{refused}");

    stdout_of(&app.run_command(&["webhook", "register"]));
    let refused = stderr_of(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(refused.contains("exists already") && refused.contains("billhook webhook rotate"), "{refused}");
    assert!(!file.exists());
    assert_eq!(endpoints(&app).await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotate_command_replaces_secret_without_losing_events() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let (secrets, new) = (dir.path().join("secrets"), dir.path().join("new"));
    fs::write(&secrets, format!("old={WEBHOOK_SECRET}")).expect("the file is written");
    let from_file = [
        ("--stripe-webhook-secret", ""),
        ("--stripe-webhook-secret-file", secrets.to_str().expect("a path")),
    ];
    let app = TestApp::start_process_with(Database::Sqlite, &from_file, &[("RUST_LOG", "info")]).await;
    assert_eq!(
        stdout_of(&app.run_command(&["webhook", "rotate", "--finish"])),
        "No rotation has started: there is nothing to finish.\n"
    );
    app.subscribe_to_pro("acme").await;

    let started =
        stdout_of(&app.run_command(&["webhook", "rotate", "--secret-file", new.to_str().expect("a path")]));
    assert!(started.contains("--finish"), "the next step is printed: {started}");
    let in_progress = stderr_of(&app.run_command(&["webhook", "rotate"]));
    assert!(in_progress.contains("a rotation to the secret of"), "{in_progress}");
    let new = fs::read_to_string(&new).expect("the new secret");
    let new = new.trim();
    let unverified = stderr_of(&app.run_command(&["webhook", "rotate", "--finish"]));
    assert!(
        unverified.contains("has verified no event with the secret of the newer endpoint"),
        "{unverified}"
    );
    let [newer, _] = endpoints(&app).await.try_into().expect("two endpoints");
    let created = newer["created"].as_i64().expect("a time");
    // Stripe's times are whole seconds: an event verified in the second of the rotation may have
    // used the old secret.
    eventually("the next second", || async { (SystemClock.now_seconds() > created).then_some(()) }).await;
    reload_secrets(&app, &secrets, &format!("new={new},old={WEBHOOK_SECRET}")).await;
    app.subscribe_to_pro("birch").await;
    eventually("each secret verifies", || async {
        let lines = app.lines("webhook_signatures");
        let verified = |name: &str| lines.iter().any(|line| line["secret_name"] == name);
        (verified("old") && verified("new")).then_some(())
    })
    .await;

    let newer = format!("/v1/webhook_endpoints/{}", newer["id"].as_str().expect("an id"));
    app.stripe.api("POST", &newer, "disabled=true").await;
    let disabled = stderr_of(&app.run_command(&["webhook", "rotate", "--finish"]));
    assert!(disabled.contains("is disabled") && disabled.contains("--force"), "{disabled}");
    let forced = stdout_of(&app.run_command(&["webhook", "rotate", "--finish", "--force", "--dry-run"]));
    assert!(forced.starts_with("Would remove we_"), "{forced}");
    app.stripe.api("POST", &newer, "disabled=false").await;

    let dry = || app.run_command(&["webhook", "rotate", "--finish", "--dry-run"]);
    eventually("the service has recorded the verification", || async {
        dry().status.success().then_some(())
    })
    .await;
    let dry = stdout_of(&dry());
    assert!(dry.starts_with("Would remove we_"), "{dry}");
    let finished = stdout_of(&app.run_command(&["webhook", "rotate", "--finish"]));
    assert!(finished.starts_with("Removed endpoint we_"), "{finished}");
    assert_eq!(endpoints(&app).await.len(), 1);
    reload_secrets(&app, &secrets, &format!("new={new}")).await;
    app.subscribe_to_pro("cedar").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_command_refusals_name_cause_and_fix() {
    let app = without_endpoint().await;
    let none = stderr_of(&app.run_command(&["webhook", "rotate"]));
    assert!(none.contains("billhook webhook register"), "{none}");
    for (variable, value, reason) in [
        ("BILLHOOK_WEBHOOK_URL", "http://billing.example.com", "BILLHOOK_WEBHOOK_URL is plain http"),
        ("STRIPE_SECRET_KEY", "", "STRIPE_SECRET_KEY is not set"),
        ("STRIPE_SECRET_KEY", "sk_test_canary_other", "Stripe refused with status 401"),
    ] {
        let refused = stderr_of(&app.run_command_with(&["webhook", "register"], &[(variable, value)]));
        assert!(refused.contains(reason) && !refused.contains("canary"), "{refused}");
    }
    for _ in 0..3 {
        app.stripe.add_webhook_endpoint(&format!("{}/api/billing/webhook/", app.url)).await;
    }
    for words in [["webhook", "register"], ["webhook", "rotate"]] {
        let several = stderr_of(&app.run_command(&words));
        assert!(several.contains("several endpoints") && several.matches("we_").count() == 3, "{several}");
    }
    app.stop().await;
}

/// A service without an endpoint at Stripe.
async fn without_endpoint() -> TestApp {
    let app = TestApp::start(Database::Sqlite).await;
    for endpoint in endpoints(&app).await {
        let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().expect("an id"));
        app.stripe.api("DELETE", &path, "").await;
    }
    app
}

async fn endpoints(app: &TestApp) -> Vec<Value> {
    let listed = app.stripe.api("GET", "/v1/webhook_endpoints", "").await;
    listed["data"].as_array().expect("a list").clone()
}

/// Writes the secrets file, sends SIGHUP and waits until the reload is logged.
async fn reload_secrets(app: &TestApp, file: &std::path::Path, contents: &str) {
    let reloads = || app.stderr().matches("reloaded the webhook secrets").count();
    let before = reloads();
    fs::write(file, contents).expect("the file is written");
    app.send_sighup();
    eventually("the secrets are reloaded", || async { (reloads() > before).then_some(()) }).await;
}

fn stdout_of(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr_of(output: &Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).expect("text")
}
