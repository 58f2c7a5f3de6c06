//! What is appended to the journal.

use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId};
use crate::domain::journey::Journey;
use crate::domain::subscription::Status;

/// One thing that changed in a tenant's billing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// What changed.
    pub entry: Entry,
    /// For whom.
    pub tenant: TenantId,
    /// Whose card is charged.
    pub customer: CustomerId,
    /// An event's type, or our own word for what made us do it.
    pub cause: String,
    /// The event that did it.
    pub event: Option<EventId>,
    /// When, in Stripe's whole Unix seconds.
    pub at: i64,
    /// The journey it belongs to.
    pub journey: Option<Journey>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A subscription's state.
    Transition {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Its status before, if we held it.
        from: Option<Status>,
        /// Its status after; the same where only a price or a date changed.
        to: Status,
    },
    /// The tenant now pays for this subscription beside another: two were bought in a race, and somebody should look
    /// which of them is wanted.
    SubscriptionDoubled {
        /// The later of the two.
        subscription: SubscriptionId,
    },
    /// A payment went wrong, or right again.
    PaymentNoted {
        /// Which subscription it was for.
        subscription: SubscriptionId,
    },
    /// A checkout ended, one way or the other.
    CheckoutClosed,
    /// The tenant got its customer.
    CustomerLinked,
    /// The tenant lost its customer.
    CustomerUnlinked,
}

impl Entry {
    /// The word in the journal and, for those that are logged, in the log line.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Transition { .. } => "subscription.transition",
            Self::SubscriptionDoubled { .. } => "subscription.doubled",
            Self::PaymentNoted { .. } => "payment.noted",
            Self::CheckoutClosed => "checkout.closed",
            Self::CustomerLinked => "customer.linked",
            Self::CustomerUnlinked => "customer.unlinked",
        }
    }

    /// The subscription that changed.
    pub fn subscription(&self) -> Option<&SubscriptionId> {
        match self {
            Self::Transition { subscription, .. }
            | Self::SubscriptionDoubled { subscription }
            | Self::PaymentNoted { subscription } => Some(subscription),
            Self::CheckoutClosed | Self::CustomerLinked | Self::CustomerUnlinked => None,
        }
    }

    /// The statuses before and after.
    pub fn statuses(&self) -> (Option<&Status>, Option<&Status>) {
        match self {
            Self::Transition { from, to, .. } => (from.as_ref(), Some(to)),
            _ => (None, None),
        }
    }
}
