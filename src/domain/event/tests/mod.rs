//! What Billhook reads out of the bytes that Stripe signs. The fixtures are events as Stripe draws them, one life told
//! at several API versions; the tests say what is read, and change one thing at a time.

mod envelope;
mod hostile;
mod objects;
mod pending;
mod versions;

use serde_json::Value;

use super::*;

const CHECKOUT_COMPLETED: &str = include_str!("../fixtures/checkout_session_completed.json");
const CUSTOMER_DELETED: &str = include_str!("../fixtures/customer_deleted.json");
const PORTAL_OPENED: &str = include_str!("../fixtures/portal_session_created.json");
const SUBSCRIPTION_UPDATED: &str = include_str!("../fixtures/subscription_updated.2025-09-30.clover.json");
const THIN: &str = include_str!("../fixtures/thin.json");

const ACME: &str = "cus_ThK7wQ2nTb8LeR";
const ITS_SUBSCRIPTION: &str = "sub_1SkVt4LhJ4mPzQv8Yc2NdXa0";

/// Reads what must be readable.
fn read(json: &str) -> Event {
    Event::read(json.as_bytes()).expect("an event")
}

/// Reads a fixture with something about it changed.
fn read_with(fixture: &str, change: impl FnOnce(&mut Value)) -> Event {
    Event::read(&bytes_with(fixture, change)).expect("an event")
}

/// Reads a fixture with something about its object changed.
fn read_with_object(fixture: &str, change: impl FnOnce(&mut Value)) -> Event {
    read_with(fixture, |event| change(&mut event["data"]["object"]))
}

fn bytes_with(fixture: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut event: Value = serde_json::from_str(fixture).expect("a fixture is JSON");
    change(&mut event);
    event.to_string().into_bytes()
}

fn remove(object: &mut Value, key: &str) {
    let removed = object.as_object_mut().and_then(|object| object.remove(key));
    assert!(removed.is_some(), "the fixture has `{key}`");
}

fn snapshot(event: &Event) -> &Snapshot {
    match &event.subject {
        Subject::Subscription(_, snapshot) => snapshot,
        other => panic!("not a subscription: {other:?}"),
    }
}

fn session(event: &Event) -> &Session {
    match &event.subject {
        Subject::Checkout(_, session) => session,
        other => panic!("not a checkout session: {other:?}"),
    }
}

fn invoice(event: &Event) -> &Invoice {
    match &event.subject {
        Subject::Invoice(_, invoice) => invoice,
        other => panic!("not an invoice: {other:?}"),
    }
}

fn customer_id(text: &str) -> CustomerId {
    CustomerId::parse(text).expect("a customer id")
}

fn tenant_id(text: &str) -> TenantId {
    TenantId::parse(text).expect("a tenant id")
}

fn traceparent(text: &str) -> Traceparent {
    Traceparent::parse(text).expect("a traceparent")
}

/// What the fixtures' metadata says.
fn acmes_tags() -> Tags {
    Tags {
        tenant: Some(tenant_id("acme")),
        journey: Some(traceparent("00-7c4e1b90d2f84a6e9b03c5d7f1a2e6b8-3d9f0a6c81b4e752-01")),
        deployment: None,
    }
}
