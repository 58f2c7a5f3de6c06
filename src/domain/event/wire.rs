//! The JSON structure of events and objects. A [`Member`] that is absent, `null` or of an
//! unexpected type reads as `None`, so that no change by Stripe makes an event unreadable.
//!
//! An event is read in one pass, and its type may come after its object. So [`Object`] has the
//! members of every kind of object that we read, and is converted to one of them once the type is
//! known.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::{Deserializer, Error, MapAccess};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::metadata::Metadata;
use super::{Invoice, ItemPage, Session};
use crate::domain::ids::{CustomerId, DeploymentId, PriceId, SessionId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::json::{self, FirstItems, FromJson, FromObject, RawJson};
use crate::domain::previous_attributes::{PreviousAttributes, PreviousValue};
use crate::domain::subscription::{Item, Snapshot, State, Status};

/// Four times Stripe's limit of 20 items per subscription. A bound is needed, since a body could
/// list half a million items, and a parsed item needs a hundred times the memory of a `0` in the
/// JSON.
const MAX_ITEMS: usize = 80;

#[derive(Default)]
pub(super) enum Member<T> {
    #[default]
    Absent,
    /// `None` if the value cannot be read.
    Once(Option<T>),
    /// Ambiguous, since some parsers take the first value and some the last. An object that needs
    /// the member is unreadable.
    Twice,
}

impl<T> Member<T> {
    pub(super) fn get(self) -> Option<T> {
        self.once().flatten()
    }

    /// `None` if the member is there twice.
    #[expect(
        clippy::option_option,
        reason = "the outer `None` makes the object unreadable, the inner one is the member's"
    )]
    fn once(self) -> Option<Option<T>> {
        match self {
            Self::Absent => Some(None),
            Self::Once(value) => Some(value),
            Self::Twice => None,
        }
    }

    /// For a member of `previous_attributes`: present if the update changed it. A previous value
    /// that cannot be parsed counts as empty.
    fn replaced<U>(self, parse: impl FnOnce(T) -> Option<U>) -> Option<PreviousValue<U>> {
        match self {
            Self::Absent => Some(PreviousValue::Unchanged),
            Self::Once(before) => Some(PreviousValue::Was(before.and_then(parse))),
            Self::Twice => None,
        }
    }

    fn read<'a, M: MapAccess<'a>>(&mut self, object: &mut M) -> Result<(), M::Error>
    where
        T: FromJson<'a>,
    {
        let value = json::read_value(object)?;
        *self = if matches!(self, Self::Absent) { Self::Once(value) } else { Self::Twice };
        Ok(())
    }

    /// Fails if the member is there twice: for members that every event needs.
    fn read_once<'a, M: MapAccess<'a>>(&mut self, object: &mut M) -> Result<(), M::Error>
    where
        T: FromJson<'a>,
    {
        self.read(object)?;
        if matches!(self, Self::Twice) { Err(M::Error::custom("duplicate member")) } else { Ok(()) }
    }
}

type Text<'a> = Member<Cow<'a, str>>;

/// Reads the listed members of an object, whose fields have the same names, and skips all others.
macro_rules! members {
    ($object:ident $(<$life:lifetime>)?: $($member:ident),+ $(,)?) => {
        impl<'a> FromObject<'a> for $object $(<$life>)? {
            fn read_member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error> {
                match name {
                    $(stringify!($member) => self.$member.read(object),)+
                    _ => json::skip_value(object),
                }
            }
        }
    };
}

#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) id: Text<'a>,
    pub(super) object: Text<'a>,
    pub(super) kind: Text<'a>,
    pub(super) created: Member<Created>,
    pub(super) livemode: Member<bool>,
    pub(super) account: Text<'a>,
    pub(super) context: Text<'a>,
    pub(super) api_version: Text<'a>,
    pub(super) request: Member<Request<'a>>,
    pub(super) data: Member<Data<'a>>,
}

impl<'a> FromObject<'a> for Envelope<'a> {
    fn read_member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error> {
        match name {
            "id" => self.id.read_once(object),
            "object" => self.object.read_once(object),
            "type" => self.kind.read_once(object),
            "created" => self.created.read_once(object),
            "livemode" => self.livemode.read_once(object),
            "account" => self.account.read_once(object),
            "context" => self.context.read_once(object),
            "api_version" => self.api_version.read_once(object),
            "request" => self.request.read_once(object),
            "data" => self.data.read_once(object),
            _ => json::skip_value(object),
        }
    }
}

