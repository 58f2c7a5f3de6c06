//! Events of every API version, and events with missing or odd fields.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    event_in_two_api_versions_is_applied_once,
    every_api_version_leads_to_the_same_state,
    event_with_missing_or_odd_field_is_never_a_server_error,
);

/// The same update of a subscription in six API versions.
const VERSIONS: [&str; 6] = [
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2020-08-27.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2022-11-15.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2024-09-30.acacia.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2025-03-31.basil.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2025-09-30.clover.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2026-09-30.endive.json"),
];

/// Events of other handled types.
const OTHER_EVENTS: [&str; 5] = [
    include_str!("../../../src/domain/event/fixtures/checkout_session_completed.json"),
    include_str!("../../../src/domain/event/fixtures/customer_deleted.json"),
    include_str!("../../../src/domain/event/fixtures/invoice_paid.2022-11-15.json"),
    include_str!("../../../src/domain/event/fixtures/invoice_paid.2025-03-31.basil.json"),
    include_str!("../../../src/domain/event/fixtures/portal_session_created.json"),
];

fn event(fixture: &str) -> Value {
    serde_json::from_str(fixture).expect("a fixture is JSON")
}

fn with_new_id(mut event: Value) -> Value {
    event["id"] = json!(format!("evt_{}", uuid::Uuid::new_v4().simple()));
    event
}

/// Starts a service without a Stripe key and links the fixtures' customer to `acme`.
async fn start_without_stripe_key(database: Database) -> TestApp {
    let app = TestApp::start_with(database, &[("--stripe-secret-key", "")]).await;
    let customer = event(VERSIONS[0])["data"]["object"]["customer"].clone();
    let linking = stripe_event("customer.subscription.created", 1, |object| {
        object["customer"] = customer;
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&linking).await.ok();
    app
}

async fn every_api_version_leads_to_the_same_state(database: Database) {
    let app = start_without_stripe_key(database).await;
    let newest = event(VERSIONS[5]).to_string().replace("2026-09-30.endive", "2026-10-28.endive");
    let mut states = Vec::new();
    for (number, version) in VERSIONS.iter().chain([&newest.as_str()]).enumerate() {
        let mut delivered = with_new_id(event(version));
        let id = format!("sub_version{number}");
        delivered["data"]["object"]["id"] = json!(id);
        app.deliver(&delivered).await.ok();
        assert_eq!(app.outcome_of(&delivered).await.0, "applied", "{}", delivered["api_version"]);
        let row =
            app.database.row::<entity::subscription::Entity>(&id).await.expect("the subscription is stored");
        states.push((row.status, row.items, row.current_period_end, row.cancel_at, row.trial_end));
    }
    assert_eq!(states.len(), 7);
    assert!(states.iter().all(|state| *state == states[0]), "{states:#?}");
    app.stop().await;
}

/// While an endpoint moves to another API version, Stripe delivers each event in both versions, and
/// the backfill may list it in a third.
async fn event_in_two_api_versions_is_applied_once(database: Database) {
    let app = start_without_stripe_key(database).await;
    for [first, second] in [[VERSIONS[1], VERSIONS[5]], [VERSIONS[5], VERSIONS[1]]] {
        let first = with_new_id(event(first));
        let mut second = event(second);
        second["id"] = first["id"].clone();
        app.deliver(&first).await.ok();
        app.deliver(&second).await.ok();
        let repeat = app
            .wait_for_line("subscription_state", |line| {
                line["event"] == "event.duplicate" && line["stripe_event_id"] == first["id"]
            })
            .await;
        assert_eq!(repeat["tenant_id"], "acme", "{repeat}");
        let row = app.database.row::<entity::event::Entity>(first["id"].as_str().expect("an id")).await;
        assert_eq!(
            row.expect("the event is in the inbox").api_version.as_deref(),
            first["api_version"].as_str()
        );
    }
    app.stop().await;
}

async fn event_with_missing_or_odd_field_is_never_a_server_error(database: Database) {
    let app = start_without_stripe_key(database).await;
    let mut mutants = Vec::new();
    for fixture in [VERSIONS[0], VERSIONS[5]].iter().chain(&OTHER_EVENTS) {
        let whole = event(fixture);
        for (number, path) in paths(&whole).into_iter().enumerate() {
            let changed = [
                without(&whole, &path),
                with(&whole, &path, odd_value(number)),
                with(&whole, &path, json!("text with a \0 that PostgreSQL does not take")),
            ];
            mutants.extend(changed.into_iter().map(|mutant| (path.clone(), mutant)));
        }
    }
    assert!(mutants.len() > 500, "{}", mutants.len());
    // Few at a time: events that the database rejects are applied one by one within the timeout of
    // a batch.
    for group in mutants.chunks(16) {
        let events: Vec<Value> = group.iter().map(|(_, mutant)| mutant.clone()).collect();
        for (response, (path, mutant)) in app.deliver_all(&events).await.iter().zip(group) {
            // Without `id`, `type` or `created` it is no event. Everything else is accepted.
            let is_envelope = ["/id", "/type", "/created"].contains(&path.as_str());
            let expected: &[u16] = if is_envelope { &[200, 400] } else { &[200] };
            let status = response.status.as_u16();
            assert!(expected.contains(&status), "{path} of {mutant} got {status}: {}", response.text);
        }
    }
    let whole = with_new_id(event(VERSIONS[3]));
    app.deliver(&whole).await.ok();
    assert_ne!(app.outcome_of(&whole).await.0, "failed");
    app.stop().await;
}

/// JSON pointers to all fields.
fn paths(value: &Value) -> Vec<String> {
    let below = |name: &str, value: &Value| {
        let deeper = paths(value).into_iter().map(|path| format!("/{name}{path}"));
        std::iter::once(format!("/{name}")).chain(deeper).collect::<Vec<_>>()
    };
    match value {
        Value::Object(fields) => fields.iter().flat_map(|(name, value)| below(name, value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(index, value)| below(&index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    }
}

/// A copy of the event without the field.
fn without(whole: &Value, path: &str) -> Value {
    let mut copy = with_new_id(whole.clone());
    let (parent, name) = path.rsplit_once('/').expect("a path");
    match copy.pointer_mut(parent).expect("the parent exists") {
        Value::Object(fields) => _ = fields.remove(name),
        Value::Array(items) => _ = items.remove(name.parse().expect("an index")),
        other => panic!("{other} has no fields"),
    }
    copy
}

/// A copy of the event with another value in the field.
fn with(whole: &Value, path: &str, value: Value) -> Value {
    let mut copy = with_new_id(whole.clone());
    *copy.pointer_mut(path).expect("the field exists") = value;
    copy
}

/// A value of a wrong type or range. Consecutive numbers give different values.
fn odd_value(number: usize) -> Value {
    let values =
        [Value::Null, json!("strange"), json!(-1), json!(1e300), json!({ "strange": [] }), json!([[]])];
    values[number % values.len()].clone()
}
