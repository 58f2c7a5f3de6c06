//! Webhook endpoints.

use serde_json::{Value, json};

use super::{Metadata, State};
use crate::ids;

#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) object: Value,
    /// Returned only once, when the endpoint is created.
    pub(crate) secret: String,
}

/// The parameters of a new endpoint.
pub(crate) struct EndpointFields {
    pub(crate) url: String,
    pub(crate) enabled_events: Vec<String>,
    pub(crate) api_version: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
}

impl EndpointFields {
    pub(crate) fn all_events(url: String) -> EndpointFields {
        EndpointFields {
            url,
            enabled_events: vec!["*".to_owned()],
            api_version: None,
            description: None,
            metadata: Metadata::new(),
        }
    }
}

impl Endpoint {
    /// The URL, or `None` if the endpoint is disabled.
    pub(crate) fn enabled_url(&self) -> Option<&str> {
        if self.object["status"] == "enabled" { self.object["url"].as_str() } else { None }
    }

    fn subscribes_to(&self, kind: &str) -> bool {
        let enabled = self.object["enabled_events"].as_array();
        enabled.is_some_and(|enabled| enabled.iter().any(|enabled| enabled == "*" || enabled == kind))
    }
}

impl State {
    pub(crate) fn create_endpoint(&mut self, fields: &EndpointFields, secret: String) -> Value {
        let id = ids::long("we");
        let object = json!({
            "id": id,
            "object": "webhook_endpoint",
            "api_version": fields.api_version,
            "application": null,
            "created": self.now(),
            "description": fields.description,
            "enabled_events": fields.enabled_events,
            "livemode": false,
            "metadata": fields.metadata,
            "status": "enabled",
            "url": fields.url,
        });
        self.dispatcher.add_endpoint(id.clone());
        self.endpoints.insert(id, Endpoint { object: object.clone(), secret });
        object
    }

    /// Removes an endpoint with its pending deliveries.
    pub(crate) fn delete_endpoint(&mut self, id: &str) -> bool {
        self.dispatcher.remove_endpoint(id);
        self.endpoints.shift_remove(id).is_some()
    }

    /// The ids of the enabled endpoints that subscribe to events of this type.
    pub(crate) fn endpoints_for(&self, kind: &str) -> Vec<String> {
        self.endpoints
            .iter()
            .filter(|(_, endpoint)| endpoint.enabled_url().is_some() && endpoint.subscribes_to(kind))
            .map(|(id, _)| id.clone())
            .collect()
    }
}
