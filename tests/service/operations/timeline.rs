//! `billhook tenant show --timeline`: a tenant's history, oldest first, each line with its trace.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::command_output::table_rows;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    timeline_is_chronological_and_matches_log_lines,
    timeline_places_parked_event_at_arrival_and_change_at_link,
    long_timeline_shows_latest_500_entries_and_says_so,
);

async fn timeline_is_chronological_and_matches_log_lines(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("birch").await;
    complete_lifecycle(&app, "acme").await;

    let timeline = timeline_of(&app, "acme");
    let milestones: Vec<(&str, &str)> = timeline.iter().filter_map(milestone).collect();
    assert_eq!(
        milestones,
        [
            ("checkout.begun", ""),
            ("customer.linked", "checkout"),
            ("subscription.transition", "active"),
            ("event.applied", "billing_portal.session.created"),
            ("subscription.transition", "active"),
            ("subscription.transition", "canceled"),
        ]
    );
    assert!(timeline.is_sorted_by_key(|entry| text(entry, "time")), "{timeline:#?}");
    assert_changes_follow_their_events(&timeline);
    let logged = [app.lines("billing"), app.lines("subscription_state")].concat();
    for entry in &timeline {
        assert_log_has_entry(entry, &logged);
    }
    assert_table_has_entries(&app, &timeline);
    app.stop().await;
}

/// Checkout, payment, portal, cancellation and end, one second apart.
async fn complete_lifecycle(app: &TestApp, tenant: &str) {
    let token = app.token(tenant);
    let wait_for_event = async |kind: &str| {
        let is_processed = |line: &Value| {
            line["tenant_id"] == tenant && line["stripe_event_type"] == kind && !line["outcome"].is_null()
        };
        app.wait_for_line("subscription_state", is_processed).await;
    };
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = text(&bought, "session_id");

    app.clock.advance_seconds(1);
    app.stripe.pay(session).await;
    for kind in ["customer.subscription.created", "checkout.session.completed", "invoice.paid"] {
        wait_for_event(kind).await;
    }
    app.clock.advance_seconds(1);
    let portal = app.open_portal(&token, &json!({})).await.ok();
    wait_for_event("billing_portal.session.created").await;

    app.clock.advance_seconds(1);
    let subscription = app.stripe.subscription_of_session(session).await;
    app.stripe.cancel_in_portal(text(&portal, "url"), &subscription).await;
    wait_for_event("customer.subscription.updated").await;

    app.clock.advance_seconds(1);
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    wait_for_event("customer.subscription.deleted").await;
}

/// The entries in a fixed order. Of the applied events that is only the portal's, since Stripe
/// orders the others.
fn milestone(entry: &Value) -> Option<(&str, &str)> {
    let event = text(entry, "event");
    match event {
        "event.applied" if entry["stripe_event_type"] == "billing_portal.session.created" => {
            Some((event, text(entry, "stripe_event_type")))
        }
        "subscription.transition" => Some((event, text(entry, "to"))),
        "checkout.begun" | "customer.linked" => Some((event, entry["reason"].as_str().unwrap_or_default())),
        _ => None,
    }
}

fn assert_changes_follow_their_events(timeline: &[Value]) {
    for (position, change) in timeline.iter().enumerate().filter(|(_, entry)| entry["outcome"].is_null()) {
        let is_cause = |entry: &Value| {
            !entry["outcome"].is_null() && entry["stripe_event_id"] == change["stripe_event_id"]
        };
        let has_cause = change["stripe_event_id"].is_string();
        assert_eq!(timeline[..position].iter().any(is_cause), has_cause, "{change} in {timeline:#?}");
    }
}

/// Asserts that a log line has the same fields: the entry's own line, or that of its event or
/// checkout.
fn assert_log_has_entry(entry: &Value, logged: &[Value]) {
    let fields: &[&str] = match text(entry, "event") {
        "checkout.begun" => &["tenant_id", "customer_id", "journey_id", "trace_id"],
        "checkout.closed" | "payment.noted" => {
            &["tenant_id", "customer_id", "stripe_event_id", "stripe_event_type", "journey_id", "trace_id"]
        }
        _ => &[
            "event",
            "outcome",
            "tenant_id",
            "customer_id",
            "subscription_id",
            "stripe_event_id",
            "stripe_event_type",
            "stripe_request_id",
            "journey_id",
            "trace_id",
            "from",
            "to",
            "reason",
        ],
    };
    let has_same_fields = |line: &Value| fields.iter().all(|field| line[field] == entry[field]);
    assert!(logged.iter().any(has_same_fields), "{entry} in {logged:#?}");
    assert_eq!(text(entry, "trace_id").len(), 32, "{entry}");
}

