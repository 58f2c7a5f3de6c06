//! Subscriptions. A checkout creates them; the API, the portal and the control API change them.

use serde_json::{Value, json};

use super::{Metadata, State, catalog, edited, insert, text};
use crate::ids;

pub(crate) struct NewSubscription {
    pub(crate) customer: String,
    /// Price objects with their quantities. Metered prices have no quantity.
    pub(crate) items: Vec<(Value, Option<i64>)>,
    pub(crate) metadata: Metadata,
    pub(crate) trial_days: Option<i64>,
}

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Whether the subscription has ended permanently.
pub(crate) fn is_final(subscription: &Value) -> bool {
    matches!(text(subscription, "status"), "canceled" | "incomplete_expired")
}

pub(crate) fn items(subscription: &Value) -> &[Value] {
    subscription["items"]["data"].as_array().map_or(&[], Vec::as_slice)
}

/// The earliest period end of all items: prices with different intervals have different periods
/// (<https://docs.stripe.com/billing/subscriptions/mixed-interval>).
pub(crate) fn period_end(subscription: &Value) -> Option<i64> {
    items(subscription).iter().filter_map(|item| item["current_period_end"].as_i64()).min()
}

/// The latest period end of all items.
pub(crate) fn last_period_end(subscription: &Value) -> Option<i64> {
    items(subscription).iter().filter_map(|item| item["current_period_end"].as_i64()).max()
}

/// Whether the subscription is set to cancel, in either of the two ways that Stripe represents it.
pub(crate) fn is_set_to_cancel(subscription: &Value) -> bool {
    subscription["cancel_at_period_end"] == true || !subscription["cancel_at"].is_null()
}

pub(crate) fn item(
    subscription: &str,
    price: &Value,
    quantity: Option<i64>,
    (start, end): (i64, i64),
) -> Value {
    let mut item = json!({
        "id": ids::short("si"),
        "object": "subscription_item",
        "billing_thresholds": null,
        "created": start,
        "current_period_end": end,
        "current_period_start": start,
        "current_trial": null,
        "discounts": [],
        "metadata": {},
        "plan": plan(price),
        "price": price,
        "subscription": subscription,
        "tax_rates": [],
    });
    if let Some(quantity) = quantity {
        item["quantity"] = quantity.into();
    }
    item
}

/// Replaces the price of an item. The period stays, as at Stripe when both prices have the same
/// interval.
pub(crate) fn set_price(item: &mut Value, price: &Value) {
    item["price"] = price.clone();
    item["plan"] = plan(price);
    if catalog::is_metered(price) {
        item.as_object_mut().map(|item| item.remove("quantity"));
    } else if item["quantity"].is_null() {
        item["quantity"] = 1.into();
    }
}

/// Sets the subscription to cancel at its period end, as the API does.
pub(crate) fn cancel_at_period_end(subscription: &mut Value, now: i64) {
    schedule_cancel(subscription, period_end(subscription), now);
    subscription["cancel_at_period_end"] = true.into();
}

/// Sets or clears the time at which the subscription is canceled, as the portal does with flexible
/// billing.
pub(crate) fn schedule_cancel(subscription: &mut Value, at: Option<i64>, now: i64) {
    subscription["cancel_at"] = at.into();
    subscription["cancel_at_period_end"] = false.into();
    subscription["canceled_at"] = at.map(|_| now).into();
    let reason = at.map(|_| "cancellation_requested");
    subscription["cancellation_details"]["reason"] = reason.into();
}

/// Starts the next period of the items whose period ends first.
fn start_next_period(subscription: &mut Value) {
    let first_end = period_end(subscription);
    let all = subscription["items"]["data"].as_array_mut().into_iter().flatten();
    for item in all.filter(|item| item["current_period_end"].as_i64() == first_end) {
        let start = item["current_period_end"].as_i64().unwrap_or_default();
        item["current_period_start"] = start.into();
        item["current_period_end"] = catalog::period_end(&item["price"], start).into();
    }
    if subscription["status"] == "trialing" {
        subscription["status"] = "active".into();
    }
}

impl State {
    /// Oldest first.
    pub(crate) fn subscriptions_of<'a>(&'a self, customer: &'a str) -> impl Iterator<Item = &'a Value> {
        self.subscriptions.values().filter(move |subscription| text(subscription, "customer") == customer)
    }

    /// Creates a subscription with its first invoice. The caller emits the invoice's event.
    pub(crate) fn create_subscription(
        &mut self,
        new: &NewSubscription,
        invoice_status: &str,
    ) -> (Value, Value) {
        let mut subscription = insert(&mut self.subscriptions, subscription(new, self.clock.now()));
        let invoice = self.create_invoice(text(&subscription, "id"), "subscription_create", invoice_status);
        subscription["latest_invoice"] = invoice["id"].clone();
        let subscription = insert(&mut self.subscriptions, subscription);
        self.emit("customer.subscription.created", &subscription);
        (subscription, invoice)
    }

    /// Edits a subscription and emits `customer.subscription.updated`.
    pub(crate) fn edit_subscription(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some((before, after)) = edited(&mut self.subscriptions, id, edit) else { return Value::Null };
        self.emit_update("customer.subscription.updated", &before, &after);
        after
    }

