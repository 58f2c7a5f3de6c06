//! The shapes on the wire. Every field is [`Lenient`]: absent, `null` or of an unexpected type reads as nothing, so
//! that no change of Stripe's can cost us an event.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Invoice, Session, Tags};
use crate::domain::ids::{CustomerId, PriceId, SessionId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::json::object;
use crate::domain::ordering::{Previous, Replaced};
use crate::domain::subscription::{Item, Snapshot, State, Status};

/// The most items that a subscription can have is 20; four times that is read, so that a bound stands anyway.
const ITEMS: usize = 80;

/// A field that is there, or is not, but never fails.
#[derive(Clone)]
pub(super) struct Lenient<T>(Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Lenient<T> {
    pub(super) fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        self.0.clone()
    }

    fn as_ref(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        // No field that is read here is an array, though serde would take one for an object of the same values.
        let is_array = raw.get().starts_with('[');
        Ok(Self(if is_array { None } else { serde_json::from_str(raw.get()).ok() }))
    }
}

/// The event around its object.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(default)]
    pub(super) id: Lenient<String>,
    #[serde(default)]
    object: Lenient<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: Lenient<String>,
    #[serde(default)]
    created: Lenient<Created>,
    #[serde(default)]
    pub(super) livemode: Lenient<bool>,
    #[serde(default)]
    pub(super) account: Lenient<String>,
    #[serde(default)]
    pub(super) api_version: Lenient<String>,
    #[serde(default)]
    request: Lenient<Request>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Unix seconds in a snapshot event, RFC 3339 in a thin one.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Created {
    Seconds(i64),
    Text(String),
}

/// Before API version 2017-05-25 the request was its bare id.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Request {
    Id(String),
    Object { id: Option<String> },
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous_attributes: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    pub(super) fn is_thin(&self) -> bool {
        self.object.as_ref().is_some_and(|object| object == "v2.core.event")
    }

    /// A time that a calendar has: one beyond would make every later event an old one.
    pub(super) fn created_seconds(&self) -> Option<i64> {
        let time = match self.created.get()? {
            Created::Seconds(seconds) => OffsetDateTime::from_unix_timestamp(seconds),
            Created::Text(text) => {
                return Some(OffsetDateTime::parse(&text, &Rfc3339).ok()?.unix_timestamp());
            }
        };
        Some(time.ok()?.unix_timestamp())
    }

    pub(super) fn request_id(&self) -> Option<String> {
        match self.request.get()? {
            Request::Id(id) => Some(id),
            Request::Object { id } => id,
        }
    }

    /// The JSON of `data.object` and of `data.previous_attributes`; `null` where there is none, which no reader below
    /// accepts.
    pub(super) fn data(&self) -> (&'a str, &'a str) {
        let data: Option<Data<'a>> = self.data.and_then(|raw| object(raw.get()));
        let json = |raw: Option<&'a RawValue>| raw.map_or("null", RawValue::get);
        data.map_or(("null", "null"), |data| (json(data.object), json(data.previous_attributes)))
    }
}

/// A related object: its id, or the whole of it where the sender expanded it.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

fn reference<Id: FromStr>(field: &Lenient<Reference>) -> Option<Id> {
    field.as_ref().and_then(|reference| reference.id().parse().ok())
}

#[derive(Clone, Deserialize)]
struct Metadata {
    #[serde(default)]
    tenant_id: Lenient<String>,
    #[serde(default)]
    traceparent: Lenient<String>,
}

impl Metadata {
    fn tags(&self) -> Tags {
        fn read<T>(field: &Lenient<String>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
            field.as_ref().and_then(|text| parse(text))
        }
        Tags {
            tenant: read(&self.tenant_id, |text| TenantId::parse(text).ok()),
            journey: read(&self.traceparent, |text| Traceparent::parse(text).ok()),
        }
    }
}

fn tags(metadata: &Lenient<Metadata>) -> Tags {
    metadata.as_ref().map(Metadata::tags).unwrap_or_default()
}

