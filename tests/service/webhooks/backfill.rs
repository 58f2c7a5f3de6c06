//! Making up for what no webhook brought.

use billhook::domain::event::HANDLED;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    what_happened_while_we_were_down_is_there_after_the_start,
    what_webhooks_did_not_bring_comes_within_minutes,
    an_event_that_is_listed_late_is_not_missed,
    many_pages_come_in_oldest_first,
    a_run_that_stripe_interrupts_goes_on_and_never_leaves_a_gap,
    one_replica_at_a_time_asks_for_events,
    a_gap_beyond_what_stripe_lists_is_closed_by_asking_for_every_customer,
    interrupted_gap_recovery_continues_at_its_cursor,
);

/// What the backfill waits for between two runs.
const EVERY_SECONDS: i64 = 300;

async fn what_happened_while_we_were_down_is_there_after_the_start(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.change(&subscription, &json!({ "price": "price_team_monthly" })).await;
    app.stripe.change(&subscription, &json!({ "status": "past_due" })).await;

    app.come_back().await;
    let answer = app.until("acme", |answer| answer["status"] == "past_due").await;
    assert_eq!(answer["plan"], "team");
    let latest = &app.stripe.events().await[0];
    assert_eq!(app.outcome_of(latest).await.0, "applied");
    let brought = app
        .line("subscription_state", |line| {
            line["stripe_event_id"] == latest["id"] && line["event"] == "event.applied"
        })
        .await;
    assert!(brought["trace_id"].is_string() && brought["journey_id"].is_string(), "{brought}");
    let signatures = app.lines("webhook_signatures");
    assert!(signatures.iter().all(|line| line["stripe_event_id"] != latest["id"]), "it came by no webhook");
    app.stop().await;
}

async fn what_webhooks_did_not_bring_comes_within_minutes(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    let first = app.watermark().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": EVERY_SECONDS })).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;

    app.clock.advance_seconds(EVERY_SECONDS);
    app.until_plan("acme", "free").await;
    eventually("the watermark moves", || async { (app.watermark().await > first).then_some(()) }).await;
    app.stop().await;
}

async fn an_event_that_is_listed_late_is_not_missed(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": EVERY_SECONDS })).await;
    app.next_backfill(EVERY_SECONDS).await;
    app.until_plan("acme", "pro").await;

    app.stripe.all_is_well().await;
    app.stripe.set_clock(&json!({ "advance_seconds": EVERY_SECONDS })).await;
    app.next_backfill(EVERY_SECONDS).await;
    app.until_plan("acme", "free").await;
    app.stop().await;
}

async fn many_pages_come_in_oldest_first(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    for number in 0..250 {
        app.stripe.set_clock(&json!({ "advance_seconds": 1 })).await;
        app.stripe.change(&subscription, &json!({ "quantity": number + 2 })).await;
    }
    app.come_back().await;
    app.next_backfill(EVERY_SECONDS).await;
    assert_eq!(app.quantity_of(&subscription).await, 251);
    let transitions = app.lines("subscription_state");
    let brought = transitions.iter().filter(|line| {
        line["event"] == "subscription.transition"
            && line["stripe_event_type"] == "customer.subscription.updated"
    });
    assert!(brought.count() >= 250, "each of them stood for its time: none came too late");
    app.stop().await;
}

async fn a_run_that_stripe_interrupts_goes_on_and_never_leaves_a_gap(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    let before = app.watermark().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    for number in 0..110 {
        app.stripe.set_clock(&json!({ "advance_seconds": 1 })).await;
        app.stripe.change(&subscription, &json!({ "quantity": number + 2 })).await;
    }
    // The first page is listed, and no other.
    let first = app.stripe.api("GET", "/v1/events?limit=100&type=customer.subscription.updated", "").await;
    let listed = json!({
        "match": "GET /v1/events", "kind": "status", "status": 200, "times": 1, "body": first.to_string(),
    });
    app.stripe.fault(&listed).await;
    app.stripe.fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403 })).await;
    let asked = app.stripe.requests_to("GET", "/v1/events").await.len();
    app.come_back().await;
    eventually("the second page is refused, and then the first again", || async {
        (app.stripe.requests_to("GET", "/v1/events").await.len() >= asked + 3).then_some(())
    })
    .await;
    assert_eq!(app.watermark().await, before);
    assert_eq!(app.quantity_of(&subscription).await, 1, "nothing of half a window is applied");

    app.stripe.all_is_well().await;
    eventually("all of it is there", || async {
        (app.quantity_of(&subscription).await == 111).then_some(())
    })
    .await;
    let rows = app.database.rows::<entity::event::Entity>().await;
    let updates = rows.iter().filter(|row| row.event_type == "customer.subscription.updated");
    assert!(updates.count() >= 110, "without a gap");
    app.stop().await;
}

