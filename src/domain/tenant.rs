//! Tenants and their checkout sessions, as stored.

use super::ids::{CustomerId, PlanName, PriceId, SessionId, SubscriptionId, TenantId};
use super::journey::Journey;
use super::subscription::Subscription;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    pub customer: Option<CustomerId>,
    /// Part of the idempotency key that creates the customer. Incremented when a customer is
    /// deleted or unlinked, and when Stripe replays a failure or a deleted customer, so that the
    /// next request does not get the same response.
    pub generation: i64,
    /// That of its last completed checkout.
    pub journey: Option<Journey>,
}

impl Tenant {
    pub fn new(id: TenantId) -> Self {
        Self { id, customer: None, generation: 0, journey: None }
    }
}

/// What we have stored of a tenant's customer and subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BillingState {
    pub has_customer: bool,
    /// Includes ended ones.
    pub subscriptions: Vec<Subscription>,
}

/// A checkout session that Billhook created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    pub session: SessionId,
    pub tenant: TenantId,
    pub customer: CustomerId,
    pub plan: PlanName,
    /// `None` on sessions created before the price was stored.
    pub price: Option<PriceId>,
    /// The path of the app to which Stripe redirects after payment.
    pub success_path: String,
    /// The path of the app to which Stripe redirects if the user cancels.
    pub cancel_path: String,
    pub status: CheckoutStatus,
    /// The subscription that it created, once known.
    pub subscription: Option<SubscriptionId>,
    pub journey: Journey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutStatus {
    Open,
    /// Completed, with a delayed payment pending.
    AwaitingPayment,
    Complete,
    /// The delayed payment failed.
    PaymentFailed,
    /// Not paid in time, or expired by Billhook.
    Expired,
}

impl CheckoutStatus {
    /// The value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Complete => "complete",
            Self::PaymentFailed => "payment_failed",
            Self::Expired => "expired",
        }
    }

    /// The statuses of a session that is completed but not paid.
    pub const WITHHOLDING_ACCESS: [Self; 2] = [Self::AwaitingPayment, Self::PaymentFailed];

    /// Whether the session is completed but not paid, so that its subscription grants no access.
    pub fn withholds_access(self) -> bool {
        Self::WITHHOLDING_ACCESS.contains(&self)
    }

    /// Whether a session can change from this status to `next`. Statuses only move forward, in
    /// whatever order the events arrive.
    pub fn can_become(self, next: Self) -> bool {
        match self {
            Self::Open => next != Self::Open,
            Self::AwaitingPayment => matches!(next, Self::Complete | Self::PaymentFailed),
            // Stripe may retry the same invoice.
            Self::PaymentFailed => next == Self::Complete,
            Self::Complete | Self::Expired => false,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::AwaitingPayment, Self::Complete, Self::PaymentFailed, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}
