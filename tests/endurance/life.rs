//! The life of a subscription: the events that Stripe sends of it, and what must be held when they have been taken.

use std::sync::Arc;

use billhook::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use uuid::Uuid;

/// The fewest events of a life, and by how many there may be more.
const EVENTS: (usize, usize) = (4, 9);

/// Lives are of the past, so that every event has a second of its own.
const AGE_SECONDS: i64 = 3600;

const MONTH_SECONDS: i64 = 30 * 24 * 3600;

/// One subscription of a tenant's customer.
#[derive(Debug)]
pub struct Life {
    pub tenant: String,
    pub customer: String,
    pub subscription: String,
    /// In the order in which they happened, which is the order in which they are sent.
    pub events: Vec<Arc<Event>>,
}

/// One event, and how it leaves its subscription.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub kind: &'static str,
    pub created: i64,
    pub status: &'static str,
    pub quantity: i64,
    pub current_period_end: i64,
    pub ended_at: Option<i64>,
    /// What is sent.
    pub body: String,
}

impl Life {
    /// A new tenant, whose customer has two subscriptions at a time.
    pub fn two_of_a_tenant() -> [Self; 2] {
        let name = Uuid::new_v4().simple().to_string();
        ["a", "b"].map(|which| Self::of(&name, which))
    }

    fn of(name: &str, which: &str) -> Self {
        let mut life = Self {
            tenant: format!("tenant-{name}"),
            customer: format!("cus_{name}"),
            subscription: format!("sub_{name}{which}"),
            events: Vec::new(),
        };
        let length = EVENTS.0 + crate::chance::below(EVENTS.1);
        let began = SystemClock.now_seconds() - AGE_SECONDS;
        let ends = crate::chance::one_in(2);
        for nth in 0..length {
            let (kind, status) = match nth {
                0 => ("customer.subscription.created", "trialing"),
                _ if ends && nth + 1 == length => ("customer.subscription.deleted", "canceled"),
                _ if nth % 2 == 1 => ("customer.subscription.updated", "active"),
                _ => ("customer.subscription.updated", "past_due"),
            };
            let event = life.event(kind, status, began, i64::try_from(nth).expect("a life is short"));
            life.events.push(Arc::new(event));
        }
        life
    }

    fn event(&self, kind: &'static str, status: &'static str, began: i64, nth: i64) -> Event {
        let id = format!("evt_{}", Uuid::new_v4().simple());
        let created = began + nth;
        let quantity = nth + 1;
        let current_period_end = created + MONTH_SECONDS;
        let ended_at = (status == "canceled").then_some(created);
        let body = json!({
            "id": id, "object": "event", "type": kind, "created": created, "livemode": false,
            "api_version": "2026-09-30.endive", "request": { "id": null }, "data": { "object": {
                "id": self.subscription, "object": "subscription", "customer": self.customer, "status": status,
                "created": began, "cancel_at": null, "cancel_at_period_end": false, "ended_at": ended_at,
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

    /// How the subscription stands in the end.
    pub fn last(&self) -> &Event {
        self.events.last().expect("a life has events")
    }
}
