//! The database is lost and restored from a backup that was taken under load: in the end everything is as Stripe has it.

use std::collections::{HashMap, HashSet};
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use billhook::domain::event::HANDLED;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    a_backup_taken_under_load_and_restored_ends_where_stripe_is,
    after_a_long_absence_nothing_is_sold_before_it_is_known_what_was_bought,
    nothing_is_sold_to_a_customer_before_it_is_known_what_it_has,
);

/// What the operator reads, and types.
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// How many tenants have something happen at a time, and how many lives there are at least before the backup and after it.
const LANES: usize = 3;
const LIVES: usize = 4;

async fn a_backup_taken_under_load_and_restored_ends_where_stripe_is(database: Database) {
    let mut app = TestApp::start_process(database, &[]).await;
    let kept = app.make_pro("kept").await;
    app.make_pro("deleted").await;
    let pending = app.check_out(&app.token("pending"), &json!({})).await.ok();
    let customer_of_deleted = app.customer_of("deleted").await;
    let stranger = app.stripe.customer_who_bought_elsewhere().await;

    // A backup in the midst of it, and things go on.
    let load = Load::default();
    let backup = async {
        load.until(LIVES).await;
        type_as_documented(&app, database, "backup");
        load.until(load.lived() + LIVES).await;
        load.end();
    };
    tokio::join!(load.on(&app), backup);
    let bought = app.make_pro("bought-since").await;
    app.stripe.pay(session_of(&pending)).await;
    app.until_plan("pending", "pro").await;
    let were_on = journeys(&app).await;
    assert!(app.run_command(&["tenant", "link", "by-hand", &stranger]).status.success());
    app.until_plan("by-hand", "team").await;
    let open = app.check_out(&app.token("open"), &json!({})).await.ok();
    app.stripe.api("DELETE", &format!("/v1/customers/{customer_of_deleted}"), "").await;
    let before = app.subscription(&app.token("kept")).await;

    // It is gone; Stripe goes on.
    app.go_down().await;
    app.database.drop().await;
    app.stripe.change(&bought, &json!({ "quantity": 7 })).await;
    app.stripe.pay(session_of(&open)).await;
    restore(&app, database).await;
    app.come_back_as_process(&[]).await;
    tokio::join!(load.on(&app), async {
        load.until(load.lived() + LIVES).await;
        load.end();
    });

    // What was done by hand is in the logs, and has to be done again.
    assert_eq!(app.subscription(&app.token("by-hand")).await.ok()["plan"], "free");
    assert!(links_by_hand(&app).contains(&format!("\"customer_id\":\"{stranger}\"")));
    assert!(app.run_command(&["tenant", "link", "by-hand", &stranger]).status.success());
    app.until_plan("by-hand", "team").await;

    let tenants = load.lived() + 5;
    eventually("nothing differs from Stripe", || async {
        let reconciled = app.run_command(&["reconcile"]);
        let told = String::from_utf8_lossy(&reconciled.stdout).into_owned();
        told.contains(&format!("0 of {tenants} tenants differed")).then_some(())
    })
    .await;
    app.until_nothing_is_asked().await;
    every_event_is_there_once(&app).await;
    no_chain_has_a_gap(&app).await;

    // What the tenants see, and the ids that logs and Stripe know them by.
    let token = app.token("kept");
    let etag = before.header("etag").expect("an ETag");
    assert_eq!(app.subscription_unless(&token, etag).await.status, 304, "nothing has changed for {kept}");
    assert_eq!(app.until_plan("bought-since", "pro").await["quantity"], 7);
    app.until_plan("open", "pro").await;
    app.until_plan("deleted", "free").await;
    assert_eq!(journeys(&app).await, were_on);
    app.stop().await;
}

/// The journeys of the tenants whose checkouts are younger than the backup, or were closed since.
async fn journeys(app: &TestApp) -> [String; 2] {
    let journey = async |tenant: &str| {
        eventually("the tenant is on a journey", || async { app.journey_of(tenant).await }).await
    };
    [journey("bought-since").await, journey("pending").await]
}

