//! `billhook tenant import` and `billhook tenant list`.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::command_output::{json_output, read_output, table_rows};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    import_links_tenants_and_fetches_their_subscriptions,
    killed_import_continues_where_it_stopped,
    import_dry_run_predicts_result_and_changes_nothing,
    tenant_list_filters_by_entitlement,
);

fn csv_file(app: &TestApp, contents: &str) -> String {
    let path: PathBuf = app.dir().join("tenants.csv");
    std::fs::write(&path, contents).expect("the file is written");
    path.to_str().expect("a path").to_owned()
}

async fn customer(app: &TestApp) -> String {
    let created = app.stripe.api("POST", "/v1/customers", "name=Imported").await;
    created["id"].as_str().expect("an id").to_owned()
}

async fn links(app: &TestApp) -> Vec<String> {
    let entries = app.database.rows::<entity::transition::Entity>().await;
    let linked = entries.into_iter().filter(|entry| entry.entry == "customer.linked");
    let mut linked: Vec<String> = linked.map(|entry| entry.tenant_id).collect();
    linked.sort_unstable();
    linked
}

async fn import_links_tenants_and_fetches_their_subscriptions(database: Database) {
    let app = TestApp::start(database).await;
    let (acme, birch, cedar) = (customer(&app).await, customer(&app).await, customer(&app).await);
    app.stripe.subscribe_customer(&acme).await;
    app.stripe.subscribe_customer(&birch).await;
    let csv = csv_file(
        &app,
        &format!(
            "customer,tenant\n{acme},acme\n{birch},birch\nsub_nonsense,dogwood\n\n{cedar},cedar\n{acme},elm\n{cedar},acme\n"
        ),
    );
    let (code, out, err) = read_output(&app.run_command(&["tenant", "import", &csv]));
    assert_eq!(code, Some(1), "{out} {err}");
    assert_eq!(
        out,
        "Linked 3 tenants; 0 linked already; 3 of 6 lines refused.\n\
         Fetched the subscriptions of 3 customers from Stripe.\n"
    );
    for line in [
        "billhook: line 4: has a customer that is not a Stripe customer id (`cus_...`)",
        "billhook: line 7: elm: the customer is linked to another tenant",
        "billhook: line 8: acme: the customer is linked to another tenant",
        "billhook: 3 of 6 lines refused",
    ] {
        assert!(err.lines().any(|printed| printed == line), "{line} in {err}");
    }
    app.wait_for_plan("acme", "team").await;
    app.wait_for_plan("birch", "team").await;
    assert_eq!(app.queued_refreshes().await, Vec::<String>::new(), "the command has fetched them all");

    let good = csv_file(&app, &format!("tenant,customer\nacme,{acme}\nbirch,{birch}\ncedar,{cedar}\n"));
    let again = json_output(&app, &["tenant", "import", &good]);
    assert_eq!(
        again,
        json!({
            "lines": 3, "linked": 0, "linked_before": 3, "refused": 0, "refused_lines": [], "dry_run": false,
            "reconciled": { "compared": 0, "left": 0, "failed": 0 },
        })
    );
    assert_eq!(links(&app).await, ["acme", "birch", "cedar"], "the second import links nothing");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_reports_customer_missing_at_stripe() {
    let app = TestApp::start(Database::Sqlite).await;
    let csv = csv_file(&app, "tenant,customer\nacme,cus_of_another_account\n");
    let (code, out, err) = read_output(&app.run_command(&["tenant", "import", &csv, "--json"]));
    assert_eq!(code, Some(1), "{err}");
    let json: Value = serde_json::from_str(&out).expect("stdout is JSON");
    assert_eq!(json["reconciled"], json!({ "compared": 1, "left": 1, "failed": 0 }));
    assert!(
        err.contains(
            "acme cus_of_another_account does not exist at Stripe: check that the key belongs to the right account"
        ),
        "{err}"
    );
    assert!(err.contains("customers that still differ from Stripe: 1"), "{err}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_import_is_refused_before_it_starts() {
    let app = TestApp::start(Database::Sqlite).await;
    let csv = csv_file(&app, "acme,cus_1\n");
    let nowhere = app.dir().join("nowhere.csv");
    let no_key = [("STRIPE_SECRET_KEY", "")];
    for (words, environment, code, reason) in [
        (vec![csv.as_str()], &[][..], 1, "does not start with a line that names the columns"),
        (vec![nowhere.to_str().expect("a path")], &[][..], 1, "cannot be read"),
        (vec![csv.as_str()], &no_key[..], 2, "STRIPE_SECRET_KEY is not set"),
        (vec![csv.as_str()], &[("STRIPE_SECRET_KEY", "sk_live_1")][..], 2, "live mode"),
    ] {
        let words = [&["tenant", "import"], words.as_slice()].concat();
        let (exit_code, _, err) = read_output(&app.run_command_with(&words, environment));
        assert_eq!((exit_code, err.contains(reason)), (Some(code), true), "{err}");
    }
    assert_eq!(links(&app).await, Vec::<String>::new());

    // An unreadable tenant row does not block the other lines.
    app.database
        .execute(
            "INSERT INTO tenant (id, customer_generation, created_at_ms, updated_at_ms, journey_traceparent, \
             journey_began_at_ms) VALUES ('birch', 0, 0, 0, 'garbage', 0)",
        )
        .await;
    let csv = csv_file(&app, "tenant,customer\nacme,cus_1\nbirch,cus_2\ncedar,cus_3\n");
    let (code, out, err) =
        read_output(&app.run_command_with(&["tenant", "import", &csv, "--no-reconcile"], &no_key));
    assert_eq!(code, Some(1), "{err}");
    assert!(out.starts_with("Linked 2 tenants; 0 linked already; 1 of 3"), "{out}");
    assert!(err.contains("line 3: birch: the database refused"), "{err}");
    assert_eq!(links(&app).await, ["acme", "cedar"]);
    app.stop().await;
}

async fn killed_import_continues_where_it_stopped(database: Database) {
    const TENANTS: usize = 1500;
    let mut app = TestApp::start(database).await;
    app.stop_service().await;
    let mut lines = vec!["tenant,customer\n".to_owned()];
    lines.extend((0..TENANTS).map(|tenant| format!("tenant-{tenant},cus_{tenant}\n")));
    // The pipe stays open after an incomplete batch, so that the import waits for more lines and is
    // killed there.
    let pipe = app.dir().join("pipe.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let mut import = Command::new(env!("CARGO_BIN_EXE_billhook"))
        .args(["tenant", "import", "--no-reconcile"])
        .arg(&pipe)
        .env("DATABASE_URL", &app.database.url)
        .env("BILLHOOK_LOG_DIR", app.log_dir())
        .env("RUST_LOG", "off")
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let first_lines = lines[..=1000].concat();
    let writing = tokio::task::spawn_blocking(move || {
        let mut pipe = OpenOptions::new().write(true).open(pipe).expect("the pipe is opened");
        pipe.write_all(first_lines.as_bytes()).expect("the pipe is read");
        pipe
    });
    let pipe = writing.await.expect("the file is written");
    eventually("complete batches are linked", || async { (links(&app).await.len() == 960).then_some(()) })
        .await;
    import.kill().expect("the import is killed");
    assert_eq!(import.wait().expect("the import exits").code(), None, "a signal ended it");
    drop(pipe);

    let csv = csv_file(&app, &lines.concat());
    let (code, out, err) = read_output(&app.run_command(&["tenant", "import", &csv, "--no-reconcile"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("Linked 540 tenants; 960 linked already; 0 of 1500"), "{out}");
    let mut all = links(&app).await;
    assert_eq!(all.len(), TENANTS);
    all.dedup();
    assert_eq!(all.len(), TENANTS, "each tenant is linked once");
    assert_eq!(app.queued_refreshes().await.len(), TENANTS, "every subscription is to be fetched");
    assert!(app.run_command(&["tenant", "unlink", "tenant-7"]).status.success());
    assert_eq!(app.queued_refreshes().await.len(), TENANTS - 1, "an unlinked customer is left out");
    app.stop().await;
}

async fn import_dry_run_predicts_result_and_changes_nothing(database: Database) {
    let app = TestApp::start(database).await;
    assert!(app.run_command(&["tenant", "link", "acme", "cus_1"]).status.success());
    // Links of one batch count in the next batch, as they would be stored.
    let others: Vec<String> = (0..70).map(|other| format!("other-{other},cus_other{other}\n")).collect();
    let refused = "birch,cus_3\ncedar,cus_2\nbirch,cus_2\nacme,cus_9\ndogwood,cus_4\n";
    let csv =
        csv_file(&app, &format!("tenant,customer\nacme,cus_1\nbirch,cus_2\n{}{refused}", others.concat()));
    let (code, out, err) = read_output(
        &app.run_command_with(&["tenant", "import", &csv, "--dry-run"], &[("STRIPE_SECRET_KEY", "")]),
    );
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(out, "Would link 72 tenants; 2 linked already; 3 of 77 lines refused.\n");
    assert_eq!(links(&app).await, ["acme"]);
    assert!(app.database.row::<entity::tenant::Entity>("birch").await.is_none());
    assert!(app.database.row::<entity::customer::Entity>("cus_2").await.is_none());

    let imported = read_output(&app.run_command(&["tenant", "import", &csv, "--no-reconcile"]));
    assert_eq!(imported.1, "Linked 72 tenants; 2 linked already; 3 of 77 lines refused.\n");
    assert_eq!(imported.2, err, "it refuses the same lines");
    app.stop().await;
}

async fn tenant_list_filters_by_entitlement(database: Database) {
    let app = TestApp::start(database).await;
    let (_, out, _) = read_output(&app.run_command(&["tenant", "list"]));
    assert_eq!(out, "No tenant matches.\n");
    let subscription = app.subscribe_to_pro("birch").await;
    app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.wait_for_plan("birch", "free").await;
    let csv = csv_file(&app, "tenant,customer\ncedar,cus_3\ndogwood,cus_4\n");
    assert!(app.run_command(&["tenant", "import", &csv, "--no-reconcile"]).status.success());
    assert!(app.run_command(&["tenant", "unlink", "dogwood"]).status.success());

    let tenants = |words: &[&str]| {
        let list = json_output(&app, &[&["tenant", "list"], words].concat());
        let list =
            list.as_array().expect("a list").iter().map(|one| one["tenant"].as_str().expect("a tenant"));
        list.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tenants(&[]), "acme birch cedar dogwood");
    assert_eq!(tenants(&["--plan", "pro"]), "acme");
    assert_eq!(tenants(&["--plan", "free"]), "birch cedar dogwood");
    assert_eq!(tenants(&["--status", "canceled,none"]), "birch cedar dogwood");
    assert_eq!(tenants(&["--access", "true"]), "acme");
    assert_eq!(tenants(&["--linked", "false"]), "dogwood");
    assert_eq!(tenants(&["--linked", "true", "--after", "birch"]), "cedar");
    let (_, table, _) = read_output(&app.run_command(&["tenant", "list", "--plan", "pro"]));
    let rows = table_rows(&table);
    let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(cells[0][..4], ["TENANT", "PLAN", "ACCESS", "STATUS"]);
    assert_eq!(cells[1][..4], ["acme", "pro", "true", "active"]);
    assert_eq!(cells[1][6], app.customer_of("acme").await);

    let mut csv = "tenant,customer\n".to_owned();
    for tenant in 1000..1701 {
        writeln!(csv, "t-{tenant},cus_{tenant}").expect("the file is written");
    }
    let csv = csv_file(&app, &csv);
    assert!(app.run_command(&["tenant", "import", &csv, "--no-reconcile"]).status.success());
    let (_, out, err) = read_output(&app.run_command(&["tenant", "list", "--json", "--linked", "true"]));
    let page: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(page.as_array().map(Vec::len), Some(200));
    assert!(err.contains("--after t-1196"), "{err}");
    let (_, out, err) = read_output(&app.run_command(&["tenant", "list", "--after", "t-1500"]));
    assert_eq!((out.lines().count(), err.as_str()), (201, ""), "a full page with none after it: {out}");
    let (_, out, _) =
        read_output(&app.run_command(&["tenant", "list", "--status", "active", "--after", "a"]));
    assert_eq!(table_rows(&out).len(), 2, "the filter finds it among hundreds: {out}");
    app.stop().await;
}
