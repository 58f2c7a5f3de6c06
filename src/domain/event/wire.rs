//! The shapes on the wire. Absent, `null` or of an unexpected type a [`Member`] reads as nothing, so that no change of
//! Stripe's can cost us an event.
//!
//! An event is read in one pass, and its type may stand behind its object. So [`Object`] has the members of every object
//! that is read, and becomes one of them once the type is known.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::{Deserializer, Error, MapAccess};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::tags::Tags;
use super::{Invoice, ItemPage, Session};
use crate::domain::ids::{CustomerId, DeploymentId, PriceId, SessionId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::json::{self, FirstItems, FromJson, Members, Written};
use crate::domain::previous::{Previous, Replaced};
use crate::domain::subscription::{Item, Snapshot, State, Status};

/// The most items that a subscription can have is 20; four times that is read, so that a bound stands anyway: a webhook may be
/// a list of half a million, and an item that was read is a hundred times as large as the `0` that it was read from.
const ITEMS: usize = 80;

/// A member of an object.
#[derive(Default)]
pub(super) enum Member<T> {
    #[default]
    Absent,
    /// With a value that can be read, or cannot.
    Once(Option<T>),
    /// Of two values one reader takes the first and another the last. Whoever needs the member cannot read the object.
    Twice,
}

impl<T> Member<T> {
    /// What it says, if that can be read.
    pub(super) fn get(self) -> Option<T> {
        self.once().flatten()
    }

    /// The same, and `None` if it is there twice.
    #[expect(
        clippy::option_option,
        reason = "the outer ends the reading of the object, the inner is its member's"
    )]
    fn once(self) -> Option<Option<T>> {
        match self {
            Self::Absent => Some(None),
            Self::Once(value) => Some(value),
            Self::Twice => None,
        }
    }

    /// The same of a member of `previous_attributes`: there if the update changed it, whatever it was before. What we have
    /// no words for was empty.
    fn replaced<U>(self, parse: impl FnOnce(T) -> Option<U>) -> Option<Replaced<U>> {
        match self {
            Self::Absent => Some(Replaced::Not),
            Self::Once(before) => Some(Replaced::Value(before.and_then(parse))),
            Self::Twice => None,
        }
    }

    fn read<'a, M: MapAccess<'a>>(&mut self, object: &mut M) -> Result<(), M::Error>
    where
        T: FromJson<'a>,
    {
        let read = json::member(object)?;
        *self = if matches!(self, Self::Absent) { Self::Once(read) } else { Self::Twice };
        Ok(())
    }

    /// Reads a member that everybody needs, so that there is no reading on if it is there twice.
    fn read_once<'a, M: MapAccess<'a>>(&mut self, object: &mut M) -> Result<(), M::Error>
    where
        T: FromJson<'a>,
    {
        self.read(object)?;
        if matches!(self, Self::Twice) { Err(M::Error::custom("a member is there twice")) } else { Ok(()) }
    }
}

type Text<'a> = Member<Cow<'a, str>>;

/// Reads these members of an object, each by the name that it has here, and passes over all others.
macro_rules! members {
    ($object:ident $(<$life:lifetime>)?: $($member:ident),+ $(,)?) => {
        impl<'a> Members<'a> for $object $(<$life>)? {
            fn member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error> {
                match name {
                    $(stringify!($member) => self.$member.read(object),)+
                    _ => json::skip(object),
                }
            }
        }
    };
}

/// The event around its object.
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

impl<'a> Members<'a> for Envelope<'a> {
    fn member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error> {
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
            _ => json::skip(object),
        }
    }
}

/// The request that caused an event: its id, and the idempotency key that it had.
#[derive(Default)]
pub(super) struct Request<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) idempotency_key: Option<Cow<'a, str>>,
}

impl<'a> FromJson<'a> for Request<'a> {
    /// Before API version 2017-05-25 the request was its bare id.
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let request = Written::read(value)?;
        if let Some(id) = request.text() {
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

/// Unix seconds in a snapshot event, RFC 3339 in a thin one. A time that a calendar has: one beyond would make every
/// later event an old one.
pub(super) struct Created(pub(super) i64);

impl<'a> FromJson<'a> for Created {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let created = Written::read(value)?;
        let time = match created.text() {
            Some(text) => OffsetDateTime::parse(&text, &Rfc3339).ok(),
            None => created.whole_number().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok()),
        };
        Ok(time.map(|time| Self(time.unix_timestamp())))
    }
}

