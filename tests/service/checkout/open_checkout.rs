//! Checkouts that our database has as open: none keeps its tenant from buying.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    session_that_expired_at_stripe_is_replaced,
    overdue_session_still_open_at_stripe_is_replaced,
    session_missing_at_stripe_is_replaced,
    refresh_of_session_missing_at_stripe_succeeds,
    completed_session_of_deleted_customer_is_closed,
    session_of_replaced_price_is_not_reused,
    session_about_to_expire_is_not_reused,
);

const HOUR: i64 = 60 * 60;

/// Opens a session whose later events are dropped.
async fn open_without_webhooks(app: &TestApp, tenant: &str) -> String {
    app.wait_for_backfill().await;
    let session = checkout(app, tenant).await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    session
}

async fn checkout(app: &TestApp, tenant: &str) -> String {
    let bought = app.check_out(&app.token(tenant), &json!({})).await.ok();
    bought["session_id"].as_str().expect("a session").to_owned()
}

async fn status_in_database(app: &TestApp, session: &str) -> String {
    let row = app.database.row::<entity::checkout::Entity>(session).await;
    row.expect("the checkout's row").status
}

async fn status_at_stripe(app: &TestApp, session: &str) -> Value {
    app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await["status"].clone()
}

async fn sessions_created(app: &TestApp) -> usize {
    app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len()
}

async fn session_that_expired_at_stripe_is_replaced(database: Database) {
    let app = TestApp::start(database).await;
    let expired = open_without_webhooks(&app, "acme").await;
    app.stripe.api("POST", &format!("/v1/checkout/sessions/{expired}/expire"), "").await;
    assert_ne!(checkout(&app, "acme").await, expired);
    assert_eq!(status_in_database(&app, &expired).await, "expired");
    assert_eq!(sessions_created(&app).await, 2, "one for each checkout");
    app.stop().await;
}

async fn overdue_session_still_open_at_stripe_is_replaced(database: Database) {
    let app = TestApp::start(database).await;
    let overdue = open_without_webhooks(&app, "acme").await;
    app.stripe.set_clock(&json!({ "advance_seconds": 24 * HOUR })).await;
    assert_eq!(status_at_stripe(&app, &overdue).await, "open");
    assert_ne!(checkout(&app, "acme").await, overdue);
    assert_eq!(status_in_database(&app, &overdue).await, "expired");
    app.stop().await;
}

async fn session_missing_at_stripe_is_replaced(database: Database) {
    let app = TestApp::start(database).await;
    let missing = open_without_webhooks(&app, "acme").await;
    app.stripe.remove("checkout", &missing).await;
    assert_ne!(checkout(&app, "acme").await, missing);
    assert_eq!(status_in_database(&app, &missing).await, "expired");
    app.stop().await;
}

async fn refresh_of_session_missing_at_stripe_succeeds(database: Database) {
    let app = TestApp::start(database).await;
    let missing = open_without_webhooks(&app, "acme").await;
    app.stripe.remove("checkout", &missing).await;
    let path = format!("/api/billing/checkout-sessions/{missing}/refresh/");
    let request = app.request(Method::POST, &path).bearer_auth(app.token("acme"));
    let refreshed = app.call(request).await.ok();
    assert_eq!(refreshed["plan"], "free");
    assert_eq!(status_in_database(&app, &missing).await, "expired");
    app.stop().await;
}

async fn completed_session_of_deleted_customer_is_closed(database: Database) {
    let app = TestApp::start(database).await;
    let paid = open_without_webhooks(&app, "acme").await;
    app.stripe.pay(&paid).await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    let deleted = stripe_event("customer.deleted", app.clock_seconds(), |object| {
        object["id"] = json!(customer);
    });
    app.deliver(&deleted).await.ok();

    assert_ne!(checkout(&app, "acme").await, paid);
    assert_eq!(status_in_database(&app, &paid).await, "complete");
    assert_ne!(app.customer_of("acme").await, customer);
    app.stop().await;
}

async fn session_of_replaced_price_is_not_reused(database: Database) {
    let plans = ("--plans", "pro=pro_monthly;team=team_monthly");
    let app = TestApp::start_with(database, &[plans]).await;
    let old = checkout(&app, "acme").await;
    let price = app.stripe.replace_price("pro_monthly").await;
    let new = checkout(&app, "acme").await;
    assert_ne!(new, old);
    assert_eq!(status_at_stripe(&app, &old).await, "expired");
    let sold = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    assert_eq!(sold.last().expect("a session")["params"]["line_items"][0]["price"], price);
    assert_eq!(checkout(&app, "acme").await, new, "the new session is reused");
    app.stop().await;
}

async fn session_about_to_expire_is_not_reused(database: Database) {
    let app = TestApp::start(database).await;
    let first = checkout(&app, "acme").await;
    app.stripe.set_clock(&json!({ "advance_seconds": 23 * HOUR })).await;
    assert_eq!(checkout(&app, "acme").await, first);
    app.stripe.set_clock(&json!({ "advance_seconds": HOUR / 2 + 60 })).await;
    assert_ne!(checkout(&app, "acme").await, first);
    assert_eq!(status_at_stripe(&app, &first).await, "expired");
    app.stop().await;
}
