//! What has to be set up at Stripe before anything can be sold or managed.

use std::collections::BTreeMap;

use serde::Deserialize;
use stripe::StripeRequest;
use stripe_billing::billing_portal_configuration::{
    ListBillingPortalConfiguration, RetrieveBillingPortalConfiguration,
};
use stripe_client_core::{RequestBuilder, StripeMethod};
use stripe_product::price::{ListPrice, RetrievePrice};

use super::client::{Deadline, Stripe};
use super::error::{Rejection, StripeError};
use super::requests::{Identified, encode_segment};
use crate::domain::ids::{AccountId, PortalConfigurationId, PriceId};

/// The settings of the Customer Portal.
#[derive(Debug)]
pub struct PortalSettings {
    /// Those that we open the portal with: the named ones, else the default ones. None if Stripe does not have them.
    pub configuration: Option<PortalConfiguration>,
    /// Stripe's clock when it answered, in whole Unix seconds, if it told.
    pub answered_at: Option<i64>,
}

/// A configuration of the Customer Portal, as Stripe has it.
#[derive(Debug, Deserialize)]
pub struct PortalConfiguration {
    /// Whether portal sessions can be made with it.
    pub active: bool,
    #[serde(default)]
    features: BTreeMap<String, PortalFeature>,
}

#[derive(Debug, Deserialize)]
struct PortalFeature {
    #[serde(default)]
    enabled: bool,
}

/// The features that a billing page leads to: its flows, and the invoices that are still open.
const FEATURES: [&str; 4] =
    ["payment_method_update", "subscription_cancel", "subscription_update", "invoice_history"];

impl PortalConfiguration {
    /// Which features that a billing page leads to are off.
    pub fn disabled_features(&self) -> Vec<&'static str> {
        let is_off = |name: &&str| self.features.get(*name).is_some_and(|feature| !feature.enabled);
        FEATURES.into_iter().filter(is_off).collect()
    }
}

/// A price, as Stripe has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    /// Its id.
    pub id: PriceId,
    /// The lookup key that it has now.
    pub lookup_key: Option<PriceId>,
    /// Whether it can be bought.
    pub active: bool,
    /// `recurring` or `one_time`.
    #[serde(rename = "type")]
    kind: String,
    recurring: Option<Recurring>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Recurring {
    usage_type: Option<String>,
}

impl Price {
    /// Whether it is paid again and again, as subscriptions are.
    pub fn is_recurring(&self) -> bool {
        self.kind == "recurring"
    }

    /// Whether its usage is billed. Stripe takes no quantity of it (<https://docs.stripe.com/api/checkout/sessions/create>).
    pub fn is_metered(&self) -> bool {
        let usage_type = self.recurring.as_ref().and_then(|recurring| recurring.usage_type.as_deref());
        usage_type == Some("metered")
    }
}

/// What the service does at Stripe, and a request that tries it and changes nothing: a list, or a creation without the
/// parameters that it needs, which Stripe rejects for them only after it has looked at the key's permissions.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// What the service does, in words for an operator.
    pub purpose: &'static str,
    operation: &'static str,
    method: StripeMethod,
    path: &'static str,
}

/// What no other check tries.
pub const TRIALS: [Trial; 3] = [
    Trial {
        purpose: "reading events",
        operation: "GET /v1/events",
        method: StripeMethod::Get,
        path: "/events",
    },
    Trial {
        purpose: "creating Checkout Sessions",
        operation: "POST /v1/checkout/sessions",
        method: StripeMethod::Post,
        path: "/checkout/sessions",
    },
    Trial {
        purpose: "opening the Customer Portal",
        operation: "POST /v1/billing_portal/sessions",
        method: StripeMethod::Post,
        path: "/billing_portal/sessions",
    },
];

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
}

impl Stripe {
    /// Asks which account the key is of (<https://docs.stripe.com/api/accounts/retrieve>). A restricted key may not be allowed
    /// to know.
    pub async fn own_account(&self, deadline: Deadline) -> Result<AccountId, StripeError> {
        let request = RequestBuilder::new(StripeMethod::Get, "/account");
        let reply = self.send("GET /v1/account", request, deadline).await?;
        Ok(reply.read(|body: Identified| AccountId::parse(&body.id).ok())?.value)
    }

    /// Whether the key may do this.
    pub async fn try_out(&self, trial: Trial, deadline: Deadline) -> Result<(), StripeError> {
        let request = RequestBuilder::new(trial.method, trial.path);
        match self.send(trial.operation, request, deadline).await {
            Ok(_) | Err(StripeError::Rejected(Rejection { status: 400, .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks for the settings that the Customer Portal is opened with: the named ones, else the default ones.
    pub async fn portal_settings(
        &self,
        named: Option<&PortalConfigurationId>,
        deadline: Deadline,
    ) -> Result<PortalSettings, StripeError> {
        match named {
            Some(id) => self.named_portal_settings(id, deadline).await,
            None => self.default_portal_settings(deadline).await,
        }
    }

    async fn named_portal_settings(
        &self,
        id: &PortalConfigurationId,
        deadline: Deadline,
    ) -> Result<PortalSettings, StripeError> {
        let request = RetrieveBillingPortalConfiguration::new(id.as_str()).build();
        let operation = "GET /v1/billing_portal/configurations/{id}";
        match self.send(operation, request, deadline).await {
            Ok(reply) => {
                let answered_at = reply.answered_at;
                Ok(PortalSettings { configuration: reply.read(Some)?.value, answered_at })
            }
            Err(error) if error.is_missing() => Ok(PortalSettings { configuration: None, answered_at: None }),
            Err(error) => Err(error),
        }
    }

    async fn default_portal_settings(&self, deadline: Deadline) -> Result<PortalSettings, StripeError> {
        let request = ListBillingPortalConfiguration::new().is_default(true).active(true).limit(1).build();
        let reply = self.send("GET /v1/billing_portal/configurations", request, deadline).await?;
        let answered_at = reply.answered_at;
        let configuration = reply.read(|list: List<_>| Some(list.data.into_iter().next()))?.value;
        Ok(PortalSettings { configuration, answered_at })
    }

    /// Finds the price that an entry of the configuration names by its id or lookup key, for checkout and `doctor` alike. Stripe
    /// lets a lookup key look like an id, and the id of a price that began as a plan look like a lookup key.
    pub async fn price(&self, entry: &PriceId, deadline: Deadline) -> Result<Option<Price>, StripeError> {
        if entry.looks_like_an_id() {
            let by_id = self.price_by_id(entry, deadline).await?;
            return if by_id.is_some() { Ok(by_id) } else { self.price_by_lookup_key(entry, deadline).await };
        }
        let by_key = self.price_by_lookup_key(entry, deadline).await?;
        if by_key.is_some() { Ok(by_key) } else { self.price_by_id(entry, deadline).await }
    }

    async fn price_by_lookup_key(
        &self,
        key: &PriceId,
        deadline: Deadline,
    ) -> Result<Option<Price>, StripeError> {
        let by_key = ListPrice::new().lookup_keys(vec![key.to_string()]).limit(1).build();
        let reply = self.send("GET /v1/prices", by_key, deadline).await?;
        Ok(reply.read(|list: List<Price>| Some(list.data.into_iter().next()))?.value)
    }

    async fn price_by_id(&self, id: &PriceId, deadline: Deadline) -> Result<Option<Price>, StripeError> {
        let by_id = RetrievePrice::new(encode_segment(id.as_str())).build();
        match self.send("GET /v1/prices/{id}", by_id, deadline).await {
            Ok(reply) => Ok(Some(reply.read(Some::<Price>)?.value)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