/// The API request that caused the event.
#[derive(Default)]
pub(super) struct Request<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) idempotency_key: Option<Cow<'a, str>>,
}

impl<'a> FromJson<'a> for Request<'a> {
    /// Events of API versions before 2017-05-25 have only the id.
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let request = RawJson::read(value)?;
        if let Some(id) = request.string() {
            return Ok(Some(Self { id: Some(id), idempotency_key: None }));
        }
        let read = |RequestObject { id, idempotency_key }| Self {
            id: id.get(),
            idempotency_key: idempotency_key.get(),
        };
        Ok(request.parse().map(read))
    }
}

#[derive(Default)]
struct RequestObject<'a> {
    id: Text<'a>,
    idempotency_key: Text<'a>,
}

members!(RequestObject<'a>: id, idempotency_key);

/// Unix seconds in a snapshot event, RFC 3339 in a thin one. Must be a valid date: a far future
/// `created` would make every later event stale.
pub(super) struct Created(pub(super) i64);

impl<'a> FromJson<'a> for Created {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let created = RawJson::read(value)?;
        let time = match created.string() {
            Some(text) => OffsetDateTime::parse(&text, &Rfc3339).ok(),
            None => created.integer().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok()),
        };
        Ok(time.map(|time| Self(time.unix_timestamp())))
    }
}

#[derive(Default)]
pub(super) struct Data<'a> {
    object: Member<Object<'a>>,
    previous_attributes: Member<PreviousObject<'a>>,
}

members!(Data<'a>: object, previous_attributes);

impl<'a> Data<'a> {
    /// The object, and the values that an update of it replaced.
    pub(super) fn object_and_previous(self) -> Option<(Object<'a>, Option<PreviousAttributes>)> {
        let object = self.object.once()?.unwrap_or_default();
        let previous = self.previous_attributes.once()?.and_then(PreviousObject::previous);
        Some((object, previous))
    }
}

/// The object of an event or an API response, of any kind that we read.
#[derive(Default)]
pub(super) struct Object<'a> {
    id: Text<'a>,
    customer: Member<Reference<'a>>,
    metadata: Member<MetadataObject<'a>>,

    status: Text<'a>,
    created: Member<i64>,
    items: Member<ItemList<'a>>,
    current_period_end: Member<i64>,
    trial_end: Member<i64>,
    cancel_at: Member<i64>,
    cancel_at_period_end: Member<bool>,
    ended_at: Member<i64>,
    latest_invoice: Member<Reference<'a>>,

    /// Of a session, and of an invoice until 2025-03-31.basil.
    subscription: Member<Reference<'a>>,
    client_reference_id: Text<'a>,
    payment_status: Text<'a>,

    /// Of an invoice until 2025-03-31.basil.
    subscription_details: Member<InvoiceSubscription<'a>>,
    /// Of an invoice since 2025-03-31.basil.
    parent: Member<InvoiceParent<'a>>,
}

members!(
    Object<'a>: id, customer, metadata, status, created, items, current_period_end, trial_end, cancel_at,
    cancel_at_period_end, ended_at, latest_invoice, subscription, client_reference_id, payment_status, subscription_details, parent,
);

