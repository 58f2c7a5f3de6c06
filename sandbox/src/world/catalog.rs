//! What can be bought.

use serde_json::{Value, json};

use super::subscription::set_price;
use super::{Shelf, World, keep, text};
use crate::clock;

/// The products and prices that every double starts with.
pub(crate) fn seeded(now: i64) -> (Shelf, Shelf) {
    let (mut products, mut prices) = (Shelf::new(), Shelf::new());
    for (id, name) in [("prod_pro", "Pro"), ("prod_team", "Team"), ("prod_setup", "Setup")] {
        keep(&mut products, json!({"id": id, "object": "product", "active": true, "name": name}));
    }
    keep(&mut prices, price("price_pro_monthly", "prod_pro", Some("pro_monthly"), 2900, Some("month"), now));
    keep(&mut prices, price("price_pro_yearly", "prod_pro", Some("pro_yearly"), 29000, Some("year"), now));
    keep(
        &mut prices,
        price("price_team_monthly", "prod_team", Some("team_monthly"), 9900, Some("month"), now),
    );
    keep(&mut prices, price("price_setup_once", "prod_setup", None, 5000, None, now));
    (products, prices)
}

/// A price as the API answers it.
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

/// What one unit costs in the currency's smallest coin.
pub(crate) fn unit_amount(price: &Value) -> i64 {
    price["unit_amount"].as_i64().unwrap_or_default()
}

/// An amount as a page shows it: `$29.00`.
pub(crate) fn dollars(cents: i64) -> String {
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// What one unit costs, as a page shows it: `$29.00 a month`.
pub(crate) fn cost(price: &Value) -> String {
    format!("{} a {}", dollars(unit_amount(price)), text(&price["recurring"], "interval"))
}

/// Whether usage that is reported is billed, and no quantity.
pub(crate) fn is_metered(price: &Value) -> bool {
    price["recurring"]["usage_type"] == "metered"
}

/// Whether the price renews.
pub(crate) fn is_recurring(price: &Value) -> bool {
    text(price, "type") == "recurring"
}

/// When a period of this price that starts then ends.
pub(crate) fn period_end(price: &Value, start: i64) -> i64 {
    match text(&price["recurring"], "interval") {
        "year" => clock::months_after(start, 12),
        _ => clock::months_after(start, 1),
    }
}

impl World {
    /// Makes a price, and gives it a lookup key, which the price that has it loses.
    pub(crate) fn create_price(&mut self, price: &Value, lookup_key: Option<&str>) -> Value {
        let id = text(&keep(&mut self.prices, price.clone()), "id").to_owned();
        self.emit("price.created", price);
        if lookup_key.is_some() {
            self.set_lookup_key(&id, lookup_key);
        }
        self.prices[&id].clone()
    }

    /// The price that has a lookup key.
    pub(crate) fn price_with_key(&self, lookup_key: &str) -> Option<&str> {
        let holder = self.prices.values().find(|price| price["lookup_key"] == lookup_key);
        holder.map(|price| text(price, "id"))
    }

    /// Gives a price a lookup key, or none. The price that had it before has none then.
    pub(crate) fn set_lookup_key(&mut self, id: &str, lookup_key: Option<&str>) {
        let holder = lookup_key.and_then(|key| self.price_with_key(key)).map(str::to_owned);
        if let Some(holder) = holder.filter(|holder| holder != id) {
            self.change_price_object(&holder, |price| price["lookup_key"] = Value::Null);
        }
        self.change_price_object(id, |price| price["lookup_key"] = lookup_key.into());
    }

    /// Changes a price and tells of it. Subscriptions refer to it, so from now on they are shown with the changed one, and no
    /// event of theirs tells of it (facts in <https://docs.stripe.com/products-prices/manage-prices#lookup-keys>; that later
    /// events show the price without the key is inferred from it).
    pub(crate) fn change_price_object(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some(price) = self.prices.get_mut(id) else { return Value::Null };
        let before = price.clone();
        edit(price);
        let after = price.clone();
        for subscription in self.subscriptions.values_mut() {
            let items = subscription["items"]["data"].as_array_mut().into_iter().flatten();
            for item in items.filter(|item| item["price"]["id"] == after["id"]) {
                set_price(item, &after);
            }
        }
        self.emit_update("price.updated", &before, &after);
        after
    }

    /// The name of the product that a price is of.
    pub(crate) fn product_name(&self, price: &Value) -> &str {
        self.products.get(text(price, "product")).map_or("", |product| text(product, "name"))
    }

    /// The price with its product as a page shows it: `Pro, $29.00 a month`.
    pub(crate) fn offer(&self, price: &Value) -> String {
        format!("{}, {}", self.product_name(price), cost(price))
    }
}
