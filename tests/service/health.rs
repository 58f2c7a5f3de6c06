//! Alive, ready, and the shape of what is not there.

use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, eventually, stripe_event};
use crate::database::{Database, on_both_databases};

on_both_databases!(the_service_is_ready_and_names_what_is_not_configured, without_its_database_it_says_so);

/// PostgreSQL's answer when a table cannot grow because the disk is full. SQLite's real one is in `endurance`.
const FULL_DISK: &str = "\
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''53100''; END';
    CREATE TRIGGER full_disk BEFORE INSERT ON event EXECUTE FUNCTION full_disk();
    CREATE TRIGGER full_disk BEFORE INSERT ON observation EXECUTE FUNCTION full_disk();";

async fn the_service_is_ready_and_names_what_is_not_configured(database: Database) {
    let app = TestApp::start(database).await;
    assert_eq!(app.get("/healthz").await.ok(), json!({ "status": "alive" }));
    let ready = json!({ "status": "ready", "not_configured": [], "not_reached": [] });
    assert_eq!(app.get("/readyz").await.ok(), ready);
    app.stop().await;

    let app = TestApp::start_with(database, &[("--stripe-secret-key", ""), ("--plans", "")]).await;
    let ready = app.get("/readyz").await.ok();
    assert_eq!(ready["not_configured"], json!(["STRIPE_SECRET_KEY", "BILLHOOK_PLANS"]));
    app.stop().await;
}

async fn without_its_database_it_says_so(database: Database) {
    let app = TestApp::start(database).await;
    app.lose_database().await;
    app.get("/readyz").await.assert_is(503, "unavailable");
    let token = app.token("acme");
    app.subscription(&token).await.assert_is(503, "unavailable");
    app.open_portal(&token, &json!({})).await.assert_is(503, "unavailable");
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let refused = app.deliver(&event).await;
    refused.assert_is(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(app.get("/healthz").await.ok(), json!({ "status": "alive" }));
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let app = TestApp::start(Database::Sqlite).await;
    for path in ["/", "/nothing", "/api/billing/", "/api/billing/subscription/more", "/docs/nothing"] {
        app.get(path).await.assert_is(404, "not_found");
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
        refused.assert_is(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), Some(allowed), "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_contract_is_served_with_a_page_to_try_it() {
    let app = TestApp::start(Database::Sqlite).await;
    let contract = app.get("/openapi.json").await.ok();
    assert_eq!(contract["info"]["title"], "Billhook");
    assert!(contract["paths"]["/api/billing/subscription/"]["get"].is_object());
    let page = app.get("/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<html"), "{}", &page.text[..100.min(page.text.len())]);
    assert!(page.text.contains("\"/api/billing/webhook/\""), "the page shows the contract as it is served");
    app.stop().await;
}
