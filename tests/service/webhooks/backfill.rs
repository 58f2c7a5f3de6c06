//! The backfill, which lists Stripe's events and applies those that no webhook delivered, and the
//! recovery of longer gaps.

use billhook::domain::event::HANDLED_EVENT_TYPES;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    backfill_at_start_applies_events_missed_while_down,
    periodic_backfill_applies_event_without_webhook,
    event_listed_late_is_applied_by_next_backfill,
    backfill_applies_many_pages_oldest_first,
    interrupted_backfill_restarts_without_a_gap,
    only_lease_holder_runs_backfill,
    gap_beyond_event_retention_refreshes_every_customer,
    interrupted_gap_recovery_continues_at_its_cursor,
);

const BACKFILL_INTERVAL_SECONDS: i64 = 300;

async fn backfill_at_start_applies_events_missed_while_down(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.update_subscription(&subscription, &json!({ "price": "price_team_monthly" })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "past_due" })).await;

    app.start_service().await;
    let response =
        app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
    assert_eq!(response["plan"], "team");
    let latest = &app.stripe.events().await[0];
    assert_eq!(app.outcome_of(latest).await.0, "applied");
    let applied = app
        .wait_for_line("subscription_state", |line| {
            line["stripe_event_id"] == latest["id"] && line["event"] == "event.applied"
        })
        .await;
    assert!(applied["trace_id"].is_string() && applied["journey_id"].is_string(), "{applied}");
    let signatures = app.lines("webhook_signatures");
    assert!(signatures.iter().all(|line| line["stripe_event_id"] != latest["id"]), "no webhook delivered it");
    app.stop().await;
}

async fn periodic_backfill_applies_event_without_webhook(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    let first = app.watermark().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": BACKFILL_INTERVAL_SECONDS })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;

    app.clock.advance_seconds(BACKFILL_INTERVAL_SECONDS);
    app.wait_for_plan("acme", "free").await;
    eventually("the watermark moves", || async { (app.watermark().await > first).then_some(()) }).await;
    app.stop().await;
}

async fn event_listed_late_is_applied_by_next_backfill(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": BACKFILL_INTERVAL_SECONDS })).await;
    app.run_backfill_after(BACKFILL_INTERVAL_SECONDS).await;
    app.wait_for_plan("acme", "pro").await;

    app.stripe.clear_faults().await;
    app.stripe.set_clock(&json!({ "advance_seconds": BACKFILL_INTERVAL_SECONDS })).await;
    app.run_backfill_after(BACKFILL_INTERVAL_SECONDS).await;
    app.wait_for_plan("acme", "free").await;
    app.stop().await;
}

async fn backfill_applies_many_pages_oldest_first(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    for number in 0..250 {
        app.stripe.set_clock(&json!({ "advance_seconds": 1 })).await;
        app.stripe.update_subscription(&subscription, &json!({ "quantity": number + 2 })).await;
    }
    app.start_service().await;
    app.run_backfill_after(BACKFILL_INTERVAL_SECONDS).await;
    assert_eq!(app.quantity_of(&subscription).await, 251);
    let transitions = app.lines("subscription_state");
    let updates = transitions.iter().filter(|line| {
        line["event"] == "subscription.transition"
            && line["stripe_event_type"] == "customer.subscription.updated"
    });
    assert!(updates.count() >= 250, "every update was applied: none was out of order");
    app.stop().await;
}

async fn interrupted_backfill_restarts_without_a_gap(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    let before = app.watermark().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    for number in 0..110 {
        app.stripe.set_clock(&json!({ "advance_seconds": 1 })).await;
        app.stripe.update_subscription(&subscription, &json!({ "quantity": number + 2 })).await;
    }
    // Stripe returns only the first page.
    let first = app.stripe.api("GET", "/v1/events?limit=100&type=customer.subscription.updated", "").await;
    let listed = json!({
        "match": "GET /v1/events", "kind": "status", "status": 200, "times": 1, "body": first.to_string(),
    });
    app.stripe.inject_fault(&listed).await;
    app.stripe.inject_fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403 })).await;
    let requests_before = app.stripe.requests_to("GET", "/v1/events").await.len();
    app.start_service().await;
    eventually("the second page and the next run's first are requested", || async {
        (app.stripe.requests_to("GET", "/v1/events").await.len() >= requests_before + 3).then_some(())
    })
    .await;
    assert_eq!(app.watermark().await, before);
    assert_eq!(app.quantity_of(&subscription).await, 1, "a partial window is not applied");

    app.stripe.clear_faults().await;
    eventually("all updates are applied", || async {
        (app.quantity_of(&subscription).await == 111).then_some(())
    })
    .await;
    let rows = app.database.rows::<entity::event::Entity>().await;
    let updates = rows.iter().filter(|row| row.event_type == "customer.subscription.updated");
    assert!(updates.count() >= 110, "no event is missing");
    app.stop().await;
}

