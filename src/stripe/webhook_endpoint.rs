//! The account's webhook endpoints.

use secrecy::SecretString;
use serde::Deserialize;
use stripe::StripeRequest;
use stripe_client_core::VERSION;
use stripe_misc::webhook_endpoint::{
    CreateWebhookEndpoint, CreateWebhookEndpointEnabledEvents, DeleteWebhookEndpoint, ListWebhookEndpoint,
    UpdateWebhookEndpoint, UpdateWebhookEndpointEnabledEvents,
};

use super::client::{Deadline, Stripe};
use super::error::StripeError;
use super::requests::List;
use crate::domain::event::HANDLED_EVENT_TYPES;
use crate::domain::webhook_url::WebhookUrl;

/// One page has all endpoints: Stripe allows 16 in each mode.
const PAGE_SIZE: i64 = 100;

/// Shown in the Dashboard.
const DESCRIPTION: &str = "Billhook";

/// Events of older API versions are not understood.
const OLDEST_SUPPORTED_YEAR: u32 = 2020;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WebhookEndpoint {
    /// `we_...`
    pub id: String,
    pub url: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Event types, or `*`.
    pub enabled_events: Vec<String>,
    /// The API version of the events; the account's default if none.
    pub api_version: Option<String>,
    /// In Unix seconds.
    #[serde(default)]
    pub created: i64,
}

/// A created endpoint with its secret, which Stripe returns only once.
pub struct NewEndpoint {
    pub endpoint: WebhookEndpoint,
    /// `whsec_...`
    pub secret: SecretString,
}

impl WebhookEndpoint {
    pub fn is_enabled(&self) -> bool {
        self.status == "enabled"
    }

    /// The handled event types that Stripe does not send to it.
    pub fn missing_events(&self) -> Vec<&'static str> {
        let is_sent =
            |kind: &str| self.enabled_events.iter().any(|enabled| enabled == "*" || enabled == kind);
        HANDLED_EVENT_TYPES.into_iter().filter(|kind| !is_sent(kind)).collect()
    }

    /// Whether Stripe sends it event types that Billhook ignores.
    pub fn has_unhandled_events(&self) -> bool {
        self.enabled_events.iter().any(|enabled| !HANDLED_EVENT_TYPES.contains(&enabled.as_str()))
    }

    /// Whether events of its API version are understood. The account's default version is not known
    /// here and counts as usable.
    pub fn has_usable_version(&self) -> bool {
        let year = |version: &String| version.split('-').next()?.parse().ok();
        self.api_version
            .as_ref()
            .is_none_or(|version| year(version).is_some_and(|year: u32| year >= OLDEST_SUPPORTED_YEAR))
    }

    /// Whether it is enabled for exactly the handled event types.
    pub fn is_up_to_date(&self) -> bool {
        self.is_enabled() && self.missing_events().is_empty() && !self.has_unhandled_events()
    }
}

#[derive(Deserialize)]
struct Created {
    #[serde(flatten)]
    endpoint: WebhookEndpoint,
    secret: SecretText,
}

/// Deserializes a [`SecretString`], which zeroes its memory when dropped.
struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

impl Stripe {
    /// Lists the endpoints of the key's mode, newest first.
    pub async fn list_webhook_endpoints(
        &self,
        deadline: Deadline,
    ) -> Result<Vec<WebhookEndpoint>, StripeError> {
        let request = ListWebhookEndpoint::new().limit(PAGE_SIZE).build();
        let response = self.send("GET /v1/webhook_endpoints", request, deadline).await?;
        Ok(response.parse(|list: List<WebhookEndpoint>| Some(list.data))?.value)
    }

