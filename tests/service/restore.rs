//! The database is lost and restored from a backup that was taken under load: in the end everything is as Stripe has it.

use std::collections::{HashMap, HashSet};
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use billhook::domain::event::HANDLED;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
use crate::database::{Database, on_both_databases};

on_both_databases!(a_backup_taken_under_load_and_restored_ends_where_stripe_is);

/// What the operator reads, and types.
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// How many tenants have something happen at a time, and how many lives there are at least before the backup and after it.
const LANES: usize = 3;
const LIVES: usize = 6;

async fn a_backup_taken_under_load_and_restored_ends_where_stripe_is(database: Database) {
    let mut app = TestApp::start_process(database, &[]).await;
    let kept = app.make_pro("kept").await;
    app.make_pro("deleted").await;
    let pending = app.check_out(&app.token("pending"), &json!({})).await.ok();
    let customer_of_deleted = app.customer_of("deleted").await;

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

    let tenants = load.lived() + 4;
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

fn session_of(bought: &Value) -> &str {
    bought["session_id"].as_str().expect("a session")
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

/// One tenant's life, as fast as Stripe's page can be pressed: webhooks come while the next thing happens.
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
