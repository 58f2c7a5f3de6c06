//! Parses Stripe's events, of any API version since 2020.
//!
//! Unknown members, event types and enum values are accepted, and so are optional members that are
//! missing or of another type, since Stripe makes such changes without a new API version
//! (<https://docs.stripe.com/upgrades>). Only an id, a type and a creation time are required.
//!
//! Start reading at [`Event::read`]. `wire` has the structure of the JSON, `super::json` the JSON
//! reader.

mod wire;

use std::borrow::Cow;

use super::ids::{CustomerId, EventId, SessionId, SubscriptionId, TenantId};
use super::journey::Traceparent;
use super::json;
use super::metadata::Metadata;
use super::outcome::Outcome;
use super::previous_attributes::PreviousAttributes;
use super::subscription::{Item, Snapshot, SubscriptionEventKind};
use super::tenant::CheckoutStatus;

/// The parts of a Stripe event that Billhook uses.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Two events with the same id are duplicates.
    pub id: EventId,
    /// For example `customer.subscription.updated`.
    pub type_name: String,
    /// Whole Unix seconds. It does not order events within a second, and only roughly across
    /// seconds.
    pub created: i64,
    pub livemode: Option<bool>,
    /// The connected account of the event, if it is not the account of the API key.
    pub account: Option<String>,
    /// The value of `Stripe-Context` for requests about the event's object: its account, as seen by
    /// the owner of the event destination (<https://docs.stripe.com/context>).
    pub context: Option<String>,
    pub api_version: Option<String>,
    /// The API request that caused the event. `None` for automatic changes.
    pub request_id: Option<String>,
    /// Of that request.
    pub idempotency_key: Option<String>,
    pub subject: Subject,
}

/// The kind of an event, with the parts of its object that Billhook uses.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// `customer.subscription.*`
    Subscription(SubscriptionEventKind, Box<Snapshot>),
    /// `checkout.session.*`
    Checkout(CheckoutEventKind, Box<Session>),
    /// `invoice.paid`, `invoice.payment_failed` and `invoice.payment_action_required`
    Invoice(InvoiceEventKind, Invoice),
    /// `customer.created` and `customer.updated`
    Customer(CustomerId, Metadata),
    /// `customer.deleted`
    CustomerDeleted(CustomerId),
    /// `billing_portal.session.created`
    PortalOpened(CustomerId),
    /// A thin event (`v2.core.event`): names an object without its state.
    Thin,
    /// A type that Billhook handles, with an unreadable object. Says what is missing.
    Unreadable(&'static str),
    /// A type that Billhook does not handle.
    Unhandled,
}

/// A `checkout.session.*` type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutEventKind {
    /// `.completed`: a delayed payment may still be pending.
    Completed,
    /// `.async_payment_succeeded`: a delayed payment succeeded.
    PaymentSucceeded,
    /// `.async_payment_failed`: a delayed payment failed.
    PaymentFailed,
    /// `.expired`: not paid in time, or expired by Billhook.
    Expired,
}

impl CheckoutEventKind {
    /// The status of the checkout after this event. Only `.completed` depends on the session's
    /// `payment_status`.
    pub fn checkout_status(self, session: &Session) -> CheckoutStatus {
        match self {
            Self::Completed if session.unpaid => CheckoutStatus::AwaitingPayment,
            Self::Completed | Self::PaymentSucceeded => CheckoutStatus::Complete,
            Self::PaymentFailed => CheckoutStatus::PaymentFailed,
            Self::Expired => CheckoutStatus::Expired,
        }
    }
}

/// An `invoice.*` type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceEventKind {
    Paid,
    PaymentFailed,
    PaymentActionRequired,
}

impl InvoiceEventKind {
    pub fn parse(type_name: &str) -> Option<Self> {
        match type_name {
            "invoice.paid" => Some(Self::Paid),
            "invoice.payment_failed" => Some(Self::PaymentFailed),
            "invoice.payment_action_required" => Some(Self::PaymentActionRequired),
            _ => None,
        }
    }
}

/// The parts of a checkout session that Billhook uses.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub id: SessionId,
    pub customer: Option<CustomerId>,
    /// Created when the session is completed.
    pub subscription: Option<SubscriptionId>,
    /// `client_reference_id`. Anybody can set it in the URL of a Payment Link.
    pub client_reference: Option<TenantId>,
    /// `payment_status` is `unpaid`: a delayed payment is pending.
    pub unpaid: bool,
    pub metadata: Metadata,
}

/// The parts of an invoice that Billhook uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    pub customer: CustomerId,
    /// `None` if the invoice is not for a subscription.
    pub subscription: Option<SubscriptionId>,
    /// The origin of the subscription's journey, from the subscription's metadata.
    pub journey: Option<Traceparent>,
}