impl Object<'_> {
    /// `None` without id, customer or status.
    pub(super) fn snapshot(self) -> Option<Snapshot> {
        let items = self.items.once()?.and_then(ItemList::items).unwrap_or_default();
        Some(Snapshot {
            id: self.id.get()?.parse().ok()?,
            customer: self.customer.get()?.parse()?,
            state: State {
                status: Status::parse(&self.status.get()?)?,
                started_at: self.created.once()?,
                items: items.items,
                current_period_end: items.period_end.or(self.current_period_end.once()?),
                trial_end: self.trial_end.once()?,
                cancel_at: self.cancel_at.once()?,
                cancel_at_period_end: self.cancel_at_period_end.once()?.unwrap_or(false),
                ended_at: self.ended_at.once()?,
            },
            metadata: self.metadata.once()?.and_then(MetadataObject::parse).unwrap_or_default(),
            previous: None,
            has_all_items: !items.has_more,
            latest_invoice: self.latest_invoice.once()?.and_then(Reference::parse),
        })
    }

    /// `None` without id.
    pub(super) fn session(self) -> Option<Session> {
        Some(Session {
            id: SessionId::parse(&self.id.get()?).ok()?,
            customer: self.customer.once()?.and_then(Reference::parse),
            subscription: self.subscription.once()?.and_then(Reference::parse),
            client_reference: self.client_reference_id.once()?.and_then(|text| text.parse().ok()),
            unpaid: self.payment_status.once()?.is_some_and(|status| status == "unpaid"),
            metadata: self.metadata.once()?.and_then(MetadataObject::parse).unwrap_or_default(),
        })
    }

    /// `None` without customer.
    pub(super) fn invoice(self) -> Option<Invoice> {
        let (details, parent) = (self.subscription_details.once()?, self.parent.once()?);
        let in_parent = parent.and_then(|parent| parent.subscription_details.get());
        let read = InvoiceSubscription::id_and_journey;
        let details = in_parent.and_then(read).or_else(|| details.and_then(read));
        let (subscription, journey) = details.unwrap_or_default();
        Some(Invoice {
            customer: self.customer.get()?.parse()?,
            subscription: self.subscription.once()?.and_then(Reference::parse).or(subscription),
            journey,
        })
    }

    pub(super) fn customer(self) -> Option<CustomerId> {
        self.id.get()?.parse().ok()
    }

    pub(super) fn customer_and_metadata(self) -> Option<(CustomerId, Metadata)> {
        let metadata = self.metadata.once()?.and_then(MetadataObject::parse).unwrap_or_default();
        Some((self.id.get()?.parse().ok()?, metadata))
    }

    pub(super) fn portal_customer(self) -> Option<CustomerId> {
        self.customer.get()?.parse()
    }
}

/// A related object: its id, or the whole object if it is expanded.
pub(super) struct Reference<'a>(pub(super) Cow<'a, str>);

impl Reference<'_> {
    fn parse<Id: FromStr>(self) -> Option<Id> {
        self.0.parse().ok()
    }
}

impl<'a> FromJson<'a> for Reference<'a> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let reference = RawJson::read(value)?;
        let expanded = || reference.parse().and_then(|Expanded { id }| id.get());
        Ok(reference.string().or_else(expanded).map(Self))
    }
}

#[derive(Default)]
struct Expanded<'a> {
    id: Text<'a>,
}

members!(Expanded<'a>: id);

#[derive(Default)]
struct MetadataObject<'a> {
    tenant_id: Text<'a>,
    traceparent: Text<'a>,
    deployment_id: Text<'a>,
}

members!(MetadataObject<'a>: tenant_id, traceparent, deployment_id);

impl MetadataObject<'_> {
    fn parse(self) -> Option<Metadata> {
        Some(Metadata {
            tenant: self.tenant_id.once()?.and_then(|text| TenantId::parse(&text).ok()),
            journey: self.traceparent.once()?.and_then(|text| Traceparent::parse(&text).ok()),
            deployment: self.deployment_id.once()?.and_then(|text| DeploymentId::parse(&text).ok()),
        })
    }
}

#[derive(Default)]
struct ItemList<'a> {
    data: Member<FirstItems<ItemObject<'a>, MAX_ITEMS>>,
    has_more: Member<bool>,
}

members!(ItemList<'a>: data, has_more);

/// The readable items of a list.
#[derive(Default)]
struct ListedItems {
    items: Vec<Item>,
    /// The earliest of the items, as in the subscription's own field before 2025-03-31.basil.
    period_end: Option<i64>,
    /// Whether the list is incomplete.
    has_more: bool,
}

impl ItemList<'_> {
    /// No items if `data` is absent. `None` if `data` is not a list.
    fn items(self) -> Option<ListedItems> {
        let has_more = self.has_more.once()? == Some(true);
        let mut listed = ListedItems { has_more, ..ListedItems::default() };
        if matches!(self.data, Member::Absent) {
            return Some(listed);
        }
        let FirstItems(items) = self.data.get()?;
        for item in items {
            listed.add(item);
        }
        Some(listed)
    }
}

