//! The event parser. An independent parser, which reads the tree of values that serde_json builds,
//! gives the same event. The order of members, unknown members, whitespace and escapes do not
//! matter.

mod reference;

use arbitrary::Unstructured;
use serde_json::value::RawValue;

use super::json::{Json, up_to_12};
use crate::domain::event::{Event, HANDLED_EVENT_TYPES, Subject, UnreadableEvent};

/// Random bytes as an event.
pub fn bytes(data: &[u8]) {
    let event = Event::read(data);
    let json = str::from_utf8(data).ok().filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    let Some(json) = json else {
        assert_eq!(event, Err(UnreadableEvent::NotJson));
        return;
    };
    // The service skips members that it does not use, so it accepts JSON that serde_json refuses as
    // a tree: numbers out of range, lone surrogates, more than 127 levels.
    if let Ok(json) = serde_json::from_str::<Json>(json) {
        check_event(&json, data);
    }
}

/// A generated event of known and unknown members, in the right and in wrong places.
pub fn tree(data: &[u8]) {
    if let Ok(json) = generate(&mut Unstructured::new(data)) {
        check_event(&json, json.to_string().as_bytes());
    }
}

const MAX_WEBHOOK_BYTES: usize = 1024 * 1024;

/// An event of the maximum size, to find inputs that take long. The data has three parts, separated
/// by zero bytes. The second part is repeated.
pub fn large(data: &[u8]) {
    let parts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let [before, repeated, after] = parts[..] else { return };
    let room = MAX_WEBHOOK_BYTES.saturating_sub(before.len() + after.len());
    let Some(times) = room.checked_div(repeated.len()) else { return };
    let event = [before, &repeated.repeat(times), after].concat();
    if let Ok(Event { subject: Subject::Subscription(_, snapshot), .. }) = Event::read(&event) {
        assert!(snapshot.state.items.len() <= reference::MAX_ITEMS, "{} items", snapshot.state.items.len());
    }
}

fn check_event(json: &Json, bytes: &[u8]) {
    let expected = reference::event(json);
    assert_eq!(read(bytes), expected);
    assert_eq!(
        read(json.reversed().to_string().as_bytes()),
        expected,
        "the order of members does not matter"
    );
    assert_eq!(
        read(json.with_unknown_members().to_string().as_bytes()),
        expected,
        "unknown members do not matter"
    );
    if let Ok(event) = &expected {
        assert!(event.customer().is_none_or(|customer| customer.as_str().len() <= 255));
        assert!(event.type_name.len() <= 255 && event.type_name.bytes().all(|b| b.is_ascii_graphic()));
    }
}

/// The event, without the text of `Unreadable`.
fn read(bytes: &[u8]) -> Result<Event, UnreadableEvent> {
    let event = Event::read(bytes)?;
    let subject = match event.subject {
        Subject::Unreadable(_) => Subject::Unreadable(""),
        readable => readable,
    };
    Ok(Event { subject, ..event })
}

/// Keys that are parsed somewhere, and one that is not.
const KEYS: [&str; 36] = [
    "id",
    "object",
    "type",
    "created",
    "livemode",
    "account",
    "context",
    "api_version",
    "request",
    "idempotency_key",
    "data",
    "previous_attributes",
    "customer",
    "status",
    "items",
    "has_more",
    "price",
    "plan",
    "lookup_key",
    "quantity",
    "current_period_end",
    "trial_end",
    "cancel_at",
    "cancel_at_period_end",
    "ended_at",
    "latest_invoice",
    "metadata",
    "tenant_id",
    "traceparent",
    "deployment_id",
    "subscription",
    "client_reference_id",
    "payment_status",
    "subscription_details",
    "parent",
    "unheard_of",
];

/// Values that some of the keys can have.
const WORDS: [&str; 20] = [
    "evt_1",
    "cus_1",
    "cus_2",
    "sub_1",
    "sub_2",
    "cs_1",
    "price_1",
    "pro_monthly",
    "active",
    "past_due",
    "canceled",
    "hibernating",
    "unpaid",
    "acme",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "2026-07-07T09:05:27.25Z",
    "2025-09-30.clover",
    "v2.core.event",
    "req_1",
    "",
];

/// Of generated values below the members of an event.
const MAX_DEPTH: usize = 4;

/// Usually a valid event, with some mutated members.
fn generate(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let object = object(u)?;
    let previous = Json::generate(u, &KEYS, &WORDS, MAX_DEPTH)?;
    let data = members(u, vec![("object", object), ("previous_attributes", previous)])?;
    let kind = Json::Text((*u.choose(&HANDLED_EVENT_TYPES)?).to_owned());
    let created = Json::Number(u.int_in_range(1_700_000_000..=1_800_000_000_i64)?.into());
    members(
        u,
        vec![("id", Json::Text("evt_1".to_owned())), ("type", kind), ("created", created), ("data", data)],
    )
}

fn object(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let id = Json::Text((*u.choose(&["sub_1", "cs_1", "in_1", "cus_1"])?).to_owned());
    let status = Json::Text((*u.choose(&["active", "canceled", "hibernating"])?).to_owned());
    let items = up_to_12(u, item)?;
    let items = members(u, vec![("data", Json::List(items))])?;
    let customer = Json::Text("cus_1".to_owned());
    members(u, vec![("id", id), ("customer", customer), ("status", status), ("items", items)])
}

fn item(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let price = members(u, vec![("id", Json::Text("price_1".to_owned()))])?;
    members(u, vec![("price", price), ("quantity", Json::Number(1.into()))])
}

fn members(u: &mut Unstructured<'_>, usual: Vec<(&str, Json)>) -> arbitrary::Result<Json> {
    Json::with_mutations(u, usual, &KEYS, &WORDS, MAX_DEPTH)
}