    /// Creates an endpoint for exactly the handled event types, in the API version of our requests.
    pub async fn create_webhook_endpoint(
        &self,
        url: &WebhookUrl,
        deadline: Deadline,
    ) -> Result<NewEndpoint, StripeError> {
        let events: Vec<_> = HANDLED_EVENT_TYPES.map(created_with).into();
        let request = CreateWebhookEndpoint::new(events, url.as_str())
            .api_version(VERSION)
            .description(DESCRIPTION)
            .build();
        let response = self.send("POST /v1/webhook_endpoints", request, deadline).await?;
        let Created { endpoint, secret } = response.parse(Some::<Created>)?.value;
        Ok(NewEndpoint { endpoint, secret: secret.0 })
    }

    /// Enables an endpoint for exactly the handled event types.
    pub async fn update_webhook_endpoint(
        &self,
        endpoint: &WebhookEndpoint,
        deadline: Deadline,
    ) -> Result<(), StripeError> {
        let events: Vec<_> = HANDLED_EVENT_TYPES.map(updated_with).into();
        let request =
            UpdateWebhookEndpoint::new(endpoint.id.as_str()).enabled_events(events).disabled(false).build();
        self.send("POST /v1/webhook_endpoints/{id}", request, deadline).await?;
        Ok(())
    }

    pub async fn delete_webhook_endpoint(
        &self,
        endpoint: &WebhookEndpoint,
        deadline: Deadline,
    ) -> Result<(), StripeError> {
        let request = DeleteWebhookEndpoint::new(endpoint.id.as_str()).build();
        self.send("DELETE /v1/webhook_endpoints/{id}", request, deadline).await?;
        Ok(())
    }
}

fn created_with(kind: &str) -> CreateWebhookEndpointEnabledEvents {
    let Ok(kind) = kind.parse();
    kind
}

fn updated_with(kind: &str) -> UpdateWebhookEndpointEnabledEvents {
    let Ok(kind) = kind.parse();
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::client::API_VERSION;

    fn endpoint() -> WebhookEndpoint {
        WebhookEndpoint {
            id: "we_1".into(),
            url: "https://a.example/api/billing/webhook/".into(),
            status: "enabled".into(),
            enabled_events: HANDLED_EVENT_TYPES.map(str::to_owned).into(),
            api_version: Some(API_VERSION.into()),
            created: 0,
        }
    }

    #[test]
    fn endpoint_with_exactly_the_handled_events_is_up_to_date() {
        assert!(endpoint().is_up_to_date() && endpoint().has_usable_version());
        let all = WebhookEndpoint { enabled_events: vec!["*".into()], ..endpoint() };
        assert!(all.missing_events().is_empty() && all.has_unhandled_events() && !all.is_up_to_date());
        let few = WebhookEndpoint {
            enabled_events: HANDLED_EVENT_TYPES[1..].iter().map(ToString::to_string).collect(),
            ..endpoint()
        };
        assert_eq!(few.missing_events(), [HANDLED_EVENT_TYPES[0]]);
        assert!(!few.is_up_to_date() && !few.has_unhandled_events());
        assert!(!WebhookEndpoint { status: "disabled".into(), ..endpoint() }.is_up_to_date());
    }

    #[test]
    fn version_before_2020_is_not_usable() {
        for (version, usable) in [
            (None, true),
            (Some("2020-03-02"), true),
            (Some("2031-01-31.fern"), true),
            (Some("2019-12-03"), false),
            (Some("unknown"), false),
        ] {
            let endpoint = WebhookEndpoint { api_version: version.map(str::to_owned), ..endpoint() };
            assert_eq!(endpoint.has_usable_version(), usable, "{version:?}");
        }
    }

    #[test]
    fn handled_events_and_version_are_known_to_async_stripe() {
        for kind in HANDLED_EVENT_TYPES {
            assert!(!matches!(created_with(kind), CreateWebhookEndpointEnabledEvents::Unknown(_)), "{kind}");
            assert!(!matches!(updated_with(kind), UpdateWebhookEndpointEnabledEvents::Unknown(_)), "{kind}");
        }
        assert_eq!(VERSION.as_str(), API_VERSION);
    }
}
