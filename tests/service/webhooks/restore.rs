//! The database is lost and restored from a backup that was taken under load. Afterwards everything
//! matches Stripe.

use std::collections::{HashMap, HashSet};
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use billhook::domain::event::HANDLED_EVENT_TYPES;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    backup_taken_under_load_restores_to_match_stripe,
    checkout_waits_for_backfill_after_long_downtime,
    checkout_refreshes_linked_customer_before_selling,
);

/// The page whose commands the test runs.
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// How many tenants buy and change at the same time, and how many finish at least before and after
/// the backup.
const CONCURRENT_TENANTS: usize = 3;
const MIN_FINISHED_TENANTS: usize = 4;

async fn backup_taken_under_load_restores_to_match_stripe(database: Database) {
    let mut app = TestApp::start_process(database, &[]).await;
    let kept = app.subscribe_to_pro("kept").await;
    app.subscribe_to_pro("deleted").await;
    let pending_checkout = app.check_out(&app.token("pending"), &json!({})).await.ok();
    let customer_of_deleted = app.customer_of("deleted").await;
    let unlinked_customer = app.stripe.create_subscribed_customer().await;

    // A backup under load. The load continues.
    let load = Load::default();
    let backup = async {
        load.wait_until_finished(MIN_FINISHED_TENANTS).await;
        run_documented_commands(&app, database, "backup");
        load.wait_until_finished(load.finished() + MIN_FINISHED_TENANTS).await;
        load.stop();
    };
    tokio::join!(load.run(&app), backup);
    let bought = app.subscribe_to_pro("bought-since").await;
    app.stripe.pay(session_of(&pending_checkout)).await;
    app.wait_for_plan("pending", "pro").await;
    let journeys_before = journeys(&app).await;
    assert!(app.run_command(&["tenant", "link", "by-hand", &unlinked_customer]).status.success());
    app.wait_for_plan("by-hand", "team").await;
    let open_checkout = app.check_out(&app.token("open"), &json!({})).await.ok();
    app.stripe.api("DELETE", &format!("/v1/customers/{customer_of_deleted}"), "").await;
    let before = app.subscription(&app.token("kept")).await;

    // The database is lost. Stripe continues.
    app.stop_service().await;
    app.database.drop().await;
    app.stripe.update_subscription(&bought, &json!({ "quantity": 7 })).await;
    app.stripe.pay(session_of(&open_checkout)).await;
    restore(&app, database).await;
    app.start_service_process(&[]).await;
    tokio::join!(load.run(&app), async {
        load.wait_until_finished(load.finished() + MIN_FINISHED_TENANTS).await;
        load.stop();
    });

    // A link made by hand is found in the logs and has to be made again.
    assert_eq!(app.subscription(&app.token("by-hand")).await.ok()["plan"], "free");
    assert!(operator_links(&app).contains(&format!("\"customer_id\":\"{unlinked_customer}\"")));
    assert!(app.run_command(&["tenant", "link", "by-hand", &unlinked_customer]).status.success());
    app.wait_for_plan("by-hand", "team").await;

    let tenants = load.finished() + 5;
    eventually("nothing differs from Stripe", || async {
        let reconciled = app.run_command(&["reconcile"]);
        let report = String::from_utf8_lossy(&reconciled.stdout).into_owned();
        report.contains(&format!("0 of {tenants} tenants differed")).then_some(())
    })
    .await;
    app.wait_for_refreshes().await;
    assert_every_event_is_settled(&app).await;
    assert_transitions_have_no_gap(&app).await;

    // The tenants see their state, and keep the journey ids that the logs and Stripe have.
    let token = app.token("kept");
    let etag = before.header("etag").expect("an ETag");
    assert_eq!(app.subscription_if_none_match(&token, etag).await.status, 304, "nothing changed for {kept}");
    assert_eq!(app.wait_for_plan("bought-since", "pro").await["quantity"], 7);
    app.wait_for_plan("open", "pro").await;
    app.wait_for_plan("deleted", "free").await;
    assert_eq!(journeys(&app).await, journeys_before);
    app.stop().await;
}

