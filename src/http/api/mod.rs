//! The operations of the API, one file per resource.
//!
//! Each file defines its requests and responses, and each operation calls one use case of
//! [`crate::billing`]. This file has what they share: the permission check, the rate limit and the
//! documented problems. `metrics` has its own listener.

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
use crate::billing::{self, Billing, Operation, TenantUser};
use crate::domain::app_url::ReturnPath;
use crate::http::problem::Code;
use crate::telemetry::topics::{Level, Line, Topic};

#[derive(Tags)]
pub(super) enum Tag {
    /// For a tenant's users, in the SPA.
    Billing,
    /// For the product's other services.
    Services,
    /// For Stripe.
    Stripe,
    /// For the operator.
    Operations,
}

pub(super) struct ApiState {
    pub(super) billing: Arc<Billing>,
    pub(super) throttle: Arc<Throttle>,
}

impl ApiState {
    /// Rejects users who may not manage billing, then counts the request towards the tenant's rate
    /// limit. In this order, so that other members cannot use up the limit.
    fn admit_manager(&self, caller: &TenantUser, operation: Operation) -> Result<(), Problem> {
        if !caller.may_manage {
            return Err(billing::deny(&self.billing, caller, operation).into());
        }
        self.admit(caller)
    }

    /// Counts the request towards the tenant's rate limit, and logs one over the limit.
    fn admit(&self, caller: &TenantUser) -> Result<(), Problem> {
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

    fn log_if_invalid<R>(
        &self,
        caller: &TenantUser,
        operation: Operation,
        request: Result<R, Problem>,
    ) -> Result<R, Problem> {
        request.inspect_err(|_| billing::log_invalid_request(&self.billing, caller, operation))
    }
}

fn return_path(field: &str, value: Option<&str>, default: &str) -> Result<ReturnPath, Problem> {
    ReturnPath::parse(value.unwrap_or(default))
        .map_err(|error| Problem::new(Code::InvalidRequest, format!("`{field}` {error}.")))
}

/// The problems of an operation that calls Stripe.
const fn action_problems(conflicts: &'static str) -> [(u16, &'static str); 10] {
    [
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (409, conflicts),
        (413, "`too_large`"),
        (415, "`unsupported_media_type`"),
        (429, "`throttled`"),
        (500, "`internal`"),
        (502, "`stripe_rejected` or `stripe_unavailable`"),
        (503, "`billing_not_configured` or `unavailable`"),
    ]
}
