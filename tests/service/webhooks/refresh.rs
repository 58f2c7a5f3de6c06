//! Refreshes: the service asks Stripe where the events leave a subscription's state open.

use serde_json::{Value, json};

use crate::support::app::{NEWER_BY_SECONDS, STRIPE_KEY, TestApp, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    older_event_after_newer_triggers_refresh_from_stripe,
    session_event_before_subscription_event_grants_plan,
    invoice_event_before_subscription_event_grants_plan,
    linking_customer_fetches_its_subscriptions,
    refresh_survives_restart_while_stripe_is_unavailable,
    refresh_keeps_subscription_missing_at_stripe,
    second_subscription_is_logged,
    only_one_replica_runs_a_refresh,
);

/// An update of `acme`'s subscription, created `seconds` after now.
async fn update(app: &TestApp, subscription: &str, seconds: i64, status: &str) -> Value {
    let event = stripe_event("customer.subscription.updated", app.clock_seconds() + seconds, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!(status);
    });
    app.for_customer_of("acme", event).await
}

async fn older_event_after_newer_triggers_refresh_from_stripe(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "past_due", "silently": true })).await;

    let older = update(&app, &subscription, -3600, "trialing").await;
    app.deliver(&older).await.ok();
    assert_eq!(app.outcome_of(&older).await, ("stale".into(), Some("older".into())));
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;

    let refreshed = app.wait_for_line("subscription_state", |line| line["event"] == "refresh.changed").await;
    assert_eq!((&refreshed["tenant_id"], &refreshed["reason"]), (&json!("acme"), &json!("older")));
    assert_eq!(
        (&refreshed["subscription_id"], &refreshed["stripe_event_id"]),
        (&json!(subscription), &older["id"])
    );
    assert!(refreshed["stripe_request_id"].is_string() && refreshed["journey_id"].is_string(), "{refreshed}");
    let transition = app
        .wait_for_line("subscription_state", |line| {
            line["event"] == "subscription.transition" && line["reason"] == "refresh"
        })
        .await;
    assert_eq!((&transition["from"], &transition["to"]), (&json!("active"), &json!("past_due")));
    assert_eq!(transition["trace_id"], refreshed["trace_id"]);
    app.wait_for_refreshes().await;
    app.stop().await;
}

async fn session_event_before_subscription_event_grants_plan(database: Database) {
    only_one_event_arrives(database, "checkout.session.completed").await;
}

async fn invoice_event_before_subscription_event_grants_plan(database: Database) {
    only_one_event_arrives(database, "invoice.paid").await;
}

/// Holds back all events of a purchase but one.
async fn only_one_event_arrives(database: Database, kind: &str) {
    let app = TestApp::start(database).await;
    // Wait for the first backfill, which would apply the held events.
    app.wait_for_backfill().await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.stripe.inject_fault(&json!({ "deliveries": "hold" })).await;
    app.stripe.pay(bought["session_id"].as_str().expect("a session id")).await;
    app.stripe.resend(kind).await;
    app.wait_for_plan("acme", "pro").await;
    let refreshed = app.wait_for_line("subscription_state", |line| line["event"] == "refresh.changed").await;
    assert_eq!(refreshed["reason"], "subscription_not_held");

    app.stripe.clear_faults().await;
    app.wait_for_line("subscription_state", |line| {
        line["stripe_event_type"] == "customer.subscription.created" && line["outcome"].is_string()
    })
    .await;
    app.wait_for_refreshes().await;
    app.wait_for_plan("acme", "pro").await;
    app.stop().await;
}

async fn linking_customer_fetches_its_subscriptions(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    // Bought before Billhook was installed, so no event will report it.
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.stripe.create_subscribed_customer().await;

    let linked = app.run_command(&["tenant", "link", "acme", &customer]);
    assert!(linked.status.success(), "{linked:?}");
    // The command goes by the machine's clock. The service's clock stands still.
    app.clock.advance_seconds(60);
    app.wait_for_plan("acme", "team").await;
    let refreshed = app.wait_for_line("subscription_state", |line| line["event"] == "refresh.changed").await;
    assert_eq!((&refreshed["reason"], &refreshed["customer_id"]), (&json!("linked"), &json!(customer)));
    app.stop().await;
}