async fn only_lease_holder_runs_backfill(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.stripe.clear_faults().await;

    // Another replica died while it held the lease.
    app.database.execute("UPDATE lease SET token = 'another', expires_at_ms = 9000000000000").await;
    let requests_before = app.stripe.requests_to("GET", "/v1/events").await.len();
    app.start_replica().await;
    app.clock.advance_seconds(BACKFILL_INTERVAL_SECONDS);
    app.subscribe_to_pro("birch").await;
    assert_eq!(app.stripe.requests_to("GET", "/v1/events").await.len(), requests_before);
    app.wait_for_plan("acme", "pro").await;

    app.database.execute("UPDATE lease SET expires_at_ms = 1").await;
    app.clock.advance_seconds(60);
    app.wait_for_plan("acme", "free").await;
    app.stop().await;
}

async fn gap_beyond_event_retention_refreshes_every_customer(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.subscribe_to_pro("birch").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    // Stripe no longer lists the events of the gap, including those of a purchase on another page.
    let cedar = app.stripe.api("POST", "/v1/customers", "").await["id"].clone();
    let cedar = cedar.as_str().expect("a customer").to_owned();
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    app.stripe.subscribe_customer_for("cedar", &cedar).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    let before = app.watermark().await;

    app.start_service().await;
    app.wait_for_plan("acme", "free").await;
    app.wait_for_plan("cedar", "team").await;
    assert_eq!(app.customer_of("cedar").await, cedar);
    let refreshed = app
        .wait_for_line("subscription_state", |line| {
            line["event"] == "refresh.changed" && line["tenant_id"] == "acme"
        })
        .await;
    assert_eq!(refreshed["reason"], "missed_events");
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "refresh.unchanged" && line["tenant_id"] == "birch"
    })
    .await;
    eventually("the watermark has moved past the gap", || async {
        (app.watermark().await > before + 39 * 86_400).then_some(())
    })
    .await;
    app.stop().await;
}

async fn interrupted_gap_recovery_continues_at_its_cursor(database: Database) {
    let mut app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    app.stripe.subscribe_customers_of_tenants(130).await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    // The first page of subscriptions is returned. The second fails three times, before and after
    // the restart.
    app.stripe
        .inject_fault(&json!({
            "match": "GET /v1/subscriptions", "param": "created", "kind": "status", "status": 403,
            "skip": 1, "times": 3,
        }))
        .await;
    app.start_service().await;
    let first_pages = || async { app.stripe.requests_with("GET", "/v1/subscriptions", "created").await };
    eventually("the second page has failed", || async { (first_pages().await.len() >= 3).then_some(()) })
        .await;
    app.stop_service().await;
    app.start_service().await;
    eventually("every tenant is linked", || async {
        let tenants = app.database.rows::<entity::tenant::Entity>().await;
        (tenants.iter().filter(|tenant| tenant.stripe_customer_id.is_some()).count() == 131).then_some(())
    })
    .await;
    eventually("the recovery is finished", || async {
        app.database.rows::<entity::gap_recovery::Entity>().await.is_empty().then_some(())
    })
    .await;

    let pages = app.stripe.requests_with("GET", "/v1/subscriptions", "created").await;
    let after = |page: &Value| page["params"]["starting_after"].clone();
    assert_eq!(after(&pages[0]), Value::Null);
    assert!(after(&pages[1]).is_string(), "the second page is requested");
    assert_eq!(
        pages.len(),
        5,
        "the first page once, the second four times, three of them failing: {pages:#?}"
    );
    assert!(pages[1..].iter().all(|page| after(page) == after(&pages[1])), "{pages:#?}");
    let acme = json!(app.customer_of("acme").await);
    let requests = app.stripe.requests_with("GET", "/v1/subscriptions", "customer").await;
    let requests_for_acme = requests.iter().filter(|request| request["params"]["customer"] == acme).count();
    assert_eq!(requests_for_acme, 1, "no customer is looked up twice");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_recovery_starts_over_when_its_cursor_is_deleted() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    app.stripe.subscribe_customers_of_tenants(1).await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    let started = format!(
        "INSERT INTO gap_recovery (id, started_at, step, after) VALUES (1, {}, 'subscriptions', 'sub_deleted')",
        app.clock_seconds()
    );
    app.database.execute(&started).await;
    app.start_service().await;
    app.wait_for_plan("tenant-0", "team").await;
    app.stop().await;
}

