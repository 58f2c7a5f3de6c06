//! Subscriptions: made by a checkout, changed by the API, the portal and time, ended once.

use serde_json::{Value, json};

use super::{Metadata, World, catalog, keep, text};
use crate::ids;

/// What is needed to make one.
pub(crate) struct NewSubscription {
    pub(crate) customer: String,
    /// Whole price objects with their quantities; metered prices have none.
    pub(crate) items: Vec<(Value, Option<i64>)>,
    pub(crate) metadata: Metadata,
    pub(crate) trial_days: Option<i64>,
}

const DAY: i64 = 24 * 60 * 60;

/// Whether the subscription is over for good.
pub(crate) fn is_final(subscription: &Value) -> bool {
    matches!(text(subscription, "status"), "canceled" | "incomplete_expired")
}

/// The items of a subscription.
pub(crate) fn items(subscription: &Value) -> &[Value] {
    subscription["items"]["data"].as_array().map_or(&[], Vec::as_slice)
}

/// When the first of the running periods ends: with prices of different intervals each item has its own
/// (<https://docs.stripe.com/billing/subscriptions/mixed-interval>).
pub(crate) fn period_end(subscription: &Value) -> Option<i64> {
    items(subscription).iter().filter_map(|item| item["current_period_end"].as_i64()).min()
}

/// When the last of them ends.
pub(crate) fn last_period_end(subscription: &Value) -> Option<i64> {
    items(subscription).iter().filter_map(|item| item["current_period_end"].as_i64()).max()
}

/// Whether the subscription is to end by itself, in whichever of the two ways Stripe says so.
pub(crate) fn ends_by_itself(subscription: &Value) -> bool {
    subscription["cancel_at_period_end"] == true || !subscription["cancel_at"].is_null()
}

/// One line of a subscription.
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

/// Gives an item another price; the period goes on, as it does when both prices have the same interval.
pub(crate) fn set_price(item: &mut Value, price: &Value) {
    item["price"] = price.clone();
    item["plan"] = plan(price);
    if catalog::is_metered(price) {
        item.as_object_mut().map(|item| item.remove("quantity"));
    } else if item["quantity"].is_null() {
        item["quantity"] = 1.into();
    }
}

/// Writes down that the subscription is to end with its period, in the way the API does.
pub(crate) fn cancel_at_period_end(subscription: &mut Value, now: i64) {
    schedule_end(subscription, period_end(subscription), now);
    subscription["cancel_at_period_end"] = true.into();
}

/// Writes down when the subscription is to end; with flexible billing the portal says it in this way.
pub(crate) fn schedule_end(subscription: &mut Value, at: Option<i64>, now: i64) {
    subscription["cancel_at"] = at.into();
    subscription["cancel_at_period_end"] = false.into();
    subscription["canceled_at"] = at.map(|_| now).into();
    let reason = at.map(|_| "cancellation_requested");
    subscription["cancellation_details"]["reason"] = reason.into();
}

/// The items whose period ends first begin their next one; others go on with theirs.
fn begin_next_period(subscription: &mut Value) {
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

impl World {
    /// The subscriptions of a customer, oldest first.
    pub(crate) fn subscriptions_of<'a>(&'a self, customer: &'a str) -> impl Iterator<Item = &'a Value> {
        self.subscriptions.values().filter(move |subscription| text(subscription, "customer") == customer)
    }

    /// Makes a subscription with its first invoice and tells of the subscription.
    pub(crate) fn create_subscription(
        &mut self,
        new: &NewSubscription,
        invoice_status: &str,
    ) -> (Value, Value) {
        let mut subscription = keep(&mut self.subscriptions, subscription(new, self.clock.now()));
        let invoice = self.bill(text(&subscription, "id"), "subscription_create", invoice_status);
        subscription["latest_invoice"] = invoice["id"].clone();
        let subscription = keep(&mut self.subscriptions, subscription);
        self.emit("customer.subscription.created", &subscription);
        (subscription, invoice)
    }

    /// Changes a subscription and tells what changed.
    pub(crate) fn change_subscription(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Value::Null };
        let before = subscription.clone();
        edit(subscription);
        let after = subscription.clone();
        self.emit_update("customer.subscription.updated", &before, &after);
        after
    }

    /// Ends a subscription now.
    pub(crate) fn end_subscription(&mut self, id: &str) -> Value {
        let now = self.now();
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Value::Null };
        subscription["status"] = "canceled".into();
        subscription["ended_at"] = now.into();
        if subscription["canceled_at"].is_null() {
            subscription["canceled_at"] = now.into();
        }
        subscription["cancellation_details"]["reason"] = "cancellation_requested".into();
        let ended = subscription.clone();
        self.emit("customer.subscription.deleted", &ended);
        ended
    }

    /// Forgets a subscription, as if it had never been. Says whether there was one.
    pub(crate) fn forget_subscription(&mut self, id: &str) -> bool {
        self.subscriptions.shift_remove(id).is_some()
    }

    /// Another quantity of the first item.
    pub(crate) fn change_quantity(&mut self, id: &str, quantity: u32) -> Value {
        self.change_subscription(id, |subscription| {
            subscription["items"]["data"][0]["quantity"] = quantity.into();
        })
    }

    /// The subscription is to end with its period, or to go on after all.
    pub(crate) fn change_end(&mut self, id: &str, at_period_end: bool) -> Value {
        let now = self.now();
        self.change_subscription(id, |subscription| {
            if at_period_end {
                cancel_at_period_end(subscription, now);
            } else {
                schedule_end(subscription, None, now);
            }
        })
    }

    /// Another price for the first item.
    pub(crate) fn change_price(&mut self, id: &str, price: &Value) -> Value {
        self.change_subscription(id, |subscription| {
            set_price(&mut subscription["items"]["data"][0], price);
        })
    }

    /// The next period begins and is charged; a trial ends with its period.
    pub(crate) fn renew(&mut self, id: &str) -> Value {
        let is_paid = self.is_chargeable(id);
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Value::Null };
        let before = subscription.clone();
        begin_next_period(subscription);
        let (invoice_status, status) = if is_paid { ("paid", "active") } else { ("open", "past_due") };
        let invoice = self.bill(id, "subscription_cycle", invoice_status);
        let mut after = self.subscriptions[id].clone();
        after["latest_invoice"] = invoice["id"].clone();
        if matches!(text(&after, "status"), "active" | "past_due") {
            after["status"] = status.into();
        }
        let after = keep(&mut self.subscriptions, after);
        self.emit_update("customer.subscription.updated", &before, &after);
        self.emit(if is_paid { "invoice.paid" } else { "invoice.payment_failed" }, &invoice);
        after
    }

    /// Puts a subscription into a status, whatever led there.
    pub(crate) fn force_status(&mut self, id: &str, status: &str) -> Value {
        if status == "canceled" {
            return self.end_subscription(id);
        }
        // Stripe stops trying an invoice that was open before.
        let is_owed = status == "past_due" || (status == "unpaid" && !self.has_open_invoice(id));
        let invoice = is_owed.then(|| self.bill(id, "subscription_cycle", "open"));
        let changed = self.change_subscription(id, |subscription| {
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
    let trial_end = new.trial_days.map(|days| now + days * DAY);
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

/// The old name of a price, which items still carry beside it.
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