/// What an event bears of its object.
#[derive(Default)]
pub(super) struct Data<'a> {
    object: Member<Object<'a>>,
    previous_attributes: Member<PreviousAttributes<'a>>,
}

members!(Data<'a>: object, previous_attributes);

impl<'a> Data<'a> {
    /// The object, and what an update of it replaced.
    pub(super) fn object_and_previous(self) -> Option<(Object<'a>, Option<Previous>)> {
        let object = self.object.once()?.unwrap_or_default();
        let previous = self.previous_attributes.once()?.and_then(PreviousAttributes::previous);
        Some((object, previous))
    }
}

/// The object of an event, or of one of Stripe's answers: whichever of those that are read.
#[derive(Default)]
pub(super) struct Object<'a> {
    id: Text<'a>,
    customer: Member<Reference<'a>>,
    metadata: Member<Metadata<'a>>,

    status: Text<'a>,
    created: Member<i64>,
    items: Member<ItemList<'a>>,
    current_period_end: Member<i64>,
    trial_end: Member<i64>,
    cancel_at: Member<i64>,
    cancel_at_period_end: Member<bool>,
    ended_at: Member<i64>,
    latest_invoice: Member<Reference<'a>>,

    /// A session's, and until 2025-03-31.basil an invoice's.
    subscription: Member<Reference<'a>>,
    client_reference_id: Text<'a>,
    payment_status: Text<'a>,

    /// Until 2025-03-31.basil too.
    subscription_details: Member<InvoiceSubscription<'a>>,
    /// Since then.
    parent: Member<InvoiceParent<'a>>,
}

members!(
    Object<'a>: id, customer, metadata, status, created, items, current_period_end, trial_end, cancel_at,
    cancel_at_period_end, ended_at, latest_invoice, subscription, client_reference_id, payment_status, subscription_details, parent,
);

impl Object<'_> {
    /// The subscription that it is; `None` if it has no id, customer or status.
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
            tags: self.metadata.once()?.and_then(Metadata::tags).unwrap_or_default(),
            previous: None,
            has_all_items: !items.has_more,
            latest_invoice: self.latest_invoice.once()?.and_then(Reference::parse),
        })
    }

    /// The checkout session that it is; `None` if it has no id.
    pub(super) fn session(self) -> Option<Session> {
        Some(Session {
            id: SessionId::parse(&self.id.get()?).ok()?,
            customer: self.customer.once()?.and_then(Reference::parse),
            subscription: self.subscription.once()?.and_then(Reference::parse),
            client_reference: self.client_reference_id.once()?.and_then(|text| text.parse().ok()),
            unpaid: self.payment_status.once()?.is_some_and(|status| status == "unpaid"),
            tags: self.metadata.once()?.and_then(Metadata::tags).unwrap_or_default(),
        })
    }

    /// The invoice that it is; `None` if it names no customer.
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

    /// The customer that it is.
    pub(super) fn customer(self) -> Option<CustomerId> {
        self.id.get()?.parse().ok()
    }

    /// The customer that it is, and what its metadata says.
    pub(super) fn tagged_customer(self) -> Option<(CustomerId, Tags)> {
        let tags = self.metadata.once()?.and_then(Metadata::tags).unwrap_or_default();
        Some((self.id.get()?.parse().ok()?, tags))
    }

    /// The customer for whom the portal session that it is was opened.
    pub(super) fn portal_customer(self) -> Option<CustomerId> {
        self.customer.get()?.parse()
    }
}

/// A related object: its id, or the whole of it where the sender expanded it.
pub(super) struct Reference<'a>(pub(super) Cow<'a, str>);

impl Reference<'_> {
    fn parse<Id: FromStr>(self) -> Option<Id> {
        self.0.parse().ok()
    }
}

impl<'a> FromJson<'a> for Reference<'a> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let reference = Written::read(value)?;
        let in_object = || reference.parse().and_then(|Expanded { id }| id.get());
        Ok(reference.text().or_else(in_object).map(Self))
    }
}