#[tokio::test]
async fn new_installation_backfills_only_last_15_minutes() {
    let app = TestApp::start(Database::Sqlite).await;
    app.wait_for_backfill().await;
    let [request] = &app.stripe.requests_to("GET", "/v1/events").await[..] else { panic!("one page") };
    let from =
        request["params"]["created"]["gte"].as_str().expect("from when").parse::<i64>().expect("seconds");
    assert!((app.clock_seconds() - from - 900).abs() < 60, "{request}");
    let types = request["params"]["types"].as_object().map_or(0, serde_json::Map::len)
        + request["params"]["types"].as_array().map_or(0, Vec::len);
    assert_eq!(types, HANDLED_EVENT_TYPES.len(), "{request}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backfill_splits_window_with_too_many_events() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let now = app.clock_seconds();
    // Half of them at the start of the window, half at its end.
    for group in 0..82_i64 {
        let created = now - if group < 41 { 600 } else { 60 } + group;
        let created_events =
            (0..64).map(|_| app.stripe.create_unrelated_event("customer.subscription.paused", created));
        futures_util::future::join_all(created_events).await;
    }
    app.start_service().await;
    eventually("every event is stored", || async {
        let rows = app.database.rows::<entity::event::Entity>().await;
        let brought = rows.iter().filter(|row| row.event_type == "customer.subscription.paused");
        (brought.count() == 82 * 64).then_some(())
    })
    .await;
    assert!(
        app.stripe.requests_to("GET", "/v1/events").await.len() > 100,
        "fifty pages of the whole window, then those of each half"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_once_days_ahead_loses_no_event() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    let now = app.clock_seconds();
    app.run_backfill_after(3 * 86_400).await;
    assert!(app.watermark().await < now + 3600, "the watermark goes by Stripe's clock");

    app.clock.advance_seconds(-3 * 86_400);
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.clock.advance_seconds(BACKFILL_INTERVAL_SECONDS);
    app.wait_for_plan("acme", "free").await;

    // A watermark in the future is ignored, whatever its cause.
    app.database.execute("UPDATE backfill SET watermark = watermark + 864000").await;
    let again = app.clear_faults_and_subscribe_to_pro("acme").await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.update_subscription(&again, &json!({ "status": "canceled" })).await;
    app.stop_service().await;
    app.start_service().await;
    app.wait_for_plan("acme", "free").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_recovery_runs_once_when_listing_events_keeps_failing() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    // Each run gets an empty page with Stripe's time in the `Date` header, and then a 403.
    let empty = json!({ "object": "list", "data": [], "has_more": false }).to_string();
    for _ in 0..2 {
        let empty_list =
            json!({ "match": "GET /v1/events", "kind": "status", "status": 200, "times": 1, "body": empty });
        app.stripe.inject_fault(&empty_list).await;
        app.stripe
            .inject_fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403, "times": 1 }))
            .await;
    }
    app.stripe.inject_fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403 })).await;
    let requests_before = app.stripe.requests_to("GET", "/v1/events").await.len();
    app.start_service().await;
    eventually("three runs have failed", || async {
        (app.stripe.requests_to("GET", "/v1/events").await.len() >= requests_before + 5).then_some(())
    })
    .await;
    app.wait_for_refreshes().await;
    let mut customer_requests = app.stripe.requests_to("GET", "/v1/subscriptions").await;
    customer_requests.retain(|request| request["params"]["customer"].is_string());
    assert_eq!(customer_requests.len(), 1, "one customer, looked up once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_recovery_unlinks_customer_deleted_in_the_gap() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    // A month later Stripe lists none of these events, and it may reject listing a deleted
    // customer's subscriptions.
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 40 * 86_400 })).await;
    let no_such_customer = json!({ "error": {
        "type": "invalid_request_error", "code": "resource_missing", "param": "customer", "message": "No such customer",
    } });
    let refused = json!({
        "match": "GET /v1/subscriptions", "kind": "status", "status": 400, "body": no_such_customer.to_string(),
    });
    app.stripe.inject_fault(&refused).await;
    app.start_service().await;
    app.wait_for_plan("acme", "free").await;
    app.wait_for_line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    app.wait_for_refreshes().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_event_page_is_requested_in_smaller_pages() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    let huge = "x".repeat(9 * 1024 * 1024);
    let huge =
        json!({ "match": "GET /v1/events", "kind": "status", "status": 200, "times": 3, "body": huge });
    app.stripe.inject_fault(&huge).await;
    app.start_service().await;
    app.wait_for_plan("acme", "free").await;
    let requests = app.stripe.requests_to("GET", "/v1/events").await;
    assert!(requests.iter().any(|request| request["params"]["limit"] == "10"), "{requests:#?}");
    app.stop().await;
}
