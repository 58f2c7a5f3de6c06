//! What Stripe is to be asked about, and why: the question that is left where events alone cannot decide.

use std::fmt;

use super::ids::{CustomerId, EventId, InvalidId, SubscriptionId, TenantId};

/// A question to Stripe: how something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// About what.
    pub subject: RefreshSubject,
    /// The customer.
    pub customer: CustomerId,
    /// For whom.
    pub tenant: TenantId,
    /// Why.
    pub reason: RefreshReason,
    /// The event that left the question open, if it was one.
    pub event: Option<EventId>,
}

/// What there is to ask about. Its id says which of the two it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefreshSubject {
    /// One subscription.
    Subscription(SubscriptionId),
    /// All subscriptions of a customer.
    Customer(CustomerId),
}

impl RefreshSubject {
    /// The id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Subscription(id) => id.as_str(),
            Self::Customer(id) => id.as_str(),
        }
    }

    /// Reads the id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        SubscriptionId::parse(text)
            .map(Self::Subscription)
            .or_else(|_| CustomerId::parse(text).map(Self::Customer))
    }

    /// The subscription, if it is one.
    pub fn subscription(&self) -> Option<&SubscriptionId> {
        match self {
            Self::Subscription(id) => Some(id),
            Self::Customer(_) => None,
        }
    }
}

impl fmt::Display for RefreshSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why Stripe is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshReason {
    /// The snapshots of one second do not say which of them is the latest.
    UndecidedSecond,
    /// An event came that Stripe made before the one we hold, and it says something else.
    Older,
    /// An announcement says something else than we hold, and announcements can be old.
    Announcement,
    /// A newer update was made to another state than the one we hold: one between them is missing or out of order.
    MissedUpdate,
    /// The list of items in an event was cut.
    IncompleteItems,
    /// A session or an invoice names a subscription that we do not hold.
    NotHeld,
    /// The customer was linked: what it has at Stripe from before is not known.
    Linked,
    /// Events were missed that Stripe lists no longer.
    MissedEvents,
    /// The operator wants to know.
    Operator,
}

impl RefreshReason {
    /// The word in logs and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UndecidedSecond => "undecided_second",
            Self::Older => "older",
            Self::Announcement => "announcement",
            Self::MissedUpdate => "missed_update",
            Self::IncompleteItems => "incomplete_items",
            Self::NotHeld => "subscription_not_held",
            Self::Linked => "linked",
            Self::MissedEvents => "missed_events",
            Self::Operator => "operator",
        }
    }

    /// Reads the word in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::UndecidedSecond,
            Self::Older,
            Self::Announcement,
            Self::MissedUpdate,
            Self::IncompleteItems,
            Self::NotHeld,
            Self::Linked,
            Self::MissedEvents,
            Self::Operator,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == text)
    }
}
