//! `billhook doctor` finds what is wrong, here and at Stripe, and says what mends it.

use std::fs;

use serde_json::{Value, json};

use crate::support::app::{PLANS, TestApp, eventually, free_port, stripe_event};
use crate::support::authority::{Authority, Files, Pair};
use crate::support::database::Database;

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
    assert_eq!(text.lines().count(), 16, "{text}");
    assert_eq!(text.lines().last(), Some("12 green, 0 yellow, 0 red, 3 skipped"));

    let output = app.run_command(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["healthy"], &report["checks"][0]["check"]), (&json!(true), &json!("configuration")));
    assert_eq!(report["summary"], json!({ "green": 12, "yellow": 0, "red": 0, "skipped": 3 }));
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
async fn doctor_shows_checks_that_it_cannot_make_as_skipped() {
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
            is_found(&app, &[(variable, value)], check, "skipped");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_unknown_variable_and_unusable_collector() {
    let app = TestApp::start(Database::Sqlite).await;
    let found = is_found(&app, &[("BILLHOOK_PLAN", "canary")], "configuration", "yellow");
    assert!(found.says.contains("BILLHOOK_PLAN is set"), "{}", found.says);
    let found = is_found(&app, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")], "collector", "red");
    assert!(found.says.contains("OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"), "{}", found.says);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_shows_last_verified_and_last_refused_webhook() {
    let app = TestApp::start(Database::Sqlite).await;
    is_found(&app, &[], "deliveries", "skipped");
    let refuse = || async {
        let forged = app.forged_signature();
        app.post_webhook(b"{}".to_vec(), Some(&forged)).await.assert_is(400, "invalid_signature");
    };
    let says = |health: &'static str, what: &'static str| {
        let app = &app;
        eventually("doctor says so", move || async move {
            let found = find(app, &[], "deliveries", health)?;
            found.says.contains(what).then_some(found)
        })
    };

    refuse().await;
    let found = says("red", "no webhook was ever verified; the last was refused at 20").await;
    assert!(
        found.says.ends_with("no_match") && found.mend.contains("STRIPE_WEBHOOK_SECRET"),
        "{}",
        found.says
    );

    app.deliver(&stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await.ok();
    let found = says("green", "the last webhook was verified at 20").await;
    assert!(found.says.contains("by `1`; the last was refused at"), "{}", found.says);

    app.clock.advance_seconds(3599);
    refuse().await;
    app.clock.advance_seconds(61);
    says("green", "the last webhook was verified at 20").await;
    refuse().await;
    app.clock.advance_seconds(61);
    let found = says("yellow", "the last was refused at 20").await;
    assert!(found.mend.contains("STRIPE_WEBHOOK_SECRET"), "{}", found.mend);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_permission_that_restricted_key_lacks() {
    let app = TestApp::start(Database::Sqlite).await;
    for (operation, purpose, permission) in [
        ("GET /v1/events", "reading events", "event_read"),
        ("POST /v1/checkout/sessions", "creating Checkout Sessions", "checkout_session_write"),
        ("POST /v1/billing_portal/sessions", "opening the Customer Portal", "customer_portal_write"),
    ] {
        let message =
            format!("Permission denied for canary. Enabling \"X\" ('rak_{permission}') permissions");
        let body = json!({ "error": { "type": "invalid_request_error", "message": message } });
        let fault = json!({ "match": operation, "kind": "status", "status": 403, "body": body.to_string() });
        app.stripe.fault(&fault).await;
        let found = is_found(&app, &[], "permissions", "red");
        assert!(found.says.contains(purpose) && found.mend.contains(permission), "{}", found.says);
        app.stripe.all_is_well().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_lists_portal_features_that_are_off() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe.set_portal("features[subscription_cancel][enabled]=false").await;
    app.stripe.set_portal("features[invoice_history][enabled]=false").await;
    let found = is_found(&app, &[], "portal", "yellow");
    assert!(found.says.ends_with(": subscription_cancel, invoice_history"), "{}", found.says);
    assert!(
        found.mend.contains("https://dashboard.stripe.com/test/settings/billing/portal"),
        "{}",
        found.mend
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_portal_configuration_that_is_named() {
    let app = TestApp::start(Database::Sqlite).await;
    let check =
        |id: &str, health: &str| is_found(&app, &[("BILLHOOK_PORTAL_CONFIGURATION", id)], "portal", health);
    let id = app.stripe.create_portal_configuration().await;
    let off = "subscription_cancel, subscription_update, invoice_history";
    let found = check(&id, "yellow");
    assert!(found.says.contains(&id) && found.says.ends_with(off), "{}", found.says);
    let change = |form: &'static str| {
        let (stripe, path) = (&app.stripe, format!("/v1/billing_portal/configurations/{id}"));
        async move { stripe.api("POST", &path, form).await }
    };
    change(
        "features[subscription_cancel][enabled]=true&features[subscription_update][enabled]=true\
         &features[invoice_history][enabled]=true",
    )
    .await;
    assert!(check(&id, "green").says.contains(&id));
    change("active=false").await;
    assert!(check(&id, "red").says.contains("inactive"));

    let found = check("bpc_of_another_account", "red");
    assert!(found.says.contains("bpc_of_another_account, which is not at Stripe"), "{}", found.says);
    let found = is_found(&app, &[("BILLHOOK_PORTAL_CONFIGURATION", "canary")], "configuration", "red");
    assert!(found.says.contains("BILLHOOK_PORTAL_CONFIGURATION is not a Stripe portal"), "{}", found.says);
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
    find(app, otherwise, check, health).unwrap_or_else(|| panic!("{check} is {health}"))
}

fn find(app: &TestApp, otherwise: &[(&str, &str)], check: &str, health: &str) -> Option<Found> {
    let output = app.run_command_with(&["doctor", "--json"], otherwise);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("canary"), "{text}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let is_red = checks.iter().any(|found| found["health"] == "red");
    assert_eq!(output.status.code(), Some(i32::from(is_red)), "{text}");
    let found = checks.iter().find(|found| found["check"] == check && found["health"] == health);
    let field = |found: &Value, name: &str| found[name].as_str().unwrap_or_default().to_owned();
    let found = found.map(|found| Found { says: field(found, "says"), mend: field(found, "mend") });
    if found.is_none() {
        eprintln!("{text}");
    }
    found
}

async fn endpoint(app: &TestApp) -> String {
    let listed = app.stripe.api("GET", "/v1/webhook_endpoints", "").await;
    listed["data"][0]["id"].as_str().expect("an endpoint").to_owned()
}

/// An address at which nobody listens any more.
fn nobody_listens() -> String {
    format!("http://127.0.0.1:{}", free_port())
}
