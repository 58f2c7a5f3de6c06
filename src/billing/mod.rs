//! The use cases: checkout, portal, the tenant's entitlement, linking and what an operator asks for.
//!
//! Each is a free function over [`Billing`], which holds the database, the client of Stripe's API and the configuration. A use
//! case reads and decides, asks Stripe where it must, and commits through `commit`. `jobs` is the work that no request waits
//! for. Start reading at `checkout`. How an event is applied stands in [`crate::ingest`], and the rules in [`crate::domain`].

mod catching_up;
mod checkout;
mod commit;
mod erase;
mod first_payment;
mod jobs;
mod link;
mod portal;
mod reconcile;
mod refresh_checkout;
mod replay;
mod request_log;
mod stale_customer;
mod streams;
mod subscription;
mod sync_checkout;
mod webhook_record;

use std::sync::Arc;
use std::time::Duration;

pub use catching_up::CatchingUp;
pub use checkout::{CheckoutFailed, CheckoutWish, Purchase, create_checkout_session};
pub use erase::{Erased, NotErased, erase_tenant};
pub use jobs::price_check::MissingPrices;
pub use jobs::{LISTED_SECONDS, known_account, run as run_jobs};
pub use link::{
    LinkError, Linked, Run, Unlinked, link_by_hand, link_tenants, replace_by_hand, unlink_tenant,
};
pub use portal::{PortalFlowWish, PortalWish, create_portal_session};
pub use reconcile::{Comparison, Drift, reconcile};
pub use refresh_checkout::refresh_checkout_session;
pub use replay::{NotReplayed, Replayed, replay};
pub use request_log::{Operation, log_invalid, refuse};
pub use streams::{NotOpened, Stream, Streams};
pub use subscription::entitlement;
pub use webhook_record::{TRUSTED_AFTER_VERIFIED_MS, WebhookRecord};

use crate::clock::Clock;
use crate::domain::address::AppUrl;
use crate::domain::ids::{PortalConfigurationId, TenantId, UserId};
use crate::domain::retention::Retention;
use crate::domain::unit_of_work::Policy;
use crate::ingest::Reporter;
use crate::store::{Store, StoreError, StoreFailure};
use crate::stripe::{Stripe, StripeError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;

/// What the use cases work with.
#[derive(Clone)]
pub struct Billing {
    /// The database.
    pub store: Store,
    /// Stripe's API, once there is a key for it.
    pub stripe: Option<Stripe>,
    /// Where the app is, once that is known.
    pub app_url: Option<AppUrl>,
    /// The configuration that portal sessions use instead of Stripe's default one.
    pub portal_configuration: Option<PortalConfigurationId>,
    /// What the configuration says about events.
    pub policy: Policy,
    /// How long payloads are kept, unless for good.
    pub retention: Option<Retention>,
    /// The topic log files.
    pub topics: TopicLogs,
    /// What is counted.
    pub metrics: Metrics,
    /// Reports what was committed.
    pub reporter: Reporter,
    /// Whether what was bought in a long absence is still being read.
    pub catching_up: CatchingUp,
    /// Who is told when an entitlement changes.
    pub streams: Streams,
    /// The configured prices that are not at Stripe.
    pub missing_prices: Arc<MissingPrices>,
    /// When webhooks were last verified and refused.
    pub webhook_record: Arc<WebhookRecord>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Whoever asks: a tenant's user, named by a token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// Whether the token lets its user manage the tenant's billing: open checkout and portal.
    pub may_manage: bool,
    /// From when on the token is not taken any more, in Unix seconds.
    pub token_ends_at: i64,
}

/// How long one call of ours may wait for Stripe in all, however many requests it takes.
const STRIPE_DEADLINE: Duration = Duration::from_secs(10);

/// Why a use case came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    /// Something is missing in the configuration: names what.
    #[error("not configured: {0}")]
    NotConfigured(&'static str),
    /// The request asks for what there is not.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// The caller may not manage the tenant's billing.
    #[error("the caller may not manage billing")]
    NotAllowed,
    /// The tenant has no customer at Stripe.
    #[error("the tenant has no customer")]
    NoCustomer,
    /// The tenant has no subscription that can be changed: it never had one, or all are over.
    #[error("the tenant has no subscription")]
    NoSubscription,
    /// The tenant has a subscription already.
    #[error("the tenant has a subscription already")]
    AlreadySubscribed,
    /// The tenant has bought a subscription as another customer, to which it is not linked.
    #[error("the tenant has a subscription as another customer already")]
    SubscribedElsewhere,
    /// The tenant has no such checkout.
    #[error("the tenant has no such checkout")]
    UnknownCheckout,
    /// What was bought while we were away is not known yet.
    #[error("what was bought while we were away is not known yet")]
    CatchingUp,
    /// Other requests of the tenant's were faster each time.
    #[error("other requests of the tenant were faster each time")]
    Outpaced,
    /// Stripe refused or was not there.
    #[error(transparent)]
    Stripe(#[from] StripeError),
    /// The database refused or was not there.
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
            Self::AlreadySubscribed | Self::SubscribedElsewhere => "already_subscribed",
            Self::UnknownCheckout => "not_found",
            Self::Stripe(error) if error.is_not_permitted() => "billing_not_configured",
            Self::Stripe(StripeError::Rejected(_)) => "stripe_rejected",
            Self::Stripe(StripeError::Unavailable { .. }) => "stripe_unavailable",
            Self::Store(error) if error.failure() == StoreFailure::Refused => "internal",
            Self::CatchingUp | Self::Outpaced | Self::Store(_) => "unavailable",
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
