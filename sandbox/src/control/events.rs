//! Endpoints with known secrets, events of any shape, and sending them again.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json, Path};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::told::Told;
use crate::courier;
use crate::double::Double;
use crate::world::Cause;
use crate::world::endpoint::EndpointFields;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownEndpoint {
    url: String,
    secret: String,
}

/// An endpoint for all events whose secret the caller chose.
#[handler]
pub(super) fn register_endpoint(
    Told(KnownEndpoint { url, secret }): Told<KnownEndpoint>,
    Data(double): Data<&Arc<Double>>,
) -> Json<Value> {
    Json(double.world(Cause::default()).create_endpoint(&EndpointFields::all_events(url), secret))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invention {
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

impl Invention {
    fn data(&self) -> Value {
        match &self.previous_attributes {
            Some(previous) => json!({"object": self.object, "previous_attributes": previous}),
            None => json!({"object": self.object}),
        }
    }

    /// What replaces the event's own fields.
    fn given(self) -> Map<String, Value> {
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

/// An event that nothing in the double caused.
#[handler]
pub(super) fn invent(
    Told(invention): Told<Invention>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let mut world = double.world(Cause::default());
    if let Some(id) = invention.id.as_ref().filter(|id| world.events.contains_key(*id)) {
        return Err(Problem::conflict(format!("There is an event '{id}' already; deliver that one again.")));
    }
    let kind = invention.kind.clone();
    let data = invention.data();
    Ok(Json(world.invent(&kind, &data, invention.given())))
}

/// Sends an event again, now, whatever faults are set, and tells what came of it.
#[handler]
pub(super) async fn deliver(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let attempts = courier::resend(double, &id).await;
    let attempts = attempts.ok_or_else(|| Problem::not_found("event", &id))?;
    Ok(Json(json!({ "attempts": attempts })))
}
