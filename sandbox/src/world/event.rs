//! What the account's history keeps, and what endpoints are told.

use serde_json::{Map, Value, json};

use super::difference::previous_attributes;
use super::dispatch::Job;
use super::embedded::{shown, shown_previous};
use super::{API_VERSION, World, text};
use crate::ids;

/// Stripe shows an event for 30 days.
const KEPT_SECONDS: i64 = 30 * 24 * 60 * 60;

impl World {
    /// Something happened to this object.
    pub(crate) fn emit(&mut self, kind: &str, object: &Value) {
        self.tell(kind, &json!({ "object": shown(object) }));
    }

    /// This object was changed; nothing is told if nothing differs.
    pub(crate) fn emit_update(&mut self, kind: &str, before: &Value, after: &Value) {
        let previous = previous_attributes(before, after);
        if !previous.is_empty() {
            let previous = shown_previous(&previous);
            self.tell(kind, &json!({ "object": shown(after), "previous_attributes": previous }));
        }
    }

    /// Makes an event of any shape: what is given replaces what an event of the account's own would have.
    pub(crate) fn invent(&mut self, kind: &str, data: &Value, given: Map<String, Value>) -> Value {
        let mut made = event(kind, data, self.now());
        for (name, value) in given {
            made[name] = value;
        }
        self.record(made)
    }

    /// The event of this id, while it is kept.
    pub(crate) fn kept_event(&self, id: &str) -> Option<&Value> {
        self.events.get(id).filter(|event| self.is_kept(event))
    }

    /// The events that the list shows, oldest first; of one second's the one that was made first comes first.
    pub(crate) fn listed_events(&self) -> Vec<&Value> {
        let shown = self.events.values().take(self.events_shown.unwrap_or(usize::MAX));
        let mut listed: Vec<&Value> = shown.filter(|event| self.is_kept(event)).collect();
        listed.sort_by_key(|event| created(event));
        listed
    }

    /// Events from now on are left out of the list.
    pub(crate) fn hide_events(&mut self) {
        // What is hidden already stays hidden.
        self.events_shown.get_or_insert(self.events.len());
    }

    /// The list shows all events.
    pub(crate) fn show_events(&mut self) {
        self.events_shown = None;
    }

    fn is_kept(&self, event: &Value) -> bool {
        created(event) >= self.now() - KEPT_SECONDS
    }

    fn tell(&mut self, kind: &str, data: &Value) {
        if !self.cause.is_silent {
            self.record(event(kind, data, self.now()));
        }
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

fn created(event: &Value) -> i64 {
    event["created"].as_i64().unwrap_or_default()
}

fn event(kind: &str, data: &Value, now: i64) -> Value {
    json!({
        "id": ids::long("evt"),
        "object": "event",
        "api_version": API_VERSION,
        // Of an event of the account's own (<https://docs.stripe.com/context>).
        "context": null,
        "created": now,
        "data": data,
        "livemode": false,
        "type": kind,
    })
}
