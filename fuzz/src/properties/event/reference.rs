//! An independent parser of events, by the names of their members. An object in which a key is
//! duplicated has no members.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::json::{Json, Members};
use crate::domain::event::{
    CheckoutEventKind, Event, Invoice, InvoiceEventKind, Session, Subject, UnreadableEvent,
};
use crate::domain::ids::{CustomerId, DeploymentId, EventId, PriceId, SessionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::metadata::Metadata;
use crate::domain::previous_attributes::{PreviousAttributes, PreviousValue};
use crate::domain::subscription::{Item, Snapshot, State, Status, SubscriptionEventKind};

pub(super) const MAX_ITEMS: usize = 80;

const NOTHING: &Json = &Json::Null;

pub(super) fn event(json: &Json) -> Result<Event, UnreadableEvent> {
    const KEYS: [&str; 10] = [
        "id",
        "object",
        "type",
        "created",
        "livemode",
        "account",
        "context",
        "api_version",
        "request",
        "data",
    ];
    let event = json.members(&KEYS).ok_or(UnreadableEvent::NotJson)?;
    let id = event.text("id").and_then(|id| EventId::parse(id).ok()).ok_or(UnreadableEvent::NoId)?;
    let type_name = event.text("type").filter(|text| is_word(text)).ok_or(UnreadableEvent::NoType)?;
    let created = event.get("created").and_then(time).ok_or(UnreadableEvent::NoCreated)?;
    let data = event.get("data").and_then(|data| data.members(&["object", "previous_attributes"]));
    let part = |key| data.and_then(|data| data.get(key)).unwrap_or(NOTHING);
    let subject = match event.text("object") {
        Some("v2.core.event") => Subject::Thin,
        _ => {
            subject(type_name, part("object"), part("previous_attributes")).unwrap_or(Subject::Unreadable(""))
        }
    };
    let request = event.get("request").unwrap_or(NOTHING);
    let key = request.members(&["idempotency_key"]).and_then(|request| request.text("idempotency_key"));
    let request = request.text().or_else(|| request.members(&["id"])?.text("id"));
    Ok(Event {
        id,
        type_name: type_name.to_owned(),
        created,
        livemode: event.bool("livemode"),
        account: event.text("account").filter(|text| !text.is_empty()).map(str::to_owned),
        context: event.text("context").filter(|text| !text.is_empty()).map(str::to_owned),
        api_version: event.text("api_version").filter(|text| is_word(text)).map(str::to_owned),
        request_id: request.filter(|text| is_word(text)).map(str::to_owned),
        idempotency_key: key.filter(|text| text.len() <= 255).map(str::to_owned),
        subject,
    })
}

fn is_word(text: &str) -> bool {
    let odd = |c: char| !c.is_ascii_alphanumeric() && !"._-[]".contains(c);
    !text.is_empty() && text.len() <= 255 && !text.contains(odd)
}

fn time(json: &Json) -> Option<i64> {
    let time = match json.text() {
        Some(text) => OffsetDateTime::parse(text, &Rfc3339).ok(),
        None => OffsetDateTime::from_unix_timestamp(json.int()?).ok(),
    };
    time.map(OffsetDateTime::unix_timestamp)
}

fn subject(type_name: &str, object: &Json, previous: &Json) -> Option<Subject> {
    let (family, change) = type_name.rsplit_once('.').unwrap_or(("", type_name));
    Some(match (family, change) {
        ("customer.subscription", _) => {
            let change = match change {
                "created" => SubscriptionEventKind::Created,
                "updated" | "paused" | "resumed" => SubscriptionEventKind::Changed,
                "deleted" => SubscriptionEventKind::Deleted,
                "trial_will_end" | "pending_update_applied" | "pending_update_expired" => {
                    SubscriptionEventKind::Announced
                }
                _ => return Some(Subject::Unhandled),
            };
            Subject::Subscription(change, Box::new(snapshot(object, previous)?))
        }
        ("checkout.session", _) => {
            let change = match change {
                "completed" => CheckoutEventKind::Completed,
                "async_payment_succeeded" => CheckoutEventKind::PaymentSucceeded,
                "async_payment_failed" => CheckoutEventKind::PaymentFailed,
                "expired" => CheckoutEventKind::Expired,
                _ => return Some(Subject::Unhandled),
            };
            Subject::Checkout(change, Box::new(session(object)?))
        }
        ("invoice", "paid") => Subject::Invoice(InvoiceEventKind::Paid, invoice(object)?),
        ("invoice", "payment_failed") => Subject::Invoice(InvoiceEventKind::PaymentFailed, invoice(object)?),
        ("invoice", "payment_action_required") => {
            Subject::Invoice(InvoiceEventKind::PaymentActionRequired, invoice(object)?)
        }
        ("customer", "created" | "updated") => {
            let customer = object.members(&["id", "metadata"])?;
            Subject::Customer(CustomerId::parse(customer.text("id")?).ok()?, metadata(customer))
        }
        ("customer", "deleted") => {
            Subject::CustomerDeleted(CustomerId::parse(object.members(&["id"])?.text("id")?).ok()?)
        }
        ("billing_portal.session", "created") => {
            Subject::PortalOpened(related(object.members(&["customer"])?, "customer")?.parse().ok()?)
        }
        _ => Subject::Unhandled,
    })
}

fn snapshot(object: &Json, previous: &Json) -> Option<Snapshot> {
    let object = object.members(&[
        "id",
        "customer",
        "status",
        "created",
        "items",
        "current_period_end",
        "trial_end",
        "cancel_at",
        "cancel_at_period_end",
        "ended_at",
        "latest_invoice",
        "metadata",
    ])?;
    let items = object.get("items").and_then(ListedItems::read).unwrap_or_default();
    Some(Snapshot {
        id: object.text("id")?.parse().ok()?,
        customer: related(object, "customer")?.parse().ok()?,
        state: State {
            status: Status::parse(object.text("status")?)?,
            started_at: object.int("created"),
            items: items.items,
            current_period_end: items.period_end.or(object.int("current_period_end")),
            trial_end: object.int("trial_end"),
            cancel_at: object.int("cancel_at"),
            cancel_at_period_end: object.bool("cancel_at_period_end") == Some(true),
            ended_at: object.int("ended_at"),
        },
        metadata: metadata(object),
        previous: replaced(previous),
        has_all_items: !items.has_more,
        latest_invoice: related(object, "latest_invoice").and_then(|id| id.parse().ok()),
    })
}

fn replaced(previous: &Json) -> Option<PreviousAttributes> {
    fn was<T>(was: Members<'_>, key: &str, read: impl Fn(&Json) -> Option<T>) -> PreviousValue<T> {
        was.get(key).map_or(PreviousValue::Unchanged, |value| PreviousValue::Was(read(value)))
    }
    let previous = previous.members(&[
        "status",
        "items",
        "current_period_end",
        "trial_end",
        "cancel_at",
        "cancel_at_period_end",
        "ended_at",
    ])?;
    let items_end =
        previous.get("items").and_then(ListedItems::read_complete).and_then(|items| items.period_end);
    let end = was(previous, "current_period_end", Json::int);
    Some(PreviousAttributes {
        status: was(previous, "status", |status| Status::parse(status.text()?)),
        items: was(previous, "items", |items| ListedItems::read_complete(items).map(|items| items.items)),
        current_period_end: items_end.map_or(end, |end| PreviousValue::Was(Some(end))),
        trial_end: was(previous, "trial_end", Json::int),
        cancel_at: was(previous, "cancel_at", Json::int),
        cancel_at_period_end: was(previous, "cancel_at_period_end", Json::bool),
        ended_at: was(previous, "ended_at", Json::int),
    })
}

#[derive(Default)]
struct ListedItems {
    items: Vec<Item>,
    period_end: Option<i64>,
    has_more: bool,
}

impl ListedItems {
    /// `None` if the list is truncated.
    fn read_complete(list: &Json) -> Option<Self> {
        Self::read(list).filter(|items| !items.has_more)
    }

    fn read(list: &Json) -> Option<Self> {
        let list = list.members(&["data", "has_more"])?;
        let mut read = Self { has_more: list.bool("has_more") == Some(true), ..Self::default() };
        let list = match list.get("data") {
            Some(Json::List(list)) => list.as_slice(),
            Some(_) => return None,
            None => &[],
        };
        for item in list.iter().take(MAX_ITEMS) {
            let item = item.members(&["price", "plan", "quantity", "current_period_end"]);
            let Some(item) = item else { continue };
            let period_end = item.int("current_period_end");
            read.period_end = read.period_end.into_iter().chain(period_end).min();
            let price = ["price", "plan"].iter().find_map(|key| price(item.get(key)?));
            let quantity = item.int("quantity");
            read.items.extend(price.map(|(price, lookup_key)| Item { price, lookup_key, quantity }));
        }
        Some(read)
    }
}

fn price(json: &Json) -> Option<(PriceId, Option<PriceId>)> {
    let price = json.members(&["id", "lookup_key"])?;
    let id = PriceId::parse(price.text("id")?).ok()?;
    Some((id, price.text("lookup_key").and_then(|key| PriceId::parse(key).ok())))
}

fn session(object: &Json) -> Option<Session> {
    let object = object.members(&[
        "id",
        "customer",
        "subscription",
        "client_reference_id",
        "payment_status",
        "metadata",
    ])?;
    Some(Session {
        id: SessionId::parse(object.text("id")?).ok()?,
        customer: related(object, "customer").and_then(|id| id.parse().ok()),
        subscription: related(object, "subscription").and_then(|id| id.parse().ok()),
        client_reference: object.text("client_reference_id").and_then(|id| id.parse().ok()),
        unpaid: object.text("payment_status") == Some("unpaid"),
        metadata: metadata(object),
    })
}

fn invoice(object: &Json) -> Option<Invoice> {
    fn details(members: Members<'_>) -> Option<Members<'_>> {
        members.get("subscription_details")?.members(&["subscription", "metadata"])
    }
    let object = object.members(&["customer", "subscription", "subscription_details", "parent"])?;
    let parent = object.get("parent").and_then(|parent| parent.members(&["subscription_details"]));
    let details = parent.and_then(details).or_else(|| details(object));
    let subscription = |members| related(members, "subscription").and_then(|id| id.parse().ok());
    Some(Invoice {
        customer: related(object, "customer")?.parse().ok()?,
        subscription: subscription(object).or_else(|| details.and_then(subscription)),
        journey: details.and_then(|details| metadata(details).journey),
    })
}

/// The id of a related object, which may be expanded.
fn related<'a>(members: Members<'a>, key: &str) -> Option<&'a str> {
    let reference = members.get(key)?;
    reference.text().or_else(|| reference.members(&["id"])?.text("id"))
}

fn metadata(members: Members<'_>) -> Metadata {
    let metadata = members
        .get("metadata")
        .and_then(|metadata| metadata.members(&["tenant_id", "traceparent", "deployment_id"]));
    let text = |key| metadata.and_then(|metadata| metadata.text(key));
    Metadata {
        tenant: text("tenant_id").and_then(|tenant| TenantId::parse(tenant).ok()),
        journey: text("traceparent").and_then(|journey| Traceparent::parse(journey).ok()),
        deployment: text("deployment_id").and_then(|id| DeploymentId::parse(id).ok()),
    }
}
