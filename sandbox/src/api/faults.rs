//! Injected faults of API calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use poem::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// A fault as the control call describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// A prefix of `METHOD path`, or `*`.
    #[serde(rename = "match")]
    pattern: String,
    pub(crate) kind: FaultKind,
    #[serde(default = "internal_server_error")]
    status: u16,
    /// Affects only calls with this parameter.
    param: Option<String>,
    /// The number of matching calls that succeed first.
    #[serde(default)]
    skip: u32,
    /// The number of calls that are still to fail. Without it, all calls fail.
    times: Option<u32>,
    /// The value of `Stripe-Should-Retry`.
    pub(crate) should_retry: Option<bool>,
    /// Whether the call fails before it is executed. Otherwise it is executed and only the response
    /// is lost.
    #[serde(default = "yes")]
    pub(crate) before: bool,
    /// The response body, instead of an error in Stripe's format.
    pub(crate) body: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FaultKind {
    /// A response with this status.
    Status,
    /// No response until the client disconnects.
    Hang,
    /// The connection is cut without a response.
    Drop,
}

/// The active faults, oldest first.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Fault {
    /// `None` if HTTP has no such final status.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status).ok().filter(|status| !status.is_informational())
    }

    /// Whether Stripe stores the failure under the call's idempotency key. A 500 comes from
    /// executing the call, other server errors from the infrastructure before it.
    /// `Stripe-Should-Retry: true` promises that the same key can succeed.
    pub(crate) fn is_saved(&self) -> bool {
        self.kind == FaultKind::Status && self.status == 500 && self.should_retry != Some(true)
    }

    fn matches(&self, call: &str, params: &Value) -> bool {
        let has_param = self.param.as_ref().is_none_or(|param| !params[param].is_null());
        self.times != Some(0) && has_param && (self.pattern == "*" || call.starts_with(&self.pattern))
    }
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Returns the first fault that matches this call, and counts it as used once.
    pub(crate) fn take(&self, call: &str, params: &Value) -> Option<Fault> {
        let mut faults = self.lock();
        let fault = faults.iter_mut().find(|fault| fault.matches(call, params))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn yes() -> bool {
    true
}

fn internal_server_error() -> u16 {
    500
}
