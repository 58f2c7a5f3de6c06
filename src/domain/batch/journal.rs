use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId};
use crate::domain::journey::Journey;
use crate::domain::subscription::Status;

/// The causes of changes that no event made.
pub mod cause {
    /// A user of the tenant started a checkout.
    pub const CHECKOUT: &str = "checkout";
    /// The operator ran a command.
    pub const OPERATOR: &str = "operator";
    /// Stripe answered a request for the current state.
    pub const REFRESH: &str = "refresh";
    /// Stripe does not know the customer any more, although no `customer.deleted` has arrived.
    pub const RESOURCE_MISSING: &str = "resource_missing";
}

/// Why something is changed. It is recorded in the journal.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// The event's type, or a constant of [`cause`].
    pub name: &'a str,
    pub event: Option<&'a Event>,
    /// The event's `created`, or our own time, in Unix seconds.
    pub at: i64,
}

impl<'a> Cause<'a> {
    pub(super) fn event(event: &'a Event) -> Self {
        Self { name: &event.type_name, event: Some(event), at: event.created }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    pub kind: EntryKind,
    pub tenant: TenantId,
    pub customer: CustomerId,
    /// [`Cause::name`]
    pub cause: String,
    pub event: Option<EventId>,
    /// [`Cause::at`]
    pub at: i64,
    pub journey: Option<Journey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Transition {
        subscription: SubscriptionId,
        /// `None` if the subscription was not stored before.
        from: Option<Status>,
        /// Equal to `from` if only a price or a date changed.
        to: Status,
    },
    /// The tenant now has two subscriptions that block a checkout. Both were bought at the same
    /// time, and an operator should check which one the tenant needs.
    SecondSubscription {
        /// The later of the two.
        subscription: SubscriptionId,
    },
    /// A payment failed, needs confirmation, or succeeded.
    PaymentNoted {
        subscription: SubscriptionId,
    },
    CheckoutClosed,
    CustomerLinked,
    CustomerUnlinked,
}

impl EntryKind {
    /// The name in the journal and in the log line.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Transition { .. } => "subscription.transition",
            Self::SecondSubscription { .. } => "subscription.doubled",
            Self::PaymentNoted { .. } => "payment.noted",
            Self::CheckoutClosed => "checkout.closed",
            Self::CustomerLinked => "customer.linked",
            Self::CustomerUnlinked => "customer.unlinked",
        }
    }

    pub fn subscription(&self) -> Option<&SubscriptionId> {
        match self {
            Self::Transition { subscription, .. }
            | Self::SecondSubscription { subscription }
            | Self::PaymentNoted { subscription } => Some(subscription),
            Self::CheckoutClosed | Self::CustomerLinked | Self::CustomerUnlinked => None,
        }
    }

    /// The statuses before and after a transition.
    pub fn statuses(&self) -> (Option<&Status>, Option<&Status>) {
        match self {
            Self::Transition { from, to, .. } => (from.as_ref(), Some(to)),
            _ => (None, None),
        }
    }
}
