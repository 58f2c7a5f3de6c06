//! Customers whose own metadata names their tenant.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::command_output::json_output;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    new_customer_with_tenant_metadata_is_linked,
    tenant_metadata_added_later_applies_parked_events,
    customer_metadata_naming_linked_tenant_is_ignored,
    parked_customer_is_looked_up_and_linked,
    customer_lookup_rejected_by_stripe_delays_no_other,
    customer_event_keeps_payload_only_when_quarantined,
);

async fn new_customer_with_tenant_metadata_is_linked(database: Database) {
    let app = TestApp::start(database).await;
    let customer = app.stripe.api("POST", "/v1/customers", "metadata[tenant_id]=acme").await["id"].clone();
    let customer = customer.as_str().expect("a customer");
    app.stripe.subscribe_customer(customer).await;
    app.wait_for_plan("acme", "team").await;
    assert_eq!(app.customer_of("acme").await, customer);
    app.stop().await;
}

async fn tenant_metadata_added_later_applies_parked_events(database: Database) {
    let app = TestApp::start(database).await;
    let customer = app.stripe.create_subscribed_customer().await;
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "event.parked" && line["stripe_event_type"] == "customer.subscription.created"
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    app.stripe.api("POST", &format!("/v1/customers/{customer}"), "metadata[tenant_id]=acme").await;
    app.wait_for_plan("acme", "team").await;
    app.wait_for_refreshes().await;
    app.stop().await;
}

async fn customer_metadata_naming_linked_tenant_is_ignored(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("POST", "/v1/customers", "metadata[tenant_id]=acme").await;
    let ignored = app
        .wait_for_line("subscription_state", |line| {
            line["stripe_event_type"] == "customer.created" && line["reason"] == "tenant_has_another_customer"
        })
        .await;
    assert_eq!((&ignored["event"], &ignored["level"]), (&json!("event.ignored"), &json!("warn")));
    assert_eq!(app.customer_of("acme").await, customer);
    app.stop().await;
}

async fn customer_lookup_rejected_by_stripe_delays_no_other(database: Database) {
    let mut app = TestApp::without_service(database, &[]).await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    let mut customers = Vec::new();
    for metadata in ["", "", "metadata[tenant_id]=acme"] {
        let id = app.stripe.api("POST", "/v1/customers", metadata).await["id"].clone();
        customers.push(id.as_str().expect("an id").to_owned());
    }
    for rejected in &customers[..2] {
        let one = format!("GET /v1/customers/{rejected}");
        app.stripe.inject_fault(&json!({ "match": one, "kind": "status", "status": 400 })).await;
    }
    app.start_service().await;
    app.wait_for_backfill().await;
    for customer in &customers {
        app.stripe.subscribe_customer(customer).await;
        wait_until_parked(&app, customer).await;
    }
    app.clock.advance_seconds(60);
    app.wait_for_plan("acme", "team").await;
    app.stop().await;
}

/// The customer got its metadata before Billhook was installed, so no event reports it.
async fn parked_customer_is_looked_up_and_linked(database: Database) {
    let mut app = TestApp::without_service(database, &[]).await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    let customer = app.stripe.api("POST", "/v1/customers", "metadata[tenant_id]=acme").await["id"].clone();
    let untagged = app.stripe.api("POST", "/v1/customers", "").await["id"].clone();
    app.start_service().await;
    app.wait_for_backfill().await;
    let (customer, untagged) = (customer.as_str().expect("an id"), untagged.as_str().expect("an id"));
    app.stripe.subscribe_customer(customer).await;
    app.stripe.subscribe_customer(untagged).await;
    for id in [customer, untagged] {
        wait_until_parked(&app, id).await;
    }
    app.clock.advance_seconds(60);
    app.wait_for_plan("acme", "team").await;
    assert_eq!(app.customer_of("acme").await, customer);
    crate::support::app::eventually("the other customer has been looked up", || async {
        let row = app.database.row::<entity::customer::Entity>(untagged).await;
        row.and_then(|row| row.asked_at_ms)
    })
    .await;
    let count_lookups =
        || async { app.stripe.requests_to("GET", &format!("/v1/customers/{untagged}")).await.len() };
    assert_eq!(count_lookups().await, 1);
    app.stop().await;
}

async fn customer_event_keeps_payload_only_when_quarantined(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let about = |kind: &str, id: &str| {
        let mut event = stripe_event(kind, app.clock_seconds(), |_| {});
        event["data"]["object"] = json!({
            "id": id, "object": "customer", "name": "Ada", "email": "ada@acme.example",
            "metadata": { "tenant_id": "acme" },
        });
        event
    };
    let known = about("customer.updated", &customer);
    app.deliver(&known).await.ok();
    assert_eq!(app.outcome_of(&known).await, ("applied".to_owned(), Some("no_change".to_owned())));
    let mut new = about("customer.created", "cus_birch");
    new["data"]["object"]["metadata"]["tenant_id"] = json!("birch");
    app.deliver(&new).await.ok();
    assert_eq!(app.outcome_of(&new).await.0, "applied");
    for event in [&known, &new] {
        assert_eq!(app.payload_of(event).await, None);
        let shown = json_output(&app, &["event", "show", event["id"].as_str().expect("an id")]);
        assert_eq!(shown["payload_is"], "never_kept");
    }
    let mut live = about("customer.updated", &customer);
    live["livemode"] = Value::Bool(true);
    app.deliver(&live).await.ok();
    assert_eq!(app.outcome_of(&live).await.0, "quarantined");
    assert!(app.payload_of(&live).await.is_some());
    app.stop().await;
}

/// Waits until an event of the customer is parked. The service looks up only customers with a
/// parked event.
async fn wait_until_parked(app: &TestApp, customer: &str) {
    let is_parked = |line: &Value| line["event"] == "event.parked" && line["customer_id"] == customer;
    app.wait_for_line("subscription_state", is_parked).await;
}
