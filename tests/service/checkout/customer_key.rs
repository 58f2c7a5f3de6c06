//! The idempotency key that creates a tenant's customer, when Stripe keeps something under it that is of no use.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    failure_kept_under_the_key_stops_no_checkout,
    deleted_customer_kept_under_the_key_is_not_used,
);

async fn keys(app: &TestApp) -> Vec<Value> {
    let requests = app.stripe.requests_to("POST", "/v1/customers").await;
    requests.iter().map(|request| request["headers"]["idempotency-key"].clone()).collect()
}

async fn failure_kept_under_the_key_stops_no_checkout(database: Database) {
    let app = TestApp::start(database).await;
    let fault = json!({ "match": "POST /v1/customers", "kind": "status", "status": 500, "times": 1 });
    app.stripe.fault(&fault).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let failed = "billhook-customer-staging-test-acme-0";
    assert_eq!(keys(&app).await, [failed, failed, "billhook-customer-staging-test-acme-1"]);
    app.stop().await;
}

/// The first answer was lost, and the customer was deleted before the next click.
async fn deleted_customer_kept_under_the_key_is_not_used(database: Database) {
    let app = TestApp::start(database).await;
    let lost = json!({ "match": "POST /v1/customers", "kind": "drop", "before": false });
    app.stripe.fault(&lost).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_unavailable");
    app.stripe.all_is_well().await;
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
