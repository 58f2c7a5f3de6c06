//! A tenant's story at the command line: what happened, oldest first, each line with its trace.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    a_tenants_story_is_told_oldest_first_in_the_words_and_traces_of_its_log_lines,
    what_waited_for_its_tenant_stands_where_it_came_and_what_it_changed_where_it_was_linked,
    of_a_long_story_the_latest_500_entries_are_told_and_that_there_are_older_ones,
);

async fn a_tenants_story_is_told_oldest_first_in_the_words_and_traces_of_its_log_lines(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("birch").await;
    live_a_whole_life(&app, "acme").await;

    let told = story(&app, "acme");
    let plot: Vec<(&str, &str)> = told.iter().filter_map(turn).collect();
    assert_eq!(
        plot,
        [
            ("checkout.begun", ""),
            ("customer.linked", "checkout"),
            ("subscription.transition", "active"),
            ("event.applied", "billing_portal.session.created"),
            ("subscription.transition", "active"),
            ("subscription.transition", "canceled"),
        ]
    );
    assert!(told.is_sorted_by_key(|entry| text(entry, "time")), "{told:#?}");
    each_change_comes_after_its_event(&told);
    let logged = [app.lines("billing"), app.lines("subscription_state")].concat();
    for entry in &told {
        the_log_says_the_same(entry, &logged);
    }
    the_lines_say_it_too(&app, &told);
    app.stop().await;
}

/// Checkout, payment, portal, cancellation and end, a second apart.
async fn live_a_whole_life(app: &TestApp, tenant: &str) {
    let token = app.token(tenant);
    let until_known = async |kind: &str| {
        let is_known = |line: &Value| {
            line["tenant_id"] == tenant && line["stripe_event_type"] == kind && !line["outcome"].is_null()
        };
        app.line("subscription_state", is_known).await;
    };
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = text(&bought, "session_id");

    app.clock.advance_seconds(1);
    app.stripe.pay(session).await;
    for kind in ["customer.subscription.created", "checkout.session.completed", "invoice.paid"] {
        until_known(kind).await;
    }
    app.clock.advance_seconds(1);
    let portal = app.open_portal(&token, &json!({})).await.ok();
    until_known("billing_portal.session.created").await;

    app.clock.advance_seconds(1);
    let subscription = app.stripe.subscription_of_session(session).await;
    app.stripe.cancel_in_portal(text(&portal, "url"), &subscription).await;
    until_known("customer.subscription.updated").await;

    app.clock.advance_seconds(1);
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    until_known("customer.subscription.deleted").await;
}

