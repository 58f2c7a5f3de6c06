//! Old payloads are deleted. The event's record and outcome are kept.

use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

const DAY: i64 = 86_400;

on_both_databases![old_payload_is_deleted_and_event_is_kept, prune_deletes_old_payloads_and_prints_count,];

async fn old_payload_is_deleted_and_event_is_kept(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let event = app.for_customer_of("acme", updated(&app)).await;
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");
    app.clock.advance_seconds(2 * DAY);
    let newer = app.for_customer_of("acme", updated(&app)).await;
    app.deliver(&newer).await.ok();

    app.clock.advance_seconds(88 * DAY + 1);
    eventually("the old payload is deleted", || async {
        app.payload_of(&event).await.is_none().then_some(())
    })
    .await;
    assert!(app.payload_of(&newer).await.is_some(), "it has two days left");
    assert_eq!(app.outcome_of(&event).await.0, "applied");

    app.deliver(&event).await.ok();
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "event.duplicate" && line["stripe_event_id"] == event["id"]
    })
    .await;
    app.stop().await;
}

async fn prune_deletes_old_payloads_and_prints_count(database: Database) {
    let app = TestApp::start_with(database, &[("--keep-payloads-days", "0")]).await;
    app.subscribe_to_pro("acme").await;
    // The command uses the machine's clock.
    app.clock.advance_seconds(-100 * DAY);
    let mut old = Vec::new();
    for _ in 0..3 {
        let event = app.for_customer_of("acme", updated(&app)).await;
        app.deliver(&event).await.ok();
        app.clock.advance_seconds(DAY);
        old.push(event);
    }
    let dry = stdout_of(&app, &["prune", "--dry-run"]);
    assert_eq!(dry, "Would delete 3 payloads; the event records would be kept.\n");
    assert!(app.payload_of(&old[0]).await.is_some());
    let done = "Deleted 3 payloads; the event records were kept.\n";
    assert_eq!(stdout_of(&app, &["prune"]), done);
    for event in &old {
        assert!(app.payload_of(event).await.is_none());
    }
    assert_eq!(stdout_of(&app, &["prune"]), done.replace('3', "0"));

    let zero_days = app.run_command(&["prune", "--keep-payloads-days", "0"]);
    assert_eq!(zero_days.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&zero_days.stderr).contains("kept forever"));
    app.stop().await;
}

fn updated(app: &TestApp) -> Value {
    stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        object["status"] = json!("active");
    })
}

fn stdout_of(app: &TestApp, words: &[&str]) -> String {
    let output = app.run_command(words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}
