//! The customer portal: what it may offer, and the short-lived sessions in which a customer uses it.

use serde_json::{Value, json};

use super::{Metadata, World, keep, text};
use crate::ids;

/// What an integration says about a new portal session.
pub(crate) struct NewPortalSession {
    pub(crate) customer: String,
    pub(crate) configuration: String,
    pub(crate) return_url: Option<String>,
    pub(crate) locale: Option<String>,
    /// The flow as the API answers it, or null.
    pub(crate) flow: Value,
}

/// What an integration says about a new configuration.
pub(crate) struct NewConfiguration {
    pub(crate) features: Value,
    pub(crate) business_profile: Value,
    pub(crate) default_return_url: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) name: Option<String>,
}

/// Whether a configuration lets customers do this.
pub(crate) fn allows(configuration: &Value, feature: &str) -> bool {
    configuration["features"][feature]["enabled"] == true
}

impl World {
    /// The configuration that is used when a session names none.
    pub(crate) fn default_configuration(&self) -> Option<&Value> {
        self.configurations.values().find(|configuration| configuration["is_default"] == true)
    }

    /// Back to an account whose owner never saved the portal's settings.
    pub(crate) fn remove_default_configuration(&mut self) -> bool {
        let before = self.configurations.len();
        self.configurations.retain(|_, configuration| configuration["is_default"] != true);
        self.configurations.len() < before
    }

    /// The configuration that the account's owner saved: everything that the double's portal can do.
    pub(crate) fn seed_default_configuration(&mut self) {
        let features = json!({
            "customer_update": {"allowed_updates": [], "enabled": false},
            "invoice_history": {"enabled": true},
            "payment_method_update": {"enabled": true, "payment_method_configuration": null},
            "subscription_cancel": {
                "cancellation_reason": {"enabled": false, "options": []},
                "enabled": true,
                "mode": "at_period_end",
                "proration_behavior": "none",
            },
            "subscription_update": {
                "default_allowed_updates": ["price"],
                "enabled": true,
                "proration_behavior": "create_prorations",
            },
        });
        let new = NewConfiguration {
            features,
            business_profile: json!({"headline": null, "privacy_policy_url": null, "terms_of_service_url": null}),
            default_return_url: None,
            metadata: Metadata::new(),
            name: None,
        };
        keep(&mut self.configurations, configuration(&new, true, self.clock.now()));
    }

    /// Makes a configuration and tells of it.
    pub(crate) fn create_configuration(&mut self, new: &NewConfiguration) -> Value {
        let made = keep(&mut self.configurations, configuration(new, false, self.clock.now()));
        self.emit("billing_portal.configuration.created", &made);
        made
    }

    /// Changes a configuration and tells of it.
    pub(crate) fn change_configuration(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some(configuration) = self.configurations.get_mut(id) else { return Value::Null };
        let before = configuration.clone();
        edit(configuration);
        let after = configuration.clone();
        self.emit_update("billing_portal.configuration.updated", &before, &after);
        after
    }

    /// Lets a customer into the portal and tells of it.
    pub(crate) fn create_portal_session(&mut self, new: &NewPortalSession) -> Value {
        let session = json!({
            "id": ids::long("bps"),
            "object": "billing_portal.session",
            "after_expiration": null,
            "configuration": new.configuration,
            "created": self.now(),
            "customer": new.customer,
            "customer_account": null,
            "flow": new.flow,
            "livemode": false,
            "locale": new.locale,
            "on_behalf_of": null,
            "return_url": new.return_url,
            "url": format!("{}/p/session/test_{}", self.base_url, ids::random(48)),
        });
        let session = keep(&mut self.portal_sessions, session);
        self.emit("billing_portal.session.created", &session);
        session
    }

    /// The session that a page's address belongs to.
    pub(crate) fn portal_session_at(&self, opaque: &str) -> Option<&Value> {
        let url = format!("{}/p/session/{opaque}", self.base_url);
        self.portal_sessions.values().find(|session| text(session, "url") == url)
    }
}

fn configuration(new: &NewConfiguration, is_default: bool, now: i64) -> Value {
    json!({
        "id": ids::long("bpc"),
        "object": "billing_portal.configuration",
        "active": true,
        "application": null,
        "business_profile": new.business_profile,
        "created": now,
        "default_return_url": new.default_return_url,
        "features": new.features,
        "is_default": is_default,
        "livemode": false,
        "login_page": {"enabled": false, "url": null},
        "metadata": new.metadata,
        "name": new.name,
        "updated": now,
    })
}
