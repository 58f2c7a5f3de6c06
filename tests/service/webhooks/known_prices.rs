//! Prices whose lookup key has moved to another price: their subscribers keep their plan.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    subscriber_keeps_plan_when_its_lookup_key_moves,
    key_moved_before_the_first_purchase_is_known_from_the_start,
    key_in_previous_attributes_is_remembered,
    key_seen_by_one_replica_is_known_to_another,
    doctor_reports_no_former_key_when_stripe_refuses_the_price,
);

const BY_KEY: &[(&str, &str)] = &[("--plans", "pro=pro_monthly;team=team_monthly")];

/// Stripe renews a subscription, and the service has applied the event. Returns the reason in its line.
async fn renew(app: &TestApp, subscription: &str) -> Value {
    let renewed = |line: &Value| {
        line["event"] == "event.applied"
            && line["stripe_event_type"] == "customer.subscription.updated"
            && line["subscription_id"] == subscription
    };
    let before = app.lines("subscription_state").into_iter().filter(renewed).count();
    app.stripe.change(subscription, &json!({ "renew": true })).await;
    let applied = crate::support::app::eventually("the renewal is applied", || async {
        app.lines("subscription_state").into_iter().filter(renewed).nth(before)
    })
    .await;
    applied["reason"].clone()
}

async fn subscriber_keeps_plan_when_its_lookup_key_moves(database: Database) {
    let mut app = TestApp::start_with(database, BY_KEY).await;
    let subscription = app.make_pro("acme").await;
    let new_price = app.stripe.replace_price("pro_monthly").await;
    assert_eq!(renew(&app, &subscription).await, "former_lookup_key");
    let held = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&held["plan"], &held["access"]), (&json!("pro"), &json!(true)), "{held}");
    let shown = app.run_command_with(
        &["tenant", "show", "acme", "--json"],
        &[("BILLHOOK_PLANS", "pro=pro_monthly;team=team_monthly")],
    );
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["subscription"]["plan"], "pro", "{shown}");

    // The next buyer pays the new price.
    let bought = app.check_out(&app.token("birch"), &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.until_plan("birch", "pro").await;
    let price = app.database.rows::<entity::subscription::Entity>().await;
    assert!(price.iter().any(|row| row.items.contains(&new_price)), "{price:?}");

    app.go_down().await;
    app.come_back().await;
    app.until_plan("acme", "pro").await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn key_moved_before_the_first_purchase_is_known_from_the_start(database: Database) {
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
    let held = app.subscription(&app.token("acme")).await.ok();
    assert_eq!(held["plan"], "pro", "{held}");
    app.stop().await;
}

async fn key_in_previous_attributes_is_remembered(database: Database) {
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

async fn key_seen_by_one_replica_is_known_to_another(database: Database) {
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
        String::from_utf8_lossy(&doctor.stdout).into_owned()
    };
    app.stripe.fault(&json!({ "match": "GET /v1/prices", "kind": "status", "status": 403 })).await;
    let refused = report();
    assert!(refused.contains("pro_monthly") && !refused.contains("is recognised as"), "{refused}");
    app.stripe.all_is_well().await;
    app.stripe.replace_price("pro_monthly").await;
    let moved = report();
    assert!(moved.contains("is recognised as pro only by pro_monthly"), "{moved}");
    app.stop().await;
}
