//! Webhook endpoints with a known secret, custom events, and manual redelivery.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json, Path};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::control_body::ControlBody;
use super::problem::Problem;
use crate::delivery;
use crate::double::Double;
use crate::state::Cause;
use crate::state::endpoint::EndpointFields;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownEndpoint {
    url: String,
    secret: String,
}

/// Registers an endpoint for all events with the caller's secret.
#[handler]
pub(super) fn register_endpoint(
    ControlBody(KnownEndpoint { url, secret }): ControlBody<KnownEndpoint>,
    Data(double): Data<&Arc<Double>>,
) -> Json<Value> {
    Json(double.state(Cause::default()).create_endpoint(&EndpointFields::all_events(url), secret))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomEvent {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
    previous_attributes: Option<Value>,
    id: Option<String>,
    created: Option<i64>,
    api_version: Option<String>,
    livemode: Option<bool>,
    account: Option<String>,
    context: Option<String>,
}

impl CustomEvent {
    fn data(&self) -> Value {
        match &self.previous_attributes {
            Some(previous) => json!({"object": self.object, "previous_attributes": previous}),
            None => json!({"object": self.object}),
        }
    }

    /// The values that replace those of a normal event.
    fn overrides(self) -> Map<String, Value> {
        let fields = [
            ("id", self.id.map(Value::from)),
            ("created", self.created.map(Value::from)),
            ("api_version", self.api_version.map(Value::from)),
            ("livemode", self.livemode.map(Value::from)),
            ("account", self.account.map(Value::from)),
            ("context", self.context.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Emits an event with any content.
#[handler]
pub(super) fn emit_custom(
    ControlBody(custom): ControlBody<CustomEvent>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let mut state = double.state(Cause::default());
    if let Some(id) = custom.id.as_ref().filter(|id| state.events.contains_key(*id)) {
        return Err(Problem::conflict(format!("Event '{id}' exists already. Deliver it again instead.")));
    }
    let kind = custom.kind.clone();
    let data = custom.data();
    Ok(Json(state.emit_custom(&kind, &data, custom.overrides())))
}

/// Sends an event again immediately, ignoring delivery faults, and returns the attempts.
#[handler]
pub(super) async fn deliver(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let attempts = delivery::resend(double, &id).await;
    let attempts = attempts.ok_or_else(|| Problem::not_found("event", &id))?;
    Ok(Json(json!({ "attempts": attempts })))
}