impl ListedItems {
    /// Adds the readable parts of an item. `None` if a member is there twice.
    fn add(&mut self, item: ItemObject<'_>) -> Option<()> {
        let (price, plan) = (item.price.once()?, item.plan.once()?);
        let (quantity, period_end) = (item.quantity.once()?, item.current_period_end.once()?);
        self.period_end = self.period_end.into_iter().chain(period_end).min();
        let price = price.and_then(PriceObject::ids).or_else(|| plan.and_then(PriceObject::ids));
        self.items.extend(price.map(|(price, lookup_key)| Item { price, lookup_key, quantity }));
        Some(())
    }
}

pub(super) fn read_items(text: &str) -> Option<ItemPage> {
    let list: ItemList<'_> = json::read(text).ok()??;
    let ListedItems { items, period_end, .. } = list.items()?;
    Some(ItemPage { items, period_end })
}

#[derive(Default)]
struct ItemObject<'a> {
    price: Member<PriceObject<'a>>,
    /// The predecessor of prices, before 2020. Stripe still sends both.
    plan: Member<PriceObject<'a>>,
    quantity: Member<i64>,
    /// On the item since 2025-03-31.basil, on the subscription before.
    current_period_end: Member<i64>,
}

members!(ItemObject<'a>: price, plan, quantity, current_period_end);

#[derive(Default)]
struct PriceObject<'a> {
    id: Text<'a>,
    lookup_key: Text<'a>,
}

members!(PriceObject<'a>: id, lookup_key);

impl PriceObject<'_> {
    fn ids(self) -> Option<(PriceId, Option<PriceId>)> {
        let id = PriceId::parse(&self.id.get()?).ok()?;
        let lookup_key = self.lookup_key.once()?;
        Some((id, lookup_key.and_then(|key| PriceId::parse(&key).ok())))
    }
}

#[derive(Default)]
struct PreviousObject<'a> {
    status: Text<'a>,
    items: Member<ItemList<'a>>,
    current_period_end: Member<i64>,
    trial_end: Member<i64>,
    cancel_at: Member<i64>,
    cancel_at_period_end: Member<bool>,
    ended_at: Member<i64>,
}

members!(
    PreviousObject<'a>: status, items, current_period_end, trial_end, cancel_at, cancel_at_period_end, ended_at,
);

impl PreviousObject<'_> {
    fn previous(self) -> Option<PreviousAttributes> {
        let mut end_of_items = None;
        let items = self.items.replaced(|list| {
            // An incomplete list does not say which items were replaced.
            let items = list.items().filter(|items| !items.has_more)?;
            end_of_items = items.period_end;
            Some(items.items)
        })?;
        let end = self.current_period_end.replaced(Some)?;
        Some(PreviousAttributes {
            status: self.status.replaced(|status| Status::parse(&status))?,
            items,
            current_period_end: end_of_items.map_or(end, |end| PreviousValue::Was(Some(end))),
            trial_end: self.trial_end.replaced(Some)?,
            cancel_at: self.cancel_at.replaced(Some)?,
            cancel_at_period_end: self.cancel_at_period_end.replaced(Some)?,
            ended_at: self.ended_at.replaced(Some)?,
        })
    }
}

#[derive(Default)]
struct InvoiceParent<'a> {
    subscription_details: Member<InvoiceSubscription<'a>>,
}

members!(InvoiceParent<'a>: subscription_details);

#[derive(Default)]
struct InvoiceSubscription<'a> {
    subscription: Member<Reference<'a>>,
    metadata: Member<MetadataObject<'a>>,
}

members!(InvoiceSubscription<'a>: subscription, metadata);

impl InvoiceSubscription<'_> {
    fn id_and_journey(self) -> Option<(Option<SubscriptionId>, Option<Traceparent>)> {
        let subscription = self.subscription.once()?.and_then(Reference::parse);
        let metadata = self.metadata.once()?.and_then(MetadataObject::parse);
        Some((subscription, metadata.and_then(|metadata| metadata.journey)))
    }
}