async fn refresh_survives_restart_while_stripe_is_unavailable(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let rate_limited =
        json!({ "match": "GET /v1/subscriptions", "kind": "status", "status": 429, "should_retry": false });
    app.stripe.inject_fault(&rate_limited).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "past_due", "silently": true })).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    let failed = app.wait_for_line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert_eq!(failed["level"], "error");
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("rate_limited")), "{failed}");
    let path = format!("/v1/subscriptions/{subscription}");
    let request_count = app.stripe.requests_to("GET", &path).await.len();
    assert_eq!(request_count, 1, "Stripe said not to try again");

    app.stop_service().await;
    app.stripe.clear_faults().await;
    // Longer than the lease of a refresh: the service may have stopped before it rescheduled the
    // refresh.
    app.clock.advance_seconds(130);
    app.start_service().await;
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
    app.wait_for_refreshes().await;
    app.stop().await;
}

async fn refresh_keeps_subscription_missing_at_stripe(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.remove("subscriptions", &subscription).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    let failed = app.wait_for_line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("resource_missing")), "{failed}");
    assert_eq!(app.queued_refreshes().await, [subscription.as_str()], "the key may be of another account");
    app.database.execute("UPDATE refresh SET attempts = 21").await;
    app.clock.advance_seconds(300);
    app.wait_for_refreshes().await;
    app.wait_for_plan("acme", "pro").await;
    app.stop().await;
}

async fn second_subscription_is_logged(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.subscribe_customer(&customer).await;
    let logged =
        app.wait_for_line("subscription_state", |line| line["event"] == "subscription.doubled").await;
    assert_eq!((&logged["level"], &logged["tenant_id"]), (&json!("warn"), &json!("acme")));
    app.wait_for_plan("acme", "team").await;
    app.stop().await;
}

#[tokio::test]
async fn many_stale_events_cause_one_refresh() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_refreshes().await;
    let path = format!("/v1/subscriptions/{subscription}");
    app.stripe
        .inject_fault(&json!({ "match": format!("GET {path}"), "kind": "status", "status": 400 }))
        .await;
    for seconds in 1..=20 {
        app.deliver(&update(&app, &subscription, -3600 - seconds, "trialing").await).await.ok();
    }
    assert_eq!(app.queued_refreshes().await, [subscription.as_str()]);
    app.stripe.clear_faults().await;
    let before = app.stripe.requests_to("GET", &path).await.len();
    app.clock.advance_seconds(600);
    app.wait_for_refreshes().await;
    let request_count = app.stripe.requests_to("GET", &path).await.len() - before;
    assert!(
        (1..=2).contains(&request_count),
        "one request, and another if the last event arrived during it: {request_count}"
    );
    app.stop().await;
}

async fn only_one_replica_runs_a_refresh(database: Database) {
    let mut app = TestApp::start(database).await;
    app.start_replica().await;
    app.start_replica().await;
    let mut subscriptions = Vec::new();
    for number in 0..12 {
        subscriptions.push(app.subscribe_to_pro(&format!("tenant-{number}")).await);
    }
    app.wait_for_refreshes().await;
    let count_requests = async |subscription: &str| {
        app.stripe.requests_to("GET", &format!("/v1/subscriptions/{subscription}")).await.len()
    };
    let mut before = Vec::new();
    let mut older_events = Vec::new();
    for (number, subscription) in subscriptions.iter().enumerate() {
        before.push(count_requests(subscription).await);
        let event = stripe_event("customer.subscription.updated", app.clock_seconds() - 3600, |object| {
            object["id"] = json!(subscription);
            object["status"] = json!("trialing");
        });
        older_events.push(app.for_customer_of(&format!("tenant-{number}"), event).await);
    }
    for response in app.deliver_all(&older_events).await {
        response.ok();
    }
    app.wait_for_refreshes().await;
    for (subscription, before) in subscriptions.iter().zip(before) {
        assert_eq!(count_requests(subscription).await - before, 1, "one replica sends one request");
    }
    app.stop().await;
}

