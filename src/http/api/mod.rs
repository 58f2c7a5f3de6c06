//! The operations of the API, one file for each resource.
//!
//! Each file has the shapes of its requests and responses, and calls one use case of [`crate::billing`]. Here is what they
//! share: the check that a caller may manage billing, the throttle, and the problems that an operation can return. `metrics`
//! is served on a listener of its own.

pub(super) mod checkout;
mod event_stream;
pub(super) mod health;
pub(super) mod metrics;
pub(super) mod portal;
pub(super) mod stream;
pub(super) mod subscription;

use std::sync::Arc;

use poem_openapi::Tags;

use super::problem::Problem;
use super::throttle::Throttle;
use crate::billing::{self, Billing, Caller, Operation};
use crate::domain::address::ReturnPath;
use crate::http::problem::Code;
use crate::telemetry::topics::{Level, Line, Topic};

/// Who an operation is for.
#[derive(Tags)]
pub(super) enum Tag {
    /// For a tenant's users: the SPA.
    Billing,
    /// For the product's other services.
    Services,
    /// For Stripe.
    Stripe,
    /// For whoever runs the service.
    Operations,
}

/// What the operations share.
pub(super) struct ApiState {
    pub(super) billing: Arc<Billing>,
    pub(super) throttle: Arc<Throttle>,
}

impl ApiState {
    /// Lets a request through that only those may make who manage the tenant's billing, and counts it. Whoever may not is
    /// refused first, or any member could use up what the others may ask.
    fn admit_manager(&self, caller: &Caller, operation: Operation) -> Result<(), Problem> {
        if !caller.may_manage {
            return Err(billing::refuse(&self.billing, caller, operation).into());
        }
        self.admit(caller)
    }

    /// Counts a request of the tenant's, and tells of one too many.
    fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        self.throttle.check(&caller.tenant).inspect_err(|_| {
            self.billing.metrics.throttled();
            let line = Line::new(Topic::Billing, Level::Warn, "throttled", self.billing.clock.now_ms())
                .outcome("throttled")
                .tenant(&caller.tenant)
                .user(&caller.user)
                .traced();
            self.billing.topics.append(&[line]);
        })
    }

    /// What is wished for, if the request makes sense; if not, that it does not is told.
    fn understand<W>(
        &self,
        caller: &Caller,
        operation: Operation,
        wish: Result<W, Problem>,
    ) -> Result<W, Problem> {
        wish.inspect_err(|_| billing::log_invalid(&self.billing, caller, operation))
    }
}

/// Reads a path that the browser is sent back to.
fn return_path(field: &str, given: Option<&str>, default: &str) -> Result<ReturnPath, Problem> {
    ReturnPath::parse(given.unwrap_or(default))
        .map_err(|error| Problem::new(Code::InvalidRequest, format!("`{field}` {error}.")))
}

/// The problems of an operation that asks Stripe for something, which differ in what stands in its way.
const fn problems_of_an_action(conflicts: &'static str) -> [(u16, &'static str); 10] {
    [
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (409, conflicts),
        (413, "`too_large`"),
        (415, "`unsupported_media_type`"),
        (429, "`throttled`; `Retry-After` says for how long"),
        (500, "`internal`"),
        (502, "`stripe_rejected` or `stripe_unavailable`"),
        (503, "`billing_not_configured` or `unavailable`"),
    ]
}
