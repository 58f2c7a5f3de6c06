//! Invoices in the format of API version basil and later: the subscription is under `parent`.

use serde_json::{Value, json};

use super::{State, catalog, insert, subscription, text};
use crate::ids;

impl State {
    /// Creates the invoice for a subscription's current period. The caller emits its event.
    pub(crate) fn create_invoice(&mut self, subscription: &str, reason: &str, status: &str) -> Value {
        let Some(subscription) = self.subscriptions.get(subscription) else { return Value::Null };
        let number = format!("{}-{:04}", ids::random(8).to_uppercase(), self.invoices.len() + 1);
        let mut invoice = invoice(subscription, reason, status, &number, self.now());
        let page = format!("{}/i/{}/test_{}", self.base_url, text(&self.account, "id"), ids::random(48));
        invoice["hosted_invoice_url"] = page.into();
        insert(&mut self.invoices, invoice)
    }

    pub(crate) fn void_invoice(&mut self, id: &str) -> Value {
        let now = self.now();
        let Some(invoice) = self.invoices.get_mut(id) else { return Value::Null };
        invoice["status"] = "void".into();
        invoice["status_transitions"]["voided_at"] = now.into();
        let voided = invoice.clone();
        self.emit("invoice.voided", &voided);
        voided
    }

    /// The invoice with this path in its `hosted_invoice_url`.
    pub(crate) fn invoice_at(&self, path: &str) -> Option<&Value> {
        let url = format!("{}{path}", self.base_url);
        self.invoices.values().find(|invoice| text(invoice, "hosted_invoice_url") == url)
    }

    /// Marks an open invoice as paid and emits `invoice.paid`. A `past_due` or `unpaid`
    /// subscription becomes active if this is its latest invoice
    /// (<https://docs.stripe.com/billing/subscriptions/overview#unpaid-subscriptions>).
    pub(crate) fn pay_invoice(&mut self, id: &str) {
        let now = self.now();
        let Some(invoice) = self.invoices.get_mut(id) else { return };
        invoice["status"] = "paid".into();
        invoice["amount_paid"] = invoice["amount_due"].clone();
        invoice["amount_remaining"] = 0.into();
        invoice["next_payment_attempt"] = Value::Null;
        invoice["status_transitions"]["paid_at"] = now.into();
        let paid = invoice.clone();
        self.emit("invoice.paid", &paid);
        let subscription = text(&paid["parent"]["subscription_details"], "subscription");
        let reactivates = self.subscriptions.get(subscription).is_some_and(|subscription| {
            subscription["latest_invoice"] == paid["id"]
                && matches!(text(subscription, "status"), "past_due" | "unpaid")
        });
        if reactivates {
            self.edit_subscription(subscription, |subscription| subscription["status"] = "active".into());
        }
    }
}

fn invoice(subscription: &Value, reason: &str, status: &str, number: &str, now: i64) -> Value {
    let id = ids::long("in");
    let trialing = text(subscription, "status") == "trialing";
    let items = subscription::items(subscription).iter();
    let lines: Vec<Value> = items.map(|item| line(&id, subscription, item, trialing)).collect();
    let total: i64 = lines.iter().filter_map(|line| line["amount"].as_i64()).sum();
    let paid = status == "paid";
    json!({
        "id": id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Billhook's sandbox",
        "amount_due": total,
        "amount_overpaid": 0,
        "amount_paid": if paid { total } else { 0 },
        "amount_remaining": if paid { 0 } else { total },
        "amount_shipping": 0,
        "attempt_count": 1,
        "attempted": true,
        "auto_advance": !paid,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null, "status": null},
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": "usd",
        "customer": subscription["customer"],
        "customer_account": null,
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "due_date": null,
        "effective_at": now,
        "ending_balance": 0,
        "issuer": {"type": "self"},
        "lines": {
            "object": "list",
            "data": lines,
            "has_more": false,
            "total_count": lines.len(),
            "url": format!("/v1/invoices/{id}/lines"),
        },
        "livemode": false,
        "metadata": {},
        "next_payment_attempt": if paid { None } else { Some(now + 3 * 24 * 60 * 60) },
        "number": number,
        "on_behalf_of": null,
        "parent": {
            "quote_details": null,
            "subscription_details": {
                "metadata": subscription["metadata"],
                "subscription": subscription["id"],
            },
            "type": "subscription_details",
        },
        "period_end": now,
        "period_start": now,
        "starting_balance": 0,
        "status": status,
        "status_transitions": {
            "finalized_at": now,
            "marked_uncollectible_at": null,
            "paid_at": if paid { Some(now) } else { None },
            "voided_at": null,
        },
        "subtotal": total,
        "total": total,
        "total_taxes": [],
    })
}

fn line(invoice: &str, subscription: &Value, item: &Value, trialing: bool) -> Value {
    // A metered price bills the usage of the previous period, which is always zero here.
    let quantity = item["quantity"].as_i64().unwrap_or(0);
    let amount = if trialing { 0 } else { catalog::unit_amount(&item["price"]) * quantity };
    json!({
        "id": ids::long("il"),
        "object": "line_item",
        "amount": amount,
        "currency": "usd",
        "description": null,
        "discountable": true,
        "discounts": [],
        "invoice": invoice,
        "livemode": false,
        "metadata": subscription["metadata"],
        "parent": {
            "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null,
                "proration": false,
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"end": item["current_period_end"], "start": item["current_period_start"]},
        "pricing": {
            "price_details": {"price": item["price"]["id"], "product": item["price"]["product"]},
            "type": "price_details",
            "unit_amount_decimal": item["price"]["unit_amount_decimal"],
        },
        "quantity": quantity,
        "subtotal": amount,
        "taxes": [],
    })
}