#[tokio::test]
async fn refresh_overtaken_by_event_is_repeated() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let path = format!("/v1/subscriptions/{subscription}");
    let count_requests = || async { app.stripe.requests_to("GET", &path).await.len() };
    let before = count_requests().await;
    app.stripe.inject_fault(&json!({ "match": format!("GET {path}"), "kind": "hang", "times": 1 })).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    eventually("the request is sent", || async { (count_requests().await > before).then_some(()) }).await;
    // The request hangs until its timeout and is then retried. An event arrives before that.
    app.deliver(&update(&app, &subscription, NEWER_BY_SECONDS, "past_due").await).await.ok();
    app.wait_for_refreshes().await;
    assert_eq!(count_requests().await - before, 3, "one hung, one overtaken, one applied");
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "active").await;
    app.stop().await;
}

#[tokio::test]
async fn undecided_second_is_resolved_by_refresh() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "stopped": true, "advance_seconds": 5 })).await;
    for price in ["price_team_monthly", "price_pro_monthly", "price_team_monthly"] {
        app.stripe.update_subscription(&subscription, &json!({ "price": price })).await;
    }
    let mut events = app.stripe.events().await;
    events.retain(|event| event["type"] == "customer.subscription.updated");
    events.truncate(3);
    for event in events {
        app.deliver(&event).await.ok();
    }
    app.wait_for_line("subscription_state", |line| {
        line["reason"] == "undecided_second" && line["level"] == "warn"
    })
    .await;
    app.wait_for_refreshes().await;
    app.wait_for_plan("acme", "team").await;
    app.stop().await;
}

#[tokio::test]
async fn refresh_waits_until_stripe_key_is_configured() {
    let mut app = TestApp::start_with(Database::Sqlite, &[("--stripe-secret-key", "")]).await;
    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&created).await.ok();
    app.wait_for_plan("acme", "pro").await;
    assert_eq!(app.queued_refreshes().await, ["cus_webhook"]);
    app.stop_service().await;
    assert_eq!(app.queued_refreshes().await, ["cus_webhook"]);
    app.start_service_with("--stripe-secret-key", STRIPE_KEY).await;
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "refresh.failed" && line["reason"].is_string()
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn refresh_retries_404_that_is_not_from_stripe() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_refreshes().await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    let gateway_404 = json!({
        "match": "GET /v1/subscriptions", "kind": "status", "status": 404, "times": 1, "body": "<html>no route</html>",
    });
    app.stripe.inject_fault(&gateway_404).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    app.wait_for_line("subscription_state", |line| line["event"] == "refresh.failed").await;
    app.clock.advance_seconds(600);
    app.wait_for_plan("acme", "free").await;
    app.stop().await;
}

#[tokio::test]
async fn refresh_scheduled_by_wrong_clock_runs_at_once() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_refreshes().await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    // As left by a replica whose clock is a day ahead and that died after it claimed the refresh.
    let customer = app.customer_of("acme").await;
    let at_ms = (app.clock_seconds() + 86_400) * 1000;
    app.database
        .execute(&format!(
            "INSERT INTO refresh VALUES ('{subscription}', '{customer}', 'acme', 'older', NULL, NULL, 1, 0, {at_ms})"
        ))
        .await;
    app.wait_for_plan("acme", "free").await;
    app.wait_for_refreshes().await;
    app.stop().await;
}

#[tokio::test]
async fn unreadable_refresh_row_blocks_no_other_refresh() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_refreshes().await;
    for number in 0..8 {
        let row = format!("('sub_{number}', 'cus_{number}', 'acme', 'of_tomorrow', NULL, NULL, 1, 0, 0)");
        app.database.execute(&format!("INSERT INTO refresh VALUES {row}")).await;
    }
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    app.wait_for_plan("acme", "free").await;
    app.stop().await;
}
