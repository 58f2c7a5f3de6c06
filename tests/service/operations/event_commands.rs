//! `billhook event`: list, show, replay and retry-dead.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::command_output::{json_output, read_output, table_rows, unwrap_lines};
use crate::support::database::{Database, on_both_databases};
use crate::webhooks::retry::deliver_poisoned_event;

on_both_databases!(
    event_list_filters_by_outcome_tenant_type_and_time,
    event_list_pages_contain_each_event_once,
    event_show_prints_fields_and_payload_on_request,
    replay_processes_unapplied_events_again,
    replay_of_applied_event_refreshes_from_stripe,
    retry_dead_retries_every_dead_event,
);

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

fn id(event: &Value) -> &str {
    event["id"].as_str().expect("an id")
}

/// The id of the tenant's event of this type.
fn event_of(app: &TestApp, tenant: &str, kind: &str) -> String {
    let words = ["event", "list", "--outcome", "all", "--tenant", tenant, "--type", kind];
    ids(&json_output(app, &words))[0].to_owned()
}

async fn event_list_filters_by_outcome_tenant_type_and_time(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    app.subscribe_to_pro("birch").await;
    let (_, out, _) = read_output(&app.run_command(&["event", "list"]));
    assert!(out.starts_with("No event is failed or dead."), "{out}");
    app.clock.advance_seconds(3600);
    let parked = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&parked).await.ok();

    let list = |words: &[&str]| json_output(&app, &[&["events", "list"], words].concat());
    assert_eq!(ids(&list(&["--outcome", "parked,dead"])), [id(&parked)]);
    let all = list(&["--outcome", "all"]);
    assert_eq!(ids(&all)[0], id(&parked), "newest first");
    let acme = list(&["--outcome", "all", "--tenant", "acme"]);
    let all_are = |list: &Value, field: &str, is: &dyn Fn(&str) -> bool| {
        let list = list.as_array().expect("a list");
        !list.is_empty() && list.iter().all(|event| event[field].as_str().is_some_and(is))
    };
    assert!(all_are(&acme, "tenant", &|tenant| tenant == "acme"), "{acme:#}");
    let subscription_events = list(&["--outcome", "all", "--type", "customer.subscription.*"]);
    assert!(
        all_are(&subscription_events, "type", &|kind| kind.starts_with("customer.subscription.")),
        "{subscription_events:#}"
    );
    assert_eq!(ids(&list(&["--outcome", "all", "--type", "invoice.paid", "--tenant", "acme"])).len(), 1);
    let received = all[0]["received"].as_str().expect("a time");
    assert_eq!(ids(&list(&["--outcome", "all", "--since", received])), [id(&parked)]);
    assert_eq!(list(&["--outcome", "all", "--since", "2199-01-01"]), json!([]));
    assert_eq!(ids(&list(&["--outcome", "all", "--since", "1d"])).len(), ids(&all).len());

    let (_, table, _) = read_output(&app.run_command(&["event", "list", "--outcome", "parked"]));
    let rows = table_rows(&table);
    assert!(rows[0].starts_with("EVENT ") && rows[0].contains("  OUTCOME  "), "{table}");
    assert_eq!(rows.len(), 2, "{table}");
    let trace = app.wait_for_line("subscription_state", |line| line["event"] == "event.parked").await;
    for word in [id(&parked), "parked", "unknown_customer", "cus_webhook"] {
        assert!(rows[1].contains(word), "{word} in {table}");
    }
    assert!(rows[1].ends_with(trace["trace_id"].as_str().expect("a trace")), "{table}");
    for (words, name) in [
        (["--since", "yesterday"], "--since"),
        (["--tenant", "a b"], "--tenant"),
        (["--after", "cus_1"], "--after"),
        (["--outcome", "nonsense"], "--outcome"),
    ] {
        let (code, _, err) = read_output(&app.run_command(&[&["event", "list"][..], &words].concat()));
        assert_eq!((code, err.contains(name)), (Some(2), true), "{err}");
    }
    let (code, _, err) = read_output(&app.run_command(&["event", "list", "--after", "evt_unknown"]));
    assert_eq!((code, err.contains("evt_unknown is not in the inbox")), (Some(1), true), "{err}");
    app.stop().await;
}