/// Why a signed body is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("the body is not a JSON object, or has a duplicate member")]
    NotJson,
    #[error("the event has no id of the form `evt_...`")]
    NoId,
    #[error("the event has no type")]
    NoType,
    #[error("the event has no valid `created` time")]
    NoCreated,
}

/// The `object` of a thin event.
const THIN_EVENT_OBJECT: &str = "v2.core.event";

pub const CUSTOMER_CREATED: &str = "customer.created";

const CUSTOMER_UPDATED: &str = "customer.updated";

/// The prefix of the idempotency keys with which Billhook's checkouts create customers.
pub const CUSTOMER_IDEMPOTENCY_KEY_PREFIX: &str = "billhook-customer-";

const PORTAL_OPENED: &str = "billing_portal.session.created";

/// Also the filter for listing events, which Stripe limits to 20 types.
pub const HANDLED_EVENT_TYPES: [&str; 19] = [
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    CUSTOMER_CREATED,
    CUSTOMER_UPDATED,
    "customer.deleted",
    PORTAL_OPENED,
];

/// For event types, API versions, request ids and idempotency keys. Stripe's longest event type has
/// 66 characters.
const MAX_TEXT_BYTES: usize = 255;

impl Event {
    pub fn read(bytes: &[u8]) -> Result<Self, UnreadableEvent> {
        let text = std::str::from_utf8(bytes).map_err(|_| UnreadableEvent::NotJson)?;
        let envelope: wire::Envelope<'_> = json::read(text).ok().flatten().ok_or(UnreadableEvent::NotJson)?;

        let id = envelope.id.get().and_then(|id| EventId::parse(&id).ok()).ok_or(UnreadableEvent::NoId)?;
        let type_name = envelope.kind.get().and_then(log_safe).ok_or(UnreadableEvent::NoType)?;
        let wire::Created(created) = envelope.created.get().ok_or(UnreadableEvent::NoCreated)?;
        let is_thin = envelope.object.get().is_some_and(|object| object == THIN_EVENT_OBJECT);
        let request = envelope.request.get().unwrap_or_default();
        let data = envelope.data.get().and_then(wire::Data::object_and_previous);
        let subject = if is_thin { Subject::Thin } else { subject(&type_name, data.unwrap_or_default()) };
        Ok(Self {
            id,
            type_name,
            created,
            livemode: envelope.livemode.get(),
            account: envelope.account.get().filter(|account| !account.is_empty()).map(Cow::into_owned),
            context: envelope.context.get().filter(|context| !context.is_empty()).map(Cow::into_owned),
            api_version: envelope.api_version.get().and_then(log_safe),
            request_id: request.id.and_then(log_safe),
            idempotency_key: request
                .idempotency_key
                .filter(|key| key.len() <= MAX_TEXT_BYTES)
                .map(Cow::into_owned),
            subject,
        })
    }

    pub fn customer(&self) -> Option<&CustomerId> {
        match &self.subject {
            Subject::Subscription(_, snapshot) => Some(&snapshot.customer),
            Subject::Checkout(_, session) => session.customer.as_ref(),
            Subject::Invoice(_, invoice) => Some(&invoice.customer),
            Subject::Customer(customer, _)
            | Subject::CustomerDeleted(customer)
            | Subject::PortalOpened(customer) => Some(customer),
            Subject::Thin | Subject::Unreadable(_) | Subject::Unhandled => None,
        }
    }

    pub fn subscription(&self) -> Option<&SubscriptionId> {
        match &self.subject {
            Subject::Subscription(_, snapshot) => Some(&snapshot.id),
            Subject::Checkout(_, session) => session.subscription.as_ref(),
            Subject::Invoice(_, invoice) => invoice.subscription.as_ref(),
            _ => None,
        }
    }

    pub fn is_customer_created_by_checkout(&self) -> bool {
        let is_from_checkout = |key: &String| key.starts_with(CUSTOMER_IDEMPOTENCY_KEY_PREFIX);
        self.type_name == CUSTOMER_CREATED && self.idempotency_key.as_ref().is_some_and(is_from_checkout)
    }

    /// The origin of the journey in the metadata of the event's object, or of an invoice's
    /// subscription.
    pub fn named_journey(&self) -> Option<Traceparent> {
        match &self.subject {
            Subject::Invoice(_, invoice) => invoice.journey,
            _ => self.metadata().and_then(|metadata| metadata.journey),
        }
    }

    /// The metadata of the event's object. An invoice has none: it must not link a tenant.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.subject {
            Subject::Subscription(_, snapshot) => Some(&snapshot.metadata),
            Subject::Checkout(_, session) => Some(&session.metadata),
            Subject::Customer(_, metadata) => Some(metadata),
            _ => None,
        }
    }
}

