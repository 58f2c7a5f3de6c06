//! What time it is in the double.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::told::Told;
use crate::clock::Clock;
use crate::double::Double;
use crate::world::Cause;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    stopped: Option<bool>,
    #[serde(default)]
    advance_seconds: u32,
}

/// The double's time, and whether it passes by itself.
#[handler]
pub(super) fn show(Data(double): Data<&Arc<Double>>) -> Json<Value> {
    Json(describe(&double.world(Cause::default()).clock))
}

/// The clock is stopped or goes on, then moves on. Nothing else happens by it: what time brings is told apart.
#[handler]
pub(super) fn set(Told(setting): Told<Setting>, Data(double): Data<&Arc<Double>>) -> Json<Value> {
    let clock = &mut double.world(Cause::default()).clock;
    match setting.stopped {
        Some(true) => clock.stop(),
        Some(false) => clock.go_on(),
        None => {}
    }
    clock.advance(setting.advance_seconds);
    Json(describe(clock))
}

fn describe(clock: &Clock) -> Value {
    json!({"now": clock.now(), "stopped": clock.is_stopped()})
}
