//! Payment methods, declined cards and payment retries.

use serde_json::Value;

use super::{State, text};
use crate::ids;

/// The payment method that an invoice is charged to: the first of these that is set
/// (<https://docs.stripe.com/api/subscriptions/object#subscription_object-default_payment_method>).
/// Checkout sets the subscription's, so replacing only the customer's card has no effect.
fn charged_payment_method<'a>(
    invoice: &'a Value,
    subscription: &'a Value,
    customer: &'a Value,
) -> Option<&'a str> {
    let set = [
        &invoice["default_payment_method"],
        &invoice["default_source"],
        &subscription["default_payment_method"],
        &subscription["default_source"],
        &customer["invoice_settings"]["default_payment_method"],
        &customer["default_source"],
    ];
    set.into_iter().find_map(Value::as_str)
}

impl State {
    /// Whether the next invoice of a subscription would be paid.
    pub(crate) fn is_chargeable(&self, subscription: &str) -> bool {
        let card = self.charged_card(subscription, &Value::Null);
        card.is_some_and(|card| !self.declined_payment_methods.contains(card))
    }

    /// The bank declines the subscription's card from now on.
    pub(crate) fn decline_charged_card(&mut self, subscription: &str) {
        if let Some(card) = self.charged_card(subscription, &Value::Null).map(str::to_owned) {
            self.declined_payment_methods.insert(card);
        }
    }

    /// Replaces the subscription's own card.
    pub(crate) fn update_subscription_card(&mut self, subscription: &str) {
        self.edit_subscription(subscription, |subscription| {
            subscription["default_payment_method"] = ids::long("pm").into();
        });
    }

    /// Whether the latest invoice of a subscription is open.
    pub(crate) fn has_open_invoice(&self, subscription: &str) -> bool {
        self.open_invoice(subscription).is_some()
    }

    /// Charges the latest invoice again if it is open.
    pub(crate) fn retry_payment(&mut self, subscription: &str) {
        let Some(invoice) = self.open_invoice(subscription).cloned() else { return };
        let card = self.charged_card(subscription, &invoice);
        if card.is_some_and(|card| !self.declined_payment_methods.contains(card)) {
            self.pay_invoice(text(&invoice, "id"));
        } else {
            self.emit("invoice.payment_failed", &invoice);
        }
    }

    fn open_invoice(&self, subscription: &str) -> Option<&Value> {
        let latest = text(self.subscriptions.get(subscription)?, "latest_invoice");
        self.invoices.get(latest).filter(|invoice| text(invoice, "status") == "open")
    }

    fn charged_card<'a>(&'a self, subscription: &str, invoice: &'a Value) -> Option<&'a str> {
        let subscription = self.subscriptions.get(subscription)?;
        charged_payment_method(invoice, subscription, self.customers.get(text(subscription, "customer"))?)
    }
}
