//! Portal configurations and portal sessions.

use serde_json::{Value, json};

use super::{Metadata, State, edited, insert, text};
use crate::ids;

/// The parameters of a new portal session.
pub(crate) struct NewPortalSession {
    pub(crate) customer: String,
    pub(crate) configuration: String,
    pub(crate) return_url: Option<String>,
    pub(crate) locale: Option<String>,
    /// The flow as the API returns it, or null.
    pub(crate) flow: Value,
}

/// The parameters of a new configuration.
pub(crate) struct NewConfiguration {
    pub(crate) features: Value,
    pub(crate) business_profile: Value,
    pub(crate) default_return_url: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) name: Option<String>,
}

pub(crate) fn is_feature_enabled(configuration: &Value, feature: &str) -> bool {
    configuration["features"][feature]["enabled"] == true
}

impl State {
    /// The configuration for sessions that name none.
    pub(crate) fn default_configuration(&self) -> Option<&Value> {
        self.configurations.values().find(|configuration| configuration["is_default"] == true)
    }

    /// Returns to an account that never saved the portal's settings. Returns whether there was a
    /// configuration.
    pub(crate) fn remove_default_configuration(&mut self) -> bool {
        let before = self.configurations.len();
        self.configurations.retain(|_, configuration| configuration["is_default"] != true);
        self.configurations.len() < before
    }

    /// Adds the default configuration, which enables every feature that the double's portal has.
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
        insert(&mut self.configurations, configuration(&new, true, self.clock.now()));
    }

    pub(crate) fn create_configuration(&mut self, new: &NewConfiguration) -> Value {
        let created = insert(&mut self.configurations, configuration(new, false, self.clock.now()));
        self.emit("billing_portal.configuration.created", &created);
        created
    }

    pub(crate) fn edit_configuration(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some((before, after)) = edited(&mut self.configurations, id, edit) else { return Value::Null };
        self.emit_update("billing_portal.configuration.updated", &before, &after);
        after
    }

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
        let session = insert(&mut self.portal_sessions, session);
        self.emit("billing_portal.session.created", &session);
        session
    }

    /// The session with this token at the end of its URL.
    pub(crate) fn portal_session_at(&self, token: &str) -> Option<&Value> {
        let url = format!("{}/p/session/{token}", self.base_url);
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
