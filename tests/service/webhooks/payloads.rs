//! Whatever Stripe could send, of whatever version: it is taken, and what it says is what counts.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    an_event_that_comes_in_two_versions_is_taken_once_whichever_came_first,
    every_version_of_an_event_comes_to_the_same_state,
    an_event_that_lacks_anything_or_has_it_odd_is_never_answered_with_an_error_of_ours,
);

/// One update of one subscription, as six API versions draw it.
const VERSIONS: [&str; 6] = [
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2020-08-27.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2022-11-15.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2024-09-30.acacia.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2025-03-31.basil.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2025-09-30.clover.json"),
    include_str!("../../../src/domain/event/fixtures/subscription_updated.2026-09-30.endive.json"),
];

/// The other types that are handled.
const OTHERS: [&str; 5] = [
    include_str!("../../../src/domain/event/fixtures/checkout_session_completed.json"),
    include_str!("../../../src/domain/event/fixtures/customer_deleted.json"),
    include_str!("../../../src/domain/event/fixtures/invoice_paid.2022-11-15.json"),
    include_str!("../../../src/domain/event/fixtures/invoice_paid.2025-03-31.basil.json"),
    include_str!("../../../src/domain/event/fixtures/portal_session_created.json"),
];

fn event(fixture: &str) -> Value {
    serde_json::from_str(fixture).expect("a fixture is JSON")
}

/// The same event under a name of its own.
fn renamed(mut event: Value) -> Value {
    event["id"] = json!(format!("evt_{}", uuid::Uuid::new_v4().simple()));
    event
}

/// A service that only hears, and the tenant of the fixtures' customer.
async fn listening(database: Database) -> TestApp {
    let app = TestApp::start_with(database, &[("--stripe-secret-key", "")]).await;
    let customer = event(VERSIONS[0])["data"]["object"]["customer"].clone();
    let linking = stripe_event("customer.subscription.created", 1, |object| {
        object["customer"] = customer;
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&linking).await.ok();
    app
}

async fn every_version_of_an_event_comes_to_the_same_state(database: Database) {
    let app = listening(database).await;
    let newest = event(VERSIONS[5]).to_string().replace("2026-09-30.endive", "2026-10-28.endive");
    let mut states = Vec::new();
    for (number, version) in VERSIONS.iter().chain([&newest.as_str()]).enumerate() {
        let mut told = renamed(event(version));
        let id = format!("sub_version{number}");
        told["data"]["object"]["id"] = json!(id);
        app.deliver(&told).await.ok();
        assert_eq!(app.outcome_of(&told).await.0, "applied", "{}", told["api_version"]);
        let row = app.database.row::<entity::subscription::Entity>(&id).await.expect("it is held");
        states.push((row.status, row.items, row.current_period_end, row.cancel_at, row.trial_end));
    }
    assert_eq!(states.len(), 7);
    assert!(states.iter().all(|state| *state == states[0]), "{states:#?}");
    app.stop().await;
}

/// While an endpoint is moved to another version each event comes by both, and the backfill may find a third drawing.
async fn an_event_that_comes_in_two_versions_is_taken_once_whichever_came_first(database: Database) {
    let app = listening(database).await;
    for [first, second] in [[VERSIONS[1], VERSIONS[5]], [VERSIONS[5], VERSIONS[1]]] {
        let first = renamed(event(first));
        let mut second = event(second);
        second["id"] = first["id"].clone();
        app.deliver(&first).await.ok();
        app.deliver(&second).await.ok();
        let repeat = app
            .line("subscription_state", |line| {
                line["event"] == "event.duplicate" && line["stripe_event_id"] == first["id"]
            })
            .await;
        assert_eq!(repeat["tenant_id"], "acme", "{repeat}");
        let row = app.database.row::<entity::event::Entity>(first["id"].as_str().expect("an id")).await;
        assert_eq!(row.expect("it is in the inbox").api_version.as_deref(), first["api_version"].as_str());
    }
    app.stop().await;
}

async fn an_event_that_lacks_anything_or_has_it_odd_is_never_answered_with_an_error_of_ours(
    database: Database,
) {
    let app = listening(database).await;
    let mut mutants = Vec::new();
    for fixture in [VERSIONS[0], VERSIONS[5]].iter().chain(&OTHERS) {
        let whole = event(fixture);
        for (number, path) in paths(&whole).into_iter().enumerate() {
            let odd = [
                without(&whole, &path),
                with(&whole, &path, strange(number)),
                with(&whole, &path, json!("text with a \0 that PostgreSQL does not take")),
            ];
            mutants.extend(odd.into_iter().map(|mutant| (path.clone(), mutant)));
        }
    }
    assert!(mutants.len() > 500, "{}", mutants.len());
    // Few at once: those that the database refuses are applied one by one, within the time of a batch.
    for group in mutants.chunks(16) {
        let events: Vec<Value> = group.iter().map(|(_, mutant)| mutant.clone()).collect();
        for (answer, (path, mutant)) in app.deliver_all(&events).await.iter().zip(group) {
            // Without its id, type or time it is no event; everything else is taken.
            let is_envelope = ["/id", "/type", "/created"].contains(&path.as_str());
            let expected: &[u16] = if is_envelope { &[200, 400] } else { &[200] };
            let status = answer.status.as_u16();
            assert!(expected.contains(&status), "{path} of {mutant} was answered {status}: {}", answer.text);
        }
    }
    let whole = renamed(event(VERSIONS[3]));
    app.deliver(&whole).await.ok();
    assert_ne!(app.outcome_of(&whole).await.0, "failed");
    app.stop().await;
}

/// The paths to all fields, as JSON pointers.
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

/// The event without that field.
fn without(whole: &Value, path: &str) -> Value {
    let mut without = renamed(whole.clone());
    let (parent, name) = path.rsplit_once('/').expect("a path");
    match without.pointer_mut(parent).expect("the parent is there") {
        Value::Object(fields) => _ = fields.remove(name),
        Value::Array(items) => _ = items.remove(name.parse().expect("an index")),
        other => panic!("{other} has no fields"),
    }
    without
}

/// The event with something else in the field's place.
fn with(whole: &Value, path: &str, strange: Value) -> Value {
    let mut with = renamed(whole.clone());
    *with.pointer_mut(path).expect("the field is there") = strange;
    with
}

/// What no version of Stripe's says there: each field meets one.
fn strange(number: usize) -> Value {
    let strange =
        [Value::Null, json!("strange"), json!(-1), json!(1e300), json!({ "strange": [] }), json!([[]])];
    strange[number % strange.len()].clone()
}