async fn one_replica_at_a_time_asks_for_events(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.stripe.all_is_well().await;

    // Another replica holds the lease, and dies with it.
    app.database.execute("UPDATE lease SET token = 'another', expires_at_ms = 9000000000000").await;
    let asked = app.stripe.requests_to("GET", "/v1/events").await.len();
    app.start_replica().await;
    app.clock.advance_seconds(EVERY_SECONDS);
    app.make_pro("birch").await;
    assert_eq!(app.stripe.requests_to("GET", "/v1/events").await.len(), asked);
    app.until_plan("acme", "pro").await;

    app.database.execute("UPDATE lease SET expires_at_ms = 1").await;
    app.clock.advance_seconds(60);
    app.until_plan("acme", "free").await;
    app.stop().await;
}

async fn a_gap_beyond_what_stripe_lists_is_closed_by_asking_for_every_customer(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.make_pro("birch").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    // Whatever its events were, Stripe lists them no longer, also of what somebody bought.
    let cedar = app.stripe.api("POST", "/v1/customers", "").await["id"].clone();
    let cedar = cedar.as_str().expect("a customer").to_owned();
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    app.stripe.buy_elsewhere_for("cedar", &cedar).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    let before = app.watermark().await;

    app.come_back().await;
    app.until_plan("acme", "free").await;
    app.until_plan("cedar", "team").await;
    assert_eq!(app.customer_of("cedar").await, cedar);
    let told = app
        .line("subscription_state", |line| line["event"] == "refresh.changed" && line["tenant_id"] == "acme")
        .await;
    assert_eq!(told["reason"], "missed_events");
    app.line("subscription_state", |line| {
        line["event"] == "refresh.unchanged" && line["tenant_id"] == "birch"
    })
    .await;
    eventually("the watermark has leapt", || async {
        (app.watermark().await > before + 39 * 86_400).then_some(())
    })
    .await;
    app.stop().await;
}

async fn interrupted_gap_recovery_continues_at_its_cursor(database: Database) {
    let mut app = TestApp::start(database).await;
    app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    app.stripe.sell_elsewhere_to_tenants(130).await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    // The first page of subscriptions is listed; the second is refused, before the restart and once after it.
    app.stripe
        .fault(&json!({
            "match": "GET /v1/subscriptions", "param": "created", "kind": "status", "status": 403,
            "skip": 1, "times": 3,
        }))
        .await;
    app.come_back().await;
    let first_pages = || async { app.stripe.requests_with("GET", "/v1/subscriptions", "created").await };
    eventually("the second page is refused", || async { (first_pages().await.len() >= 3).then_some(()) })
        .await;
    app.go_down().await;
    app.come_back().await;
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
    assert!(after(&pages[1]).is_string(), "the second page is asked for");
    assert_eq!(pages.len(), 5, "the first page once, the second three times in vain: {pages:#?}");
    assert!(pages[1..].iter().all(|page| after(page) == after(&pages[1])), "{pages:#?}");
    let acme = json!(app.customer_of("acme").await);
    let asked = app.stripe.requests_with("GET", "/v1/subscriptions", "customer").await;
    let about_acme = asked.iter().filter(|request| request["params"]["customer"] == acme).count();
    assert_eq!(about_acme, 1, "no customer is asked about twice");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gap_recovery_starts_over_when_its_cursor_is_deleted() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    app.stripe.sell_elsewhere_to_tenants(1).await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    let started = format!(
        "INSERT INTO gap_recovery (id, started_at, step, after) VALUES (1, {}, 'subscriptions', 'sub_deleted')",
        app.clock_seconds()
    );
    app.database.execute(&started).await;
    app.come_back().await;
    app.until_plan("tenant-0", "team").await;
    app.stop().await;
}

