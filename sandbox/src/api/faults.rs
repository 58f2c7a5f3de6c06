//! API calls that go wrong on request.

use std::sync::{Mutex, MutexGuard, PoisonError};

use poem::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// How a call goes wrong, as the control call says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// The beginning of `METHOD path`, or `*`.
    #[serde(rename = "match")]
    pattern: String,
    pub(crate) kind: FaultKind,
    #[serde(default = "internal_server_error")]
    status: u16,
    /// Only calls that have this parameter.
    param: Option<String>,
    /// How many calls are to go well before.
    #[serde(default)]
    skip: u32,
    /// How many calls are still to go wrong; all of them if absent.
    times: Option<u32>,
    /// The value of `Stripe-Should-Retry`.
    pub(crate) should_retry: Option<bool>,
    /// Whether the call fails before it is carried out. If not, it is, and only the answer is lost.
    #[serde(default = "yes")]
    pub(crate) before: bool,
    /// What is answered instead of an error in Stripe's shape.
    pub(crate) body: Option<String>,
}

/// What the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FaultKind {
    /// An answer with an error status.
    Status,
    /// No answer, ever.
    Hang,
    /// The connection ends without an answer.
    Drop,
}

/// The faults that are set, in the order in which they were.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Fault {
    /// The status of the answer, if it is one that HTTP knows.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status).ok().filter(|status| !status.is_informational())
    }

    /// Whether Stripe keeps the failure under the call's idempotency key: a 500 comes from carrying the call out, other server
    /// errors from what stands before it. `Stripe-Should-Retry: true` promises that the same key can succeed.
    pub(crate) fn is_kept(&self) -> bool {
        self.kind == FaultKind::Status && self.status == 500 && self.should_retry != Some(true)
    }

    fn concerns(&self, call: &str, params: &Value) -> bool {
        let has_param = self.param.as_ref().is_none_or(|param| !params[param].is_null());
        self.times != Some(0) && has_param && (self.pattern == "*" || call.starts_with(&self.pattern))
    }
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.set().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.set().clear();
    }

    /// The first fault that concerns this call; it counts as used.
    pub(crate) fn take(&self, call: &str, params: &Value) -> Option<Fault> {
        let mut faults = self.set();
        let fault = faults.iter_mut().find(|fault| fault.concerns(call, params))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.clone())
    }

    fn set(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn yes() -> bool {
    true
}

fn internal_server_error() -> u16 {
    500
}