/// The journeys of two tenants: one whose checkout is newer than the backup, and one whose checkout
/// completed since.
async fn journeys(app: &TestApp) -> [String; 2] {
    let journey = async |tenant: &str| {
        eventually("the tenant has a journey", || async { app.journey_of(tenant).await }).await
    };
    [journey("bought-since").await, journey("pending").await]
}

async fn checkout_waits_for_backfill_after_long_downtime(database: Database) {
    let mut app = TestApp::start_with(database, &[("--throttle-per-minute", "6000")]).await;
    app.subscribe_to_pro("acme").await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    // The state of a backup from two hours ago, before the purchase.
    for statement in [
        "DELETE FROM subscription",
        "DELETE FROM checkout",
        "DELETE FROM event",
        "UPDATE backfill SET watermark = watermark - 7200",
    ] {
        app.database.execute(statement).await;
    }
    app.stripe.inject_fault(&json!({ "match": "GET /v1/events", "kind": "hang", "times": 1 })).await;
    app.start_service().await;
    let token = app.token("acme");
    let refused = app.check_out(&token, &json!({})).await;
    refused.assert_problem(503, "unavailable");
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(app.subscription(&token).await.ok()["plan"], "free", "reading still works");

    // The hanging request is retried.
    app.wait_for_plan("acme", "pro").await;
    eventually("the subscription blocks another purchase", || async {
        let response = app.check_out(&token, &json!({})).await;
        (response.status == 409).then_some(())
    })
    .await;

    // If Stripe refuses to list events, checkout does not wait.
    app.stop_service().await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 7200").await;
    app.stripe.inject_fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403 })).await;
    app.start_service().await;
    eventually("the checkout succeeds", || async {
        (app.check_out(&app.token("birch"), &json!({})).await.status == 200).then_some(())
    })
    .await;
    app.stop().await;
}

async fn checkout_refreshes_linked_customer_before_selling(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.stripe.create_subscribed_customer().await;
    // The refresh fails and is not retried before the service's clock advances.
    let refused = json!({ "match": "GET /v1/subscriptions", "kind": "status", "status": 403, "times": 1 });
    app.stripe.inject_fault(&refused).await;
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    // The command scheduled the refresh by the machine's clock, which is ahead of the test's.
    app.clock.advance_seconds(60);
    app.wait_for_line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert_eq!(app.queued_refreshes().await.len(), 1, "the refresh stays queued");

    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.assert_problem(409, "already_subscribed");
    assert_eq!(app.subscription(&token).await.ok()["plan"], "team");
    app.stop().await;
}

fn session_of(bought: &Value) -> &str {
    bought["session_id"].as_str().expect("a session")
}

/// The log lines of links made by the operator, found by the page's own command.
fn operator_links(app: &TestApp) -> String {
    const GREP: &str =
        r#"grep -E '"customer\.(un)?linked"' logs/subscription_state.log* | grep '"operator"'"#;
    assert!(OPERATIONS.contains(GREP));
    let found =
        Command::new("sh").args(["-c", GREP]).current_dir(app.dir()).output().expect("the shell starts");
    String::from_utf8(found.stdout).expect("text")
}

/// Tenants that buy, change and cancel at the same time.
#[derive(Default)]
struct Load {
    finished: AtomicUsize,
    is_stopped: AtomicBool,
}

impl Load {
    async fn run(&self, app: &TestApp) {
        self.is_stopped.store(false, SeqCst);
        join_all((0..CONCURRENT_TENANTS).map(|_| self.run_tenants(app))).await;
    }

    async fn run_tenants(&self, app: &TestApp) {
        while !self.is_stopped.load(SeqCst) {
            buy_change_and_cancel(app, &format!("tenant-{}", uuid::Uuid::new_v4().simple())).await;
            self.finished.fetch_add(1, SeqCst);
        }
    }

    fn finished(&self) -> usize {
        self.finished.load(SeqCst)
    }

