//! Requests to fetch the current state from Stripe, where events alone do not determine it.

use std::fmt;

use super::ids::{CustomerId, EventId, InvalidId, SubscriptionId, TenantId};

/// A request to fetch a subscription, or all of a customer's subscriptions, from Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    pub subject: RefreshSubject,
    pub customer: CustomerId,
    pub tenant: TenantId,
    pub reason: RefreshReason,
    /// The event that caused the refresh.
    pub event: Option<EventId>,
}

/// The prefix of the id says which of the two it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefreshSubject {
    Subscription(SubscriptionId),
    /// All subscriptions of a customer.
    Customer(CustomerId),
}

impl RefreshSubject {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Subscription(id) => id.as_str(),
            Self::Customer(id) => id.as_str(),
        }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        SubscriptionId::parse(text)
            .map(Self::Subscription)
            .or_else(|_| CustomerId::parse(text).map(Self::Customer))
    }

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshReason {
    /// Several snapshots have the same `created` second, and their contents do not say which is the
    /// latest.
    UndecidedSecond,
    /// An event older than the stored state differs from it.
    Older,
    /// An announcement differs from the stored state, and announcements can carry old snapshots.
    Announcement,
    /// The `previous_attributes` of a newer update do not match the stored state: an event is
    /// missing or late.
    MissedUpdate,
    /// The event did not contain all items.
    IncompleteItems,
    /// A session or an invoice names a subscription that is not stored.
    NotHeld,
    /// The customer was just linked: its earlier subscriptions are unknown.
    Linked,
    /// Events were missed, and Stripe no longer lists them.
    MissedEvents,
    /// An operator asked for it.
    Operator,
}

impl RefreshReason {
    /// The value in logs and in the database.
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
