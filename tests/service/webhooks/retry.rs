//! Events that could not be applied: tried again, given up, and had tried again by a person; and those that wait for ever.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    an_event_that_failed_is_applied_once_it_can_be,
    an_event_that_failed_is_known_when_it_comes_again,
    an_event_that_fails_for_good_is_given_up_and_can_be_had_tried_again,
    what_waits_for_its_customer_for_too_long_is_let_go,
    failed_event_that_cannot_be_stored_is_not_acknowledged,
    failed_event_of_deleted_customer_loses_its_payload,
    parked_event_of_deleted_customer_loses_its_payload,
);

/// The longest pause between two tries.
const SIX_HOURS: i64 = 6 * 60 * 60;

/// An event of a tenant's that the database refuses, and that is kept as failed.
pub async fn poisoned(app: &TestApp) -> Value {
    app.make_pro("acme").await;
    app.database.poison().await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!("sub_bad");
        object["status"] = json!("poisoned");
    });
    let event = app.for_customer_of("acme", event).await;
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    event
}

/// Of the fourteen tries that an event has, the last but one and the last.
async fn the_last_tries(app: &TestApp, event: &Value) {
    app.database.execute("UPDATE event SET attempts = 12 WHERE outcome = 'failed'").await;
    app.clock.advance_seconds(SIX_HOURS);
    app.until_tried(event, 13).await;
    assert_eq!(app.outcome_of(event).await.0, "failed");
    app.clock.advance_seconds(SIX_HOURS);
    app.until_outcome(event, "dead").await;
}

async fn an_event_that_failed_is_applied_once_it_can_be(database: Database) {
    let app = TestApp::start(database).await;
    let event = poisoned(&app).await;
    app.until_tried(&event, 1).await;
    app.database.heal().await;
    app.clock.advance_seconds(60);
    app.until_outcome(&event, "applied").await;
    assert_eq!(app.status_of("sub_bad").await, "poisoned");
    let told = app
        .line("subscription_state", |line| {
            line["event"] == "event.applied" && line["stripe_event_id"] == event["id"]
        })
        .await;
    assert_eq!(told["tenant_id"], "acme");
    app.stop().await;
}

async fn an_event_that_failed_is_known_when_it_comes_again(database: Database) {
    let app = TestApp::start(database).await;
    let event = poisoned(&app).await;
    app.deliver(&event).await.ok();
    app.line("subscription_state", |line| {
        line["event"] == "event.duplicate" && line["stripe_event_id"] == event["id"]
    })
    .await;
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    app.database.heal().await;
    app.stop().await;
}

async fn failed_event_that_cannot_be_stored_is_not_acknowledged(database: Database) {
    let app = TestApp::start(database).await;
    let event = poisoned(&app).await;
    app.database.execute("DELETE FROM event WHERE outcome = 'failed'").await;
    app.database.refuse_failed_events().await;
    app.deliver(&event).await.assert_is(503, "unavailable");
    assert!(app.database.row::<entity::event::Entity>(event["id"].as_str().expect("an id")).await.is_none());

    app.database.take_failed_events().await;
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    app.database.heal().await;
    app.stop().await;
}

async fn an_event_that_fails_for_good_is_given_up_and_can_be_had_tried_again(database: Database) {
    let app = TestApp::start(database).await;
    let event = poisoned(&app).await;
    app.until_tried(&event, 1).await;
    the_last_tries(&app, &event).await;
    assert_eq!(app.outcome_of(&event).await, ("dead".into(), Some("not_applicable".into())));
    app.line("subscription_state", |line| line["event"] == "event.dead" && line["level"] == "warn").await;
    app.database.heal().await;

    let id = event["id"].as_str().expect("an id");
    let listed = app.run_command(&["event", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!((&listed[0]["id"], &listed[0]["outcome"]), (&json!(id), &json!("dead")));
    let retried = app.run_command(&["event", "replay", id]);
    assert!(retried.status.success(), "{retried:?}");
    app.until_outcome(&event, "applied").await;
    let again = app.run_command(&["event", "replay", id]);
    let said = String::from_utf8(again.stdout).expect("text");
    assert!(said.contains("is applied, and is not applied twice"), "{said}");
    app.stop().await;
}

async fn what_waits_for_its_customer_for_too_long_is_let_go(database: Database) {
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
    app.until_outcome(&first, "ignored").await;
    assert_eq!(app.outcome_of(&first).await.1.as_deref(), Some("never_linked"));
    assert!(app.payload_of(&first).await.is_none());
    assert_eq!(app.outcome_of(&second).await.0, "parked", "it has two days left");
    app.stop().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_given_up_in_the_end() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        *object = json!({ "id": 7 });
    });
    app.deliver(&event).await.ok();
    app.until_tried(&event, 1).await;
    the_last_tries(&app, &event).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_could_not_be_read_once_is_found_by_what_it_says_now() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "parked");
    // As a build leaves it that could not read the object, and that knew of no other tries.
    app.database
        .execute(
            "UPDATE event SET outcome = 'failed', customer_id = NULL, subscription_id = NULL, retry_at_ms = NULL",
        )
        .await;
    app.until_outcome(&event, "parked").await;
    assert!(app.run_command(&["tenant", "link", "birch", "cus_webhook"]).status.success());
    app.until_plan("birch", "pro").await;
    app.stop().await;
}

/// The customer's end, as Stripe tells it.
async fn delete_customer(app: &TestApp, customer: &str) {
    let deleted = stripe_event("customer.deleted", app.clock_seconds() + 1, |object| {
        *object = json!({ "id": customer, "object": "customer", "deleted": true });
    });
    app.deliver(&deleted).await.ok();
    assert_eq!(app.outcome_of(&deleted).await.0, "applied");
}

async fn failed_event_of_deleted_customer_loses_its_payload(database: Database) {
    let app = TestApp::start(database).await;
    let event = poisoned(&app).await;
    assert!(app.payload_of(&event).await.is_some());
    delete_customer(&app, &app.customer_of("acme").await).await;
    app.database.heal().await;
    app.clock.advance_seconds(SIX_HOURS);
    app.until_outcome(&event, "stale").await;
    assert_eq!(app.payload_of(&event).await, None);
    app.stop().await;
}

async fn parked_event_of_deleted_customer_loses_its_payload(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "parked");
    assert!(app.payload_of(&event).await.is_some());
    delete_customer(&app, "cus_webhook").await;
    assert_eq!(app.outcome_of(&event).await, ("stale".to_owned(), Some("customer_deleted".to_owned())));
    assert_eq!(app.payload_of(&event).await, None);
    app.stop().await;
}
