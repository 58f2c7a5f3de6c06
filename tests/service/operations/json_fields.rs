//! The JSON fields that commands print are those that docs/commands.md lists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::command_output::read_output;
use crate::support::database::Database;

const COMMANDS: &str = include_str!("../../../docs/commands.md");

/// Field names, with dots into objects and into the objects of a list.
type Fields = BTreeSet<String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn printed_json_fields_match_documented_fields() {
    let app = TestApp::start(Database::Sqlite).await;
    let printed = printed(&app).await;
    let documented = documented();
    assert_eq!(
        printed.keys().map(String::as_str).collect::<Vec<_>>(),
        documented.keys().map(String::as_str).collect::<Vec<_>>(),
        "every command that prints JSON has a section"
    );
    for (command, fields) in &printed {
        let documented = &documented[command];
        let missing: Vec<_> = documented.difference(fields).collect();
        assert!(missing.is_empty(), "{command} --json does not print {missing:?}");
        let undocumented: Vec<_> = fields.iter().filter(|field| !is_documented(field, documented)).collect();
        assert!(undocumented.is_empty(), "docs/commands.md lacks {undocumented:?} of {command} --json");
    }
    app.stop().await;
}

/// The fields that each command prints, on data that makes it print every field.
async fn printed(app: &TestApp) -> BTreeMap<String, Fields> {
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "past_due" })).await;
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
    let parked = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&parked).await.ok();
    let foreign = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["customer"] = json!("cus_foreign");
        object["metadata"] = json!({ "tenant_id": "acme", "deployment_id": "dev" });
    });
    app.deliver(&foreign).await.ok();
    let mut by_request = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        object["id"] = json!(subscription);
    });
    by_request["request"]["id"] = json!("req_1");
    app.deliver(&app.for_customer_of("acme", by_request).await).await.ok();
    let event = app.lines("subscription_state").into_iter().find_map(|line| {
        let is_transition = line["event"] == "subscription.transition";
        is_transition.then(|| line["stripe_event_id"].as_str().expect("an id").to_owned())
    });
    let event = event.expect("the purchase is logged");
    app.stripe.update_subscription(&subscription, &json!({ "status": "unpaid", "silently": true })).await;
    let csv = app.dir().join("tenants.csv");
    std::fs::write(&csv, "tenant,customer\nbirch,cus_2\ncedar,sub_nonsense\n").expect("the file is written");
    let csv = csv.to_str().expect("a path");

    let mut printed = BTreeMap::new();
    for (command, words) in [
        ("event list", vec!["event", "list", "--outcome", "all"]),
        ("event show", vec!["event", "show", &event, "--payload"]),
        ("event replay", vec!["event", "replay", &event]),
        ("event retry-dead", vec!["event", "retry-dead"]),
        ("tenant import", vec!["tenant", "import", csv]),
        ("tenant list", vec!["tenant", "list"]),
        ("tenant show", vec!["tenant", "show", "acme"]),
        ("tenant show --timeline", vec!["tenant", "show", "acme", "--timeline"]),
        ("reconcile", vec!["reconcile"]),
        ("prune", vec!["prune"]),
        ("deployment show", vec!["deployment", "show"]),
        ("tenant unlink", vec!["tenant", "unlink", "acme"]),
        ("doctor", vec!["doctor"]),
        // Last, since it erases the tenant.
        ("tenant erase", vec!["tenant", "erase", "acme", "--yes", "--force"]),
    ] {
        let (_, out, err) = read_output(&app.run_command(&[&words[..], &["--json"]].concat()));
        let json = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{command}: {out} {err}"));
        let mut fields = Fields::new();
        collect(&json, "", &mut fields);
        printed.insert(command.to_owned(), fields);
    }
    printed
}

fn collect(json: &Value, prefix: &str, fields: &mut Fields) {
    match json {
        Value::Array(members) => members.iter().for_each(|member| collect(member, prefix, fields)),
        Value::Object(object) => {
            for (name, value) in object {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect(value, &path, fields);
                fields.insert(path);
            }
        }
        _ => {}
    }
}

/// The fields in the tables of docs/commands.md, by command.
fn documented() -> BTreeMap<String, Fields> {
    let (_, section) = COMMANDS.split_once("\n## JSON for tools\n").expect("the section");
    let commands = section.split("\n### `").skip(1).map(|section| {
        let (command, table) = section.split_once(" --json`\n").expect("a heading");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = rows.flat_map(|row| row.split(" | ").next().expect("a cell").split(", "));
        (command.to_owned(), names.map(|name| name.trim_matches('`').to_owned()).collect())
    });
    commands.collect()
}

/// Whether a field is listed, contains a listed one, or is inside a listed one whose own fields are
/// not listed.
fn is_documented(field: &str, documented: &Fields) -> bool {
    let contains =
        |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    let is_opaque = |outer: &&String| !documented.iter().any(|other| contains(outer, other));
    documented.contains(field)
        || documented.iter().any(|other| contains(field, other))
        || documented.iter().filter(is_opaque).any(|outer| contains(outer, field))
}