async fn event_list_pages_contain_each_event_once(database: Database) {
    let app = TestApp::start(database).await;
    // Three events in each millisecond, with different outcomes.
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
        let (code, out, err) = read_output(&app.run_command(&[&list[..], &after].concat()));
        assert_eq!(code, Some(0), "{err}");
        let found: Value = serde_json::from_str(&out).expect("output is JSON");
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

async fn event_show_prints_fields_and_payload_on_request(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let created = event_of(&app, "acme", "customer.subscription.created");
    let shown = json_output(&app, &["event", "show", &created]);
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
    assert!(shown.get("payload").is_none(), "the payload has personal data");
    assert_eq!(shown["changes"][0]["event"], "subscription.transition");
    assert_eq!(shown["changes"][0]["trace_id"], shown["trace_id"]);
    let payload = json_output(&app, &["event", "show", &created, "--payload"])["payload"].clone();
    assert_eq!((&payload["id"], &payload["data"]["object"]["id"]), (&json!(created), &json!(subscription)));

    let (_, lines, _) = read_output(&app.run_command(&["event", "show", &created]));
    let has_field =
        |name: &str, value: &str| lines.lines().any(|line| line.split_whitespace().take(2).eq([name, value]));
    assert!(
        has_field("outcome", "applied") && has_field("tenant", "acme") && has_field("event", &created),
        "{lines}"
    );
    assert!(lines.contains("- -> ") && !lines.contains("\"object\""), "{lines}");
    let (_, lines, _) = read_output(&app.run_command(&["event", "show", &created, "--payload"]));
    assert!(lines.contains("\"object\""), "{lines}");

    app.database.execute("UPDATE event SET payload = NULL").await;
    assert_eq!(json_output(&app, &["event", "show", &created, "--payload"])["payload_is"], "dropped");
    app.open_portal(&app.token("acme"), &json!({})).await.ok();
    app.wait_for_line("subscription_state", |line| {
        line["stripe_event_type"] == "billing_portal.session.created"
    })
    .await;
    let portal = event_of(&app, "acme", "billing_portal.session.created");
    assert_eq!(json_output(&app, &["event", "show", &portal])["payload_is"], "never_kept");

    let (code, _, err) = read_output(&app.run_command(&["event", "show", "evt_unknown"]));
    assert_eq!((code, err.contains("evt_unknown is not in the inbox")), (Some(1), true), "{err}");
    app.stop().await;
}

async fn replay_processes_unapplied_events_again(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let foreign = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&foreign).await.ok();
    let mut live = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    live["livemode"] = json!(true);
    app.deliver(&live).await.ok();
    assert_eq!(app.outcome_of(&foreign).await, ("parked".into(), Some("tenant_has_another_customer".into())));
    let (code, out, err) = read_output(&app.run_command(&["tenant", "unlink", "acme"]));
    assert_eq!(code, Some(0), "{out} {err}");

    let (code, out, err) = read_output(&app.run_command(&["event", "replay", id(&foreign), id(&live)]));
    assert_eq!(code, Some(0), "{err}");
    let out = unwrap_lines(&out);
    assert!(
        out.contains(&format!("{} was parked. The service will process it again", id(&foreign))),
        "{out}"
    );
    assert!(out.contains(&format!("{} was quarantined. ", id(&live))), "{out}");
    // The command uses the machine's clock.
    app.clock.advance_seconds(3600);
    app.wait_for_outcome(&foreign, "applied").await;
    app.wait_for_outcome(&live, "quarantined").await;
    assert_eq!(app.customer_of("acme").await, "cus_webhook", "the replay links the customer");
    app.stop().await;
}

