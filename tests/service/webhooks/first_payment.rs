//! Checkouts paid by delayed debit where no event reports the result: the latest invoice decides.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    reconcile_reports_voided_first_invoice_and_restores_access,
    first_invoice_payment_without_event_is_found_by_refresh,
    open_first_invoice_keeps_access_withheld,
);

/// Makes the tenant buy by delayed debit, then stops all events. Returns the subscription and the
/// session.
async fn buy_by_delayed_debit(app: &TestApp) -> (String, String) {
    app.wait_for_backfill().await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session").to_owned();
    app.stripe.pay_with(&session, "delayed").await;
    app.wait_for_checkout(&session, "awaiting_payment").await;
    let waiting = app.wait_for_subscription("acme", |subscription| subscription["status"] == "active").await;
    assert_eq!((&waiting["plan"], &waiting["access"]), (&json!("free"), &json!(false)), "{waiting}");
    app.wait_for_refreshes().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    (app.stripe.subscription_of_session(&session).await, session)
}

async fn void_first_invoice(app: &TestApp, subscription: &str) {
    let subscription = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    let invoice = subscription["latest_invoice"].as_str().expect("an invoice");
    let void = app.stripe.api("POST", &format!("/v1/invoices/{invoice}/void"), "").await;
    assert_eq!(void["status"], "void", "{void}");
}

async fn reconcile_reports_voided_first_invoice_and_restores_access(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, session) = buy_by_delayed_debit(&app).await;
    void_first_invoice(&app, &subscription).await;

    let shown = app.run_command(&["tenant", "show", "acme"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("false until the first payment arrives"), "{shown}");
    let shown = app.run_command(&["tenant", "show", "acme", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["subscriptions"][0]["access_withheld"], "awaiting_payment", "{shown}");

    let compared = app.run_command(&["reconcile"]);
    let out = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(!compared.status.success() && out.contains("awaiting_payment"), "{out}");
    let applied = app.run_command(&["reconcile", "--apply"]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.wait_for_checkout(&session, "complete").await;
    assert!(app.run_command(&["reconcile"]).status.success());
    app.stop().await;
}

async fn first_invoice_payment_without_event_is_found_by_refresh(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, session) = buy_by_delayed_debit(&app).await;
    app.stripe.settle(&session, true).await;
    let older = stripe_event("customer.subscription.updated", app.clock_seconds() - 3600, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("trialing");
    });
    app.deliver(&app.for_customer_of("acme", older).await).await.ok();
    app.wait_for_plan("acme", "pro").await;
    app.stop().await;
}

async fn open_first_invoice_keeps_access_withheld(database: Database) {
    let app = TestApp::start(database).await;
    buy_by_delayed_debit(&app).await;
    let applied = app.run_command(&["reconcile", "--apply"]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["access"], false);
    app.stop().await;
}
