//! Bytes to [`Event`]: tolerant of every API version, strict about what Billhook needs.
//!
//! Unknown fields, unknown types, unknown enum values and missing or oddly typed optional fields are fine, since
//! Stripe adds all of these without a new API version (<https://docs.stripe.com/upgrades>). What cannot be done
//! without is an id, a type and a time.
//!
//! Start reading at [`Event::read`]. `wire` has the shapes of the JSON, and `json` beside this folder reads them.

mod wire;

use std::borrow::Cow;

use super::ids::{CustomerId, EventId, SessionId, SubscriptionId, TenantId};
use super::journey::Traceparent;
use super::json;
use super::outcome::Outcome;
use super::previous::Previous;
use super::subscription::{Item, Snapshot, SubscriptionChange};
use super::tags::Tags;
use super::tenant::CheckoutStatus;

/// One Stripe event, read as far as Billhook cares.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `evt_...`: what makes a repeat a repeat.
    pub id: EventId,
    /// Stripe's word for what happened, such as `customer.subscription.updated`.
    pub type_name: String,
    /// When Stripe made the event, in whole seconds. No order within a second, and a weak one beyond.
    pub created: i64,
    /// Live or test data; `None` when the event does not say.
    pub livemode: Option<bool>,
    /// The connected account that the event belongs to, when it is not the key's own.
    pub account: Option<String>,
    /// What Stripe wants to be told in `Stripe-Context` to reach the event's object: the account that it belongs to, seen from
    /// the owner of the event destination (<https://docs.stripe.com/context>).
    pub context: Option<String>,
    /// The API version that rendered the event.
    pub api_version: Option<String>,
    /// Stripe's id of the request that caused the event; none for automatic changes.
    pub request_id: Option<String>,
    /// The idempotency key of that request.
    pub idempotency_key: Option<String>,
    /// What the event is about.
    pub subject: Subject,
}

/// What an event is about, with the part of its object that Billhook reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// `customer.subscription.*`: how the subscription stood.
    Subscription(SubscriptionChange, Box<Snapshot>),
    /// `checkout.session.*`.
    Checkout(CheckoutChange, Box<Session>),
    /// `invoice.paid` and the two that tell of a payment problem.
    Invoice(InvoiceChange, Invoice),
    /// `customer.created` and `.updated`: what the customer's metadata says.
    Customer(CustomerId, Tags),
    /// `customer.deleted`.
    CustomerDeleted(CustomerId),
    /// `billing_portal.session.created`.
    PortalOpened(CustomerId),
    /// A thin event (`v2.core.event`): names an object and carries none.
    Thin,
    /// A type that Billhook handles, with an object that it cannot read. Says what is missing.
    Unreadable(&'static str),
    /// A type that Billhook has no use for.
    Unhandled,
}

/// Which of the `checkout.session.*` types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutChange {
    /// `.completed`: the page was walked to its end; money may still be on its way.
    Completed,
    /// `.async_payment_succeeded`: a delayed payment arrived.
    PaymentSucceeded,
    /// `.async_payment_failed`: a delayed payment did not.
    PaymentFailed,
    /// `.expired`: nobody paid in time, or we closed it.
    Expired,
}

impl CheckoutChange {
    /// How far the session is then. What an event of a payment says of the session's own payment is not asked: the event
    /// itself is the news.
    pub fn leads_to(self, session: &Session) -> CheckoutStatus {
        match self {
            Self::Completed if session.unpaid => CheckoutStatus::AwaitingPayment,
            Self::Completed | Self::PaymentSucceeded => CheckoutStatus::Complete,
            Self::PaymentFailed => CheckoutStatus::PaymentFailed,
            Self::Expired => CheckoutStatus::Expired,
        }
    }
}

/// Which of the `invoice.*` types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceChange {
    /// `.paid`
    Paid,
    /// `.payment_failed`
    PaymentFailed,
    /// `.payment_action_required`
    PaymentActionRequired,
}

impl InvoiceChange {
    /// Reads the event's type.
    pub fn parse(type_name: &str) -> Option<Self> {
        match type_name {
            "invoice.paid" => Some(Self::Paid),
            "invoice.payment_failed" => Some(Self::PaymentFailed),
            "invoice.payment_action_required" => Some(Self::PaymentActionRequired),
            _ => None,
        }
    }
}