    async fn wait_until_finished(&self, tenants: usize) {
        eventually("enough tenants have finished", || async { (self.finished() >= tenants).then_some(()) })
            .await;
    }

    fn stop(&self) {
        self.is_stopped.store(true, SeqCst);
    }
}

/// Changes the subscription as fast as the double answers, so webhooks arrive during later changes.
/// Waits for the last webhook, so that at most `CONCURRENT_TENANTS` tenants have webhooks on their
/// way.
async fn buy_change_and_cancel(app: &TestApp, tenant: &str) {
    let bought = app.check_out(&app.token(tenant), &json!({})).await.ok();
    app.stripe.pay(session_of(&bought)).await;
    let subscription = app.stripe.subscription_of_session(session_of(&bought)).await;
    for change in [
        json!({ "quantity": 2 }),
        json!({ "status": "past_due" }),
        json!({ "status": "active", "price": "price_team_monthly" }),
        json!({ "cancel_at_period_end": true }),
    ] {
        app.stripe.update_subscription(&subscription, &change).await;
    }
    if tenant.ends_with(['0', '1', '2', '3']) {
        app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
        app.wait_for_subscription(tenant, |subscription| subscription["status"] == "canceled").await;
    } else {
        app.wait_for_subscription(tenant, |subscription| subscription["scheduled_cancel"] == true).await;
    }
}

/// Restores the backup in place of the lost database.
async fn restore(app: &TestApp, database: Database) {
    if matches!(database, Database::Postgres) {
        app.database.recreate().await;
    }
    run_documented_commands(app, database, "restore");
}

/// Runs the page's shell block for this step, `backup` or `restore`.
fn run_documented_commands(app: &TestApp, database: Database, step: &str) {
    let command = match (database, step) {
        (Database::Sqlite, "backup") => "sqlite3 billhook.db",
        (Database::Sqlite, _) => "cp backup.db",
        (Database::Postgres, "backup") => "pg_dump",
        (Database::Postgres, _) => "pg_restore",
    };
    let blocks = OPERATIONS.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let [script] =
        &blocks.map(|(block, _)| block).filter(|block| block.contains(command)).collect::<Vec<_>>()[..]
    else {
        panic!("exactly one block contains `{command}`")
    };
    let postgres_bin = env::var("BILLHOOK_TEST_POSTGRES_BIN").expect("run the tests with `make test`");
    let path = format!("{postgres_bin}:{}", env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(app.dir()).env("PATH", path);
    let output = shell.env("DATABASE_URL", &app.database.url).output().expect("the shell starts");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Asserts that each handled event that Stripe lists is in the inbox with a final outcome.
async fn assert_every_event_is_settled(app: &TestApp) {
    let rows = app.database.rows::<entity::event::Entity>().await;
    let outcomes: HashMap<String, String> = rows.into_iter().map(|row| (row.id, row.outcome)).collect();
    for event in app.stripe.all_events().await {
        let outcome = outcomes.get(event["id"].as_str().expect("an id")).map(String::as_str);
        let is_handled = event["type"].as_str().is_some_and(|kind| HANDLED_EVENT_TYPES.contains(&kind));
        let is_settled = matches!(outcome, Some("applied" | "stale" | "ignored"));
        assert!(is_settled || !is_handled, "{outcome:?}: {event}");
    }
}

/// Asserts that each transition of a subscription starts from the status where the previous one
/// ended, and that no event caused two.
async fn assert_transitions_have_no_gap(app: &TestApp) {
    let mut rows = app.database.rows::<entity::transition::Entity>().await;
    rows.retain(|row| row.entry == "subscription.transition");
    rows.sort_by_key(|row| row.id);
    let (mut latest, mut seen) = (HashMap::new(), HashSet::new());
    for row in rows {
        let subscription = row.subscription_id.clone().expect("a transition names its subscription");
        let before = latest.insert(subscription.clone(), row.to_status.clone()).flatten();
        assert_eq!(row.from_status, before, "{row:?}");
        if let Some(event) = &row.event_id {
            assert!(seen.insert((subscription, event.clone())), "twice: {row:?}");
        }
    }
}