/// What moves the story on: of the events only the portal's, since the others' order is Stripe's.
fn turn(entry: &Value) -> Option<(&str, &str)> {
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

fn each_change_comes_after_its_event(told: &[Value]) {
    for (position, change) in told.iter().enumerate().filter(|(_, entry)| entry["outcome"].is_null()) {
        let is_cause = |entry: &Value| {
            !entry["outcome"].is_null() && entry["stripe_event_id"] == change["stripe_event_id"]
        };
        let has_cause = change["stripe_event_id"].is_string();
        assert_eq!(told[..position].iter().any(is_cause), has_cause, "{change} in {told:#?}");
    }
}

/// Whatever the entry says is said by a line of its own, or by the line of the event or checkout that it is of.
fn the_log_says_the_same(entry: &Value, logged: &[Value]) {
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
    let says_the_same = |line: &Value| fields.iter().all(|field| line[field] == entry[field]);
    assert!(logged.iter().any(says_the_same), "{entry} in {logged:#?}");
    assert_eq!(text(entry, "trace_id").len(), 32, "{entry}");
}

fn the_lines_say_it_too(app: &TestApp, told: &[Value]) {
    let (out, _) = said(&app.run_command(&["tenant", "show", "acme", "--timeline"]));
    assert_eq!(out.lines().count(), told.len(), "{out}");
    for (line, entry) in out.lines().zip(told) {
        let begin = format!("{}  {}", text(entry, "time"), text(entry, "event"));
        let end = format!("  trace={}", text(entry, "trace_id"));
        assert!(line.starts_with(&begin) && line.ends_with(&end), "{line} of {entry}");
        assert_eq!(line.len(), out.find('\n').expect("lines"), "the columns are aligned: {out}");
        for field in ["to", "stripe_event_type", "stripe_event_id", "subscription_id", "reason"] {
            assert!(entry[field].as_str().is_none_or(|word| line.contains(word)), "{field} in {line}");
        }
    }
    assert!(out.contains("  active -> canceled  "), "{out}");
}

async fn what_waited_for_its_tenant_stands_where_it_came_and_what_it_changed_where_it_was_linked(
    database: Database,
) {
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
    let line = async |name: &str| app.line("subscription_state", |line| line["event"] == name).await;
    let (came, linked) = (line("event.parked").await, line("customer.linked").await);
    assert_ne!(came["trace_id"], linked["trace_id"]);

    let told = story(&app, "acme");
    let told: Vec<_> = told.iter().map(|entry| (text(entry, "event"), &entry["stripe_event_id"])).collect();
    assert_eq!(
        told,
        [
            ("event.applied", &waiting["id"]),
            ("event.applied", &linking["id"]),
            ("customer.linked", &linking["id"]),
            ("checkout.closed", &linking["id"]),
            ("subscription.transition", &waiting["id"]),
        ]
    );
    let traces: Vec<_> = story(&app, "acme").iter().map(|entry| entry["trace_id"].clone()).collect();
    assert_eq!(traces[0], came["trace_id"]);
    assert!(traces[1..].iter().all(|trace| *trace == linked["trace_id"]), "{traces:?}");
    app.stop().await;
}

async fn of_a_long_story_the_latest_500_entries_are_told_and_that_there_are_older_ones(database: Database) {
    let app = TestApp::start(database).await;
    let linked = app.run_command(&["tenant", "link", "acme", "cus_long"]);
    assert!(linked.status.success(), "{linked:?}");
    in_the_past(&app, INBOX, 2, 250).await;
    in_the_past(&app, JOURNAL, 251, 500).await;
    the_latest_500_are_told(&app, false);
    in_the_past(&app, INBOX, 1, 1).await;
    the_latest_500_are_told(&app, true);
    app.stop().await;
}

fn the_latest_500_are_told(app: &TestApp, there_are_older_ones: bool) {
    for format in [None, Some("--json")] {
        let words = ["tenant", "show", "acme", "--timeline"].into_iter().chain(format);
        let (out, err) = said(&app.run_command(&words.collect::<Vec<_>>()));
        assert_eq!(out.matches("1970-01-01T").count(), 499, "{out}");
        assert!(out.contains("00:00:00.002Z") && !out.contains("00:00:00.001Z"), "{out}");
        assert!(out.contains("customer.linked"), "the latest is there: {out}");
        assert_eq!(err.contains("the latest 500 entries"), there_are_older_ones, "{err}");
    }
}

/// A table with its columns, the time last, and what they are to hold but for the time.
type Past = (&'static str, &'static str);

const JOURNAL: Past = (
    "transition (entry, tenant_id, customer_id, cause, created, recorded_at_ms)",
    "'payment.noted', 'acme', 'cus_long', 'refresh', 0",
);

const INBOX: Past = (
    "event (id, event_type, tenant_id, outcome, created, attempts, received_at_ms)",
    "'evt_' || ms, 'invoice.paid', 'acme', 'applied', 0, 0",
);

/// Something has happened each millisecond from `first` to `last` of the year 1970.
async fn in_the_past(app: &TestApp, (into, values): Past, first: i64, last: i64) {
    let past = format!("SELECT {first} UNION ALL SELECT ms + 1 FROM past WHERE ms < {last}");
    let rows = format!("WITH RECURSIVE past (ms) AS ({past}) SELECT {values}, ms FROM past");
    app.database.execute(&format!("INSERT INTO {into} {rows}")).await;
}

fn story(app: &TestApp, tenant: &str) -> Vec<Value> {
    let (out, err) = said(&app.run_command(&["tenant", "show", tenant, "--timeline", "--json"]));
    assert_eq!(err, "");
    serde_json::from_str(&out).expect("an array")
}

/// What a command that succeeded said, on stdout and on stderr.
fn said(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{output:?}");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} of {object}"))
}