#[derive(Deserialize)]
struct SubscriptionObject {
    id: String,
    customer: Reference,
    status: String,
    #[serde(default)]
    created: Lenient<i64>,
    #[serde(default)]
    items: Lenient<ItemList>,
    #[serde(default)]
    current_period_end: Lenient<i64>,
    #[serde(default)]
    trial_end: Lenient<i64>,
    #[serde(default)]
    cancel_at: Lenient<i64>,
    #[serde(default)]
    cancel_at_period_end: Lenient<bool>,
    #[serde(default)]
    ended_at: Lenient<i64>,
    #[serde(default)]
    metadata: Lenient<Metadata>,
}

#[derive(Clone, Deserialize)]
struct ItemList {
    #[serde(default)]
    data: FirstItems,
}

/// The first [`ITEMS`] of an array. The others are passed over as they come: a webhook may be an array of half a million,
/// and an item that was read is a hundred times as large as the `0` that it was read from.
#[derive(Clone, Default)]
struct FirstItems(Vec<Lenient<ItemObject>>);

impl<'de> Deserialize<'de> for FirstItems {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstItemsVisitor)
    }
}

struct FirstItemsVisitor;

impl<'de> Visitor<'de> for FirstItemsVisitor {
    type Value = FirstItems;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FirstItems, A::Error> {
        let mut items = Vec::new();
        while items.len() < ITEMS {
            let Some(item) = list.next_element()? else { break };
            items.push(item);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FirstItems(items))
    }
}

#[derive(Clone, Deserialize)]
struct ItemObject {
    #[serde(default)]
    price: Lenient<PriceObject>,
    /// What prices were called before 2020, still rendered beside them.
    #[serde(default)]
    plan: Lenient<PriceObject>,
    #[serde(default)]
    quantity: Lenient<i64>,
    /// Since 2025-03-31.basil the period is the item's.
    #[serde(default)]
    current_period_end: Lenient<i64>,
}

#[derive(Clone, Deserialize)]
struct PriceObject {
    id: String,
    #[serde(default)]
    lookup_key: Lenient<String>,
}

impl ItemObject {
    fn item(&self) -> Option<Item> {
        let mut prices = self.price.as_ref().into_iter().chain(self.plan.as_ref());
        let (id, price) = prices.find_map(|price| Some((PriceId::parse(&price.id).ok()?, price)))?;
        Some(Item {
            price: id,
            lookup_key: price.lookup_key.as_ref().and_then(|key| PriceId::parse(key).ok()),
            quantity: self.quantity.get(),
        })
    }
}

/// Reads a subscription; `None` if it has no id, customer or status.
pub(super) fn snapshot(json: &str) -> Option<Snapshot> {
    let object: SubscriptionObject = object(json)?;
    let items = object.items.as_ref().map(item_objects).unwrap_or_default();
    Some(Snapshot {
        id: object.id.parse().ok()?,
        customer: object.customer.id().parse().ok()?,
        state: State {
            status: Status::parse(&object.status)?,
            started_at: object.created.get(),
            items: items.iter().filter_map(ItemObject::item).collect(),
            current_period_end: period_end(&items).or(object.current_period_end.get()),
            trial_end: object.trial_end.get(),
            cancel_at: object.cancel_at.get(),
            cancel_at_period_end: object.cancel_at_period_end.get().unwrap_or(false),
            ended_at: object.ended_at.get(),
        },
        tags: tags(&object.metadata),
        previous: Previous::default(),
    })
}

/// A field of `previous_attributes`: there if the update changed it, whatever it was before.
struct Was<T>(Replaced<T>);

impl<T> Default for Was<T> {
    fn default() -> Self {
        Self(Replaced::Not)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Was<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Lenient(before) = Lenient::deserialize(deserializer)?;
        Ok(Self(Replaced::Value(before)))
    }
}

impl<T> Was<T> {
    /// The same in our own words; what has none was empty.
    fn read<U>(self, parse: impl FnOnce(T) -> Option<U>) -> Replaced<U> {
        match self.0 {
            Replaced::Not => Replaced::Not,
            Replaced::Value(before) => Replaced::Value(before.and_then(parse)),
        }
    }
}

#[derive(Deserialize)]
struct PreviousAttributes {
    #[serde(default)]
    status: Was<String>,
    #[serde(default)]
    items: Was<ItemList>,
    #[serde(default)]
    current_period_end: Was<i64>,
    #[serde(default)]
    trial_end: Was<i64>,
    #[serde(default)]
    cancel_at: Was<i64>,
    #[serde(default)]
    cancel_at_period_end: Was<bool>,
    #[serde(default)]
    ended_at: Was<i64>,
}

