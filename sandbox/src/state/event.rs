//! Events: emitting, listing, and delivering them to endpoints.

use serde_json::{Map, Value, json};

use super::dispatcher::Delivery;
use super::previous_attributes::previous_attributes;
use super::truncated_lists::{truncated, truncated_previous};
use super::{API_VERSION, State, text};
use crate::ids;

/// Stripe's API returns events for 30 days.
const RETENTION_SECONDS: i64 = 30 * 24 * 60 * 60;

impl State {
    pub(crate) fn emit(&mut self, kind: &str, object: &Value) {
        self.emit_data(kind, &json!({ "object": truncated(object) }));
    }

    /// Emits an event with `previous_attributes`, or none if nothing changed.
    pub(crate) fn emit_update(&mut self, kind: &str, before: &Value, after: &Value) {
        let previous = previous_attributes(before, after);
        if !previous.is_empty() {
            let previous = truncated_previous(&previous);
            self.emit_data(kind, &json!({ "object": truncated(after), "previous_attributes": previous }));
        }
    }

    /// Emits an event with any content. `overrides` replace the fields of a normal event.
    pub(crate) fn emit_custom(&mut self, kind: &str, data: &Value, overrides: Map<String, Value>) -> Value {
        let mut custom = event(kind, data, self.now());
        for (name, value) in overrides {
            custom[name] = value;
        }
        self.record(custom)
    }

    /// `None` once the event is older than the retention time.
    pub(crate) fn retained_event(&self, id: &str) -> Option<&Value> {
        self.events.get(id).filter(|event| self.is_retained(event))
    }

    /// The events of the list, ordered by `created` and then by emission, oldest first.
    pub(crate) fn listed_events(&self) -> Vec<&Value> {
        let visible = self.events.values().take(self.visible_events.unwrap_or(usize::MAX));
        let mut listed: Vec<&Value> = visible.filter(|event| self.is_retained(event)).collect();
        listed.sort_by_key(|event| created(event));
        listed
    }

    /// Leaves all later events out of the list.
    pub(crate) fn hide_events(&mut self) {
        // Events that are hidden already stay hidden.
        self.visible_events.get_or_insert(self.events.len());
    }

    pub(crate) fn show_events(&mut self) {
        self.visible_events = None;
    }

    fn is_retained(&self, event: &Value) -> bool {
        created(event) >= self.now() - RETENTION_SECONDS
    }

    fn emit_data(&mut self, kind: &str, data: &Value) {
        if !self.cause.is_silent {
            self.record(event(kind, data, self.now()));
        }
    }

    fn record(&mut self, mut event: Value) -> Value {
        event["request"] = json!({
            "id": self.cause.request_id,
            "idempotency_key": self.cause.idempotency_key,
        });
        let endpoints = self.endpoints_for(text(&event, "type"));
        event["pending_webhooks"] = endpoints.len().into();
        let id = text(&event, "id").to_owned();
        self.events.insert(id.clone(), event.clone());
        for endpoint in endpoints {
            self.dispatcher.dispatch(id.clone(), endpoint);
        }
        event
    }

    /// Decrements `pending_webhooks` after the first 2xx of an endpoint.
    pub(crate) fn settle_delivery(&mut self, delivery: &Delivery) {
        let is_first = self.dispatcher.settle(delivery);
        if let Some(event) = self.events.get_mut(&delivery.event).filter(|_| is_first) {
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
        // Null for the account's own events (<https://docs.stripe.com/context>).
        "context": null,
        "created": now,
        "data": data,
        "livemode": false,
        "type": kind,
    })
}
