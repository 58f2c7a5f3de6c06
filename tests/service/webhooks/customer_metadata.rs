//! A customer whose own metadata names its tenant.

use serde_json::{Value, json};

use crate::operations::events::json_of;
use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    new_customer_that_names_its_tenant_is_linked,
    customer_named_later_gets_what_was_parked_for_it,
    customer_that_names_a_tenant_with_another_customer_is_ignored,
    parked_customer_is_asked_about_and_linked,
    customer_that_stripe_rejects_delays_no_other,
    payload_of_customer_event_is_kept_only_until_settled,
);

async fn new_customer_that_names_its_tenant_is_linked(database: Database) {
    let app = TestApp::start(database).await;
    let customer = app.stripe.api("POST", "/v1/customers", "metadata[tenant_id]=acme").await["id"].clone();
    let customer = customer.as_str().expect("a customer");
    app.stripe.buy_elsewhere(customer).await;
    app.until_plan("acme", "team").await;
    assert_eq!(app.customer_of("acme").await, customer);
    app.stop().await;
}

async fn customer_named_later_gets_what_was_parked_for_it(database: Database) {
    let app = TestApp::start(database).await;
    let customer = app.stripe.customer_who_bought_elsewhere().await;
    app.line("subscription_state", |line| {
        line["event"] == "event.parked" && line["stripe_event_type"] == "customer.subscription.created"
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    app.stripe.api("POST", &format!("/v1/customers/{customer}"), "metadata[tenant_id]=acme").await;
    app.until_plan("acme", "team").await;
    app.until_nothing_is_asked().await;
    app.stop().await;
}

async fn customer_that_names_a_tenant_with_another_customer_is_ignored(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("POST", "/v1/customers", "metadata[tenant_id]=acme").await;
    let told = app
        .line("subscription_state", |line| {
            line["stripe_event_type"] == "customer.created" && line["reason"] == "tenant_has_another_customer"
        })
        .await;
    assert_eq!((&told["event"], &told["level"]), (&json!("event.ignored"), &json!("warn")));
    assert_eq!(app.customer_of("acme").await, customer);
    app.stop().await;
}

async fn customer_that_stripe_rejects_delays_no_other(database: Database) {
    let mut app = TestApp::without_service(database, &[]).await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    let mut customers = Vec::new();
    for metadata in ["", "", "metadata[tenant_id]=acme"] {
        let id = app.stripe.api("POST", "/v1/customers", metadata).await["id"].clone();
        customers.push(id.as_str().expect("an id").to_owned());
    }
    for rejected in &customers[..2] {
        let one = format!("GET /v1/customers/{rejected}");
        app.stripe.fault(&json!({ "match": one, "kind": "status", "status": 400 })).await;
    }
    app.come_back().await;
    app.until_backfilled().await;
    for customer in &customers {
        app.stripe.buy_elsewhere(customer).await;
        until_parked(&app, customer).await;
    }
    app.clock.advance_seconds(60);
    app.until_plan("acme", "team").await;
    app.stop().await;
}

/// The customer was named long before Billhook came, so that no event tells of it.
async fn parked_customer_is_asked_about_and_linked(database: Database) {
    let mut app = TestApp::without_service(database, &[]).await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    let customer = app.stripe.api("POST", "/v1/customers", "metadata[tenant_id]=acme").await["id"].clone();
    let stranger = app.stripe.api("POST", "/v1/customers", "").await["id"].clone();
    app.come_back().await;
    app.until_backfilled().await;
    let (customer, stranger) = (customer.as_str().expect("an id"), stranger.as_str().expect("an id"));
    app.stripe.buy_elsewhere(customer).await;
    app.stripe.buy_elsewhere(stranger).await;
    for id in [customer, stranger] {
        until_parked(&app, id).await;
    }
    app.clock.advance_seconds(60);
    app.until_plan("acme", "team").await;
    assert_eq!(app.customer_of("acme").await, customer);
    crate::support::app::eventually("the other one was asked about", || async {
        let row = app.database.row::<entity::customer::Entity>(stranger).await;
        row.and_then(|row| row.asked_at_ms)
    })
    .await;
    let asked = || async { app.stripe.requests_to("GET", &format!("/v1/customers/{stranger}")).await.len() };
    assert_eq!(asked().await, 1);
    app.stop().await;
}

async fn payload_of_customer_event_is_kept_only_until_settled(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let about = |kind: &str, id: &str| {
        let mut event = stripe_event(kind, app.clock_seconds(), |_| {});
        event["data"]["object"] = json!({
            "id": id, "object": "customer", "name": "Ada", "email": "ada@acme.example",
            "metadata": { "tenant_id": "acme" },
        });
        event
    };
    let settled = about("customer.updated", &customer);
    app.deliver(&settled).await.ok();
    assert_eq!(app.outcome_of(&settled).await, ("applied".to_owned(), Some("no_change".to_owned())));
    let mut birch = about("customer.created", "cus_birch");
    birch["data"]["object"]["metadata"]["tenant_id"] = json!("birch");
    app.deliver(&birch).await.ok();
    assert_eq!(app.outcome_of(&birch).await.0, "applied");
    for event in [&settled, &birch] {
        assert_eq!(app.payload_of(event).await, None);
        let shown = json_of(&app, &["event", "show", event["id"].as_str().expect("an id")]);
        assert_eq!(shown["payload_is"], "never_kept");
    }
    let mut live = about("customer.updated", &customer);
    live["livemode"] = Value::Bool(true);
    app.deliver(&live).await.ok();
    assert_eq!(app.outcome_of(&live).await.0, "quarantined");
    assert!(app.payload_of(&live).await.is_some());
    app.stop().await;
}

/// Waits until an event of the customer is parked. The service asks Stripe only about customers that have one.
async fn until_parked(app: &TestApp, customer: &str) {
    let is_parked = |line: &Value| line["event"] == "event.parked" && line["customer_id"] == customer;
    app.line("subscription_state", is_parked).await;
}
