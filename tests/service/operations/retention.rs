//! Payloads are dropped when they are old; what an event was, and what became of it, is kept.

use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

const DAY: i64 = 86_400;

on_both_databases![
    an_old_payload_is_dropped_and_its_event_is_still_known,
    the_command_drops_what_is_old_and_says_how_much,
];

async fn an_old_payload_is_dropped_and_its_event_is_still_known(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let event = app.for_customer_of("acme", updated(&app)).await;
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");
    app.clock.advance_seconds(2 * DAY);
    let younger = app.for_customer_of("acme", updated(&app)).await;
    app.deliver(&younger).await.ok();

    app.clock.advance_seconds(88 * DAY + 1);
    eventually("the old payload is dropped", || async {
        app.payload_of(&event).await.is_none().then_some(())
    })
    .await;
    assert!(app.payload_of(&younger).await.is_some(), "it has two days left");
    assert_eq!(app.outcome_of(&event).await.0, "applied");

    app.deliver(&event).await.ok();
    app.line("subscription_state", |line| {
        line["event"] == "event.duplicate" && line["stripe_event_id"] == event["id"]
    })
    .await;
    app.stop().await;
}

async fn the_command_drops_what_is_old_and_says_how_much(database: Database) {
    let app = TestApp::start_with(database, &[("--keep-payloads-days", "0")]).await;
    app.make_pro("acme").await;
    // The command goes by the machine's clock.
    app.clock.advance_seconds(-100 * DAY);
    let mut old = Vec::new();
    for _ in 0..3 {
        let event = app.for_customer_of("acme", updated(&app)).await;
        app.deliver(&event).await.ok();
        app.clock.advance_seconds(DAY);
        old.push(event);
    }
    let dry = said(&app, &["prune", "--dry-run"]);
    assert_eq!(dry, "Would drop the payloads of 3 events; what they were and did would stay.\n");
    assert!(app.payload_of(&old[0]).await.is_some());
    let done = "Dropped the payloads of 3 events; what they were and did stays.\n";
    assert_eq!(said(&app, &["prune"]), done);
    for event in &old {
        assert!(app.payload_of(event).await.is_none());
    }
    assert_eq!(said(&app, &["prune"]), done.replace('3', "0"));

    let for_good = app.run_command(&["prune", "--keep-payloads-days", "0"]);
    assert_eq!(for_good.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&for_good.stderr).contains("kept for good"));
    app.stop().await;
}

/// Another change of its subscription.
fn updated(app: &TestApp) -> Value {
    stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        object["status"] = json!("active");
    })
}

fn said(app: &TestApp, words: &[&str]) -> String {
    let output = app.run_command(words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
