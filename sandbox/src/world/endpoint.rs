//! Who is told about events.

use serde_json::{Value, json};

use super::{Metadata, World};
use crate::ids;

/// A webhook endpoint and the secret that only its creator was shown.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) object: Value,
    pub(crate) secret: String,
}

/// What an integration says about a new endpoint.
pub(crate) struct EndpointFields {
    pub(crate) url: String,
    pub(crate) enabled_events: Vec<String>,
    pub(crate) api_version: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
}

impl EndpointFields {
    /// An endpoint that is told everything.
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
    /// The URL, while the endpoint is to be told anything at all.
    pub(crate) fn live_url(&self) -> Option<&str> {
        if self.object["status"] == "enabled" { self.object["url"].as_str() } else { None }
    }

    fn wants(&self, kind: &str) -> bool {
        let enabled = self.object["enabled_events"].as_array();
        enabled.is_some_and(|enabled| enabled.iter().any(|wanted| wanted == "*" || wanted == kind))
    }
}

impl World {
    /// Registers an endpoint with this secret.
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
        self.dispatch.open(id.clone());
        self.endpoints.insert(id, Endpoint { object: object.clone(), secret });
        object
    }

    /// Forgets an endpoint; what it was still owed is never sent.
    pub(crate) fn delete_endpoint(&mut self, id: &str) -> bool {
        self.dispatch.close(id);
        self.endpoints.shift_remove(id).is_some()
    }

    /// The endpoints that are told about events of this type.
    pub(crate) fn endpoints_for(&self, kind: &str) -> Vec<String> {
        let told = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| endpoint.live_url().is_some() && endpoint.wants(kind));
        told.map(|(id, _)| id.clone()).collect()
    }
}
