//! The idempotency key that creates a tenant's customer, when Stripe has a useless result stored
//! under it.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    stored_failure_of_customer_key_does_not_block_checkout,
    deleted_customer_stored_under_key_is_not_used,
);

async fn keys(app: &TestApp) -> Vec<Value> {
    let requests = app.stripe.requests_to("POST", "/v1/customers").await;
    requests.iter().map(|request| request["headers"]["idempotency-key"].clone()).collect()
}

async fn stored_failure_of_customer_key_does_not_block_checkout(database: Database) {
    let app = TestApp::start(database).await;
    let fault = json!({ "match": "POST /v1/customers", "kind": "status", "status": 500, "times": 1 });
    app.stripe.inject_fault(&fault).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let failed = "billhook-customer-staging-test-acme-0";
    assert_eq!(keys(&app).await, [failed, failed, "billhook-customer-staging-test-acme-1"]);
    app.stop().await;
}

/// The first response was lost, and the customer was deleted before the next attempt.
async fn deleted_customer_stored_under_key_is_not_used(database: Database) {
    let app = TestApp::start(database).await;
    let lost = json!({ "match": "POST /v1/customers", "kind": "drop", "before": false });
    app.stripe.inject_fault(&lost).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_unavailable");
    app.stripe.clear_faults().await;
    let customers = app.stripe.api("GET", "/v1/customers", "").await;
    let customer = customers["data"][0]["id"].as_str().expect("a customer").to_owned();
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    let deleted = stripe_event("customer.deleted", app.clock_seconds(), |object| {
        object["id"] = json!(customer);
    });
    app.deliver(&deleted).await.ok();

    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, customer);
    assert_eq!(keys(&app).await.last(), Some(&json!("billhook-customer-staging-test-acme-1")));
    app.stop().await;
}
