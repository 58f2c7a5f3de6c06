//! The commands' tables fit 80 columns, even with the longest ids.

use serde_json::json;

use crate::support::app::{TestApp, stripe_event};
use crate::support::command_output::read_output;
use crate::support::database::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_table_is_wider_than_80_columns() {
    let app = TestApp::start(Database::Sqlite).await;
    // As long as Stripe's ids and tenant names can be.
    let [tenant, customer] = ["t".repeat(63), format!("cus_{}", "c".repeat(24))];
    let [id, subscription, price] = ["evt", "sub", "price"].map(|kind| format!("{kind}_{}", "x".repeat(24)));
    let mut event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!(subscription);
        object["customer"] = json!(customer);
        object["status"] = json!("incomplete_expired");
        object["cancel_at"] = json!(app.clock_seconds() + 1000);
        object["items"]["data"][0]["price"]["id"] = json!(price);
        object["metadata"] = json!({ "tenant_id": tenant });
    });
    event["id"] = json!(id);
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");

    for words in [
        &["tenant", "list"][..],
        &["tenant", "show", &tenant],
        &["tenant", "show", &tenant, "--timeline"],
        &["event", "list", "--outcome", "all"],
        &["event", "show", &id],
        &["deployment", "show"],
    ] {
        let (code, out, err) = read_output(&app.run_command(words));
        assert_eq!(code, Some(0), "{err}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{words:?}: {out}");
    }
    let (_, out, _) = read_output(&app.run_command(&["tenant", "list"]));
    assert!(out.contains(&tenant) && out.contains(&customer), "no id is truncated: {out}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_reports_refused_lines_in_file_order() {
    let app = TestApp::start(Database::Sqlite).await;
    assert!(app.run_command(&["tenant", "link", "acme", "cus_1"]).status.success());
    let csv = app.dir().join("tenants.csv");
    let lines = ["tenant,customer", "birch,cus_1", "a b,cus_2", "cedar,cus_1", "elm,sub_3", "acme,cus_4"];
    std::fs::write(&csv, lines.join("\n")).expect("the file is written");
    let words = ["tenant", "import", csv.to_str().expect("a path"), "--no-reconcile"];
    let (code, _, err) = read_output(&app.run_command(&words));
    assert_eq!(code, Some(1), "{err}");
    let refused = err.lines().filter_map(|line| line.strip_prefix("billhook: line ")?.split_once(':'));
    let numbers: Vec<&str> = refused.map(|(number, _)| number).collect();
    assert_eq!(numbers, ["2", "3", "4", "5", "6"], "{err}");
    app.stop().await;
}
