//! Making things go wrong.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::problem::Problem;
use super::told::Told;
use crate::api::faults::Fault;
use crate::double::Double;
use crate::world::Cause;
use crate::world::dispatch::Disorder;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryFault {
    deliveries: Disorder,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFault {
    events: Visibility,
}

/// What is wrong with the list of events.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    /// Events from now on are left out of it.
    Hidden,
}

/// A fault of the API, of the deliveries, or of the list of events.
#[handler]
pub(super) fn add(Told(told): Told<Value>, Data(double): Data<&Arc<Double>>) -> Result<Json<Value>, Problem> {
    if !told["deliveries"].is_null() {
        let fault: DeliveryFault = read(told)?;
        double.world(Cause::default()).dispatch.set_disorder(Some(fault.deliveries));
    } else if !told["events"].is_null() {
        let EventFault { events: Visibility::Hidden } = read(told)?;
        double.world(Cause::default()).hide_events();
    } else {
        let fault: Fault = read(told)?;
        fault.status().ok_or_else(|| Problem::bad_request("status: must be from 200 to 999"))?;
        double.faults.add(fault);
    }
    Ok(Json(json!({"set": true})))
}

/// Everything works again, what was held back goes out, and what was hidden is listed.
#[handler]
pub(super) fn clear(Data(double): Data<&Arc<Double>>) -> Json<Value> {
    double.faults.clear();
    let mut world = double.world(Cause::default());
    world.dispatch.set_disorder(None);
    world.show_events();
    Json(json!({"cleared": true}))
}

fn read<T: DeserializeOwned>(told: Value) -> Result<T, Problem> {
    serde_json::from_value(told).map_err(|error| Problem::bad_request(error.to_string()))
}
