//! `/_sandbox/faults`

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control_body::ControlBody;
use super::problem::Problem;
use crate::api::faults::Fault;
use crate::double::Double;
use crate::state::Cause;
use crate::state::dispatcher::DeliveryFault;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryFaultBody {
    deliveries: DeliveryFault,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventListFaultBody {
    events: EventListFault,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EventListFault {
    /// New events are left out of the list.
    Hidden,
}

/// Sets a fault of the deliveries, of the list of events, or of the API.
#[handler]
pub(super) fn add(
    ControlBody(body): ControlBody<Value>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    if !body["deliveries"].is_null() {
        let body: DeliveryFaultBody = parse(body)?;
        double.state(Cause::default()).dispatcher.set_fault(Some(body.deliveries));
    } else if !body["events"].is_null() {
        let EventListFaultBody { events: EventListFault::Hidden } = parse(body)?;
        double.state(Cause::default()).hide_events();
    } else {
        let fault: Fault = parse(body)?;
        fault.status().ok_or_else(|| Problem::bad_request("status: must be from 200 to 999"))?;
        double.faults.add(fault);
    }
    Ok(Json(json!({"set": true})))
}

/// Removes all faults, sends the deliveries that were held back, and lists hidden events again.
#[handler]
pub(super) fn clear(Data(double): Data<&Arc<Double>>) -> Json<Value> {
    double.faults.clear();
    let mut state = double.state(Cause::default());
    state.dispatcher.set_fault(None);
    state.show_events();
    Json(json!({"cleared": true}))
}

fn parse<T: DeserializeOwned>(body: Value) -> Result<T, Problem> {
    serde_json::from_value(body).map_err(|error| Problem::bad_request(error.to_string()))
}