    /// Cancels a subscription immediately.
    pub(crate) fn cancel_subscription(&mut self, id: &str) -> Value {
        let now = self.now();
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Value::Null };
        subscription["status"] = "canceled".into();
        subscription["ended_at"] = now.into();
        if subscription["canceled_at"].is_null() {
            subscription["canceled_at"] = now.into();
        }
        subscription["cancellation_details"]["reason"] = "cancellation_requested".into();
        let canceled = subscription.clone();
        self.emit("customer.subscription.deleted", &canceled);
        canceled
    }

    /// Removes a subscription without an event. Returns whether it existed.
    pub(crate) fn forget_subscription(&mut self, id: &str) -> bool {
        self.subscriptions.shift_remove(id).is_some()
    }

    /// Changes the quantity of the first item.
    pub(crate) fn change_quantity(&mut self, id: &str, quantity: u32) -> Value {
        self.edit_subscription(id, |subscription| {
            subscription["items"]["data"][0]["quantity"] = quantity.into();
        })
    }

    /// Schedules cancellation at the period end, or removes it.
    pub(crate) fn set_cancel_at_period_end(&mut self, id: &str, at_period_end: bool) -> Value {
        let now = self.now();
        self.edit_subscription(id, |subscription| {
            if at_period_end {
                cancel_at_period_end(subscription, now);
            } else {
                schedule_cancel(subscription, None, now);
            }
        })
    }

    /// Changes the price of the first item.
    pub(crate) fn change_price(&mut self, id: &str, price: &Value) -> Value {
        self.edit_subscription(id, |subscription| {
            set_price(&mut subscription["items"]["data"][0], price);
        })
    }

    /// Starts the next period and charges it. A trial becomes active.
    pub(crate) fn renew(&mut self, id: &str) -> Value {
        let is_paid = self.is_chargeable(id);
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Value::Null };
        let before = subscription.clone();
        start_next_period(subscription);
        let (invoice_status, status) = if is_paid { ("paid", "active") } else { ("open", "past_due") };
        let invoice = self.create_invoice(id, "subscription_cycle", invoice_status);
        let mut after = self.subscriptions[id].clone();
        after["latest_invoice"] = invoice["id"].clone();
        if matches!(text(&after, "status"), "active" | "past_due") {
            after["status"] = status.into();
        }
        let after = insert(&mut self.subscriptions, after);
        self.emit_update("customer.subscription.updated", &before, &after);
        self.emit(if is_paid { "invoice.paid" } else { "invoice.payment_failed" }, &invoice);
        after
    }

    /// Sets the status directly, with the invoice that belongs to it.
    pub(crate) fn force_status(&mut self, id: &str, status: &str) -> Value {
        if status == "canceled" {
            return self.cancel_subscription(id);
        }
        // `unpaid` keeps an invoice that is open already: Stripe stops retrying it.
        let needs_invoice = status == "past_due" || (status == "unpaid" && !self.has_open_invoice(id));
        let invoice = needs_invoice.then(|| self.create_invoice(id, "subscription_cycle", "open"));
        let changed = self.edit_subscription(id, |subscription| {
            subscription["status"] = status.into();
            if let Some(invoice) = &invoice {
                subscription["latest_invoice"] = invoice["id"].clone();
            }
        });
        if let Some(invoice) = invoice {
            self.emit("invoice.payment_failed", &invoice);
        }
        changed
    }
}

fn subscription(new: &NewSubscription, now: i64) -> Value {
    let id = ids::long("sub");
    let trial_end = new.trial_days.map(|days| now + days * DAY_SECONDS);
    let items: Vec<Value> = new
        .items
        .iter()
        .map(|(price, quantity)| {
            let end = trial_end.unwrap_or_else(|| catalog::period_end(price, now));
            item(&id, price, *quantity, (now, end))
        })
        .collect();
    json!({
        "id": id,
        "object": "subscription",
        "application": null,
        "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": trial_end.unwrap_or(now),
        "billing_cycle_anchor_config": null,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [],
        "billing_thresholds": null,
        "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": "usd",
        "customer": new.customer,
        "customer_account": null,
        "days_until_due": null,
        "default_payment_method": ids::long("pm"),
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "ended_at": null,
        "invoice_settings": {"account_tax_ids": null, "issuer": {"type": "self"}},
        "items": {
            "object": "list",
            "data": items,
            "has_more": false,
            "total_count": new.items.len(),
            "url": format!("/v1/subscription_items?subscription={id}"),
        },
        "latest_invoice": null,
        "livemode": false,
        "managed_payments": null,
        "metadata": new.metadata,
        "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null,
            "payment_method_types": null,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": null,
        "pending_setup_intent": null,
        "pending_update": null,
        "schedule": null,
        "start_date": now,
        "status": if trial_end.is_some() { "trialing" } else { "active" },
        "test_clock": null,
        "transfer_data": null,
        "trial_end": trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": trial_end.map(|_| now),
    })
}

/// The legacy `plan` object that items still have beside `price`.
fn plan(price: &Value) -> Value {
    json!({
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": false,
        "metadata": {},
        "meter": null,
        "nickname": null,
        "product": price["product"],
        "tiers_mode": null,
        "transform_usage": null,
        "trial_period_days": null,
        "usage_type": price["recurring"]["usage_type"],
    })
}
