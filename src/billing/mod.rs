//! The use cases: checkout, portal, entitlements, links between tenants and customers, and the
//! operator's commands.
//!
//! Each use case is a free function over [`Billing`], which holds the database, the Stripe client
//! and the configuration. It reads, decides, calls Stripe where needed, and commits through
//! `commit`. `jobs` is the background work. Start reading at `checkout`. Applying an event is in
//! [`crate::ingest`], the rules are in [`crate::domain`].

mod catch_up;
mod checkout;
mod commit;
mod completed_checkout;
mod entitlement;
mod erase;
mod first_payment;
mod jobs;
mod link;
mod missing_customer;
mod portal;
mod reconcile;
mod refresh_checkout;
mod replay;
mod request_log;
mod streams;
mod webhook_record;

use std::sync::Arc;
use std::time::Duration;

pub use catch_up::CatchUp;
pub use checkout::{CheckoutError, CheckoutPage, CheckoutRequest, create_checkout_session};
pub use entitlement::entitlement;
pub use erase::{EraseError, Erasure, erase_tenant};
pub use jobs::price_check::MissingPrices;
pub use jobs::{EVENT_LIST_SECONDS, known_account, run as run_jobs};
pub use link::{
    LinkError, LinkOutcome, RunMode, UnlinkReport, link_as_operator, link_tenants, replace_as_operator,
    unlink_tenant,
};
pub use portal::{PortalRequest, RequestedFlow, create_portal_session};
pub use reconcile::{Comparison, Drift, reconcile};
pub use refresh_checkout::refresh_checkout_session;
pub use replay::{Replay, ReplayError, replay};
pub use request_log::{Operation, deny, log_invalid_request};
pub use streams::{EntitlementStream, OpenStreamError, Streams};
pub use webhook_record::{TRUSTED_AFTER_VERIFIED_MS, WebhookRecord};

use crate::clock::Clock;
use crate::domain::app_url::AppUrl;
use crate::domain::batch::Policy;
use crate::domain::ids::{PortalConfigurationId, TenantId, UserId};
use crate::domain::retention::Retention;
use crate::ingest::Reporter;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::stripe::{Stripe, StripeError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;

/// The dependencies of the use cases.
#[derive(Clone)]
pub struct Billing {
    pub store: Store,
    /// None without `STRIPE_SECRET_KEY`.
    pub stripe: Option<Stripe>,
    /// None without `BILLHOOK_APP_URL`.
    pub app_url: Option<AppUrl>,
    /// Replaces Stripe's default portal configuration.
    pub portal_configuration: Option<PortalConfigurationId>,
    pub policy: Policy,
    /// How long payloads are kept; forever without it.
    pub retention: Option<Retention>,
    pub topics: TopicLogs,
    pub metrics: Metrics,
    pub reporter: Reporter,
    pub catch_up: CatchUp,
    pub streams: Streams,
    pub missing_prices: Arc<MissingPrices>,
    pub webhook_record: Arc<WebhookRecord>,
    pub clock: Arc<dyn Clock>,
}

/// A tenant's user, as named by a token.
#[derive(Debug, Clone)]
pub struct TenantUser {
    pub tenant: TenantId,
    pub user: UserId,
    /// Whether the user may open checkout and portal.
    pub may_manage: bool,
    /// The token's `exp` plus the leeway, in Unix seconds.
    pub token_accepted_until: i64,
}

/// How long a user's request may wait for Stripe in total, however many requests it sends. Commands
/// and background work may wait this long in each step.
const STRIPE_DEADLINE: Duration = Duration::from_secs(10);

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    /// Names the missing or wrong setting.
    #[error("not configured: {0}")]
    NotConfigured(&'static str),
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("the caller may not manage billing")]
    NotAllowed,
    #[error("the tenant has no customer")]
    NoCustomer,
    /// The tenant never had a subscription, or all of them have ended.
    #[error("the tenant has no subscription")]
    NoSubscription,
    #[error("the tenant already has a subscription")]
    AlreadySubscribed,
    /// The tenant bought a subscription under a Stripe customer to which it is not linked.
    #[error("the tenant already has a subscription under another Stripe customer")]
    SubscribedAsOtherCustomer,
    #[error("the tenant has no such checkout")]
    UnknownCheckout,
    #[error("the service is still reading the events it missed")]
    CatchingUp,
    /// The state changed during every attempt, for example by concurrent requests of the tenant.
    #[error("the tenant's state changed during every attempt")]
    Contention,
    #[error(transparent)]
    Stripe(#[from] StripeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BillingError {
    /// The stable code of the error, which is also the outcome in the logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured(_) => "billing_not_configured",
            Self::InvalidRequest(_) => "invalid_request",
            Self::NotAllowed => "not_allowed",
            Self::NoCustomer => "no_customer",
            Self::NoSubscription => "no_subscription",
            Self::AlreadySubscribed | Self::SubscribedAsOtherCustomer => "already_subscribed",
            Self::UnknownCheckout => "not_found",
            Self::Stripe(error) if error.is_not_permitted() => "billing_not_configured",
            Self::Stripe(StripeError::Rejected(_)) => "stripe_rejected",
            Self::Stripe(StripeError::Unavailable { .. }) => "stripe_unavailable",
            Self::Store(error) if error.kind() == StoreErrorKind::Rejected => "internal",
            Self::CatchingUp | Self::Contention | Self::Store(_) => "unavailable",
        }
    }
}

impl Billing {
    fn stripe(&self) -> Result<&Stripe, BillingError> {
        self.stripe.as_ref().ok_or(BillingError::NotConfigured("STRIPE_SECRET_KEY"))
    }

    fn app_url(&self) -> Result<&AppUrl, BillingError> {
        self.app_url.as_ref().ok_or(BillingError::NotConfigured("BILLHOOK_APP_URL"))
    }
}
