//! Liveness, readiness, and the responses to unknown paths and methods.

use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(readiness_names_missing_configuration, missing_database_returns_503);

/// Raises PostgreSQL's error for a full disk. The endurance tests fill a real disk under SQLite.
const FULL_DISK: &str = "\
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''53100''; END';
    CREATE TRIGGER full_disk BEFORE INSERT ON event EXECUTE FUNCTION full_disk();
    CREATE TRIGGER full_disk BEFORE INSERT ON observation EXECUTE FUNCTION full_disk();";

async fn readiness_names_missing_configuration(database: Database) {
    let app = TestApp::start(database).await;
    assert_eq!(app.get("/healthz").await.ok(), json!({ "status": "alive" }));
    let ready = json!({ "status": "ready", "not_configured": [], "not_reached": [], "prices_not_found": [] });
    assert_eq!(app.get("/readyz").await.ok(), ready);
    app.stop().await;

    let app = TestApp::start_with(database, &[("--stripe-secret-key", ""), ("--plans", "")]).await;
    let ready = app.get("/readyz").await.ok();
    assert_eq!(ready["not_configured"], json!(["STRIPE_SECRET_KEY", "BILLHOOK_PLANS"]));
    app.stop().await;
}

async fn missing_database_returns_503(database: Database) {
    let app = TestApp::start(database).await;
    app.destroy_database().await;
    app.get("/readyz").await.assert_problem(503, "unavailable");
    let token = app.token("acme");
    app.subscription(&token).await.assert_problem(503, "unavailable");
    app.open_portal(&token, &json!({})).await.assert_problem(503, "unavailable");
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let refused = app.deliver(&event).await;
    refused.assert_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(app.get("/healthz").await.ok(), json!({ "status": "alive" }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_postgres_disk_is_not_ready_until_a_write_works() {
    let app = TestApp::start(Database::Postgres).await;
    let deliver = || async {
        let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
        app.deliver(&event).await
    };
    deliver().await.ok();
    app.database.execute(FULL_DISK).await;
    app.get("/readyz").await.ok();
    deliver().await.assert_problem(503, "unavailable");
    for _ in 0..3 {
        let refused = app.get("/readyz").await;
        refused.assert_problem(503, "unavailable");
        assert!(refused.text.contains("is not writable"), "{}", refused.text);
    }

    app.database.execute("DROP FUNCTION full_disk CASCADE").await;
    eventually("the service is ready", || async { (app.get("/readyz").await.status == 200).then_some(()) })
        .await;
    deliver().await.ok();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn price_missing_at_stripe_is_named_in_readiness_and_log() {
    let plans = ("--plans", "pro=pro_monthly,price_nowhere;team=no_such_key");
    let app = TestApp::start_process_with(Database::Sqlite, &[plans], &[]).await;
    eventually("the missing prices are named", || async {
        let ready = app.get("/readyz").await.ok();
        (ready["prices_not_found"] == json!(["price_nowhere", "no_such_key"])).then_some(())
    })
    .await;
    let stderr = app.stderr();
    for price in ["price_nowhere", "no_such_key"] {
        let warned = stderr.lines().filter(|line| line.contains("WARN") && line.contains(price)).count();
        assert_eq!(warned, 1, "{stderr}");
    }
    assert!(!stderr.contains("price=pro_monthly"), "{stderr}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_price_is_checked_again_within_the_hour() {
    let app = TestApp::start_with(Database::Sqlite, &[("--plans", "pro=pro_monthly")]).await;
    let checks = || async { app.stripe.requests_to("GET", "/v1/prices").await.len() };
    eventually("the price was checked", || async { (checks().await == 1).then_some(()) }).await;
    let not_found = json!({ "match": "GET /v1/prices", "kind": "status", "status": 200, "times": 1,
        "body": json!({ "object": "list", "data": [] }).to_string() });
    app.stripe.inject_fault(&not_found).await;
    app.clock.advance_seconds(3600);
    eventually("the price is missing", || async {
        (app.get("/readyz").await.ok()["prices_not_found"] == json!(["pro_monthly"])).then_some(())
    })
    .await;
    app.clock.advance_seconds(3600);
    eventually("the price is found again", || async {
        (app.get("/readyz").await.ok()["prices_not_found"] == json!([])).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn unknown_path_and_method_return_problems() {
    let app = TestApp::start(Database::Sqlite).await;
    for path in ["/", "/nothing", "/api/billing/", "/api/billing/subscription/more", "/docs/nothing"] {
        app.get(path).await.assert_problem(404, "not_found");
    }
    for (method, path, allowed) in [
        (Method::GET, "/api/billing/webhook/", "POST"),
        (Method::DELETE, "/api/billing/subscription/", "GET, HEAD"),
        (Method::POST, "/api/billing/tenants/acme/subscription", "GET, HEAD"),
        (Method::OPTIONS, "/healthz", "GET, HEAD"),
        (Method::POST, "/openapi.json", "GET, HEAD"),
        (Method::POST, "/docs", "GET, HEAD"),
    ] {
        let refused = app.call(app.request(method, path)).await;
        refused.assert_problem(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), Some(allowed), "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn openapi_document_and_docs_page_are_served() {
    let app = TestApp::start(Database::Sqlite).await;
    let document = app.get("/openapi.json").await.ok();
    assert_eq!(document["info"]["title"], "Billhook");
    assert!(document["paths"]["/api/billing/subscription/"]["get"].is_object());
    let page = app.get("/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<html"), "{}", &page.text[..100.min(page.text.len())]);
    assert!(page.text.contains("\"/api/billing/webhook/\""), "the page shows the served document");
    app.stop().await;
}