async fn replay_of_applied_event_refreshes_from_stripe(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.wait_for_refreshes().await;
    let created = event_of(&app, "acme", "customer.subscription.created");
    app.stripe.update_subscription(&subscription, &json!({ "status": "past_due", "silently": true })).await;
    let transitions = || async {
        let entries = app.database.rows::<entity::transition::Entity>().await;
        entries.into_iter().filter(|entry| entry.entry == "subscription.transition").count()
    };
    let before = transitions().await;
    let replayed = json_output(&app, &["event", "replay", &created]);
    assert_eq!(
        replayed,
        json!([{ "id": created, "outcome": "applied", "action": "stripe_asked", "reason": null }])
    );
    app.clock.advance_seconds(3600);
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
    let is_changed = |line: &Value| line["event"] == "refresh.changed" && line["reason"] == "operator";
    assert_eq!(app.wait_for_line("subscription_state", is_changed).await["tenant_id"], "acme");
    assert_eq!(transitions().await, before + 1, "only the refresh changed the state");
    assert_eq!(app.outcome(&created).await.expect("the event is in the inbox").0, "applied");

    // Events that cannot be replayed are reported, and the others are replayed.
    let unused = stripe_event("product.created", app.clock_seconds(), |_| {});
    app.deliver(&unused).await.ok();
    let words = ["event", "replay", "evt_unknown", id(&unused), &created];
    let (code, out, err) = read_output(&app.run_command(&words));
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("{created} is applied and is not applied twice")), "{out}");
    assert!(err.contains("evt_unknown is not in the inbox"), "{err}");
    assert!(err.contains(&format!("{} is ignored, and no tenant has its customer", id(&unused))), "{err}");
    app.stop().await;
}

async fn retry_dead_retries_every_dead_event(database: Database) {
    let app = TestApp::start(database).await;
    let (_, out, _) = read_output(&app.run_command(&["event", "retry-dead"]));
    assert_eq!(out, "No event is dead.\n");
    let event = deliver_poisoned_event(&app).await;
    app.wait_for_attempts(&event, 1).await;
    app.database.execute("UPDATE event SET outcome = 'dead', attempts = 14 WHERE outcome = 'failed'").await;
    app.database.accept_poisoned_subscriptions().await;

    let retry = |words: &[&str]| read_output(&app.run_command(&[&["event", "retry-dead"], words].concat()));
    assert_eq!(retry(&["--dry-run"]).1, "Would retry 1 dead event.\n");
    assert_eq!(retry(&["--type", "invoice.paid"]).1, "No event is dead.\n");
    assert_eq!(app.outcome_of(&event).await.0, "dead", "neither call changed anything");
    let counted = json_output(&app, &["event", "retry-dead", "--type", "customer.subscription.created"]);
    assert_eq!(counted, json!({ "events": 1, "dry_run": false }));
    app.clock.advance_seconds(3600);
    app.wait_for_outcome(&event, "applied").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_dead_counts_each_of_many_events_once() {
    let app = TestApp::start(Database::Sqlite).await;
    let past = "WITH RECURSIVE past (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM past WHERE n < 1200)";
    app.database
        .execute(&format!(
            "INSERT INTO event (id, event_type, outcome, created, attempts, received_at_ms, payload) \
             {past} SELECT 'evt_' || n, 'invoice.paid', 'dead', 0, 14, n, x'7b7d' FROM past"
        ))
        .await;
    // Two are not retried: one has no payload, the other has another type.
    app.database.execute("UPDATE event SET payload = NULL WHERE id = 'evt_7'").await;
    app.database.execute("UPDATE event SET event_type = 'invoice.void' WHERE id = 'evt_8'").await;
    let counted = json_output(&app, &["event", "retry-dead", "--type", "invoice.paid"]);
    assert_eq!(counted["events"], 1198);
    app.stop().await;
}