#[derive(Default)]
struct Expanded<'a> {
    id: Text<'a>,
}

members!(Expanded<'a>: id);

#[derive(Default)]
struct Metadata<'a> {
    tenant_id: Text<'a>,
    traceparent: Text<'a>,
    deployment_id: Text<'a>,
}

members!(Metadata<'a>: tenant_id, traceparent, deployment_id);

impl Metadata<'_> {
    fn tags(self) -> Option<Tags> {
        Some(Tags {
            tenant: self.tenant_id.once()?.and_then(|text| TenantId::parse(&text).ok()),
            journey: self.traceparent.once()?.and_then(|text| Traceparent::parse(&text).ok()),
            deployment: self.deployment_id.once()?.and_then(|text| DeploymentId::parse(&text).ok()),
        })
    }
}

#[derive(Default)]
struct ItemList<'a> {
    data: Member<FirstItems<ItemObject<'a>, ITEMS>>,
    has_more: Member<bool>,
}

members!(ItemList<'a>: data, has_more);

/// The items of a list, as far as they can be read.
#[derive(Default)]
struct ListedItems {
    items: Vec<Item>,
    /// Of several items, the earliest end counts, as it did in the subscription's own field before 2025-03-31.basil.
    period_end: Option<i64>,
    /// Whether Stripe has left some out.
    has_more: bool,
}

impl ItemList<'_> {
    /// The items; none in a list that says nothing of any, but `None` if it says something else.
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
    /// Adds an item as far as it can be read.
    fn add(&mut self, item: ItemObject<'_>) -> Option<()> {
        let (price, plan) = (item.price.once()?, item.plan.once()?);
        let (quantity, period_end) = (item.quantity.once()?, item.current_period_end.once()?);
        self.period_end = earliest(self.period_end, period_end);
        let price = price.and_then(PriceObject::ids).or_else(|| plan.and_then(PriceObject::ids));
        self.items.extend(price.map(|(price, lookup_key)| Item { price, lookup_key, quantity }));
        Some(())
    }
}

/// Reads a list of items that is no part of an object.
pub(super) fn read_items(text: &str) -> Option<ItemPage> {
    let list: ItemList<'_> = json::read(text).ok()??;
    let ListedItems { items, period_end, .. } = list.items()?;
    Some(ItemPage { items, period_end })
}

fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

#[derive(Default)]
struct ItemObject<'a> {
    price: Member<PriceObject<'a>>,
    /// What prices were called before 2020, still rendered beside them.
    plan: Member<PriceObject<'a>>,
    quantity: Member<i64>,
    /// Since 2025-03-31.basil the period is the item's.
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
struct PreviousAttributes<'a> {
    status: Text<'a>,
    items: Member<ItemList<'a>>,
    current_period_end: Member<i64>,
    trial_end: Member<i64>,
    cancel_at: Member<i64>,
    cancel_at_period_end: Member<bool>,
    ended_at: Member<i64>,
}

members!(
    PreviousAttributes<'a>: status, items, current_period_end, trial_end, cancel_at, cancel_at_period_end, ended_at,
);

impl PreviousAttributes<'_> {
    fn previous(self) -> Option<Previous> {
        let mut end_of_items = None;
        let items = self.items.replaced(|list| {
            // What was replaced is known only if all of it is there.
            let items = list.items().filter(|items| !items.has_more)?;
            end_of_items = items.period_end;
            Some(items.items)
        })?;
        let end = self.current_period_end.replaced(Some)?;
        Some(Previous {
            status: self.status.replaced(|status| Status::parse(&status))?,
            items,
            current_period_end: end_of_items.map_or(end, |end| Replaced::Value(Some(end))),
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
    metadata: Member<Metadata<'a>>,
}

members!(InvoiceSubscription<'a>: subscription, metadata);

impl InvoiceSubscription<'_> {
    /// What it names of the subscription, and of the journey that it was bought in.
    fn id_and_journey(self) -> Option<(Option<SubscriptionId>, Option<Traceparent>)> {
        let subscription = self.subscription.once()?.and_then(Reference::parse);
        let tags = self.metadata.once()?.and_then(Metadata::tags);
        Some((subscription, tags.and_then(|tags| tags.journey)))
    }
}
