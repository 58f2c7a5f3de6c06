//! Tenants and their checkouts.

use super::ids::{CustomerId, PlanName, PriceId, SessionId, SubscriptionId, TenantId};
use super::journey::Journey;
use super::subscription::Subscription;

/// A tenant as we hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// The one customer it is linked to.
    pub customer: Option<CustomerId>,
    /// A part of the idempotency key that creates the customer. Goes up when a customer is deleted or unlinked, and when Stripe
    /// replays a failure or a deleted customer, so that the next request is not answered as the last one was.
    pub generation: i64,
    /// The journey that its last completed checkout began.
    pub journey: Option<Journey>,
}

impl Tenant {
    /// A tenant that nobody has billed yet.
    pub fn new(id: TenantId) -> Self {
        Self { id, customer: None, generation: 0, journey: None }
    }
}

/// What a tenant has at Stripe, as far as we hold it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Whether it is linked to a customer.
    pub has_customer: bool,
    /// The subscriptions that it has or had.
    pub subscriptions: Vec<Subscription>,
}

/// One of our checkout sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Stripe's session.
    pub session: SessionId,
    /// Whose.
    pub tenant: TenantId,
    /// Who pays.
    pub customer: CustomerId,
    /// What is sold.
    pub plan: PlanName,
    /// At which price. Absent on a session from before the price was stored.
    pub price: Option<PriceId>,
    /// Where Stripe's page goes when it is paid: a path of the app.
    pub success_path: String,
    /// Where it goes when it is not.
    pub cancel_path: String,
    /// How far it got.
    pub status: CheckoutStatus,
    /// What it made, once that is known.
    pub subscription: Option<SubscriptionId>,
    /// The journey that it began.
    pub journey: Journey,
}

/// How far a checkout got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutStatus {
    /// It can still be paid.
    Open,
    /// Walked to its end, with the money still on its way.
    AwaitingPayment,
    /// Paid.
    Complete,
    /// The delayed payment failed.
    PaymentFailed,
    /// Nobody paid in time, or we closed it.
    Expired,
}

impl CheckoutStatus {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Complete => "complete",
            Self::PaymentFailed => "payment_failed",
            Self::Expired => "expired",
        }
    }

    /// Those in which the session's money is missing.
    pub const WITHHOLDING: [Self; 2] = [Self::AwaitingPayment, Self::PaymentFailed];

    /// Whether the session's money is missing, so that its subscription grants nothing.
    pub fn withholds_access(self) -> bool {
        Self::WITHHOLDING.contains(&self)
    }

    /// Whether a session in this state can come to be in the other: states only go forward, in whatever order their
    /// events come.
    pub fn can_become(self, next: Self) -> bool {
        match self {
            Self::Open => next != Self::Open,
            Self::AwaitingPayment => matches!(next, Self::Complete | Self::PaymentFailed),
            // The money may still come, by another try at the same invoice.
            Self::PaymentFailed => next == Self::Complete,
            Self::Complete | Self::Expired => false,
        }
    }

    /// Reads the word in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::AwaitingPayment, Self::Complete, Self::PaymentFailed, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}
