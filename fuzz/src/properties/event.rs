//! The event parser. Another reading of the same bytes, of the tree that serde_json makes of them, must come to the same
//! event; and the order of members, what Stripe adds, white space and escapes must change nothing.

mod reading;

use arbitrary::Unstructured;
use serde_json::value::RawValue;

use super::json::{Json, several};
use crate::domain::event::{Event, HANDLED, Subject, UnreadableEvent};

/// An event of any bytes.
pub fn bytes(data: &[u8]) {
    let event = Event::read(data);
    let json = str::from_utf8(data).ok().filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    let Some(json) = json else {
        assert_eq!(event, Err(UnreadableEvent::NotJson));
        return;
    };
    // Where it has no use for them the service passes over what our reading cannot bear: numbers that fit nowhere, halves
    // of surrogate pairs, 128 levels.
    if let Ok(json) = serde_json::from_str::<Json>(json) {
        reads_as(&json, data);
    }
}

/// An event of members that are known, or nearly, wherever they stand.
pub fn tree(data: &[u8]) {
    if let Ok(json) = make_up(&mut Unstructured::new(data)) {
        reads_as(&json, json.to_string().as_bytes());
    }
}

/// The largest webhook that is read.
const WEBHOOK_BYTES: usize = 1024 * 1024;

/// An event as large as they come, of three parts with a zero byte between them: the second is there over and over. What is
/// looked for is an input that takes long.
pub fn large(data: &[u8]) {
    let parts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let [before, again, after] = parts[..] else { return };
    let room = WEBHOOK_BYTES.saturating_sub(before.len() + after.len());
    let Some(times) = room.checked_div(again.len()) else { return };
    let event = [before, &again.repeat(times), after].concat();
    if let Ok(Event { subject: Subject::Subscription(_, snapshot), .. }) = Event::read(&event) {
        assert!(snapshot.state.items.len() <= reading::ITEMS, "{} items", snapshot.state.items.len());
    }
}

fn reads_as(json: &Json, bytes: &[u8]) {
    let expected = reading::event(json);
    assert_eq!(read(bytes), expected);
    assert_eq!(read(json.reversed().to_string().as_bytes()), expected, "whatever the order of members");
    assert_eq!(read(json.with_news().to_string().as_bytes()), expected, "whatever Stripe adds");
    if let Ok(event) = &expected {
        assert!(event.customer().is_none_or(|customer| customer.as_str().len() <= 255));
        assert!(event.type_name.len() <= 255 && event.type_name.bytes().all(|b| b.is_ascii_graphic()));
    }
}

/// The event, without what is said of a missing part.
fn read(bytes: &[u8]) -> Result<Event, UnreadableEvent> {
    let event = Event::read(bytes)?;
    let subject = match event.subject {
        Subject::Unreadable(_) => Subject::Unreadable(""),
        readable => readable,
    };
    Ok(Event { subject, ..event })
}

/// The names that are read somewhere, and one that is not.
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

/// Words that some of them can have.
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

/// How deep what is made up goes below an object of Stripe's.
const DEPTH: usize = 4;

/// An event that is one as a rule, with a part or several that are not what they should be.
fn make_up(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let object = object(u)?;
    let previous = Json::make_up(u, &KEYS, &WORDS, DEPTH)?;
    let data = members(u, vec![("object", object), ("previous_attributes", previous)])?;
    let kind = Json::Text((*u.choose(&HANDLED)?).to_owned());
    let created = Json::Number(u.int_in_range(1_700_000_000..=1_800_000_000_i64)?.into());
    members(
        u,
        vec![("id", Json::Text("evt_1".to_owned())), ("type", kind), ("created", created), ("data", data)],
    )
}

/// A subscription, a session, an invoice or a customer, by its id.
fn object(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let id = Json::Text((*u.choose(&["sub_1", "cs_1", "in_1", "cus_1"])?).to_owned());
    let status = Json::Text((*u.choose(&["active", "canceled", "hibernating"])?).to_owned());
    let items = several(u, item)?;
    let items = members(u, vec![("data", Json::List(items))])?;
    let customer = Json::Text("cus_1".to_owned());
    members(u, vec![("id", id), ("customer", customer), ("status", status), ("items", items)])
}

fn item(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let price = members(u, vec![("id", Json::Text("price_1".to_owned()))])?;
    members(u, vec![("price", price), ("quantity", Json::Number(1.into()))])
}

fn members(u: &mut Unstructured<'_>, usual: Vec<(&str, Json)>) -> arbitrary::Result<Json> {
    Json::with_accidents(u, usual, &KEYS, &WORDS, DEPTH)
}
