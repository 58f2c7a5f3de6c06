//! `billhook doctor`: finds problems of the setup, locally and at Stripe, and says how to fix them.

use std::fs;

use serde_json::{Value, json};

use crate::support::app::{PLANS, TestApp, eventually, free_port, stripe_event};
use crate::support::certificate_authority::{CertificateAndKey, CertificateAuthority, CertificateFiles};
use crate::support::database::Database;

/// The result of one check.
struct CheckResult {
    finding: String,
    fix: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_reports_healthy_setup_as_green() {
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
        "account",
        "clock",
        "permissions",
        "prices",
        "portal",
        "webhook",
        "logs",
    ] {
        assert!(text.contains(&format!("green   {check} ")), "{check}: {text}");
    }
    for check in ["deliveries", "certificate", "collector"] {
        assert!(text.contains(&format!("skipped {check} ")), "{check}: {text}");
    }
    assert!(text.starts_with("HEALTH  CHECK          FINDING\n"), "{text}");
    let findings = text.lines().filter(|line| !line.starts_with(' ')).count() - 2;
    assert_eq!(findings, 15, "{text}");
    assert_eq!(text.lines().last(), Some("12 green, 0 yellow, 0 red, 3 skipped"));

    let output = app.run_command(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["healthy"], &report["checks"][0]["check"]), (&json!(true), &json!("configuration")));
    assert_eq!(report["summary"], json!({ "green": 12, "yellow": 0, "red": 0, "skipped": 3 }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_local_problems_and_names_fix() {
    let app = TestApp::start(Database::Sqlite).await;
    let empty = app.dir().join("empty.db");
    fs::write(&empty, "").expect("the file is written");
    let empty = format!("sqlite://{}", empty.display());
    let a_file = app.dir().join("a_file");
    fs::write(&a_file, "").expect("the file is written");
    let below_a_file = format!("{}/logs", a_file.display());
    let unreachable = unreachable_url();
    for (variable, value, check, finding, fix) in [
        ("BILLHOOK_PLANS", "canary", "configuration", "BILLHOOK_PLANS has an entry", "billhook serve --help"),
        (
            "STRIPE_WEBHOOK_SECRET",
            "",
            "configuration",
            "STRIPE_WEBHOOK_SECRET is not set: webhooks are answered 503",
            "set it",
        ),
        (
            "DATABASE_URL",
            "sqlite://nowhere.db",
            "database",
            "the file nowhere.db does not exist",
            "billhook migrate",
        ),
        ("DATABASE_URL", &empty, "migrations", "not all migrations", "billhook migrate"),
        (
            "STRIPE_SECRET_KEY",
            "sk_live_1",
            "mode",
            "the key is of live mode, but the database has test data",
            "another database",
        ),
        ("STRIPE_SECRET_KEY", "sk_test_canary_other", "key", "Stripe rejects the key", "copy it again"),
        (
            "STRIPE_API_BASE",
            &unreachable,
            "key",
            "Stripe is not available: no_connection",
            "allow this host to reach",
        ),
        (
            "BILLHOOK_PLANS",
            "pro=pro_monthly,price_nowhere",
            "prices",
            "price_nowhere of pro does not exist at Stripe",
            "BILLHOOK_PLANS",
        ),
        (
            "BILLHOOK_PLANS",
            "pro=price_setup_once",
            "prices",
            "price_setup_once of pro is a one-time price",
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
        let result = expect_check(&app, &[(variable, value)], check, "red");
        assert!(result.finding.contains(finding), "{variable}={value}: {}", result.finding);
        assert!(result.fix.contains(fix), "{variable}={value}: {}", result.fix);
    }
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", unreachable.as_str());
    let result = expect_check(&app, &[collector], "collector", "yellow");
    assert!(result.fix.contains("start it"), "{}", result.fix);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_configured_certificate() {
    let app = TestApp::start(Database::Sqlite).await;
    let authority = CertificateAuthority::new();
    let without_chain = |pair: CertificateAndKey| {
        let (first, _) = pair.certificate.split_once("-----END").expect("PEM");
        CertificateAndKey { certificate: format!("{first}-----END CERTIFICATE-----\n"), key: pair.key }
    };
    for (pair, health, finding, fix) in [
        (authority.issue(), "green", "is valid for 90 more days", ""),
        (authority.issue_for("127.0.0.1", 14), "green", "is valid for 14 more days", ""),
        (authority.issue_for("127.0.0.1", 13), "yellow", "is valid for 13 more days", "renew it"),
        (authority.issue_for("127.0.0.1", -1), "red", "has expired", "renew it"),
        (authority.issue_valid_from_tomorrow(), "red", "is not valid yet", "renew it"),
        (
            without_chain(authority.issue_for("127.0.0.1", 13)),
            "yellow",
            "is valid for 13 more days",
            "renew it",
        ),
        (
            authority.issue_for("elsewhere.example", 90),
            "yellow",
            "is not valid for 127.0.0.1",
            "for the host that",
        ),
        (
            without_chain(authority.issue()),
            "yellow",
            "comes without the intermediate certificates",
            "fullchain.pem",
        ),
    ] {
        let files = CertificateFiles::new(&pair);
        let (certificate, key) = (files.certificate(), files.key());
        let set = [
            ("BILLHOOK_TLS_CERTIFICATE_FILE", certificate.to_str().expect("a path")),
            ("BILLHOOK_TLS_KEY_FILE", key.to_str().expect("a path")),
        ];
        let result = expect_check(&app, &set, "certificate", health);
        assert!(
            result.finding.contains(finding) && result.fix.contains(fix),
            "{finding}: {}",
            result.finding
        );
    }
    let (one, other) = (CertificateFiles::new(&authority.issue()), CertificateFiles::new(&authority.issue()));
    let (certificate, key) = (one.certificate(), other.key());
    let set = [
        ("BILLHOOK_TLS_CERTIFICATE_FILE", certificate.to_str().expect("a path")),
        ("BILLHOOK_TLS_KEY_FILE", key.to_str().expect("a path")),
    ];
    let result = expect_check(&app, &set, "configuration", "red");
    assert!(result.finding.contains("contains the key of another certificate"), "{}", result.finding);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_problems_at_stripe_and_names_fix() {
    let app = TestApp::start(Database::Sqlite).await;
    // The double's endpoint receives every event type.
    let result = expect_check(&app, &[], "webhook", "yellow");
    assert!(
        result.finding.contains("sends event types that Billhook does not handle")
            && result.fix.contains("webhook register"),
        "{}",
        result.finding
    );

    let endpoint = endpoint(&app).await;
    for (change, finding) in [
        ("disabled=true", "is disabled"),
        ("disabled=false&enabled_events[]=invoice.paid", "does not send customer.subscription.created, "),
    ] {
        app.stripe.api("POST", &format!("/v1/webhook_endpoints/{endpoint}"), change).await;
        let result = expect_check(&app, &[], "webhook", "red");
        assert!(
            result.finding.contains(finding) && result.fix.contains("webhook register"),
            "{}",
            result.finding
        );
    }
    app.stripe.api("DELETE", &format!("/v1/webhook_endpoints/{endpoint}"), "").await;
    let old = format!("url={}/api/billing/webhook/&enabled_events[]=*&api_version=2019-12-03", app.url);
    app.stripe.api("POST", "/v1/webhook_endpoints", &old).await;
    let result = expect_check(&app, &[], "webhook", "red");
    assert!(
        result.finding.contains("2019-12-03") && result.fix.contains("webhook rotate"),
        "{}",
        result.finding
    );

    app.stripe.api("POST", "/v1/prices/price_team_monthly", "active=false").await;
    let result = expect_check(&app, &[], "prices", "red");
    assert!(result.finding.contains("price_team_monthly of team is archived"), "{}", result.finding);

    app.stripe.remove_portal_configuration().await;
    let result = expect_check(&app, &[], "portal", "red");
    assert!(
        result.fix.contains("https://dashboard.stripe.com/test/settings/billing/portal"),
        "{}",
        result.fix
    );

    for (advance_seconds, health) in [(30, "yellow"), (3600, "red")] {
        app.stripe.set_clock(&json!({ "advance_seconds": advance_seconds })).await;
        let result = expect_check(&app, &[], "clock", health);
        assert!(result.fix.contains("NTP"), "{}", result.fix);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_skips_checks_it_cannot_make() {
    let app = TestApp::start(Database::Sqlite).await;
    for (variable, value, checks) in [
        ("STRIPE_SECRET_KEY", "", &["key", "clock", "permissions", "prices", "portal", "webhook"][..]),
        ("STRIPE_SECRET_KEY", "sk_test_other", &["clock", "permissions", "prices", "portal", "webhook"]),
        ("DATABASE_URL", "sqlite://nowhere.db", &["migrations", "mode", "deliveries"]),
        ("DATABASE_URL", "mysql://nowhere", &["database", "migrations", "mode", "deliveries"]),
        ("BILLHOOK_PLANS", "", &["prices"]),
        ("BILLHOOK_LOG_MAX_MB", "canary", &["logs"]),
    ] {
        for check in checks {
            expect_check(&app, &[(variable, value)], check, "skipped");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_unknown_variable_and_unusable_collector() {
    let app = TestApp::start(Database::Sqlite).await;
    let result = expect_check(&app, &[("BILLHOOK_PLAN", "canary")], "configuration", "yellow");
    assert!(result.finding.contains("BILLHOOK_PLAN is set"), "{}", result.finding);
    let result = expect_check(&app, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")], "collector", "red");
    assert!(result.finding.contains("OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"), "{}", result.finding);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_shows_last_verified_and_last_rejected_webhook() {
    let app = TestApp::start(Database::Sqlite).await;
    expect_check(&app, &[], "deliveries", "skipped");
    let refuse = || async {
        let forged = app.forged_signature();
        app.post_webhook(b"{}".to_vec(), Some(&forged)).await.assert_problem(400, "invalid_signature");
    };
    let wait_for_finding = |health: &'static str, what: &'static str| {
        let app = &app;
        eventually("doctor reports it", move || async move {
            let result = find_check(app, &[], "deliveries", health)?;
            result.finding.contains(what).then_some(result)
        })
    };

    refuse().await;
    let result = wait_for_finding("red", "no webhook was verified yet; the last rejection was at 20").await;
    assert!(
        result.finding.ends_with("no_match") && result.fix.contains("STRIPE_WEBHOOK_SECRET"),
        "{}",
        result.finding
    );

    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    let result = wait_for_finding("green", "the last webhook was verified at 20").await;
    assert!(
        result.finding.contains("with the secret at position 1; the last rejection was at"),
        "{}",
        result.finding
    );

    app.clock.advance_seconds(3599);
    refuse().await;
    app.clock.advance_seconds(61);
    wait_for_finding("green", "the last webhook was verified at 20").await;
    refuse().await;
    app.clock.advance_seconds(61);
    let result = wait_for_finding("yellow", "the last rejection was at 20").await;
    assert!(result.fix.contains("STRIPE_WEBHOOK_SECRET"), "{}", result.fix);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_permission_missing_from_restricted_key() {
    let app = TestApp::start(Database::Sqlite).await;
    for (operation, purpose, permission) in [
        ("GET /v1/events", "reading events", "event_read"),
        ("GET /v1/subscriptions", "reading subscriptions", "subscription_read"),
        ("GET /v1/invoices", "reading invoices", "invoice_read"),
        ("POST /v1/checkout/sessions", "creating Checkout Sessions", "checkout_session_write"),
        ("POST /v1/billing_portal/sessions", "opening the Customer Portal", "customer_portal_write"),
    ] {
        let message =
            format!("Permission denied for canary. Enabling \"X\" ('rak_{permission}') permissions");
        let body = json!({ "error": { "type": "invalid_request_error", "message": message } });
        let fault = json!({ "match": operation, "kind": "status", "status": 403, "body": body.to_string() });
        app.stripe.inject_fault(&fault).await;
        let result = expect_check(&app, &[], "permissions", "red");
        assert!(result.finding.contains(purpose) && result.fix.contains(permission), "{}", result.finding);
        app.stripe.clear_faults().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_lists_portal_features_that_are_off() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe.configure_portal("features[subscription_cancel][enabled]=false").await;
    app.stripe.configure_portal("features[invoice_history][enabled]=false").await;
    let result = expect_check(&app, &[], "portal", "yellow");
    assert!(result.finding.ends_with(": subscription_cancel, invoice_history"), "{}", result.finding);
    assert!(
        result.fix.contains("https://dashboard.stripe.com/test/settings/billing/portal"),
        "{}",
        result.fix
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_configured_portal_configuration() {
    let app = TestApp::start(Database::Sqlite).await;
    let check = |id: &str, health: &str| {
        expect_check(&app, &[("BILLHOOK_PORTAL_CONFIGURATION", id)], "portal", health)
    };
    let id = app.stripe.create_portal_configuration().await;
    let off = "subscription_cancel, subscription_update, invoice_history";
    let result = check(&id, "yellow");
    assert!(result.finding.contains(&id) && result.finding.ends_with(off), "{}", result.finding);
    let change = |form: &'static str| {
        let (stripe, path) = (&app.stripe, format!("/v1/billing_portal/configurations/{id}"));
        async move { stripe.api("POST", &path, form).await }
    };
    change(
        "features[subscription_cancel][enabled]=true&features[subscription_update][enabled]=true\
         &features[invoice_history][enabled]=true",
    )
    .await;
    assert!(check(&id, "green").finding.contains(&id));
    change("active=false").await;
    assert!(check(&id, "red").finding.contains("inactive"));

    let result = check("bpc_of_another_account", "red");
    assert!(
        result.finding.contains("bpc_of_another_account, which does not exist at Stripe"),
        "{}",
        result.finding
    );
    let result = expect_check(&app, &[("BILLHOOK_PORTAL_CONFIGURATION", "canary")], "configuration", "red");
    assert!(
        result.finding.contains("BILLHOOK_PORTAL_CONFIGURATION is not a Stripe portal"),
        "{}",
        result.finding
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_warns_about_checks_that_the_key_may_not_make() {
    let app = TestApp::start(Database::Sqlite).await;
    for (operation, check, resource) in [
        ("GET /v1/prices", "prices", "Prices"),
        ("GET /v1/billing_portal/configurations", "portal", "Customer portal"),
        ("GET /v1/webhook_endpoints", "webhook", "Webhook Endpoints"),
    ] {
        app.stripe
            .inject_fault(&json!({ "match": operation, "kind": "status", "status": 403, "times": 99 }))
            .await;
        let result = expect_check(&app, &[("BILLHOOK_PLANS", PLANS)], check, "yellow");
        assert!(
            result.finding.contains("status 403")
                && result.fix.contains(&format!("read access to {resource}")),
            "{}",
            result.finding
        );
        app.stripe.clear_faults().await;
    }
    app.stop().await;
}

fn expect_check(app: &TestApp, overrides: &[(&str, &str)], check: &str, health: &str) -> CheckResult {
    find_check(app, overrides, check, health).unwrap_or_else(|| panic!("{check} is {health}"))
}

fn find_check(app: &TestApp, overrides: &[(&str, &str)], check: &str, health: &str) -> Option<CheckResult> {
    let output = app.run_command_with(&["doctor", "--json"], overrides);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("canary"), "{text}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let is_red = checks.iter().any(|found| found["health"] == "red");
    assert_eq!(output.status.code(), Some(i32::from(is_red)), "{text}");
    let found = checks.iter().find(|found| found["check"] == check && found["health"] == health);
    let field = |found: &Value, name: &str| found[name].as_str().unwrap_or_default().to_owned();
    let result = found.map(|found| CheckResult { finding: field(found, "says"), fix: field(found, "fix") });
    if result.is_none() {
        eprintln!("{text}");
    }
    result
}

async fn endpoint(app: &TestApp) -> String {
    let listed = app.stripe.api("GET", "/v1/webhook_endpoints", "").await;
    listed["data"][0]["id"].as_str().expect("an endpoint").to_owned()
}

/// A URL on which no server listens.
fn unreachable_url() -> String {
    format!("http://127.0.0.1:{}", free_port())
}
