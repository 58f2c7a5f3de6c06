//! Subscribers keep their plan when the lookup key of their price moves to another price.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    subscriber_keeps_plan_when_its_lookup_key_moves,
    lookup_key_moved_before_first_purchase_is_known,
    lookup_key_in_previous_attributes_is_remembered,
    lookup_key_seen_by_one_replica_is_known_to_another,
    doctor_reports_no_former_key_when_stripe_refuses_the_price,
);

const BY_KEY: &[(&str, &str)] = &[("--plans", "pro=pro_monthly;team=team_monthly")];

/// Renews a subscription and waits until the event is applied. Returns the reason in its log line.
async fn renew(app: &TestApp, subscription: &str) -> Value {
    let renewed = |line: &Value| {
        line["event"] == "event.applied"
            && line["stripe_event_type"] == "customer.subscription.updated"
            && line["subscription_id"] == subscription
    };
    let before = app.lines("subscription_state").into_iter().filter(renewed).count();
    app.stripe.update_subscription(subscription, &json!({ "renew": true })).await;
    let applied = crate::support::app::eventually("the renewal is applied", || async {
        app.lines("subscription_state").into_iter().filter(renewed).nth(before)
    })
    .await;
    applied["reason"].clone()
}

async fn subscriber_keeps_plan_when_its_lookup_key_moves(database: Database) {
    let mut app = TestApp::start_with(database, BY_KEY).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let new_price = app.stripe.replace_price("pro_monthly").await;
    assert_eq!(renew(&app, &subscription).await, "former_lookup_key");
    let subscriber = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&subscriber["plan"], &subscriber["access"]), (&json!("pro"), &json!(true)), "{subscriber}");
    let shown = app.run_command_with(
        &["tenant", "show", "acme", "--json"],
        &[("BILLHOOK_PLANS", "pro=pro_monthly;team=team_monthly")],
    );
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["subscription"]["plan"], "pro", "{shown}");

    // The next customer buys at the new price.
    let bought = app.check_out(&app.token("birch"), &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.wait_for_plan("birch", "pro").await;
    let price = app.database.rows::<entity::subscription::Entity>().await;
    assert!(price.iter().any(|row| row.items.contains(&new_price)), "{price:?}");

    app.stop_service().await;
    app.start_service().await;
    app.wait_for_plan("acme", "pro").await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn lookup_key_moved_before_first_purchase_is_known(database: Database) {
    let app = TestApp::start_with(database, BY_KEY).await;
    crate::support::app::eventually("the prices are stored", || async {
        let known = app.database.rows::<entity::known_price::Entity>().await;
        (known.len() == 2).then_some(())
    })
    .await;
    app.stripe.replace_price("pro_monthly").await;
    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
        object["items"]["data"][0]["price"]["lookup_key"] = Value::Null;
    });
    app.deliver(&created).await.ok();
    let response = app.subscription(&app.token("acme")).await.ok();
    assert_eq!(response["plan"], "pro", "{response}");
    app.stop().await;
}

async fn lookup_key_in_previous_attributes_is_remembered(database: Database) {
    let app = TestApp::start_with(database, &[("--plans", "pro=pro_2024")]).await;
    let mut renewed = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
        object["items"]["data"][0]["price"] = json!({ "id": "price_2024", "lookup_key": null });
    });
    renewed["data"]["previous_attributes"] = json!({ "items": { "data": [{
        "id": "si_1", "quantity": 1, "current_period_end": app.clock_seconds(),
        "price": { "id": "price_2024", "lookup_key": "pro_2024" },
    }] } });
    app.deliver(&renewed).await.ok();
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn lookup_key_seen_by_one_replica_is_known_to_another(database: Database) {
    let mut app = TestApp::start_with(database, &[("--plans", "pro=pro_2024")]).await;
    let first = app.url.clone();
    let event = |seconds: i64, key: Value| {
        stripe_event("customer.subscription.updated", app.clock_seconds() + seconds, |object| {
            object["metadata"] = json!({ "tenant_id": "acme" });
            object["items"]["data"][0]["price"] = json!({ "id": "price_2024", "lookup_key": key });
        })
    };
    let (with_key, without) = (event(0, json!("pro_2024")), event(10, Value::Null));
    let second = app.start_replica().await;
    app.deliver_at(&first, &with_key).await.ok();
    app.deliver_at(&second, &without).await.ok();
    app.url = second;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    assert_eq!(app.outcome_of(&without).await.1.as_deref(), Some("former_lookup_key"));
    app.stop().await;
}

async fn doctor_reports_no_former_key_when_stripe_refuses_the_price(database: Database) {
    let app = TestApp::start_with(database, BY_KEY).await;
    crate::support::app::eventually("the prices are stored", || async {
        let known = app.database.rows::<entity::known_price::Entity>().await;
        (known.len() == 2).then_some(())
    })
    .await;
    let by_key = [("BILLHOOK_PLANS", "pro=pro_monthly;team=team_monthly")];
    let report = || {
        let doctor = app.run_command_with(&["doctor"], &by_key);
        let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
        report.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    app.stripe.inject_fault(&json!({ "match": "GET /v1/prices", "kind": "status", "status": 403 })).await;
    let without_permission = report();
    assert!(
        without_permission.contains("pro_monthly") && !without_permission.contains("is recognised as"),
        "{without_permission}"
    );
    app.stripe.clear_faults().await;
    app.stripe.replace_price("pro_monthly").await;
    let after_move = report();
    assert!(after_move.contains("is recognised as pro only by pro_monthly"), "{after_move}");
    app.stop().await;
}
