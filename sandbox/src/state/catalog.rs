//! Products and prices.

use serde_json::{Value, json};

use super::subscription::set_price;
use super::{Objects, State, edited, insert, text};
use crate::clock;

/// The products and prices of a new account.
pub(crate) fn seeded(now: i64) -> (Objects, Objects) {
    let (mut products, mut prices) = (Objects::new(), Objects::new());
    for (id, name) in [("prod_pro", "Pro"), ("prod_team", "Team"), ("prod_setup", "Setup")] {
        insert(&mut products, json!({"id": id, "object": "product", "active": true, "name": name}));
    }
    insert(
        &mut prices,
        price("price_pro_monthly", "prod_pro", Some("pro_monthly"), 2900, Some("month"), now),
    );
    insert(&mut prices, price("price_pro_yearly", "prod_pro", Some("pro_yearly"), 29000, Some("year"), now));
    insert(
        &mut prices,
        price("price_team_monthly", "prod_team", Some("team_monthly"), 9900, Some("month"), now),
    );
    insert(&mut prices, price("price_setup_once", "prod_setup", None, 5000, None, now));
    (products, prices)
}

/// A price object. `amount` is in cents. Without `interval` it is a one-time price.
pub(crate) fn price(
    id: &str,
    product: &str,
    lookup_key: Option<&str>,
    amount: i64,
    interval: Option<&str>,
    now: i64,
) -> Value {
    let recurring = interval.map(|interval| {
        json!({
            "interval": interval,
            "interval_count": 1,
            "meter": null,
            "trial_period_days": null,
            "usage_type": "licensed",
        })
    });
    json!({
        "id": id,
        "object": "price",
        "active": true,
        "billing_scheme": "per_unit",
        "created": now,
        "currency": "usd",
        "custom_unit_amount": null,
        "livemode": false,
        "lookup_key": lookup_key,
        "metadata": {},
        "nickname": null,
        "product": product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "tiers_mode": null,
        "transform_quantity": null,
        "type": if interval.is_some() { "recurring" } else { "one_time" },
        "unit_amount": amount,
        "unit_amount_decimal": amount.to_string(),
    })
}

/// In cents.
pub(crate) fn unit_amount(price: &Value) -> i64 {
    price["unit_amount"].as_i64().unwrap_or_default()
}

/// For pages: `$29.00`.
pub(crate) fn dollars(cents: i64) -> String {
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// For pages: `$29.00 a month`.
pub(crate) fn price_label(price: &Value) -> String {
    format!("{} a {}", dollars(unit_amount(price)), text(&price["recurring"], "interval"))
}

/// Whether the price bills reported usage and has no quantity.
pub(crate) fn is_metered(price: &Value) -> bool {
    price["recurring"]["usage_type"] == "metered"
}

pub(crate) fn is_recurring(price: &Value) -> bool {
    text(price, "type") == "recurring"
}

pub(crate) fn period_end(price: &Value, start: i64) -> i64 {
    match text(&price["recurring"], "interval") {
        "year" => clock::months_after(start, 12),
        _ => clock::months_after(start, 1),
    }
}

impl State {
    /// Creates a price. A lookup key is taken from the price that has it.
    pub(crate) fn create_price(&mut self, price: &Value, lookup_key: Option<&str>) -> Value {
        let id = text(&insert(&mut self.prices, price.clone()), "id").to_owned();
        self.emit("price.created", price);
        if lookup_key.is_some() {
            self.set_lookup_key(&id, lookup_key);
        }
        self.prices[&id].clone()
    }

    /// Returns the price's id.
    pub(crate) fn price_with_key(&self, lookup_key: &str) -> Option<&str> {
        let holder = self.prices.values().find(|price| price["lookup_key"] == lookup_key);
        holder.map(|price| text(price, "id"))
    }

    /// Sets or removes the lookup key of a price. The key is taken from the price that has it.
    pub(crate) fn set_lookup_key(&mut self, id: &str, lookup_key: Option<&str>) {
        let holder = lookup_key.and_then(|key| self.price_with_key(key)).map(str::to_owned);
        if let Some(holder) = holder.filter(|holder| holder != id) {
            self.edit_price(&holder, |price| price["lookup_key"] = Value::Null);
        }
        self.edit_price(id, |price| price["lookup_key"] = lookup_key.into());
    }

    /// Edits a price and emits `price.updated`. Subscriptions show the edited price from now on,
    /// without an event of their own
    /// (<https://docs.stripe.com/products-prices/manage-prices#lookup-keys>). That later
    /// subscription events show the price without its lookup key is inferred from that page.
    pub(crate) fn edit_price(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some((before, after)) = edited(&mut self.prices, id, edit) else { return Value::Null };
        for subscription in self.subscriptions.values_mut() {
            let items = subscription["items"]["data"].as_array_mut().into_iter().flatten();
            for item in items.filter(|item| item["price"]["id"] == after["id"]) {
                set_price(item, &after);
            }
        }
        self.emit_update("price.updated", &before, &after);
        after
    }

    pub(crate) fn product_name(&self, price: &Value) -> &str {
        self.products.get(text(price, "product")).map_or("", |product| text(product, "name"))
    }

    /// For pages: `Pro, $29.00 a month`.
    pub(crate) fn offer_label(&self, price: &Value) -> String {
        format!("{}, {}", self.product_name(price), price_label(price))
    }
}