/// Reads what an update replaced; nothing if it says nothing.
pub(super) fn previous(json: &str) -> Previous {
    let Some(was) = object::<PreviousAttributes>(json) else { return Previous::default() };
    let items = was.items.read(|list| Some(item_objects(&list)));
    let period_of_items = match &items {
        Replaced::Value(Some(items)) => period_end(items),
        Replaced::Value(None) | Replaced::Not => None,
    };
    Previous {
        status: was.status.read(|status| Status::parse(&status)),
        items: Was(items).read(|items| Some(items.iter().filter_map(ItemObject::item).collect())),
        current_period_end: period_of_items
            .map_or(was.current_period_end.0, |period_end| Replaced::Value(Some(period_end))),
        trial_end: was.trial_end.0,
        cancel_at: was.cancel_at.0,
        cancel_at_period_end: was.cancel_at_period_end.0,
        ended_at: was.ended_at.0,
    }
}

fn item_objects(list: &ItemList) -> Vec<ItemObject> {
    list.data.0.iter().filter_map(Lenient::get).collect()
}

/// Of several items, the last end counts.
fn period_end(items: &[ItemObject]) -> Option<i64> {
    items.iter().filter_map(|item| item.current_period_end.get()).max()
}

#[derive(Deserialize)]
struct SessionObject {
    id: String,
    #[serde(default)]
    customer: Lenient<Reference>,
    #[serde(default)]
    subscription: Lenient<Reference>,
    #[serde(default)]
    client_reference_id: Lenient<String>,
    #[serde(default)]
    payment_status: Lenient<String>,
    #[serde(default)]
    metadata: Lenient<Metadata>,
}

/// Reads a checkout session; `None` if it has no id.
pub(super) fn session(json: &str) -> Option<Session> {
    let object: SessionObject = object(json)?;
    Some(Session {
        id: SessionId::parse(&object.id).ok()?,
        customer: reference::<CustomerId>(&object.customer),
        subscription: reference::<SubscriptionId>(&object.subscription),
        client_reference: object.client_reference_id.as_ref().and_then(|text| text.parse().ok()),
        unpaid: object.payment_status.as_ref().is_some_and(|status| status == "unpaid"),
        tags: tags(&object.metadata),
    })
}

#[derive(Deserialize)]
struct InvoiceObject {
    #[serde(default)]
    customer: Lenient<Reference>,
    /// Until 2025-03-31.basil.
    #[serde(default)]
    subscription: Lenient<Reference>,
    /// Until 2025-03-31.basil too.
    #[serde(default)]
    subscription_details: Lenient<InvoiceSubscription>,
    /// Since then.
    #[serde(default)]
    parent: Lenient<InvoiceParent>,
}

#[derive(Clone, Deserialize)]
struct InvoiceParent {
    #[serde(default)]
    subscription_details: Lenient<InvoiceSubscription>,
}

#[derive(Clone, Deserialize)]
struct InvoiceSubscription {
    #[serde(default)]
    subscription: Lenient<Reference>,
    #[serde(default)]
    metadata: Lenient<Metadata>,
}

/// Reads an invoice; `None` if it names no customer.
pub(super) fn invoice(json: &str) -> Option<Invoice> {
    let object: InvoiceObject = object(json)?;
    let in_parent = object.parent.as_ref().and_then(|parent| parent.subscription_details.as_ref());
    let details = in_parent.or(object.subscription_details.as_ref());
    Some(Invoice {
        customer: reference(&object.customer)?,
        subscription: reference(&object.subscription)
            .or_else(|| details.and_then(|details| reference(&details.subscription))),
        journey: details.and_then(|details| tags(&details.metadata).journey),
    })
}

#[derive(Deserialize)]
struct CustomerObject {
    id: String,
}

/// The id of a customer object.
pub(super) fn customer(json: &str) -> Option<CustomerId> {
    let object: CustomerObject = object(json)?;
    object.id.parse().ok()
}

#[derive(Deserialize)]
struct PortalObject {
    customer: Reference,
}

/// The customer for whom a portal session was opened.
pub(super) fn portal_customer(json: &str) -> Option<CustomerId> {
    let object: PortalObject = object(json)?;
    object.customer.id().parse().ok()
}
