//! `/_sandbox/clock`

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::control_body::ControlBody;
use crate::clock::Clock;
use crate::double::Double;
use crate::state::Cause;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    stopped: Option<bool>,
    #[serde(default)]
    advance_seconds: u32,
}

#[handler]
pub(super) fn show(Data(double): Data<&Arc<Double>>) -> Json<Value> {
    Json(describe(&double.state(Cause::default()).clock))
}

/// Stops or resumes the clock, then advances it. Nothing else happens: renewals need a call of
/// their own.
#[handler]
pub(super) fn set(
    ControlBody(change): ControlBody<ClockChange>,
    Data(double): Data<&Arc<Double>>,
) -> Json<Value> {
    let clock = &mut double.state(Cause::default()).clock;
    match change.stopped {
        Some(true) => clock.stop(),
        Some(false) => clock.resume(),
        None => {}
    }
    clock.advance(change.advance_seconds);
    Json(describe(clock))
}

fn describe(clock: &Clock) -> Value {
    json!({"now": clock.now(), "stopped": clock.is_stopped()})
}
