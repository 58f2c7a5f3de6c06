//! `billhook webhook`: the endpoint is made at Stripe, and its secret rolled, without a visit to the Dashboard.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use billhook::clock::{Clock, SystemClock};
use billhook::domain::event::HANDLED;
use serde_json::{Value, json};

use crate::support::app::{TestApp, WEBHOOK_SECRET, eventually};
use crate::support::database::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_made_once_and_told_exactly_what_is_handled() {
    let app = without_endpoint().await;
    let dry = app.run_command(&["webhook", "register", "--dry-run"]);
    assert_eq!(said(&dry), format!("Would make an endpoint at {}/api/billing/webhook/.\n", app.url));
    assert_eq!(endpoints(&app).await.len(), 0);

    let made = said(&app.run_command(&["webhook", "register"]));
    let [endpoint] = endpoints(&app).await.try_into().expect("one endpoint");
    assert_eq!(endpoint["url"], format!("{}/api/billing/webhook/", app.url));
    assert_eq!(endpoint["enabled_events"], json!(HANDLED));
    assert_eq!(endpoint["api_version"], "2026-09-30.endive");
    assert!(made.contains(endpoint["id"].as_str().expect("an id")), "{made}");
    assert_eq!(made.matches("whsec_").count(), 1, "the secret is told once: {made}");

    let again = said(&app.run_command(&["webhook", "register"]));
    assert!(again.ends_with("is as it should be.\n"), "{again}");
    assert_eq!(endpoints(&app).await, [endpoint]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_that_is_told_verifies_what_the_endpoint_sends() {
    let mut app = without_endpoint().await;
    let made = said(&app.run_command(&["webhook", "register", "--url", "https://billing.example.com"]));
    let (_, secret) = made.split_once("told this once: ").expect("the secret");
    let secret = secret.lines().next().expect("a line");
    app.come_back_with("--stripe-webhook-secret", secret).await;

    let endpoint = endpoints(&app)
        .await
        .into_iter()
        .find(|one| one["url"].as_str().is_some_and(|url| url.starts_with("https")));
    let id = endpoint.expect("the endpoint")["id"].as_str().expect("an id").to_owned();
    let here = format!("url={}/api/billing/webhook/", app.url);
    app.stripe.api("POST", &format!("/v1/webhook_endpoints/{id}"), &here).await;
    app.make_pro("acme").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_endpoint_or_one_told_too_little_is_mended_and_an_old_one_is_not() {
    let app = TestApp::start(Database::Sqlite).await;
    let [endpoint] = endpoints(&app).await.try_into().expect("one endpoint");
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().expect("an id"));
    app.stripe.api("POST", &path, "disabled=true&enabled_events[]=invoice.paid").await;
    let dry = said(&app.run_command(&["webhook", "register", "--dry-run"]));
    assert!(dry.starts_with("Would have endpoint"), "{dry}");
    let mended = said(&app.run_command(&["webhook", "register"]));
    assert!(mended.contains("is enabled, and told exactly what is handled"), "{mended}");
    let [endpoint] = endpoints(&app).await.try_into().expect("one endpoint");
    assert_eq!((&endpoint["status"], &endpoint["enabled_events"]), (&json!("enabled"), &json!(HANDLED)));

    app.stripe.api("DELETE", &path, "").await;
    let old = format!("url={}/api/billing/webhook/&enabled_events[]=*&api_version=2019-12-03", app.url);
    app.stripe.api("POST", "/v1/webhook_endpoints", &old).await;
    let refused = refusal(&app.run_command(&["webhook", "register"]));
    assert!(refused.contains("2019-12-03") && refused.contains("billhook webhook rotate"), "{refused}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_goes_into_a_new_file_that_only_its_owner_reads() {
    let app = without_endpoint().await;
    let file = app.dir().join("secret");
    fs::write(&file, "somebody's").expect("written");
    let path = file.to_str().expect("a path");
    let refused = refusal(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(refused.contains("--secret-file") && refused.contains("exists"), "{refused}");
    assert_eq!(endpoints(&app).await.len(), 0, "and nothing was made");

    fs::remove_file(&file).expect("removed");
    let made = said(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(!made.contains("whsec_"), "{made}");
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
    app.stripe.fault(&failure).await;
    let refused = refusal(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(refused.contains("Stripe refused with status 400") && !file.exists(), "{refused}");

    said(&app.run_command(&["webhook", "register"]));
    let refused = refusal(&app.run_command(&["webhook", "register", "--secret-file", path]));
    assert!(refused.contains("exists already") && refused.contains("billhook webhook rotate"), "{refused}");
    assert!(!file.exists());
    assert_eq!(endpoints(&app).await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_rolled_from_the_command_line_and_no_event_is_lost() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let (secrets, new) = (dir.path().join("secrets"), dir.path().join("new"));
    fs::write(&secrets, format!("old={WEBHOOK_SECRET}")).expect("written");
    let from_file = [
        ("--stripe-webhook-secret", ""),
        ("--stripe-webhook-secret-file", secrets.to_str().expect("a path")),
    ];
    let app = TestApp::start_process_with(Database::Sqlite, &from_file, &[("RUST_LOG", "info")]).await;
    assert_eq!(
        said(&app.run_command(&["webhook", "rotate", "--finish"])),
        "No roll is under way: there is nothing to finish.\n"
    );
    app.make_pro("acme").await;

    let begun =
        said(&app.run_command(&["webhook", "rotate", "--secret-file", new.to_str().expect("a path")]));
    assert!(begun.contains("--finish"), "it says what comes next: {begun}");
    let under_way = refusal(&app.run_command(&["webhook", "rotate"]));
    assert!(under_way.contains("a roll is under way"), "{under_way}");
    let new = fs::read_to_string(&new).expect("the new secret");
    let new = new.trim();
    let unverified = refusal(&app.run_command(&["webhook", "rotate", "--finish"]));
    assert!(
        unverified.contains("has verified no event with the secret of the newer endpoint"),
        "{unverified}"
    );
    let [newer, _] = endpoints(&app).await.try_into().expect("two endpoints");
    let created = newer["created"].as_i64().expect("a time");
    // Stripe's time is in whole seconds: what was verified in that one may have been the old secret's.
    eventually("the next second", || async { (SystemClock.now_seconds() > created).then_some(()) }).await;
    take(&app, &secrets, &format!("new={new},old={WEBHOOK_SECRET}")).await;
    app.make_pro("birch").await;
    eventually("each secret verifies", || async {
        let lines = app.lines("webhook_signatures");
        let verified = |name: &str| lines.iter().any(|line| line["secret_name"] == name);
        (verified("old") && verified("new")).then_some(())
    })
    .await;

    let newer = format!("/v1/webhook_endpoints/{}", newer["id"].as_str().expect("an id"));
    app.stripe.api("POST", &newer, "disabled=true").await;
    let disabled = refusal(&app.run_command(&["webhook", "rotate", "--finish"]));
    assert!(disabled.contains("is disabled") && disabled.contains("--force"), "{disabled}");
    let forced = said(&app.run_command(&["webhook", "rotate", "--finish", "--force", "--dry-run"]));
    assert!(forced.starts_with("Would remove we_"), "{forced}");
    app.stripe.api("POST", &newer, "disabled=false").await;

    let dry = || app.run_command(&["webhook", "rotate", "--finish", "--dry-run"]);
    eventually("the service has stored it", || async { dry().status.success().then_some(()) }).await;
    let dry = said(&dry());
    assert!(dry.starts_with("Would remove we_"), "{dry}");
    let finished = said(&app.run_command(&["webhook", "rotate", "--finish"]));
    assert!(finished.contains("is removed"), "{finished}");
    assert_eq!(endpoints(&app).await.len(), 1);
    take(&app, &secrets, &format!("new={new}")).await;
    app.make_pro("cedar").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_and_says_what_to_do() {
    let app = without_endpoint().await;
    let none = refusal(&app.run_command(&["webhook", "rotate"]));
    assert!(none.contains("billhook webhook register"), "{none}");
    for (variable, value, told) in [
        ("BILLHOOK_WEBHOOK_URL", "http://billing.example.com", "BILLHOOK_WEBHOOK_URL is plain http"),
        ("STRIPE_SECRET_KEY", "", "STRIPE_SECRET_KEY is not set"),
        ("STRIPE_SECRET_KEY", "sk_test_canary_other", "Stripe refused with status 401"),
    ] {
        let refused = refusal(&app.run_command_with(&["webhook", "register"], &[(variable, value)]));
        assert!(refused.contains(told) && !refused.contains("canary"), "{refused}");
    }
    for _ in 0..3 {
        app.stripe.deliver_to(&format!("{}/api/billing/webhook/", app.url)).await;
    }
    for words in [["webhook", "register"], ["webhook", "rotate"]] {
        let several = refusal(&app.run_command(&words));
        assert!(several.contains("several endpoints") && several.matches("we_").count() == 3, "{several}");
    }
    app.stop().await;
}

/// A service of which Stripe knows nothing.
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

/// Has the service take other secrets, and waits until it says that it did.
async fn take(app: &TestApp, file: &std::path::Path, contents: &str) {
    let taken = || app.stderr().matches("took the webhook secrets anew").count();
    let before = taken();
    fs::write(file, contents).expect("written");
    app.hang_up();
    eventually("the secrets are taken", || async { (taken() > before).then_some(()) }).await;
}

fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).expect("text")
}
