//! A tenant whose subscriptions have ended buys again as another customer, for example by a Payment
//! Link or with the help of support.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    second_customer_is_listed_and_replaces_the_first,
    customer_with_live_subscription_is_not_replaced,
);

/// Creates a customer whose metadata names the tenant, and which buys outside of Billhook.
async fn buy_as_another_customer(app: &TestApp, tenant: &str) -> String {
    let metadata = format!("metadata[tenant_id]={tenant}");
    let customer = app.stripe.api("POST", "/v1/customers", &metadata).await["id"].clone();
    let customer = customer.as_str().expect("an id").to_owned();
    app.stripe.subscribe_customer(&customer).await;
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "event.parked" && line["customer_id"] == *customer
    })
    .await;
    app.clock.advance_seconds(60);
    crate::support::app::eventually("the customer's tenant has been looked up", || async {
        let row = app.database.row::<entity::customer::Entity>(&customer).await;
        row.and_then(|row| row.asked_at_ms)
    })
    .await;
    customer
}

async fn second_customer_is_listed_and_replaces_the_first(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let first = app.customer_of("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.wait_for_plan("acme", "free").await;
    let second = buy_as_another_customer(&app, "acme").await;

    let doctor = app.run_command(&["doctor"]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(report.contains(&format!("billhook tenant link acme {second} --replace")), "{report}");
    let shown = app.run_command(&["tenant", "show", "acme", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["other_customers"], json!([second]));
    let open = app.database.rows::<entity::checkout::Entity>().await;
    assert!(open.iter().all(|checkout| checkout.status != "open"), "{open:?}");
    let count_sessions = || async { app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len() };
    let before = count_sessions().await;
    let refused = app.check_out(&app.token("acme"), &json!({})).await;
    refused.assert_problem(409, "already_subscribed");
    assert_eq!(count_sessions().await, before, "nothing is sold twice");

    let replaced = app.run_command(&["tenant", "link", "acme", &second, "--replace"]);
    assert!(replaced.status.success(), "{replaced:?}");
    app.wait_for_plan("acme", "team").await;
    assert_eq!(app.customer_of("acme").await, second);
    let shown = app.run_command(&["tenant", "show", "acme", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["other_customers"], json!([]));
    let customers = shown["subscriptions"].as_array().expect("a list").iter();
    let mut customers: Vec<_> = customers.map(|one| one["customer"].as_str().expect("an id")).collect();
    customers.sort_unstable();
    let mut both = [first.as_str(), second.as_str()];
    both.sort_unstable();
    assert_eq!(customers, both, "ended subscriptions stay in the tenant's history");
    app.stop().await;
}

async fn customer_with_live_subscription_is_not_replaced(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let first = app.customer_of("acme").await;
    let second = buy_as_another_customer(&app, "acme").await;
    let refused = app.run_command(&["tenant", "link", "acme", &second, "--replace"]);
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(stderr.contains("still has a subscription"), "{stderr}");
    assert_eq!(app.customer_of("acme").await, first);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}
