//! The inbox at the command line: listed, shown, and had looked at anew.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::webhooks::retry::poisoned;

on_both_databases!(
    events_are_listed_by_what_became_of_them_whose_they_are_their_type_and_their_time,
    a_long_list_goes_on_where_it_ended_and_no_event_is_in_it_twice,
    all_that_is_known_of_an_event_is_shown_and_its_payload_when_asked_for,
    what_is_not_settled_is_decided_on_anew,
    what_is_settled_is_not_applied_twice_and_stripe_is_asked_instead,
    what_was_given_up_is_tried_again_all_at_once,
);

/// What a command says on stdout and stderr, and whether it succeeded.
pub fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What a command that succeeded says to tools.
pub fn json_of(app: &TestApp, words: &[&str]) -> Value {
    let (code, out, err) = told(&app.run_command(&[words, &["--json"]].concat()));
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).expect("JSON")
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

fn id(event: &Value) -> &str {
    event["id"].as_str().expect("an id")
}

/// The event of this type that the tenant's purchase made.
fn event_of(app: &TestApp, tenant: &str, kind: &str) -> String {
    let words = ["event", "list", "--outcome", "all", "--tenant", tenant, "--type", kind];
    ids(&json_of(app, &words))[0].to_owned()
}

async fn events_are_listed_by_what_became_of_them_whose_they_are_their_type_and_their_time(
    database: Database,
) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    app.make_pro("birch").await;
    let (_, out, _) = told(&app.run_command(&["event", "list"]));
    assert!(out.starts_with("There are none that failed or were given up."), "{out}");
    app.clock.advance_seconds(3600);
    let parked = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&parked).await.ok();

    let list = |words: &[&str]| json_of(&app, &[&["events", "list"], words].concat());
    assert_eq!(ids(&list(&["--outcome", "parked,dead"])), [id(&parked)]);
    let all = list(&["--outcome", "all"]);
    assert_eq!(ids(&all)[0], id(&parked), "the latest comes first");
    let of_acme = list(&["--outcome", "all", "--tenant", "acme"]);
    let all_are = |list: &Value, field: &str, is: &dyn Fn(&str) -> bool| {
        let list = list.as_array().expect("a list");
        !list.is_empty() && list.iter().all(|event| event[field].as_str().is_some_and(is))
    };
    assert!(all_are(&of_acme, "tenant", &|tenant| tenant == "acme"), "{of_acme:#}");
    let of_type = list(&["--outcome", "all", "--type", "customer.subscription.*"]);
    assert!(all_are(&of_type, "type", &|kind| kind.starts_with("customer.subscription.")), "{of_type:#}");
    assert_eq!(ids(&list(&["--outcome", "all", "--type", "invoice.paid", "--tenant", "acme"])).len(), 1);
    let received = all[0]["received"].as_str().expect("a time");
    assert_eq!(ids(&list(&["--outcome", "all", "--since", received])), [id(&parked)]);
    assert_eq!(list(&["--outcome", "all", "--since", "2199-01-01"]), json!([]));
    assert_eq!(ids(&list(&["--outcome", "all", "--since", "1d"])).len(), ids(&all).len());

    let (_, table, _) = told(&app.run_command(&["event", "list", "--outcome", "parked"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("EVENT ") && lines[0].contains("  OUTCOME  "), "{table}");
    assert_eq!(lines.len(), 2, "{table}");
    let trace = app.line("subscription_state", |line| line["event"] == "event.parked").await;
    for word in [id(&parked), "parked", "unknown_customer", "cus_webhook"] {
        assert!(lines[1].contains(word), "{word} in {table}");
    }
    assert!(lines[1].ends_with(trace["trace_id"].as_str().expect("a trace")), "{table}");
    for (words, name) in [
        (["--since", "yesterday"], "--since"),
        (["--tenant", "a b"], "--tenant"),
        (["--after", "cus_1"], "--after"),
        (["--outcome", "nonsense"], "--outcome"),
    ] {
        let (code, _, err) = told(&app.run_command(&[&["event", "list"][..], &words].concat()));
        assert_eq!((code, err.contains(name)), (Some(2), true), "{err}");
    }
    let (code, _, err) = told(&app.run_command(&["event", "list", "--after", "evt_unknown"]));
    assert_eq!((code, err.contains("evt_unknown is not in the inbox")), (Some(1), true), "{err}");
    app.stop().await;
}

async fn a_long_list_goes_on_where_it_ended_and_no_event_is_in_it_twice(database: Database) {
    let app = TestApp::start(database).await;
    // Three of them in each millisecond, with different outcomes.
    let past = "WITH RECURSIVE past (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM past WHERE n < 450)";
    let outcome = "CASE n % 2 WHEN 0 THEN 'stale' ELSE 'quarantined' END";
    app.database
        .execute(&format!(
            "INSERT INTO event (id, event_type, outcome, created, attempts, received_at_ms) \
             {past} SELECT 'evt_' || n, 'invoice.paid', {outcome}, 0, 0, n / 3 FROM past"
        ))
        .await;
    let list = ["event", "list", "--outcome", "quarantined,stale", "--json"];
    let mut all: Vec<String> = Vec::new();
    for (page, length) in [(1, 200), (2, 200), (3, 50)] {
        let after: Vec<&str> = all.last().map(|last| vec!["--after", last]).unwrap_or_default();
        let (code, out, err) = told(&app.run_command(&[&list[..], &after].concat()));
        assert_eq!(code, Some(0), "{err}");
        let found: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(ids(&found).len(), length, "page {page}");
        all.extend(ids(&found).into_iter().map(str::to_owned));
        let oldest = all.last().expect("an event");
        assert_eq!(err.contains(&format!("--after {oldest}")), page < 3, "{err}");
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 450);
    app.stop().await;
}

async fn all_that_is_known_of_an_event_is_shown_and_its_payload_when_asked_for(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let created = event_of(&app, "acme", "customer.subscription.created");
    let shown = json_of(&app, &["event", "show", &created]);
    for (field, value) in [
        ("id", json!(created)),
        ("type", json!("customer.subscription.created")),
        ("outcome", json!("applied")),
        ("tenant", json!("acme")),
        ("customer", json!(app.customer_of("acme").await)),
        ("subscription", json!(subscription)),
        ("payload_is", json!("kept")),
        ("attempts", json!(0)),
        ("next_try", Value::Null),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert!(shown.get("payload").is_none(), "it has personal data");
    assert_eq!(shown["changes"][0]["event"], "subscription.transition");
    assert_eq!(shown["changes"][0]["trace_id"], shown["trace_id"]);
    let payload = json_of(&app, &["event", "show", &created, "--payload"])["payload"].clone();
    assert_eq!((&payload["id"], &payload["data"]["object"]["id"]), (&json!(created), &json!(subscription)));

    let (_, lines, _) = told(&app.run_command(&["event", "show", &created]));
    let says =
        |name: &str, value: &str| lines.lines().any(|line| line.split_whitespace().take(2).eq([name, value]));
    assert!(says("outcome", "applied") && says("tenant", "acme") && says("event", &created), "{lines}");
    assert!(lines.contains("- -> ") && !lines.contains("\"object\""), "{lines}");
    let (_, lines, _) = told(&app.run_command(&["event", "show", &created, "--payload"]));
    assert!(lines.contains("\"object\""), "{lines}");

    app.database.execute("UPDATE event SET payload = NULL").await;
    assert_eq!(json_of(&app, &["event", "show", &created, "--payload"])["payload_is"], "dropped");
    app.open_portal(&app.token("acme"), &json!({})).await.ok();
    app.line("subscription_state", |line| line["stripe_event_type"] == "billing_portal.session.created")
        .await;
    let portal = event_of(&app, "acme", "billing_portal.session.created");
    assert_eq!(json_of(&app, &["event", "show", &portal])["payload_is"], "never_kept");

    let (code, _, err) = told(&app.run_command(&["event", "show", "evt_unknown"]));
    assert_eq!((code, err.contains("evt_unknown is not in the inbox")), (Some(1), true), "{err}");
    app.stop().await;
}

async fn what_is_not_settled_is_decided_on_anew(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let foreign = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&foreign).await.ok();
    let mut live = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    live["livemode"] = json!(true);
    app.deliver(&live).await.ok();
    assert_eq!(app.outcome_of(&foreign).await, ("parked".into(), Some("tenant_has_another_customer".into())));
    let (code, out, err) = told(&app.run_command(&["tenant", "unlink", "acme"]));
    assert_eq!(code, Some(0), "{out} {err}");

    let (code, out, err) = told(&app.run_command(&["event", "replay", id(&foreign), id(&live)]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&format!("{} was parked: it is decided on anew", id(&foreign))), "{out}");
    assert!(out.contains(&format!("{} was quarantined: ", id(&live))), "{out}");
    // The command goes by the machine's clock.
    app.clock.advance_seconds(3600);
    app.until_outcome(&foreign, "applied").await;
    app.until_outcome(&live, "quarantined").await;
    assert_eq!(app.customer_of("acme").await, "cus_webhook", "the tenant was free by then");
    app.stop().await;
}

async fn what_is_settled_is_not_applied_twice_and_stripe_is_asked_instead(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.until_nothing_is_asked().await;
    let created = event_of(&app, "acme", "customer.subscription.created");
    app.stripe.change(&subscription, &json!({ "status": "past_due", "silently": true })).await;
    let transitions = || async {
        let entries = app.database.rows::<entity::transition::Entity>().await;
        entries.into_iter().filter(|entry| entry.entry == "subscription.transition").count()
    };
    let before = transitions().await;
    let told_to_tools = json_of(&app, &["event", "replay", &created]);
    assert_eq!(
        told_to_tools,
        json!([{ "id": created, "outcome": "applied", "action": "stripe_asked", "reason": null }])
    );
    app.clock.advance_seconds(3600);
    app.until("acme", |answer| answer["status"] == "past_due").await;
    let is_asked = |line: &Value| line["event"] == "refresh.changed" && line["reason"] == "operator";
    assert_eq!(app.line("subscription_state", is_asked).await["tenant_id"], "acme");
    assert_eq!(transitions().await, before + 1, "Stripe's word, and no more");
    assert_eq!(app.outcome(&created).await.expect("it is there").0, "applied");

    // What cannot be replayed is told, and holds up no other.
    let unused = stripe_event("product.created", app.clock_seconds(), |_| {});
    app.deliver(&unused).await.ok();
    let words = ["event", "replay", "evt_unknown", id(&unused), &created];
    let (code, out, err) = told(&app.run_command(&words));
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("{created} is applied, and is not applied twice")), "{out}");
    assert!(err.contains("evt_unknown is not in the inbox"), "{err}");
    assert!(err.contains(&format!("{} is ignored, and no tenant has its customer", id(&unused))), "{err}");
    app.stop().await;
}

