//! A checkout that was completed with its money on the way, of whose end no event tells: the latest invoice decides.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    voided_first_invoice_is_drift_and_lifted_by_reconcile,
    first_invoice_paid_unheard_is_learned_when_stripe_is_asked,
    open_first_invoice_keeps_access_withheld,
);

/// A tenant that has bought by a delayed debit. Returns its subscription and its session.
async fn with_delayed_debit(app: &TestApp) -> (String, String) {
    app.until_backfilled().await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session").to_owned();
    app.stripe.pay_with(&session, "delayed").await;
    app.until_checkout(&session, "awaiting_payment").await;
    let held = app.until("acme", |answer| answer["status"] == "active").await;
    assert_eq!((&held["plan"], &held["access"]), (&json!("free"), &json!(false)), "{held}");
    app.until_nothing_is_asked().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    (app.stripe.subscription_of_session(&session).await, session)
}

async fn void_first_invoice(app: &TestApp, subscription: &str) {
    let subscription = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    let invoice = subscription["latest_invoice"].as_str().expect("an invoice");
    let void = app.stripe.api("POST", &format!("/v1/invoices/{invoice}/void"), "").await;
    assert_eq!(void["status"], "void", "{void}");
}

async fn voided_first_invoice_is_drift_and_lifted_by_reconcile(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, session) = with_delayed_debit(&app).await;
    void_first_invoice(&app, &subscription).await;

    let shown = app.run_command(&["tenant", "show", "acme"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("active, access is withheld until its first payment arrives"), "{shown}");
    let shown = app.run_command(&["tenant", "show", "acme", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["subscriptions"][0]["access_withheld"], "awaiting_payment", "{shown}");

    let compared = app.run_command(&["reconcile"]);
    let out = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(!compared.status.success() && out.contains("awaiting_payment"), "{out}");
    let applied = app.run_command(&["reconcile", "--apply"]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.until_checkout(&session, "complete").await;
    assert!(app.run_command(&["reconcile"]).status.success());
    app.stop().await;
}

async fn first_invoice_paid_unheard_is_learned_when_stripe_is_asked(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, session) = with_delayed_debit(&app).await;
    app.stripe.settle(&session, true).await;
    let late = stripe_event("customer.subscription.updated", app.clock_seconds() - 3600, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("trialing");
    });
    app.deliver(&app.for_customer_of("acme", late).await).await.ok();
    app.until_plan("acme", "pro").await;
    app.stop().await;
}

async fn open_first_invoice_keeps_access_withheld(database: Database) {
    let app = TestApp::start(database).await;
    with_delayed_debit(&app).await;
    let applied = app.run_command(&["reconcile", "--apply"]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["access"], false);
    app.stop().await;
}
