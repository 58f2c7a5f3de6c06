//! Which card pays, and what the bank says to it.

use serde_json::Value;

use super::{World, text};
use crate::ids;

/// The payment method that an invoice is charged to: the first of these that is set
/// (<https://docs.stripe.com/api/subscriptions/object#subscription_object-default_payment_method>). Checkout sets the
/// subscription's, so that a new card of the customer's alone changes nothing.
fn charged<'a>(invoice: &'a Value, subscription: &'a Value, customer: &'a Value) -> Option<&'a str> {
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

impl World {
    /// Whether the next invoice of a subscription would be paid.
    pub(crate) fn is_chargeable(&self, subscription: &str) -> bool {
        let card = self.card_of(subscription, &Value::Null);
        card.is_some_and(|card| !self.declined.contains(card))
    }

    /// The bank declines from now on the card that the subscription's invoices are charged to.
    pub(crate) fn decline_card_of(&mut self, subscription: &str) {
        if let Some(card) = self.card_of(subscription, &Value::Null).map(str::to_owned) {
            self.declined.insert(card);
        }
    }

    /// A new card becomes the subscription's own.
    pub(crate) fn update_card_of(&mut self, subscription: &str) {
        self.change_subscription(subscription, |subscription| {
            subscription["default_payment_method"] = ids::long("pm").into();
        });
    }

    /// Whether the latest invoice of a subscription is owed.
    pub(crate) fn has_open_invoice(&self, subscription: &str) -> bool {
        self.open_invoice(subscription).is_some()
    }

    /// Stripe charges the latest invoice once more, if it is owed.
    pub(crate) fn retry_payment(&mut self, subscription: &str) {
        let Some(invoice) = self.open_invoice(subscription).cloned() else { return };
        let card = self.card_of(subscription, &invoice);
        if card.is_some_and(|card| !self.declined.contains(card)) {
            self.pay_invoice(text(&invoice, "id"));
        } else {
            self.emit("invoice.payment_failed", &invoice);
        }
    }

    fn open_invoice(&self, subscription: &str) -> Option<&Value> {
        let latest = text(self.subscriptions.get(subscription)?, "latest_invoice");
        self.invoices.get(latest).filter(|invoice| text(invoice, "status") == "open")
    }

    fn card_of<'a>(&'a self, subscription: &str, invoice: &'a Value) -> Option<&'a str> {
        let subscription = self.subscriptions.get(subscription)?;
        charged(invoice, subscription, self.customers.get(text(subscription, "customer"))?)
    }
}