async fn what_was_given_up_is_tried_again_all_at_once(database: Database) {
    let app = TestApp::start(database).await;
    let (_, out, _) = told(&app.run_command(&["event", "retry-dead"]));
    assert_eq!(out, "There are none.\n");
    let event = poisoned(&app).await;
    app.until_tried(&event, 1).await;
    app.database.execute("UPDATE event SET outcome = 'dead', attempts = 14 WHERE outcome = 'failed'").await;
    app.database.heal().await;

    let retry = |words: &[&str]| told(&app.run_command(&[&["event", "retry-dead"], words].concat()));
    assert_eq!(retry(&["--dry-run"]).1, "Would have 1 dead events tried again.\n");
    assert_eq!(retry(&["--type", "invoice.paid"]).1, "There are none.\n");
    assert_eq!(app.outcome_of(&event).await.0, "dead", "neither has changed anything");
    let counted = json_of(&app, &["event", "retry-dead", "--type", "customer.subscription.created"]);
    assert_eq!(counted, json!({ "events": 1, "dry_run": false }));
    app.clock.advance_seconds(3600);
    app.until_outcome(&event, "applied").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_dead_events_is_tried_again_once_though_it_dies_at_once() {
    let app = TestApp::start(Database::Sqlite).await;
    let past = "WITH RECURSIVE past (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM past WHERE n < 1200)";
    app.database
        .execute(&format!(
            "INSERT INTO event (id, event_type, outcome, created, attempts, received_at_ms, payload) \
             {past} SELECT 'evt_' || n, 'invoice.paid', 'dead', 0, 14, n, x'7b7d' FROM past"
        ))
        .await;
    // Two of them are of no use: nothing is left of the one, the other is of another type.
    app.database.execute("UPDATE event SET payload = NULL WHERE id = 'evt_7'").await;
    app.database.execute("UPDATE event SET event_type = 'invoice.void' WHERE id = 'evt_8'").await;
    let counted = json_of(&app, &["event", "retry-dead", "--type", "invoice.paid"]);
    assert_eq!(counted["events"], 1198);
    app.stop().await;
}
