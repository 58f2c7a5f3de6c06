//! `billhook doctor` finds what is wrong, here and at Stripe, and says what mends it.

use std::fs;

use serde_json::{Value, json};

use crate::app::{PLANS, TestApp, free_port};
use crate::authority::{Authority, Files, Pair};
use crate::database::Database;

/// What it found of one check, and what mends it.
struct Found {
    says: String,
    mend: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_that_is_right_is_green_from_top_to_bottom() {
    let app = TestApp::start(Database::Sqlite).await;
    let registered = app.run_command(&["webhook", "register"]);
    assert!(registered.status.success());

    let output = app.run_command(&["doctor"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    for check in [
        "configuration",
        "database",
        "migrations",
        "mode",
        "key",
        "clock",
        "prices",
        "portal",
        "webhook",
        "logs",
        "collector",
    ] {
        assert!(text.contains(&format!("green  {check} ")), "{check}: {text}");
    }
    assert_eq!(text.lines().count(), 11, "{text}");

    let output = app.run_command(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["healthy"], &report["checks"][0]["check"]), (&json!(true), &json!("configuration")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_here_is_found_and_its_mend_is_named() {
    let app = TestApp::start(Database::Sqlite).await;
    let empty = app.dir().join("empty.db");
    fs::write(&empty, "").expect("written");
    let empty = format!("sqlite://{}", empty.display());
    let a_file = app.dir().join("a_file");
    fs::write(&a_file, "").expect("written");
    let below_a_file = format!("{}/logs", a_file.display());
    let nobody = nobody_listens();
    for (variable, value, check, says, mend) in [
        ("BILLHOOK_PLANS", "canary", "configuration", "BILLHOOK_PLANS has an entry", "billhook serve --help"),
        ("STRIPE_WEBHOOK_SECRET", "", "configuration", "STRIPE_WEBHOOK_SECRET is not set", "set it"),
        ("DATABASE_URL", "sqlite://nowhere.db", "database", "cannot be opened", "billhook migrate"),
        ("DATABASE_URL", &empty, "migrations", "not all of them", "billhook migrate"),
        (
            "STRIPE_SECRET_KEY",
            "sk_live_1",
            "mode",
            "the key is of live mode, the database holds test data",
            "database of its own",
        ),
        ("STRIPE_SECRET_KEY", "sk_test_canary_other", "key", "Stripe does not know it", "copy it anew"),
        ("STRIPE_API_BASE", &nobody, "key", "Stripe is not available: no_connection", "let this host reach"),
        (
            "BILLHOOK_PLANS",
            "pro=pro_monthly,price_nowhere",
            "prices",
            "price_nowhere of pro is not at Stripe",
            "BILLHOOK_PLANS",
        ),
        (
            "BILLHOOK_PLANS",
            "pro=price_setup_once",
            "prices",
            "price_setup_once of pro is paid once",
            "a recurring price",
        ),
        (
            "BILLHOOK_WEBHOOK_URL",
            "https://elsewhere.example",
            "webhook",
            "no endpoint at Stripe posts",
            "webhook register --url https://elsewhere.example/api/billing/webhook/",
        ),
        (
            "BILLHOOK_WEBHOOK_URL",
            "http://elsewhere.example",
            "configuration",
            "BILLHOOK_WEBHOOK_URL is plain http",
            "billhook serve --help",
        ),
        ("BILLHOOK_LOG_DIR", &below_a_file, "logs", "cannot be written", "BILLHOOK_LOG_DIR"),
    ] {
        let found = is_found(&app, &[(variable, value)], check, "red");
        assert!(found.says.contains(says), "{variable}={value}: {}", found.says);
        assert!(found.mend.contains(mend), "{variable}={value}: {}", found.mend);
    }
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.as_str());
    let found = is_found(&app, &[collector], "collector", "yellow");
    assert!(found.mend.contains("start it"), "{}", found.mend);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_looked_at_where_there_is_one() {
    let app = TestApp::start(Database::Sqlite).await;
    let authority = Authority::new();
    let alone = |pair: Pair| {
        let (first, _) = pair.certificate.split_once("-----END").expect("PEM");
        Pair { certificate: format!("{first}-----END CERTIFICATE-----\n"), key: pair.key }
    };
    for (pair, health, says, mend) in [
        (authority.pair(), "green", "is good for 90 more days", ""),
        (authority.pair_for("127.0.0.1", 14), "green", "is good for 14 more days", ""),
        (authority.pair_for("127.0.0.1", 13), "yellow", "is good for 13 more days", "renew it"),
        (authority.pair_for("127.0.0.1", -1), "red", "is over", "renew it"),
        (authority.pair_from_tomorrow(), "red", "is not good yet", "renew it"),
        (alone(authority.pair_for("127.0.0.1", 13)), "yellow", "is good for 13 more days", "renew it"),
        (authority.pair_for("elsewhere.example", 90), "yellow", "is not for 127.0.0.1", "for the host that"),
        (alone(authority.pair()), "yellow", "comes without those that lead", "fullchain.pem"),
    ] {
        let files = Files::of(&pair);
        let (certificate, key) = (files.certificate(), files.key());
        let set = [
            ("BILLHOOK_TLS_CERTIFICATE_FILE", certificate.to_str().expect("a path")),
            ("BILLHOOK_TLS_KEY_FILE", key.to_str().expect("a path")),
        ];
        let found = is_found(&app, &set, "certificate", health);
        assert!(found.says.contains(says) && found.mend.contains(mend), "{says}: {}", found.says);
    }
    let (one, other) = (Files::of(&authority.pair()), Files::of(&authority.pair()));
    let (certificate, key) = (one.certificate(), other.key());
    let set = [
        ("BILLHOOK_TLS_CERTIFICATE_FILE", certificate.to_str().expect("a path")),
        ("BILLHOOK_TLS_KEY_FILE", key.to_str().expect("a path")),
    ];
    let found = is_found(&app, &set, "configuration", "red");
    assert!(found.says.contains("holds the key of another certificate"), "{}", found.says);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_at_stripe_is_found_and_its_mend_is_named() {
    let app = TestApp::start(Database::Sqlite).await;
    // The double's endpoint is told everything.
    let found = is_found(&app, &[], "webhook", "yellow");
    assert!(
        found.says.contains("told more than is handled") && found.mend.contains("webhook register"),
        "{}",
        found.says
    );

    let endpoint = endpoint(&app).await;
    for (change, says) in [
        ("disabled=true", "is disabled"),
        ("disabled=false&enabled_events[]=invoice.paid", "is not told customer.subscription.created, "),
    ] {
        app.stripe.api("POST", &format!("/v1/webhook_endpoints/{endpoint}"), change).await;
        let found = is_found(&app, &[], "webhook", "red");
        assert!(found.says.contains(says) && found.mend.contains("webhook register"), "{}", found.says);
    }
    app.stripe.api("DELETE", &format!("/v1/webhook_endpoints/{endpoint}"), "").await;
    let old = format!("url={}/api/billing/webhook/&enabled_events[]=*&api_version=2019-12-03", app.url);
    app.stripe.api("POST", "/v1/webhook_endpoints", &old).await;
    let found = is_found(&app, &[], "webhook", "red");
    assert!(found.says.contains("2019-12-03") && found.mend.contains("webhook rotate"), "{}", found.says);

    app.stripe.api("POST", "/v1/prices/price_team_monthly", "active=false").await;
    let found = is_found(&app, &[], "prices", "red");
    assert!(found.says.contains("price_team_monthly of team is archived"), "{}", found.says);

    app.stripe.forget_portal_configuration().await;
    let found = is_found(&app, &[], "portal", "red");
    assert!(
        found.mend.contains("https://dashboard.stripe.com/test/settings/billing/portal"),
        "{}",
        found.mend
    );

    for (advance_seconds, health) in [(30, "yellow"), (3600, "red")] {
        app.stripe.set_clock(&json!({ "advance_seconds": advance_seconds })).await;
        let found = is_found(&app, &[], "clock", health);
        assert!(found.mend.contains("NTP"), "{}", found.mend);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_look_is_no_verdict() {
    let app = TestApp::start(Database::Sqlite).await;
    for (operation, check) in [
        ("GET /v1/prices", "prices"),
        ("GET /v1/billing_portal/configurations", "portal"),
        ("GET /v1/webhook_endpoints", "webhook"),
    ] {
        app.stripe.fault(&json!({ "match": operation, "kind": "status", "status": 403, "times": 99 })).await;
        let found = is_found(&app, &[("BILLHOOK_PLANS", PLANS)], check, "yellow");
        assert!(found.says.contains("status 403") && found.mend.contains("read access"), "{}", found.says);
        app.stripe.all_is_well().await;
    }
    app.stop().await;
}

/// Runs it, and finds a check of this health. No secret is told, and the exit code says whether anything is red.
fn is_found(app: &TestApp, otherwise: &[(&str, &str)], check: &str, health: &str) -> Found {
    let output = app.run_command_with(&["doctor", "--json"], otherwise);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("canary"), "{text}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let is_red = checks.iter().any(|found| found["health"] == "red");
    assert_eq!(output.status.code(), Some(i32::from(is_red)), "{text}");
    let found = checks.iter().find(|found| found["check"] == check && found["health"] == health);
    let found = found.unwrap_or_else(|| panic!("{check} is {health}: {text}"));
    let field = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Found { says: field("says"), mend: field("mend") }
}

async fn endpoint(app: &TestApp) -> String {
    let listed = app.stripe.api("GET", "/v1/webhook_endpoints", "").await;
    listed["data"][0]["id"].as_str().expect("an endpoint").to_owned()
}

/// An address at which nobody listens any more.
fn nobody_listens() -> String {
    format!("http://127.0.0.1:{}", free_port())
}
