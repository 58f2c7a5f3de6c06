//! A random subscription lifecycle: the events that Stripe sends, and the state that they lead to.

use std::sync::Arc;

use billhook::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use uuid::Uuid;

const MIN_EVENTS: usize = 4;
const MAX_EXTRA_EVENTS: usize = 8;

/// Lifecycles start in the past, so that each event has a second of its own.
const AGE_SECONDS: i64 = 3600;

const MONTH_SECONDS: i64 = 30 * 24 * 3600;

/// One subscription of a tenant's customer.
#[derive(Debug)]
pub struct Lifecycle {
    pub tenant: String,
    pub customer: String,
    pub subscription: String,
    /// In order of creation, in which they are also sent.
    pub events: Vec<Arc<Event>>,
}

/// One event, and the subscription's state after it.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub kind: &'static str,
    pub created: i64,
    pub status: &'static str,
    pub quantity: i64,
    pub current_period_end: i64,
    pub ended_at: Option<i64>,
    pub body: String,
}

impl Lifecycle {
    /// Two concurrent subscriptions of a new tenant's customer.
    pub fn two_for_one_tenant() -> [Self; 2] {
        let name = Uuid::new_v4().simple().to_string();
        ["a", "b"].map(|suffix| Self::new(&name, suffix))
    }

    fn new(name: &str, suffix: &str) -> Self {
        let mut lifecycle = Self {
            tenant: format!("tenant-{name}"),
            customer: format!("cus_{name}"),
            subscription: format!("sub_{name}{suffix}"),
            events: Vec::new(),
        };
        let length = MIN_EVENTS + crate::random::below(MAX_EXTRA_EVENTS + 1);
        let started = SystemClock.now_seconds() - AGE_SECONDS;
        let ends = crate::random::one_in(2);
        for nth in 0..length {
            let (kind, status) = match nth {
                0 => ("customer.subscription.created", "trialing"),
                _ if ends && nth + 1 == length => ("customer.subscription.deleted", "canceled"),
                _ if nth % 2 == 1 => ("customer.subscription.updated", "active"),
                _ => ("customer.subscription.updated", "past_due"),
            };
            let event = lifecycle.event(kind, status, started, i64::try_from(nth).expect("there are few"));
            lifecycle.events.push(Arc::new(event));
        }
        lifecycle
    }

    fn event(&self, kind: &'static str, status: &'static str, started: i64, nth: i64) -> Event {
        let id = format!("evt_{}", Uuid::new_v4().simple());
        let created = started + nth;
        let quantity = nth + 1;
        let current_period_end = created + MONTH_SECONDS;
        let ended_at = (status == "canceled").then_some(created);
        let body = json!({
            "id": id, "object": "event", "type": kind, "created": created, "livemode": false,
            "api_version": "2026-09-30.endive", "request": { "id": null }, "data": { "object": {
                "id": self.subscription, "object": "subscription", "customer": self.customer, "status": status,
                "created": started, "cancel_at": null, "cancel_at_period_end": false, "ended_at": ended_at,
                "metadata": { "tenant_id": self.tenant },
                "items": { "object": "list", "data": [{
                    "id": "si_1", "quantity": quantity, "current_period_end": current_period_end,
                    "price": { "id": "price_pro_monthly", "lookup_key": "pro_monthly" },
                }] },
            } },
        });
        let body = Value::to_string(&body);
        Event { id, kind, created, status, quantity, current_period_end, ended_at, body }
    }

    pub fn last(&self) -> &Event {
        self.events.last().expect("a lifecycle has events")
    }
}
