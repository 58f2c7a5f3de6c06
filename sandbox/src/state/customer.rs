//! Customers.

use serde_json::{Map, Value, json};

use super::subscription::is_final;
use super::{State, edited, insert, text};
use crate::ids;

#[derive(Default)]
pub(crate) struct CustomerFields {
    /// String fields by name. Null clears a field.
    pub(crate) texts: Map<String, Value>,
    /// The complete metadata after the call.
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

impl State {
    /// `None` if the customer is unknown or deleted.
    pub(crate) fn existing_customer(&self, id: &str) -> Option<&Value> {
        self.customers.get(id).filter(|customer| customer["deleted"] != true)
    }

    /// For pages: `Acme (cus_...)`.
    pub(crate) fn customer_label(&self, id: &str) -> String {
        let customer = self.customers.get(id);
        let name = customer.and_then(|customer| customer["name"].as_str().or(customer["email"].as_str()));
        name.map_or_else(|| id.to_owned(), |name| format!("{name} ({id})"))
    }

    pub(crate) fn create_customer(&mut self, fields: CustomerFields) -> Value {
        self.create_customer_with_id(&ids::short("cus"), fields)
    }

    pub(crate) fn create_customer_with_id(&mut self, id: &str, fields: CustomerFields) -> Value {
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
        let customer = insert(&mut self.customers, customer);
        self.emit("customer.created", &customer);
        customer
    }

    pub(crate) fn update_customer(&mut self, id: &str, fields: CustomerFields) -> Value {
        self.edit_customer(id, |customer| fields.apply(customer))
    }

    /// Replaces the customer's default card. Subscriptions with their own card do not use it.
    pub(crate) fn update_customer_card(&mut self, customer: &str) {
        self.edit_customer(customer, |customer| {
            customer["invoice_settings"]["default_payment_method"] = ids::long("pm").into();
        });
    }

    /// Deletes a customer and cancels its subscriptions. The API still returns the id with
    /// `deleted: true`.
    pub(crate) fn delete_customer(&mut self, id: &str) -> Value {
        let current: Vec<String> = self
            .subscriptions_of(id)
            .filter(|subscription| !is_final(subscription))
            .map(|subscription| text(subscription, "id").to_owned())
            .collect();
        for subscription in current {
            self.cancel_subscription(&subscription);
        }
        let tombstone = json!({"id": id, "object": "customer", "deleted": true});
        if let Some(customer) = self.customers.insert(id.to_owned(), tombstone.clone()) {
            self.emit("customer.deleted", &customer);
        }
        tombstone
    }

    /// Removes a customer with its subscriptions, without an event. Returns whether the customer
    /// existed.
    pub(crate) fn forget_customer(&mut self, id: &str) -> bool {
        self.subscriptions.retain(|_, subscription| text(subscription, "customer") != id);
        self.customers.shift_remove(id).is_some()
    }

    fn edit_customer(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some((before, after)) = edited(&mut self.customers, id, edit) else { return Value::Null };
        self.emit_update("customer.updated", &before, &after);
        after
    }
}