fn assert_table_has_entries(app: &TestApp, timeline: &[Value]) {
    let (out, _) = output_of(&app.run_command(&["tenant", "show", "acme", "--timeline"]));
    let rows = table_rows(&out);
    assert!(rows[0].starts_with("TIME ") && rows[0].ends_with("  TRACE"), "{out}");
    assert_eq!(rows.len() - 1, timeline.len(), "{out}");
    for (row, entry) in rows[1..].iter().zip(timeline) {
        let (seconds, _) = text(entry, "time").split_once('.').expect("a fraction");
        let start = format!("{seconds}Z  {}", text(entry, "event"));
        assert!(row.starts_with(&start) && row.ends_with(text(entry, "trace_id")), "{row} of {entry}");
        for field in ["to", "stripe_event_type", "stripe_event_id", "subscription_id", "reason"] {
            assert!(entry[field].as_str().is_none_or(|word| row.contains(word)), "{field} in {row}");
        }
    }
    assert!(out.contains("  active -> canceled"), "{out}");
}

async fn timeline_places_parked_event_at_arrival_and_change_at_link(database: Database) {
    let app = TestApp::start(database).await;
    let waiting = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&waiting).await.ok();
    app.clock.advance_seconds(60);
    let linking = stripe_event("checkout.session.completed", app.clock_seconds(), |object| {
        *object = json!({
            "id": "cs_test_foreign", "object": "checkout.session", "customer": "cus_webhook", "mode": "subscription",
            "subscription": "sub_webhook", "payment_status": "paid", "metadata": { "tenant_id": "acme" },
        });
    });
    app.deliver(&linking).await.ok();
    let line = async |name: &str| app.wait_for_line("subscription_state", |line| line["event"] == name).await;
    let (parked, linked) = (line("event.parked").await, line("customer.linked").await);
    assert_ne!(parked["trace_id"], linked["trace_id"]);

    let timeline = timeline_of(&app, "acme");
    let entries: Vec<_> =
        timeline.iter().map(|entry| (text(entry, "event"), &entry["stripe_event_id"])).collect();
    assert_eq!(
        entries,
        [
            ("event.applied", &waiting["id"]),
            ("event.applied", &linking["id"]),
            ("customer.linked", &linking["id"]),
            ("checkout.closed", &linking["id"]),
            ("subscription.transition", &waiting["id"]),
        ]
    );
    let traces: Vec<_> = timeline.iter().map(|entry| entry["trace_id"].clone()).collect();
    assert_eq!(traces[0], parked["trace_id"]);
    assert!(traces[1..].iter().all(|trace| *trace == linked["trace_id"]), "{traces:?}");
    app.stop().await;
}

async fn long_timeline_shows_latest_500_entries_and_says_so(database: Database) {
    let app = TestApp::start(database).await;
    let linked = app.run_command(&["tenant", "link", "acme", "cus_long"]);
    assert!(linked.status.success(), "{linked:?}");
    insert_rows(&app, INBOX, 2, 250).await;
    insert_rows(&app, JOURNAL, 251, 500).await;
    assert_latest_500_entries(&app, false);
    insert_rows(&app, INBOX, 1, 1).await;
    assert_latest_500_entries(&app, true);
    app.stop().await;
}

fn assert_latest_500_entries(app: &TestApp, has_older: bool) {
    for format in [None, Some("--json")] {
        let words = ["tenant", "show", "acme", "--timeline"].into_iter().chain(format);
        let (out, err) = output_of(&app.run_command(&words.collect::<Vec<_>>()));
        assert_eq!(out.matches("1970-01-01T").count(), 499, "{out}");
        if format.is_some() {
            assert!(out.contains("00:00:00.002Z") && !out.contains("00:00:00.001Z"), "{out}");
        }
        assert!(out.contains("customer.linked"), "the newest entry is shown: {out}");
        assert_eq!(err.contains("the latest 500 entries"), has_older, "{err}");
    }
}

/// A table with its columns, the time last, and the values of the other columns.
type Columns = (&'static str, &'static str);

const JOURNAL: Columns = (
    "transition (entry, tenant_id, customer_id, cause, created, recorded_at_ms)",
    "'payment.noted', 'acme', 'cus_long', 'refresh', 0",
);

const INBOX: Columns = (
    "event (id, event_type, tenant_id, outcome, created, attempts, received_at_ms)",
    "'evt_' || ms, 'invoice.paid', 'acme', 'applied', 0, 0",
);

/// Inserts a row for each millisecond from `first` to `last` of 1970.
async fn insert_rows(app: &TestApp, (into, values): Columns, first: i64, last: i64) {
    let past = format!("SELECT {first} UNION ALL SELECT ms + 1 FROM past WHERE ms < {last}");
    let rows = format!("WITH RECURSIVE past (ms) AS ({past}) SELECT {values}, ms FROM past");
    app.database.execute(&format!("INSERT INTO {into} {rows}")).await;
}

fn timeline_of(app: &TestApp, tenant: &str) -> Vec<Value> {
    let (out, err) = output_of(&app.run_command(&["tenant", "show", tenant, "--timeline", "--json"]));
    assert_eq!(err, "");
    serde_json::from_str(&out).expect("an array")
}

/// Stdout and stderr of a command that must succeed.
fn output_of(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{output:?}");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} of {object}"))
}
