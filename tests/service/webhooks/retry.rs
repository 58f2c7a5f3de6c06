//! Failed events: retried, dead after the last retry, replayed by the operator. Parked events that
//! no link ever frees.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    failed_event_is_retried_and_applied,
    redelivered_failed_event_is_duplicate,
    event_failing_every_retry_is_dead_and_can_be_replayed,
    parked_event_is_ignored_after_retention,
    failed_event_that_cannot_be_stored_is_not_acknowledged,
    failed_event_of_deleted_customer_loses_its_payload,
    parked_event_of_deleted_customer_loses_its_payload,
);

/// The longest delay between two retries, in seconds.
const MAX_RETRY_DELAY_SECONDS: i64 = 6 * 60 * 60;

/// Delivers an event of `acme` that the database rejects, so it is stored as failed.
pub async fn deliver_poisoned_event(app: &TestApp) -> Value {
    app.subscribe_to_pro("acme").await;
    app.database.reject_poisoned_subscriptions().await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!("sub_bad");
        object["status"] = json!("poisoned");
    });
    let event = app.for_customer_of("acme", event).await;
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    event
}

/// Skips to the last two of an event's fourteen attempts.
async fn run_last_attempts(app: &TestApp, event: &Value) {
    app.database.execute("UPDATE event SET attempts = 12 WHERE outcome = 'failed'").await;
    app.clock.advance_seconds(MAX_RETRY_DELAY_SECONDS);
    app.wait_for_attempts(event, 13).await;
    assert_eq!(app.outcome_of(event).await.0, "failed");
    app.clock.advance_seconds(MAX_RETRY_DELAY_SECONDS);
    app.wait_for_outcome(event, "dead").await;
}

async fn failed_event_is_retried_and_applied(database: Database) {
    let app = TestApp::start(database).await;
    let event = deliver_poisoned_event(&app).await;
    app.wait_for_attempts(&event, 1).await;
    app.database.accept_poisoned_subscriptions().await;
    app.clock.advance_seconds(60);
    app.wait_for_outcome(&event, "applied").await;
    assert_eq!(app.status_of("sub_bad").await, "poisoned");
    let applied = app
        .wait_for_line("subscription_state", |line| {
            line["event"] == "event.applied" && line["stripe_event_id"] == event["id"]
        })
        .await;
    assert_eq!(applied["tenant_id"], "acme");
    app.stop().await;
}

async fn redelivered_failed_event_is_duplicate(database: Database) {
    let app = TestApp::start(database).await;
    let event = deliver_poisoned_event(&app).await;
    app.deliver(&event).await.ok();
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "event.duplicate" && line["stripe_event_id"] == event["id"]
    })
    .await;
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    app.database.accept_poisoned_subscriptions().await;
    app.stop().await;
}

async fn failed_event_that_cannot_be_stored_is_not_acknowledged(database: Database) {
    let app = TestApp::start(database).await;
    let event = deliver_poisoned_event(&app).await;
    app.database.execute("DELETE FROM event WHERE outcome = 'failed'").await;
    app.database.reject_failed_events().await;
    app.deliver(&event).await.assert_problem(503, "unavailable");
    assert!(app.database.row::<entity::event::Entity>(event["id"].as_str().expect("an id")).await.is_none());

    app.database.accept_failed_events().await;
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    app.database.accept_poisoned_subscriptions().await;
    app.stop().await;
}

async fn event_failing_every_retry_is_dead_and_can_be_replayed(database: Database) {
    let app = TestApp::start(database).await;
    let event = deliver_poisoned_event(&app).await;
    app.wait_for_attempts(&event, 1).await;
    run_last_attempts(&app, &event).await;
    assert_eq!(app.outcome_of(&event).await, ("dead".into(), Some("not_applicable".into())));
    app.wait_for_line("subscription_state", |line| line["event"] == "event.dead" && line["level"] == "warn")
        .await;
    app.database.accept_poisoned_subscriptions().await;

    let id = event["id"].as_str().expect("an id");
    let listed = app.run_command(&["event", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!((&listed[0]["id"], &listed[0]["outcome"]), (&json!(id), &json!("dead")));
    let retried = app.run_command(&["event", "replay", id]);
    assert!(retried.status.success(), "{retried:?}");
    app.wait_for_outcome(&event, "applied").await;
    let again = app.run_command(&["event", "replay", id]);
    let stdout = String::from_utf8(again.stdout).expect("text");
    assert!(stdout.contains("is applied and is not applied twice"), "{stdout}");
    app.stop().await;
}

async fn parked_event_is_ignored_after_retention(database: Database) {
    let app = TestApp::start(database).await;
    let parked = |customer: &'static str| {
        stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
            object["id"] = json!(format!("sub_of_{customer}"));
            object["customer"] = json!(customer);
        })
    };
    let first = parked("cus_first");
    app.deliver(&first).await.ok();
    app.clock.advance_seconds(2 * 86_400);
    let second = parked("cus_second");
    app.deliver(&second).await.ok();
    assert_eq!(app.outcome_of(&first).await.0, "parked");

    app.clock.advance_seconds(29 * 86_400);
    app.wait_for_outcome(&first, "ignored").await;
    assert_eq!(app.outcome_of(&first).await.1.as_deref(), Some("never_linked"));
    assert!(app.payload_of(&first).await.is_none());
    assert_eq!(app.outcome_of(&second).await.0, "parked", "its retention ends two days later");
    app.stop().await;
}

#[tokio::test]
async fn event_with_unreadable_object_is_dead_after_last_retry() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        *object = json!({ "id": 7 });
    });
    app.deliver(&event).await.ok();
    app.wait_for_attempts(&event, 1).await;
    run_last_attempts(&app, &event).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_readable_on_retry_is_parked_under_its_customer() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "parked");
    // As left by an older build that could not read the object and had no retries.
    app.database
        .execute(
            "UPDATE event SET outcome = 'failed', customer_id = NULL, subscription_id = NULL, retry_at_ms = NULL",
        )
        .await;
    app.wait_for_outcome(&event, "parked").await;
    assert!(app.run_command(&["tenant", "link", "birch", "cus_webhook"]).status.success());
    app.wait_for_plan("birch", "pro").await;
    app.stop().await;
}

async fn deliver_customer_deleted(app: &TestApp, customer: &str) {
    let deleted = stripe_event("customer.deleted", app.clock_seconds() + 1, |object| {
        *object = json!({ "id": customer, "object": "customer", "deleted": true });
    });
    app.deliver(&deleted).await.ok();
    assert_eq!(app.outcome_of(&deleted).await.0, "applied");
}

async fn failed_event_of_deleted_customer_loses_its_payload(database: Database) {
    let app = TestApp::start(database).await;
    let event = deliver_poisoned_event(&app).await;
    assert!(app.payload_of(&event).await.is_some());
    deliver_customer_deleted(&app, &app.customer_of("acme").await).await;
    app.database.accept_poisoned_subscriptions().await;
    app.clock.advance_seconds(MAX_RETRY_DELAY_SECONDS);
    app.wait_for_outcome(&event, "stale").await;
    assert_eq!(app.payload_of(&event).await, None);
    app.stop().await;
}

async fn parked_event_of_deleted_customer_loses_its_payload(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "parked");
    assert!(app.payload_of(&event).await.is_some());
    deliver_customer_deleted(&app, "cus_webhook").await;
    assert_eq!(app.outcome_of(&event).await, ("stale".to_owned(), Some("customer_deleted".to_owned())));
    assert_eq!(app.payload_of(&event).await, None);
    app.stop().await;
}
