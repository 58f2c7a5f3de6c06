//! Subscriptions with several items: more than an event contains, of different intervals, of
//! quantity 0.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    item_missing_from_event_is_fetched,
    last_known_state_stands_until_all_items_are_fetched,
    reconcile_fetches_items_missing_from_list,
    deletion_with_incomplete_items_applies_at_once,
    mixed_intervals_use_earliest_period_end,
    update_from_unknown_state_triggers_refresh,
    item_of_quantity_0_grants_nothing,
);

/// Gives `acme` a subscription of eleven items, of which only the last belongs to a plan.
async fn subscribe_to_eleven_items(app: &TestApp) -> String {
    let subscription = app.subscribe_to_pro("acme").await;
    for number in 0..10 {
        app.stripe.create_price_with_id(&format!("addon {number}"), None).await;
    }
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let first = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    let item = first["items"]["data"][0]["id"].as_str().expect("an item").to_owned();
    let path = format!("/v1/subscriptions/{subscription}");
    app.stripe.api("POST", &path, &format!("items[0][id]={item}&items[0][price]=addon 0")).await;
    for number in 1..10 {
        app.stripe.add_item(&subscription, &format!("addon {number}")).await;
    }
    app.stripe.add_item(&subscription, "price_team_monthly").await;
    subscription
}

async fn latest_update(app: &TestApp) -> Value {
    let events = app.stripe.events().await;
    let event = events.into_iter().find(|event| event["type"] == "customer.subscription.updated");
    event.expect("an update")
}

async fn item_missing_from_event_is_fetched(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    subscribe_to_eleven_items(&app).await;
    let event = latest_update(&app).await;
    assert_eq!(event["data"]["object"]["items"]["has_more"], true, "{event}");
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await, ("stale".into(), Some("incomplete_items".into())));
    app.wait_for_plan("acme", "team").await;
    assert!(!app.stripe.requests_to("GET", "/v1/subscription_items").await.is_empty());
    assert!(app.lines("subscription_state").iter().all(|line| line["reason"] != "price_not_configured"));
    app.stop().await;
}

async fn last_known_state_stands_until_all_items_are_fetched(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    let subscription = subscribe_to_eleven_items(&app).await;
    let refused = json!({ "match": "GET /v1/subscription_items", "kind": "status", "status": 400 });
    app.stripe.inject_fault(&refused).await;
    let event = latest_update(&app).await;
    app.deliver(&event).await.ok();
    app.wait_for_line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    assert_eq!(app.queued_refreshes().await, [subscription.as_str()]);
    app.stripe.clear_faults().await;
    app.clock.advance_seconds(600);
    app.wait_for_plan("acme", "team").await;
    app.stop().await;
}

async fn reconcile_fetches_items_missing_from_list(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    subscribe_to_eleven_items(&app).await;
    let applied = app.run_command(&["reconcile", "--tenant", "acme", "--apply"]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "team");
    app.stop().await;
}

async fn deletion_with_incomplete_items_applies_at_once(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    let subscription = subscribe_to_eleven_items(&app).await;
    let mut event = latest_update(&app).await;
    event["id"] = json!("evt_end");
    event["type"] = json!("customer.subscription.deleted");
    event["data"]["object"]["status"] = json!("canceled");
    app.deliver(&event).await.ok();
    assert_eq!(app.status_of(&subscription).await, "canceled");
    app.stop().await;
}

async fn mixed_intervals_use_earliest_period_end(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let monthly = app.subscription(&app.token("acme")).await.ok()["current_period_end"].clone();
    app.stripe.add_item(&subscription, "price_pro_yearly").await;
    crate::support::app::eventually("the item is added", || async {
        let row = app.database.row::<entity::subscription::Entity>(&subscription).await;
        row.filter(|row| row.items.contains("yearly"))
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["current_period_end"], monthly);

    // Canceled by the API: older API versions have one period and no `cancel_at`.
    app.stripe
        .update_subscription(&subscription, &json!({ "cancel_at_period_end": true, "silently": true }))
        .await;
    let mut object = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    let end = object["items"]["data"][0]["current_period_end"].clone();
    object["current_period_end"] = end;
    for item in object["items"]["data"].as_array_mut().expect("items") {
        item.as_object_mut().expect("an item").remove("current_period_end");
    }
    let mut event = stripe_event("customer.subscription.updated", app.clock_seconds() + 10, |_| {});
    event["api_version"] = json!("2024-06-20");
    event["data"]["object"] = object;
    app.deliver(&event).await.ok();
    let response = app.subscription(&app.token("acme")).await.ok();
    assert_eq!(
        (&response["scheduled_cancel"], &response["cancel_at"]),
        (&json!(true), &monthly),
        "{response}"
    );
    let compared = app.run_command(&["reconcile"]);
    assert!(compared.status.success(), "{compared:?}");

    // A renewal moves only the monthly item.
    app.stripe
        .update_subscription(&subscription, &json!({ "cancel_at_period_end": false, "renew": true }))
        .await;
    app.wait_for_subscription("acme", |subscription| {
        subscription["current_period_end"].as_str() > monthly.as_str()
    })
    .await;
    assert!(app.run_command(&["reconcile"]).status.success());
    app.stop().await;
}

async fn update_from_unknown_state_triggers_refresh(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_refreshes().await;
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "stopped": true, "advance_seconds": 5 })).await;
    for quantity in [2, 3] {
        app.stripe.update_subscription(&subscription, &json!({ "quantity": quantity })).await;
    }
    // The first update gets a `created` one second after that of the second.
    let events = app.stripe.events().await;
    let mut updates = events.into_iter().filter(|event| event["type"] == "customer.subscription.updated");
    let (second, mut first) = (updates.next().expect("an update"), updates.next().expect("an update"));
    first["created"] = json!(second["created"].as_i64().expect("a time") + 1);
    app.deliver(&second).await.ok();
    app.deliver(&first).await.ok();
    app.wait_for_line("subscription_state", |line| line["reason"] == "missed_update").await;
    app.wait_for_refreshes().await;
    assert_eq!(app.quantity_of(&subscription).await, 3);
    app.stop().await;
}

async fn item_of_quantity_0_grants_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "quantity": 0 })).await;
    app.wait_for_plan("acme", "free").await;
    assert!(app.lines("subscription_state").iter().all(|line| line["reason"] != "price_not_configured"));
    app.stripe.update_subscription(&subscription, &json!({ "quantity": 2 })).await;
    app.wait_for_plan("acme", "pro").await;
    app.stop().await;
}
