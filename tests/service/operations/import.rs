//! Tenants that come from another integration, by a file.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::operations::events::{json_of, told};
use crate::support::app::{TestApp, eventually};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    tenants_are_imported_from_a_file_and_stripe_is_asked_what_they_have,
    an_import_that_is_killed_goes_on_where_it_stopped,
    a_dry_run_says_what_an_import_would_do_and_leaves_no_trace,
    tenants_are_listed_by_what_they_are_entitled_to,
);

fn file(app: &TestApp, contents: &str) -> String {
    let path: PathBuf = app.dir().join("tenants.csv");
    std::fs::write(&path, contents).expect("written");
    path.to_str().expect("a path").to_owned()
}

async fn customer(app: &TestApp) -> String {
    let made = app.stripe.api("POST", "/v1/customers", "name=Imported").await;
    made["id"].as_str().expect("an id").to_owned()
}

async fn links(app: &TestApp) -> Vec<String> {
    let entries = app.database.rows::<entity::transition::Entity>().await;
    let linked = entries.into_iter().filter(|entry| entry.entry == "customer.linked");
    let mut linked: Vec<String> = linked.map(|entry| entry.tenant_id).collect();
    linked.sort_unstable();
    linked
}

async fn tenants_are_imported_from_a_file_and_stripe_is_asked_what_they_have(database: Database) {
    let app = TestApp::start(database).await;
    let (acme, birch, cedar) = (customer(&app).await, customer(&app).await, customer(&app).await);
    app.stripe.buy_elsewhere(&acme).await;
    app.stripe.buy_elsewhere(&birch).await;
    let csv = file(
        &app,
        &format!(
            "customer,tenant\n{acme},acme\n{birch},birch\nsub_nonsense,dogwood\n\n{cedar},cedar\n{acme},elm\n{cedar},acme\n"
        ),
    );
    let (code, out, err) = told(&app.run_command(&["tenant", "import", &csv]));
    assert_eq!(code, Some(1), "{out} {err}");
    assert_eq!(
        out,
        "Linked 3 tenants; 0 were linked before, 3 of 6 lines are refused.\nAsked Stripe what 3 of the customers have.\n"
    );
    for line in [
        "billhook: line 4: has a customer that is not a Stripe customer id (`cus_...`)",
        "billhook: line 7: elm: the customer is linked to another tenant",
        "billhook: line 8: acme: the customer is linked to another tenant",
        "billhook: 3 of 6 lines are refused",
    ] {
        assert!(err.lines().any(|told| told == line), "{line} in {err}");
    }
    app.until_plan("acme", "team").await;
    app.until_plan("birch", "team").await;
    assert_eq!(app.questions().await, Vec::<String>::new(), "the command has asked them all");

    let good = file(&app, &format!("tenant,customer\nacme,{acme}\nbirch,{birch}\ncedar,{cedar}\n"));
    let again = json_of(&app, &["tenant", "import", &good]);
    assert_eq!(
        again,
        json!({
            "lines": 3, "linked": 0, "linked_before": 3, "refused": 0, "refused_lines": [], "dry_run": false,
            "reconciled": { "compared": 0, "left": 0, "failed": 0 },
        })
    );
    assert_eq!(links(&app).await, ["acme", "birch", "cedar"], "twice is once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_that_stripe_does_not_have_is_told_at_the_import() {
    let app = TestApp::start(Database::Sqlite).await;
    let csv = file(&app, "tenant,customer\nacme,cus_of_another_account\n");
    let (code, out, err) = told(&app.run_command(&["tenant", "import", &csv, "--json"]));
    assert_eq!(code, Some(1), "{err}");
    let json: Value = serde_json::from_str(&out).expect("JSON alone");
    assert_eq!(json["reconciled"], json!({ "compared": 1, "left": 1, "failed": 0 }));
    assert!(
        err.contains("acme cus_of_another_account is not at Stripe: is the key of the right account?"),
        "{err}"
    );
    assert!(err.contains("1 customers are not here as at Stripe"), "{err}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_cannot_be_is_refused_before_it_begins() {
    let app = TestApp::start(Database::Sqlite).await;
    let csv = file(&app, "acme,cus_1\n");
    let nowhere = app.dir().join("nowhere.csv");
    let no_key = [("STRIPE_SECRET_KEY", "")];
    for (words, environment, code, why) in [
        (vec![csv.as_str()], &[][..], 1, "does not begin with a line that names the columns"),
        (vec![nowhere.to_str().expect("a path")], &[][..], 1, "cannot be read"),
        (vec![csv.as_str()], &no_key[..], 2, "STRIPE_SECRET_KEY is not set"),
        (vec![csv.as_str()], &[("STRIPE_SECRET_KEY", "sk_live_1")][..], 2, "live mode"),
    ] {
        let words = [&["tenant", "import"], words.as_slice()].concat();
        let (told_code, _, err) = told(&app.run_command_with(&words, environment));
        assert_eq!((told_code, err.contains(why)), (Some(code), true), "{err}");
    }
    assert_eq!(links(&app).await, Vec::<String>::new());

    // A tenant's row that cannot be read holds up nobody else.
    app.database
        .execute(
            "INSERT INTO tenant (id, customer_generation, created_at_ms, updated_at_ms, journey_traceparent, \
             journey_began_at_ms) VALUES ('birch', 0, 0, 0, 'garbage', 0)",
        )
        .await;
    let csv = file(&app, "tenant,customer\nacme,cus_1\nbirch,cus_2\ncedar,cus_3\n");
    let (code, out, err) =
        told(&app.run_command_with(&["tenant", "import", &csv, "--no-reconcile"], &no_key));
    assert_eq!(code, Some(1), "{err}");
    assert!(out.starts_with("Linked 2 tenants; 0 were linked before, 1 of 3"), "{out}");
    assert!(err.contains("line 3: birch: the database refused"), "{err}");
    assert_eq!(links(&app).await, ["acme", "cedar"]);
    app.stop().await;
}

async fn an_import_that_is_killed_goes_on_where_it_stopped(database: Database) {
    const TENANTS: usize = 1500;
    let mut app = TestApp::start(database).await;
    app.go_down().await;
    let mut lines = vec!["tenant,customer\n".to_owned()];
    lines.extend((0..TENANTS).map(|tenant| format!("tenant-{tenant},cus_{tenant}\n")));
    // What it reads ends neither the file nor a batch: it waits for more, and is killed.
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
        .expect("the binary runs");
    let begun = lines[..=1000].concat();
    let writing = tokio::task::spawn_blocking(move || {
        let mut pipe = OpenOptions::new().write(true).open(pipe).expect("it is opened");
        pipe.write_all(begun.as_bytes()).expect("it is read");
        pipe
    });
    let pipe = writing.await.expect("written");
    eventually("it waits", || async { (links(&app).await.len() == 960).then_some(()) }).await;
    import.kill().expect("it is killed");
    assert_eq!(import.wait().expect("it ends").code(), None, "in the midst of it");
    drop(pipe);

    let csv = file(&app, &lines.concat());
    let (code, out, err) = told(&app.run_command(&["tenant", "import", &csv, "--no-reconcile"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("Linked 540 tenants; 960 were linked before, 0 of 1500"), "{out}");
    let mut all = links(&app).await;
    assert_eq!(all.len(), TENANTS);
    all.dedup();
    assert_eq!(all.len(), TENANTS, "each once");
    assert_eq!(app.questions().await.len(), TENANTS, "the service asks what they have");
    assert!(app.run_command(&["tenant", "unlink", "tenant-7"]).status.success());
    assert_eq!(app.questions().await.len(), TENANTS - 1, "but of one that is nobody's by then");
    app.stop().await;
}

async fn a_dry_run_says_what_an_import_would_do_and_leaves_no_trace(database: Database) {
    let app = TestApp::start(database).await;
    assert!(app.run_command(&["tenant", "link", "acme", "cus_1"]).status.success());
    // What one batch promises the next one takes into account.
    let others: Vec<String> = (0..70).map(|other| format!("other-{other},cus_other{other}\n")).collect();
    let refused = "birch,cus_3\ncedar,cus_2\nbirch,cus_2\nacme,cus_9\ndogwood,cus_4\n";
    let csv = file(&app, &format!("tenant,customer\nacme,cus_1\nbirch,cus_2\n{}{refused}", others.concat()));
    let (code, out, err) =
        told(&app.run_command_with(&["tenant", "import", &csv, "--dry-run"], &[("STRIPE_SECRET_KEY", "")]));
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(out, "Would link 72 tenants; 2 were linked before, 3 of 77 lines are refused.\n");
    assert_eq!(links(&app).await, ["acme"]);
    assert!(app.database.row::<entity::tenant::Entity>("birch").await.is_none());
    assert!(app.database.row::<entity::customer::Entity>("cus_2").await.is_none());

    let real = told(&app.run_command(&["tenant", "import", &csv, "--no-reconcile"]));
    assert_eq!(real.1, "Linked 72 tenants; 2 were linked before, 3 of 77 lines are refused.\n");
    assert_eq!(real.2, err, "it refuses what the dry run said");
    app.stop().await;
}

async fn tenants_are_listed_by_what_they_are_entitled_to(database: Database) {
    let app = TestApp::start(database).await;
    let (_, out, _) = told(&app.run_command(&["tenant", "list"]));
    assert_eq!(out, "There are none.\n");
    let subscription = app.make_pro("birch").await;
    app.make_pro("acme").await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.until_plan("birch", "free").await;
    let csv = file(&app, "tenant,customer\ncedar,cus_3\ndogwood,cus_4\n");
    assert!(app.run_command(&["tenant", "import", &csv, "--no-reconcile"]).status.success());
    assert!(app.run_command(&["tenant", "unlink", "dogwood"]).status.success());

    let tenants = |words: &[&str]| {
        let list = json_of(&app, &[&["tenant", "list"], words].concat());
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
    let (_, table, _) = told(&app.run_command(&["tenant", "list", "--plan", "pro"]));
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0][..4], ["TENANT", "PLAN", "ACCESS", "STATUS"]);
    assert_eq!(cells[1][..4], ["acme", "pro", "true", "active"]);
    assert_eq!(cells[1][6], app.customer_of("acme").await);

    let mut csv = "tenant,customer\n".to_owned();
    for tenant in 1000..1701 {
        writeln!(csv, "t-{tenant},cus_{tenant}").expect("written");
    }
    let csv = file(&app, &csv);
    assert!(app.run_command(&["tenant", "import", &csv, "--no-reconcile"]).status.success());
    let (_, out, err) = told(&app.run_command(&["tenant", "list", "--json", "--linked", "true"]));
    let page: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(page.as_array().map(Vec::len), Some(200));
    assert!(err.contains("--after t-1196"), "{err}");
    let (_, out, err) = told(&app.run_command(&["tenant", "list", "--after", "t-1500"]));
    assert_eq!((out.lines().count(), err.as_str()), (201, ""), "just so many: {out}");
    let (_, out, _) = told(&app.run_command(&["tenant", "list", "--status", "active", "--after", "a"]));
    assert_eq!(out.lines().count(), 2, "it is found among hundreds of others: {out}");
    app.stop().await;
}