async fn after_a_long_absence_nothing_is_sold_before_it_is_known_what_was_bought(database: Database) {
    let mut app = TestApp::start_with(database, &[("--throttle-per-minute", "6000")]).await;
    app.make_pro("acme").await;
    app.until_backfilled().await;
    app.until_nothing_is_asked().await;
    app.go_down().await;
    // As a backup of two hours ago is, from before the purchase.
    for statement in [
        "DELETE FROM subscription",
        "DELETE FROM checkout",
        "DELETE FROM event",
        "UPDATE backfill SET watermark = watermark - 7200",
    ] {
        app.database.execute(statement).await;
    }
    app.stripe.fault(&json!({ "match": "GET /v1/events", "kind": "hang", "times": 1 })).await;
    app.come_back().await;
    let token = app.token("acme");
    let refused = app.check_out(&token, &json!({})).await;
    refused.assert_is(503, "unavailable");
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(app.subscription(&token).await.ok()["plan"], "free", "whoever asks has an answer");

    // What hangs is asked for again.
    app.until_plan("acme", "pro").await;
    eventually("it is known", || async {
        let answer = app.check_out(&token, &json!({})).await;
        (answer.status == 409).then_some(())
    })
    .await;

    // Where Stripe tells nothing there is nothing to wait for.
    app.go_down().await;
    app.database.execute("UPDATE backfill SET watermark = watermark - 7200").await;
    app.stripe.fault(&json!({ "match": "GET /v1/events", "kind": "status", "status": 403 })).await;
    app.come_back().await;
    eventually("it is sold", || async {
        (app.check_out(&app.token("birch"), &json!({})).await.status == 200).then_some(())
    })
    .await;
    app.stop().await;
}

async fn nothing_is_sold_to_a_customer_before_it_is_known_what_it_has(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.stripe.customer_who_bought_elsewhere().await;
    // The service asks in vain, and not again before its clock goes on.
    let refused = json!({ "match": "GET /v1/subscriptions", "kind": "status", "status": 403, "times": 1 });
    app.stripe.fault(&refused).await;
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    // By the command's clock it is to be asked now; ours was set when the story began.
    app.clock.advance_seconds(60);
    app.line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert_eq!(app.questions().await.len(), 1, "it stays open");

    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.assert_is(409, "already_subscribed");
    assert_eq!(app.subscription(&token).await.ok()["plan"], "team");
    app.stop().await;
}

fn session_of(bought: &Value) -> &str {
    bought["session_id"].as_str().expect("a session")
}

/// What the page's own command finds of links that were made at the command line.
fn links_by_hand(app: &TestApp) -> String {
    const LOOK: &str =
        r#"grep -E '"customer\.(un)?linked"' logs/subscription_state.log* | grep '"operator"'"#;
    assert!(OPERATIONS.contains(LOOK));
    let found = Command::new("sh").args(["-c", LOOK]).current_dir(app.dir()).output().expect("a shell");
    String::from_utf8(found.stdout).expect("text")
}

/// Tenants that buy, change and cancel, lane by lane.
#[derive(Default)]
struct Load {
    lived: AtomicUsize,
    wanted: AtomicUsize,
}

impl Load {
    async fn on(&self, app: &TestApp) {
        self.wanted.store(usize::MAX, SeqCst);
        join_all((0..LANES).map(|_| self.lane(app))).await;
    }

    async fn lane(&self, app: &TestApp) {
        while self.lived() < self.wanted.load(SeqCst) {
            live(app, &format!("tenant-{}", uuid::Uuid::new_v4().simple())).await;
            self.lived.fetch_add(1, SeqCst);
        }
    }

    fn lived(&self) -> usize {
        self.lived.load(SeqCst)
    }