#[tokio::test]
async fn a_new_installation_does_not_ask_for_what_was_before_it() {
    let app = TestApp::start(Database::Sqlite).await;
    app.until_backfilled().await;
    let [request] = &app.stripe.requests_to("GET", "/v1/events").await[..] else { panic!("one page") };
    let from =
        request["params"]["created"]["gte"].as_str().expect("from when").parse::<i64>().expect("seconds");
    assert!((app.clock_seconds() - from - 900).abs() < 60, "{request}");
    let types = request["params"]["types"].as_object().map_or(0, serde_json::Map::len)
        + request["params"]["types"].as_array().map_or(0, Vec::len);
    assert_eq!(types, HANDLED.len(), "{request}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_events_than_are_gathered_at_once_come_in_half_by_half() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let now = app.clock_seconds();
    // Half of them at the window's beginning, half at its end.
    for group in 0..82_i64 {
        let created = now - if group < 41 { 600 } else { 60 } + group;
        let told = (0..64).map(|_| app.stripe.tell_of("customer.subscription.paused", created));
        futures_util::future::join_all(told).await;
    }
    app.come_back().await;
    eventually("all of them have come", || async {
        let rows = app.database.rows::<entity::event::Entity>().await;
        let brought = rows.iter().filter(|row| row.event_type == "customer.subscription.paused");
        (brought.count() == 82 * 64).then_some(())
    })
    .await;
    assert!(
        app.stripe.requests_to("GET", "/v1/events").await.len() > 100,
        "fifty pages in vain, and then each half"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_days_ahead_once_costs_no_event() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    let now = app.clock_seconds();
    app.next_backfill(3 * 86_400).await;
    assert!(app.watermark().await < now + 3600, "the watermark goes by Stripe's clock");

    app.clock.advance_seconds(-3 * 86_400);
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.clock.advance_seconds(EVERY_SECONDS);
    app.until_plan("acme", "free").await;

    // However it came there: a watermark in the future is not believed.
    app.database.execute("UPDATE backfill SET watermark = watermark + 864000").await;
    let again = app.make_pro_again("acme").await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.change(&again, &json!({ "status": "canceled" })).await;
    app.go_down().await;
    app.come_back().await;
    app.until_plan("acme", "free").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_leapt_over_once_even_if_stripe_lists_nothing() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    // Each run is told what time it is, and then refused.
    let empty = json!({ "object": "list", "data": [], "has_more": false }).to_string();
    for _ in 0..2 {
        let told =
            json!({ "match": "GET /v1/events", "kind": "status", "status": 200, "times": 1, "body": empty });
        app.stripe.fault(&told).await;
        app.stripe
            .fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403, "times": 1 }))
            .await;
    }
    app.stripe.fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403 })).await;
    let listed = app.stripe.requests_to("GET", "/v1/events").await.len();
    app.come_back().await;
    eventually("a run has failed for the third time", || async {
        (app.stripe.requests_to("GET", "/v1/events").await.len() >= listed + 5).then_some(())
    })
    .await;
    app.until_nothing_is_asked().await;
    let mut asked = app.stripe.requests_to("GET", "/v1/subscriptions").await;
    asked.retain(|request| request["params"]["customer"].is_string());
    assert_eq!(asked.len(), 1, "one customer, asked about once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_that_was_deleted_in_a_long_gap_ends() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 40 * 86400, leapt_at = 0").await;
    // A month later Stripe lists none of it; and of a deleted customer perhaps not even what it had.
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 40 * 86_400 })).await;
    let refused = json!({ "error": {
        "type": "invalid_request_error", "code": "resource_missing", "param": "customer", "message": "No such customer",
    } });
    let refused = json!({
        "match": "GET /v1/subscriptions", "kind": "status", "status": 400, "body": refused.to_string(),
    });
    app.stripe.fault(&refused).await;
    app.come_back().await;
    app.until_plan("acme", "free").await;
    app.line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    app.until_nothing_is_asked().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_too_big_is_asked_for_in_smaller_pieces() {
    let mut app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    app.until_backfilled().await;
    app.go_down().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    let huge = "x".repeat(9 * 1024 * 1024);
    let huge =
        json!({ "match": "GET /v1/events", "kind": "status", "status": 200, "times": 3, "body": huge });
    app.stripe.fault(&huge).await;
    app.come_back().await;
    app.until_plan("acme", "free").await;
    let asked = app.stripe.requests_to("GET", "/v1/events").await;
    assert!(asked.iter().any(|request| request["params"]["limit"] == "10"), "{asked:#?}");
    app.stop().await;
}
