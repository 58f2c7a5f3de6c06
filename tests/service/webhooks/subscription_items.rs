//! Subscriptions of several items: more than an event shows, of different intervals, of none.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    item_that_the_event_leaves_out_is_fetched,
    last_known_state_stands_until_all_items_are_fetched,
    reconcile_reads_items_that_the_list_leaves_out,
    end_of_a_subscription_with_cut_items_stands_at_once,
    period_of_mixed_intervals_ends_with_the_earliest,
    update_with_an_unknown_state_before_it_is_asked_about,
    item_of_quantity_0_grants_nothing,
);

/// A tenant with a subscription of eleven items, of which the last is the only one that a plan has.
async fn with_eleven_items(app: &TestApp) -> String {
    let subscription = app.make_pro("acme").await;
    for number in 0..10 {
        app.stripe.create_old_price(&format!("addon {number}"), None).await;
    }
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
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

/// The latest event of the subscription, as Stripe sends it.
async fn latest_update(app: &TestApp) -> Value {
    let events = app.stripe.events().await;
    let event = events.into_iter().find(|event| event["type"] == "customer.subscription.updated");
    event.expect("it was updated")
}

async fn item_that_the_event_leaves_out_is_fetched(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    with_eleven_items(&app).await;
    let event = latest_update(&app).await;
    assert_eq!(event["data"]["object"]["items"]["has_more"], true, "{event}");
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await, ("stale".into(), Some("incomplete_items".into())));
    app.until_plan("acme", "team").await;
    assert!(!app.stripe.requests_to("GET", "/v1/subscription_items").await.is_empty());
    assert!(app.lines("subscription_state").iter().all(|line| line["reason"] != "price_not_configured"));
    app.stop().await;
}

async fn last_known_state_stands_until_all_items_are_fetched(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    let subscription = with_eleven_items(&app).await;
    let refused = json!({ "match": "GET /v1/subscription_items", "kind": "status", "status": 400 });
    app.stripe.fault(&refused).await;
    let event = latest_update(&app).await;
    app.deliver(&event).await.ok();
    app.line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    assert_eq!(app.questions().await, [subscription.as_str()]);
    app.stripe.all_is_well().await;
    app.clock.advance_seconds(600);
    app.until_plan("acme", "team").await;
    app.stop().await;
}

async fn reconcile_reads_items_that_the_list_leaves_out(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    with_eleven_items(&app).await;
    let applied = app.run_command(&["reconcile", "--tenant", "acme", "--apply"]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "team");
    app.stop().await;
}

async fn end_of_a_subscription_with_cut_items_stands_at_once(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    let subscription = with_eleven_items(&app).await;
    let mut event = latest_update(&app).await;
    event["id"] = json!("evt_end");
    event["type"] = json!("customer.subscription.deleted");
    event["data"]["object"]["status"] = json!("canceled");
    app.deliver(&event).await.ok();
    assert_eq!(app.status_of(&subscription).await, "canceled");
    app.stop().await;
}

async fn period_of_mixed_intervals_ends_with_the_earliest(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let monthly = app.subscription(&app.token("acme")).await.ok()["current_period_end"].clone();
    app.stripe.add_item(&subscription, "price_pro_yearly").await;
    crate::support::app::eventually("the item is added", || async {
        let row = app.database.row::<entity::subscription::Entity>(&subscription).await;
        row.filter(|row| row.items.contains("yearly"))
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["current_period_end"], monthly);

    // Canceled by the API: an older version shows one period, and no `cancel_at`.
    app.stripe.change(&subscription, &json!({ "cancel_at_period_end": true, "silently": true })).await;
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
    let held = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&held["scheduled_cancel"], &held["cancel_at"]), (&json!(true), &monthly), "{held}");
    let compared = app.run_command(&["reconcile"]);
    assert!(compared.status.success(), "{compared:?}");

    // A renewal moves the monthly item alone.
    app.stripe.change(&subscription, &json!({ "cancel_at_period_end": false, "renew": true })).await;
    app.until("acme", |answer| answer["current_period_end"].as_str() > monthly.as_str()).await;
    assert!(app.run_command(&["reconcile"]).status.success());
    app.stop().await;
}

async fn update_with_an_unknown_state_before_it_is_asked_about(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_nothing_is_asked().await;
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "stopped": true, "advance_seconds": 5 })).await;
    for quantity in [2, 3] {
        app.stripe.change(&subscription, &json!({ "quantity": quantity })).await;
    }
    // Stripe stamps the first of the two a second later than the second one.
    let events = app.stripe.events().await;
    let mut updates = events.into_iter().filter(|event| event["type"] == "customer.subscription.updated");
    let (second, mut first) = (updates.next().expect("an update"), updates.next().expect("an update"));
    first["created"] = json!(second["created"].as_i64().expect("a time") + 1);
    app.deliver(&second).await.ok();
    app.deliver(&first).await.ok();
    app.line("subscription_state", |line| line["reason"] == "missed_update").await;
    app.until_nothing_is_asked().await;
    assert_eq!(app.quantity_of(&subscription).await, 3);
    app.stop().await;
}

async fn item_of_quantity_0_grants_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.stripe.change(&subscription, &json!({ "quantity": 0 })).await;
    app.until_plan("acme", "free").await;
    assert!(app.lines("subscription_state").iter().all(|line| line["reason"] != "price_not_configured"));
    app.stripe.change(&subscription, &json!({ "quantity": 2 })).await;
    app.until_plan("acme", "pro").await;
    app.stop().await;
}