    async fn until(&self, lives: usize) {
        eventually("they live", || async { (self.lived() >= lives).then_some(()) }).await;
    }

    fn end(&self) {
        self.wanted.store(0, SeqCst);
    }
}

/// One tenant's life, as fast as Stripe's page can be pressed: webhooks come while the next thing happens. It ends when the
/// last has come, so that no more are on their way than the lanes have made.
async fn live(app: &TestApp, tenant: &str) {
    let bought = app.check_out(&app.token(tenant), &json!({})).await.ok();
    app.stripe.pay(session_of(&bought)).await;
    let subscription = app.stripe.subscription_of_session(session_of(&bought)).await;
    for change in [
        json!({ "quantity": 2 }),
        json!({ "status": "past_due" }),
        json!({ "status": "active", "price": "price_team_monthly" }),
        json!({ "cancel_at_period_end": true }),
    ] {
        app.stripe.change(&subscription, &change).await;
    }
    if tenant.ends_with(['0', '1', '2', '3']) {
        app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
        app.until(tenant, |answer| answer["status"] == "canceled").await;
    } else {
        app.until(tenant, |answer| answer["scheduled_cancel"] == true).await;
    }
}

/// Puts the backup where the database was.
async fn restore(app: &TestApp, database: Database) {
    if matches!(database, Database::Postgres) {
        app.database.make_anew().await;
    }
    type_as_documented(app, database, "restore");
}

/// Has a shell do what the page says.
fn type_as_documented(app: &TestApp, database: Database, what: &str) {
    let word = match (database, what) {
        (Database::Sqlite, "backup") => "sqlite3 billhook.db",
        (Database::Sqlite, _) => "cp backup.db",
        (Database::Postgres, "backup") => "pg_dump",
        (Database::Postgres, _) => "pg_restore",
    };
    let blocks = OPERATIONS.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let [script] =
        &blocks.map(|(block, _)| block).filter(|block| block.contains(word)).collect::<Vec<_>>()[..]
    else {
        panic!("one block has `{word}`")
    };
    let programs = env::var("BILLHOOK_TEST_POSTGRES_BIN").expect("run the tests with `make test`");
    let path = format!("{programs}:{}", env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(app.dir()).env("PATH", path);
    let typed = shell.env("DATABASE_URL", &app.database.url).output().expect("a shell");
    assert!(typed.status.success(), "{script}: {}", String::from_utf8_lossy(&typed.stderr));
}

/// Each event that Stripe lists is in the inbox, and nothing is left to be done for any.
async fn every_event_is_there_once(app: &TestApp) {
    let rows = app.database.rows::<entity::event::Entity>().await;
    let outcomes: HashMap<String, String> = rows.into_iter().map(|row| (row.id, row.outcome)).collect();
    for event in app.stripe.all_events().await {
        let outcome = outcomes.get(event["id"].as_str().expect("an id")).map(String::as_str);
        let is_ours = event["type"].as_str().is_some_and(|kind| HANDLED.contains(&kind));
        let is_settled = matches!(outcome, Some("applied" | "stale" | "ignored"));
        assert!(is_settled || !is_ours, "{outcome:?}: {event}");
    }
}

/// Each change of a subscription begins where the one before it ended, and none is there twice.
async fn no_chain_has_a_gap(app: &TestApp) {
    let mut rows = app.database.rows::<entity::transition::Entity>().await;
    rows.retain(|row| row.entry == "subscription.transition");
    rows.sort_by_key(|row| row.id);
    let (mut latest, mut seen) = (HashMap::new(), HashSet::new());
    for row in rows {
        let subscription = row.subscription_id.clone().expect("a transition is a subscription's");
        let before = latest.insert(subscription.clone(), row.to_status.clone()).flatten();
        assert_eq!(row.from_status, before, "{row:?}");
        if let Some(event) = &row.event_id {
            assert!(seen.insert((subscription, event.clone())), "twice: {row:?}");
        }
    }
}