/// Whether the payload of an event may be kept after this outcome. A portal session contains its
/// URL, which gives access to the customer's billing. A customer contains personal data, and its
/// event is needed only until it is settled.
pub fn may_keep_payload(type_name: &str, outcome: Outcome) -> bool {
    match type_name {
        PORTAL_OPENED => false,
        CUSTOMER_CREATED | CUSTOMER_UPDATED => !outcome.is_settled(),
        _ => true,
    }
}

/// Only characters that Stripe uses in event types, API versions and request ids. Others could
/// corrupt log lines.
fn log_safe(text: Cow<'_, str>) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'[' | b']');
    let is_valid = (1..=MAX_TEXT_BYTES).contains(&text.len()) && text.bytes().all(is_plain);
    is_valid.then(|| text.into_owned())
}

fn subject(type_name: &str, (object, previous): (wire::Object<'_>, Option<PreviousAttributes>)) -> Subject {
    use {CheckoutEventKind as Checkout, InvoiceEventKind as Invoice, SubscriptionEventKind as Subscription};
    match type_name {
        "customer.subscription.created" => subscription(Subscription::Created, object, previous),
        "customer.subscription.updated"
        | "customer.subscription.paused"
        | "customer.subscription.resumed" => subscription(Subscription::Changed, object, previous),
        "customer.subscription.deleted" => subscription(Subscription::Deleted, object, previous),
        "customer.subscription.trial_will_end"
        | "customer.subscription.pending_update_applied"
        | "customer.subscription.pending_update_expired" => {
            subscription(Subscription::Announced, object, previous)
        }
        "checkout.session.completed" => checkout(Checkout::Completed, object),
        "checkout.session.async_payment_succeeded" => checkout(Checkout::PaymentSucceeded, object),
        "checkout.session.async_payment_failed" => checkout(Checkout::PaymentFailed, object),
        "checkout.session.expired" => checkout(Checkout::Expired, object),
        CUSTOMER_CREATED | CUSTOMER_UPDATED => match object.customer_and_metadata() {
            Some((customer, metadata)) => Subject::Customer(customer, metadata),
            None => Subject::Unreadable("the customer has no readable id"),
        },
        "customer.deleted" => object
            .customer()
            .map_or(Subject::Unreadable("the customer has no readable id"), Subject::CustomerDeleted),
        PORTAL_OPENED => object
            .portal_customer()
            .map_or(Subject::Unreadable("the portal session names no customer"), Subject::PortalOpened),
        other => Invoice::parse(other).map_or(Subject::Unhandled, |kind| invoice(kind, object)),
    }
}

fn subscription(
    kind: SubscriptionEventKind,
    object: wire::Object<'_>,
    previous: Option<PreviousAttributes>,
) -> Subject {
    match object.snapshot() {
        Some(snapshot) => Subject::Subscription(kind, Box::new(Snapshot { previous, ..snapshot })),
        None => Subject::Unreadable("the subscription has no id, customer or status"),
    }
}

fn checkout(kind: CheckoutEventKind, object: wire::Object<'_>) -> Subject {
    match object.session() {
        Some(session) => Subject::Checkout(kind, Box::new(session)),
        None => Subject::Unreadable("the checkout session has no id"),
    }
}

fn invoice(kind: InvoiceEventKind, object: wire::Object<'_>) -> Subject {
    match object.invoice() {
        Some(invoice) => Subject::Invoice(kind, invoice),
        None => Subject::Unreadable("the invoice names no customer"),
    }
}

/// Reads a subscription from an API response. `None` without id, customer or status.
pub fn read_subscription(bytes: &[u8]) -> Option<Snapshot> {
    read_object(bytes)?.snapshot()
}

/// Reads a customer's id and metadata from an API response. `None` without id.
pub fn read_customer(bytes: &[u8]) -> Option<(CustomerId, Metadata)> {
    read_object(bytes)?.customer_and_metadata()
}

/// One page of a subscription's items.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ItemPage {
    pub items: Vec<Item>,
    /// The earliest of the items, in Unix seconds.
    pub period_end: Option<i64>,
}

/// Reads a page of a subscription's items from an API response.
pub fn read_items(bytes: &[u8]) -> Option<ItemPage> {
    wire::read_items(str::from_utf8(bytes).ok()?)
}

/// Reads a checkout session from an API response. `None` without id.
pub fn read_session(bytes: &[u8]) -> Option<Session> {
    read_object(bytes)?.session()
}

fn read_object(bytes: &[u8]) -> Option<wire::Object<'_>> {
    json::read(str::from_utf8(bytes).ok()?).ok()?
}

#[cfg(test)]
mod tests;
