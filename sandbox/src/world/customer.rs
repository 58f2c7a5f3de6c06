//! Who pays.

use serde_json::{Map, Value, json};

use super::{World, keep, text};
use crate::ids;

/// What an integration may say about a customer.
#[derive(Default)]
pub(crate) struct CustomerFields {
    /// Text fields by name; null clears one.
    pub(crate) texts: Map<String, Value>,
    /// The whole metadata after the call.
    pub(crate) metadata: Option<Map<String, Value>>,
}

impl CustomerFields {
    fn apply(self, customer: &mut Value) {
        for (name, value) in self.texts {
            customer[name] = value;
        }
        if let Some(metadata) = self.metadata {
            customer["metadata"] = metadata.into();
        }
    }
}

impl World {
    /// A customer that can be charged: there and not deleted.
    pub(crate) fn living_customer(&self, id: &str) -> Option<&Value> {
        self.customers.get(id).filter(|customer| customer["deleted"] != true)
    }

    /// Who it is, as a page shows it: `Acme (cus_...)`.
    pub(crate) fn customer_words(&self, id: &str) -> String {
        let customer = self.customers.get(id);
        let known = customer.and_then(|customer| customer["name"].as_str().or(customer["email"].as_str()));
        known.map_or_else(|| id.to_owned(), |known| format!("{known} ({id})"))
    }

    /// Makes a customer.
    pub(crate) fn create_customer(&mut self, fields: CustomerFields) -> Value {
        self.create_customer_of_id(&ids::short("cus"), fields)
    }

    /// Makes a customer of this id.
    pub(crate) fn create_customer_of_id(&mut self, id: &str, fields: CustomerFields) -> Value {
        let mut customer = json!({
            "id": id,
            "object": "customer",
            "address": null,
            "balance": 0,
            "created": self.now(),
            "currency": null,
            "default_source": null,
            "delinquent": false,
            "description": null,
            "email": null,
            "invoice_prefix": ids::random(8).to_uppercase(),
            "invoice_settings": {
                "custom_fields": null,
                "default_payment_method": null,
                "footer": null,
                "rendering_options": null,
            },
            "livemode": false,
            "metadata": {},
            "name": null,
            "phone": null,
            "preferred_locales": [],
            "shipping": null,
            "tax_exempt": "none",
            "test_clock": null,
        });
        fields.apply(&mut customer);
        let customer = keep(&mut self.customers, customer);
        self.emit("customer.created", &customer);
        customer
    }

    /// Changes a customer.
    pub(crate) fn update_customer(&mut self, id: &str, fields: CustomerFields) -> Value {
        self.change_customer(id, |customer| fields.apply(customer))
    }

    /// A new card becomes the customer's. Subscriptions that have one of their own do not use it.
    pub(crate) fn update_card(&mut self, customer: &str) {
        self.change_customer(customer, |customer| {
            customer["invoice_settings"]["default_payment_method"] = ids::long("pm").into();
        });
    }

    /// Deletes a customer, which ends its subscriptions. Only a stump of it stays to be retrieved.
    pub(crate) fn delete_customer(&mut self, id: &str) -> Value {
        let living =
            self.subscriptions_of(id).filter(|subscription| !super::subscription::is_final(subscription));
        let living: Vec<String> = living.map(|subscription| text(subscription, "id").to_owned()).collect();
        for subscription in living {
            self.end_subscription(&subscription);
        }
        let stump = json!({"id": id, "object": "customer", "deleted": true});
        if let Some(customer) = self.customers.insert(id.to_owned(), stump.clone()) {
            self.emit("customer.deleted", &customer);
        }
        stump
    }

    /// Forgets a customer with its subscriptions, as if they had never been. Says whether there was one.
    pub(crate) fn forget_customer(&mut self, id: &str) -> bool {
        self.subscriptions.retain(|_, subscription| text(subscription, "customer") != id);
        self.customers.shift_remove(id).is_some()
    }

    fn change_customer(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some(customer) = self.customers.get_mut(id) else { return Value::Null };
        let before = customer.clone();
        edit(customer);
        let after = customer.clone();
        self.emit_update("customer.updated", &before, &after);
        after
    }
}