/// A checkout session, as far as Billhook cares.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// `cs_...`
    pub id: SessionId,
    /// Who pays.
    pub customer: Option<CustomerId>,
    /// What the session made, once complete.
    pub subscription: Option<SubscriptionId>,
    /// The integrator's own reference; on a Payment Link anyone can write it.
    pub client_reference: Option<TenantId>,
    /// Completed, with the money still on its way (a delayed debit).
    pub unpaid: bool,
    /// What our own checkout wrote into it.
    pub tags: Tags,
}

/// An invoice, as far as Billhook cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Who owes.
    pub customer: CustomerId,
    /// What for; an invoice may be for something else than a subscription.
    pub subscription: Option<SubscriptionId>,
    /// The origin of the journey that the subscription was bought in, as the subscription's own metadata says.
    pub journey: Option<Traceparent>,
}

/// Why signed bytes are not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableEvent {
    /// Not JSON, or not an object.
    #[error("the body is not a JSON object that says each thing once")]
    NotJson,
    /// No id, or none that looks like an event's.
    #[error("the event has no id of the form `evt_...`")]
    NoId,
    /// No type.
    #[error("the event has no type")]
    NoType,
    /// No time.
    #[error("the event has no time of creation")]
    NoCreated,
}

/// What a thin event says that it is.
const THIN: &str = "v2.core.event";

/// The event that tells of a new customer.
pub const CUSTOMER_CREATED: &str = "customer.created";

const CUSTOMER_UPDATED: &str = "customer.updated";

/// What the idempotency keys begin with under which checkouts of Billhook's make customers.
pub const CUSTOMER_KEY_PREFIX: &str = "billhook-customer-";

/// The event that tells of a portal session.
const PORTAL_OPENED: &str = "billing_portal.session.created";

/// The types that Billhook handles: what is asked for when Stripe lists events, which takes twenty types at most.
pub const HANDLED: [&str; 19] = [
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

/// The longest type, version or id of a request that is read. Stripe's longest type has 66 characters.
const WORD_LENGTH: usize = 255;

impl Event {
    /// Reads an event from the bytes that Stripe sent.
    pub fn read(bytes: &[u8]) -> Result<Self, UnreadableEvent> {
        let text = std::str::from_utf8(bytes).map_err(|_| UnreadableEvent::NotJson)?;
        let envelope: wire::Envelope<'_> = json::read(text).ok().flatten().ok_or(UnreadableEvent::NotJson)?;

        let id = envelope.id.get().and_then(|id| EventId::parse(&id).ok()).ok_or(UnreadableEvent::NoId)?;
        let type_name = envelope.kind.get().and_then(word).ok_or(UnreadableEvent::NoType)?;
        let wire::Created(created) = envelope.created.get().ok_or(UnreadableEvent::NoCreated)?;
        let is_thin = envelope.object.get().is_some_and(|object| object == THIN);
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
            api_version: envelope.api_version.get().and_then(word),
            request_id: request.id.and_then(word),
            idempotency_key: request
                .idempotency_key
                .filter(|key| key.len() <= WORD_LENGTH)
                .map(Cow::into_owned),
            subject,
        })
    }

    /// The customer that the event names.
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

    /// The subscription that the event names.
    pub fn subscription(&self) -> Option<&SubscriptionId> {
        match &self.subject {
            Subject::Subscription(_, snapshot) => Some(&snapshot.id),
            Subject::Checkout(_, session) => session.subscription.as_ref(),
            Subject::Invoice(_, invoice) => invoice.subscription.as_ref(),
            _ => None,
        }
    }

    /// Whether it tells of a customer that a checkout of Billhook's made.
    pub fn is_of_our_new_customer(&self) -> bool {
        let is_ours = |key: &String| key.starts_with(CUSTOMER_KEY_PREFIX);
        self.type_name == CUSTOMER_CREATED && self.idempotency_key.as_ref().is_some_and(is_ours)
    }

    /// Whether the bytes may be kept after this outcome.
    pub fn may_be_kept(&self, outcome: Outcome) -> bool {
        may_be_kept(&self.type_name, outcome)
    }

    /// The journey that the event's object names, by what our own checkout wrote into it or into its subscription.
    pub fn named_journey(&self) -> Option<Traceparent> {
        match &self.subject {
            Subject::Invoice(_, invoice) => invoice.journey,
            _ => self.tags().and_then(|tags| tags.journey),
        }
    }

    /// What our own checkout wrote into the event's object.
    pub fn tags(&self) -> Option<&Tags> {
        match &self.subject {
            Subject::Subscription(_, snapshot) => Some(&snapshot.tags),
            Subject::Checkout(_, session) => Some(&session.tags),
            Subject::Customer(_, tags) => Some(tags),
            _ => None,
        }
    }
}

