//! The fixtures are the events of one subscription's life, as Stripe renders them at several API
//! versions. Each test reads a fixture, mostly with one change.

mod envelope;
mod malformed;
mod objects;
mod pending;
mod versions;

use serde_json::Value;

use super::*;

const CHECKOUT_COMPLETED: &str = include_str!("../fixtures/checkout_session_completed.json");
const CUSTOMER_DELETED: &str = include_str!("../fixtures/customer_deleted.json");
const PORTAL_OPENED: &str = include_str!("../fixtures/portal_session_created.json");
const SUBSCRIPTION_UPDATED: &str = include_str!("../fixtures/subscription_updated.2025-09-30.clover.json");
const THIN_EVENT: &str = include_str!("../fixtures/thin.json");

const ACME: &str = "cus_ThK7wQ2nTb8LeR";
const SUBSCRIPTION_ID: &str = "sub_1SkVt4LhJ4mPzQv8Yc2NdXa0";

fn read(json: &str) -> Event {
    Event::read(json.as_bytes()).expect("an event")
}

fn read_with(fixture: &str, change: impl FnOnce(&mut Value)) -> Event {
    Event::read(&bytes_with(fixture, change)).expect("an event")
}

fn read_with_object(fixture: &str, change: impl FnOnce(&mut Value)) -> Event {
    read_with(fixture, |event| change(&mut event["data"]["object"]))
}

fn bytes_with(fixture: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut event: Value = serde_json::from_str(fixture).expect("the fixture is JSON");
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

fn fixture_metadata() -> Metadata {
    Metadata {
        tenant: Some(tenant_id("acme")),
        journey: Some(traceparent("00-7c4e1b90d2f84a6e9b03c5d7f1a2e6b8-3d9f0a6c81b4e752-01")),
        deployment: None,
    }
}
