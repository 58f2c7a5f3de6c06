//! `billhook migrate --from`: moves from SQLite to PostgreSQL.

use std::process::{Child, Stdio};

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, EntityTrait, TransactionTrait};
use serde_json::json;
use tempfile::TempDir;

use crate::operations::upgrade::OldDatabase;
use crate::support::app::{TestApp, eventually};
use crate::support::command_output::read_output;
use crate::support::database::{Database, TestDatabase};

/// More than two batches of the copy.
const EVENTS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_of_every_migration_moves_to_postgres() {
    for step in 1..=Migrator::migrations().len() {
        let mut app = TestApp::without_service(Database::Sqlite, &[]).await;
        let old_database = OldDatabase::create(&app, step).await;
        let dir = TempDir::new().expect("a directory");
        let target = TestDatabase::create(Database::Postgres, &dir).await;
        let (code, out, err) = read_output(&copy(&app, &target));
        assert_eq!(code, Some(0), "step {step}: {err}");
        assert!(out.starts_with("Copied sqlite://") && !err.contains("rows"), "{out}{err}");
        assert_same_rows(&app.database, &target).await;

        let url = target.url.clone();
        app.database = target;
        app.start_service_with("--database-url", &url).await;
        old_database.assert_works(&app).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_copy_continues_and_blocks_target_until_done() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.stop_service().await;
    add_events(&app.database).await;
    let dir = TempDir::new().expect("a directory");
    let target = TestDatabase::create(Database::Postgres, &dir).await;
    let database_url = [("DATABASE_URL", target.url.as_str())];
    assert!(app.run_command_with(&["migrate"], &database_url).status.success());

    // An uncommitted insert blocks the copy in the middle of the events.
    let connection = target.connect().await;
    let blocker = connection.begin().await.expect("a transaction starts");
    let event = "INSERT INTO event (id, event_type, created, outcome, received_at_ms) \
                 VALUES ('evt_150', 'x', 1, 'ignored', 1)";
    blocker.execute_unprepared(event).await.expect("the event is inserted");
    let mut copying = start_copy(&app, &target);
    eventually("a batch of events is copied", || async {
        (!target.rows::<entity::event::Entity>().await.is_empty()).then_some(())
    })
    .await;
    copying.kill().expect("the copy is killed");
    copying.wait().expect("the copy exits");
    blocker.rollback().await.expect("the insert is rolled back");
    connection.close().await.expect("the connection closes");

    for words in [&["tenant", "list"][..], &["migrate"], &["serve", "--listen=127.0.0.1:0"]] {
        let (code, _, err) = read_output(&app.run_command_with(words, &database_url));
        assert_eq!(
            (code, err.contains("`billhook migrate --from` has not finished copying into it")),
            (Some(1), true)
        );
    }
    let (code, out, err) = read_output(&copy(&app, &target));
    assert_eq!((code, out.starts_with("Copied sqlite://")), (Some(0), true), "{out}{err}");
    assert_same_rows(&app.database, &target).await;
    let (code, out, _) = read_output(&copy(&app, &target));
    assert_eq!((code, out.trim_end().ends_with("Nothing was done.")), (Some(0), true), "{out}");
    assert!(app.run_command_with(&["tenant", "show", "acme"], &database_url).status.success());
    target.drop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_refuses_to_mix_or_lose_data() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    let dir = TempDir::new().expect("a directory");
    let target = TestDatabase::create(Database::Postgres, &dir).await;
    let database_url = [("DATABASE_URL", target.url.as_str())];
    let refused = |app: &TestApp, reason: &str| {
        let (code, _, err) = read_output(&copy(app, &target));
        assert_eq!((code, err.contains(reason)), (Some(1), true), "{err}");
    };
    refused(&app, "another process has locked the SQLite file");
    app.stop_service().await;

    assert!(app.run_command_with(&["migrate"], &database_url).status.success());
    target.execute("INSERT INTO customer (id) VALUES ('cus_other')").await;
    refused(&app, "the table customer of the database has rows");
    target.execute("DELETE FROM customer").await;

    // A copy fails, and then rows that it had copied change.
    app.database.execute("UPDATE subscription SET status = 'poisoned'").await;
    target.reject_poisoned_subscriptions().await;
    refused(&app, "DATABASE_URL: the database refused");
    app.database.execute("UPDATE subscription SET status = 'active'").await;
    app.start_service().await;
    app.stop_service().await;
    refused(&app, "the database was used after the copy started");

    let nothing = format!("sqlite://{}", app.dir().join("nothing.db").display());
    let (code, _, err) = read_output(&app.run_command_with(&["migrate", "--from", &nothing], &database_url));
    assert_eq!((code, err.contains("--from: the database is not available")), (Some(1), true), "{err}");
    for (from, into) in [(&target.url, &target.url), (&app.database.url, &app.database.url)] {
        let (code, _, err) =
            read_output(&app.run_command_with(&["migrate", "--from", from], &[("DATABASE_URL", into)]));
        assert_eq!((code, err.contains("URL: only a")), (Some(2), true), "{err}");
    }
    target.drop().await;
    app.stop().await;
}

fn copy(app: &TestApp, target: &TestDatabase) -> std::process::Output {
    app.run_command_with(&["migrate", "--from", &app.database.url], &[("DATABASE_URL", &target.url)])
}

fn start_copy(app: &TestApp, target: &TestDatabase) -> Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_billhook"))
        .args(["migrate", "--from", &app.database.url])
        .env("DATABASE_URL", &target.url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts")
}

async fn add_events(database: &TestDatabase) {
    let connection = database.connect().await;
    for number in 1..=EVENTS {
        let payload = database.bytes_literal(json!({ "id": number, "name": "Ä" }).to_string().as_bytes());
        let event = format!(
            "INSERT INTO event (id, event_type, created, outcome, payload, received_at_ms) \
             VALUES ('evt_{number}', 'customer.updated', {number}, 'stale', {payload}, {number})"
        );
        connection.execute_unprepared(&event).await.expect("the event is inserted");
    }
    connection.close().await.expect("the connection closes");
}

/// Every row is in both databases, with equal columns.
async fn assert_same_rows(source: &TestDatabase, target: &TestDatabase) {
    assert_same_table::<entity::backfill::Entity>(source, target).await;
    assert_same_table::<entity::checkout::Entity>(source, target).await;
    assert_same_table::<entity::customer::Entity>(source, target).await;
    assert_same_table::<entity::event::Entity>(source, target).await;
    assert_same_table::<entity::gap_recovery::Entity>(source, target).await;
    assert_same_table::<entity::installation::Entity>(source, target).await;
    assert_same_table::<entity::deployment::Entity>(source, target).await;
    assert_same_table::<entity::known_price::Entity>(source, target).await;
    assert_same_table::<entity::lease::Entity>(source, target).await;
    assert_same_table::<entity::observation::Entity>(source, target).await;
    assert_same_table::<entity::refresh::Entity>(source, target).await;
    assert_same_table::<entity::retention::Entity>(source, target).await;
    assert_same_table::<entity::subscription::Entity>(source, target).await;
    assert_same_table::<entity::tenant::Entity>(source, target).await;
    assert_same_table::<entity::transition::Entity>(source, target).await;
}

async fn assert_same_table<E: EntityTrait>(source: &TestDatabase, target: &TestDatabase) {
    let sorted = |rows: Vec<E::Model>| {
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        rows.sort();
        rows
    };
    assert_eq!(sorted(source.rows::<E>().await), sorted(target.rows::<E>().await));
}