/// Whether the bytes of events of this type may be kept after this outcome. A portal session's
/// object has its URL, which is a key to the customer's billing. A customer has a name, an address
/// and an e-mail, and its event is needed only until it is settled.
pub fn may_be_kept(type_name: &str, outcome: Outcome) -> bool {
    match type_name {
        PORTAL_OPENED => false,
        CUSTOMER_CREATED | CUSTOMER_UPDATED => !outcome.is_settled(),
        _ => true,
    }
}

/// Types, versions and ids of requests are dotted words; anything else would be somebody's attempt on the log lines.
fn word(text: Cow<'_, str>) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'[' | b']');
    let is_word = (1..=WORD_LENGTH).contains(&text.len()) && text.bytes().all(plain);
    is_word.then(|| text.into_owned())
}

fn subject(type_name: &str, (object, previous): (wire::Object<'_>, Option<Previous>)) -> Subject {
    use {CheckoutChange as Checkout, InvoiceChange as Invoice, SubscriptionChange as Subscription};
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
        CUSTOMER_CREATED | CUSTOMER_UPDATED => match object.tagged_customer() {
            Some((customer, tags)) => Subject::Customer(customer, tags),
            None => Subject::Unreadable("the customer has no readable id"),
        },
        "customer.deleted" => object
            .customer()
            .map_or(Subject::Unreadable("the customer has no readable id"), Subject::CustomerDeleted),
        PORTAL_OPENED => object
            .portal_customer()
            .map_or(Subject::Unreadable("the portal session names no customer"), Subject::PortalOpened),
        other => Invoice::parse(other).map_or(Subject::Unhandled, |change| invoice(change, object)),
    }
}

fn subscription(change: SubscriptionChange, object: wire::Object<'_>, previous: Option<Previous>) -> Subject {
    match object.snapshot() {
        Some(snapshot) => Subject::Subscription(change, Box::new(Snapshot { previous, ..snapshot })),
        None => Subject::Unreadable("the subscription has no id, customer or status"),
    }
}

fn checkout(change: CheckoutChange, object: wire::Object<'_>) -> Subject {
    match object.session() {
        Some(session) => Subject::Checkout(change, Box::new(session)),
        None => Subject::Unreadable("the checkout session has no id"),
    }
}

fn invoice(change: InvoiceChange, object: wire::Object<'_>) -> Subject {
    match object.invoice() {
        Some(invoice) => Subject::Invoice(change, invoice),
        None => Subject::Unreadable("the invoice names no customer"),
    }
}

/// Reads a subscription as Stripe's API answers with it. `None` if it has no id, customer or status.
pub fn read_subscription(bytes: &[u8]) -> Option<Snapshot> {
    read_object(bytes)?.snapshot()
}

/// Reads a customer as Stripe's API answers with it, and what its metadata says. `None` if it has no id.
pub fn read_customer(bytes: &[u8]) -> Option<(CustomerId, Tags)> {
    read_object(bytes)?.tagged_customer()
}

/// Some items of a subscription, and the earliest end of their periods.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ItemPage {
    /// The items.
    pub items: Vec<Item>,
    /// The earliest end of their periods, in Unix seconds.
    pub period_end: Option<i64>,
}

/// Reads a page of a subscription's items as Stripe's API answers with it.
pub fn read_items(bytes: &[u8]) -> Option<ItemPage> {
    wire::read_items(str::from_utf8(bytes).ok()?)
}

/// Reads a checkout session as Stripe's API answers with it. `None` if it has no id.
pub fn read_session(bytes: &[u8]) -> Option<Session> {
    read_object(bytes)?.session()
}

fn read_object(bytes: &[u8]) -> Option<wire::Object<'_>> {
    json::read(str::from_utf8(bytes).ok()?).ok()?
}

#[cfg(test)]
mod tests;
