//! What the account's history keeps, and what endpoints are told.

use serde_json::{Map, Value, json};

use super::difference::previous_attributes;
use super::{API_VERSION, World, text};
use crate::webhooks::dispatch::Job;
use crate::{clock, ids};

impl World {
    /// Something happened to this object.
    pub(crate) fn emit(&mut self, kind: &str, object: &Value) {
        self.record(event(kind, &json!({ "object": object })));
    }

    /// This object was changed; nothing is told if nothing differs.
    pub(crate) fn emit_update(&mut self, kind: &str, before: &Value, after: &Value) {
        let previous = previous_attributes(before, after);
        if !previous.is_empty() {
            self.record(event(kind, &json!({ "object": after, "previous_attributes": previous })));
        }
    }

    /// Makes an event of any shape: what is given replaces what an event of the account's own would have.
    pub(crate) fn invent(&mut self, kind: &str, data: &Value, given: Map<String, Value>) -> Value {
        let mut made = event(kind, data);
        for (name, value) in given {
            made[name] = value;
        }
        self.record(made)
    }

    fn record(&mut self, mut event: Value) -> Value {
        event["request"] = json!({
            "id": self.cause.request_id,
            "idempotency_key": self.cause.idempotency_key,
        });
        let told = self.endpoints_for(text(&event, "type"));
        event["pending_webhooks"] = told.len().into();
        let id = text(&event, "id").to_owned();
        self.events.insert(id.clone(), event.clone());
        for endpoint in told {
            self.dispatch.post(id.clone(), endpoint);
        }
        event
    }

    /// An endpoint answered an event with a 2xx: one less has yet to.
    pub(crate) fn settle_delivery(&mut self, job: &Job) {
        let first = self.dispatch.settle(job);
        if let Some(event) = self.events.get_mut(&job.event).filter(|_| first) {
            let pending = event["pending_webhooks"].as_u64().unwrap_or_default();
            event["pending_webhooks"] = pending.saturating_sub(1).into();
        }
    }
}

fn event(kind: &str, data: &Value) -> Value {
    json!({
        "id": ids::long("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": clock::now(),
        "data": data,
        "livemode": false,
        "type": kind,
    })
}
