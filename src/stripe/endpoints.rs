//! The webhook endpoints of the account.

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
use crate::domain::event::HANDLED;
use crate::domain::webhook_url::WebhookUrl;

/// The most endpoints that are read. Stripe allows 16 in each mode.
const ENDPOINTS: i64 = 100;

/// What the Dashboard shows beside an endpoint that we made.
const DESCRIPTION: &str = "Billhook";

/// The first year whose API versions we read.
const FIRST_YEAR: u32 = 2020;

/// A webhook endpoint, as Stripe has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WebhookEndpoint {
    /// `we_...`
    pub id: String,
    /// Where events are posted.
    pub url: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// The types that it is told, or `*`.
    pub enabled_events: Vec<String>,
    /// The version in which events are written; none is the account's own.
    pub api_version: Option<String>,
    /// When it was created, in whole Unix seconds.
    #[serde(default)]
    pub created: i64,
}

/// An endpoint just made, and its secret, which Stripe tells this once.
pub struct NewEndpoint {
    /// The endpoint.
    pub endpoint: WebhookEndpoint,
    /// `whsec_...`
    pub secret: SecretString,
}

impl WebhookEndpoint {
    /// Whether events are posted to it at all.
    pub fn is_enabled(&self) -> bool {
        self.status == "enabled"
    }

    /// The types of event that we handle and it is not told.
    pub fn missing_events(&self) -> Vec<&'static str> {
        let is_told = |wanted: &str| self.enabled_events.iter().any(|told| told == "*" || told == wanted);
        HANDLED.into_iter().filter(|wanted| !is_told(wanted)).collect()
    }

    /// Whether it is told what we have no use for.
    pub fn is_told_too_much(&self) -> bool {
        self.enabled_events.iter().any(|told| !HANDLED.contains(&told.as_str()))
    }

    /// Whether we read events of its version. That of the account, which it may follow, is Stripe's to tell.
    pub fn has_usable_version(&self) -> bool {
        let year = |version: &String| version.split('-').next()?.parse().ok();
        self.api_version
            .as_ref()
            .is_none_or(|version| year(version).is_some_and(|year: u32| year >= FIRST_YEAR))
    }

    /// Whether it is enabled and told exactly what we handle.
    pub fn is_as_wanted(&self) -> bool {
        self.is_enabled() && self.missing_events().is_empty() && !self.is_told_too_much()
    }
}

#[derive(Deserialize)]
struct List {
    data: Vec<WebhookEndpoint>,
}

#[derive(Deserialize)]
struct Created {
    #[serde(flatten)]
    endpoint: WebhookEndpoint,
    secret: SecretText,
}

/// A secret that is wiped once it is in a [`SecretString`].
struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

impl Stripe {
    /// Asks for the endpoints of the key's mode, the newest first.
    pub async fn list_webhook_endpoints(
        &self,
        deadline: Deadline,
    ) -> Result<Vec<WebhookEndpoint>, StripeError> {
        let request = ListWebhookEndpoint::new().limit(ENDPOINTS).build();
        let reply = self.send("GET /v1/webhook_endpoints", request, deadline).await?;
        Ok(reply.read(|list: List| Some(list.data))?.value)
    }

    /// Makes an endpoint that is told exactly what we handle, in the version that we ask with.
    pub async fn create_webhook_endpoint(
        &self,
        url: &WebhookUrl,
        deadline: Deadline,
    ) -> Result<NewEndpoint, StripeError> {
        let events: Vec<_> = HANDLED.map(created_with).into();
        let request = CreateWebhookEndpoint::new(events, url.as_str())
            .api_version(VERSION)
            .description(DESCRIPTION)
            .build();
        let reply = self.send("POST /v1/webhook_endpoints", request, deadline).await?;
        let Created { endpoint, secret } = reply.read(Some::<Created>)?.value;
        Ok(NewEndpoint { endpoint, secret: secret.0 })
    }

    /// Enables an endpoint and has it told exactly what we handle.
    pub async fn mend_webhook_endpoint(
        &self,
        endpoint: &WebhookEndpoint,
        deadline: Deadline,
    ) -> Result<(), StripeError> {
        let events: Vec<_> = HANDLED.map(updated_with).into();
        let request =
            UpdateWebhookEndpoint::new(endpoint.id.as_str()).enabled_events(events).disabled(false).build();
        self.send("POST /v1/webhook_endpoints/{id}", request, deadline).await?;
        Ok(())
    }

    /// Removes an endpoint.
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
            enabled_events: HANDLED.map(str::to_owned).into(),
            api_version: Some(API_VERSION.into()),
            created: 0,
        }
    }

    #[test]
    fn an_endpoint_as_we_make_it_is_as_wanted() {
        assert!(endpoint().is_as_wanted() && endpoint().has_usable_version());
        let all = WebhookEndpoint { enabled_events: vec!["*".into()], ..endpoint() };
        assert!(all.missing_events().is_empty() && all.is_told_too_much() && !all.is_as_wanted());
        let few = WebhookEndpoint {
            enabled_events: HANDLED[1..].iter().map(ToString::to_string).collect(),
            ..endpoint()
        };
        assert_eq!(few.missing_events(), [HANDLED[0]]);
        assert!(!few.is_as_wanted() && !few.is_told_too_much());
        assert!(!WebhookEndpoint { status: "disabled".into(), ..endpoint() }.is_as_wanted());
    }

    #[test]
    fn versions_before_2020_are_not_usable() {
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
    fn what_we_handle_and_ask_with_has_a_name_in_stripes_library() {
        for kind in HANDLED {
            assert!(!matches!(created_with(kind), CreateWebhookEndpointEnabledEvents::Unknown(_)), "{kind}");
            assert!(!matches!(updated_with(kind), UpdateWebhookEndpointEnabledEvents::Unknown(_)), "{kind}");
        }
        assert_eq!(VERSION.as_str(), API_VERSION);
    }
}
