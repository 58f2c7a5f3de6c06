//! Requests that check the setup at Stripe: account, permissions and portal configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use stripe::StripeRequest;
use stripe_billing::billing_portal_configuration::{
    ListBillingPortalConfiguration, RetrieveBillingPortalConfiguration,
};
use stripe_client_core::{RequestBuilder, StripeMethod};

use super::client::{Deadline, Stripe};
use super::error::{Rejection, StripeError};
use super::requests::{List, ObjectId};
use crate::domain::ids::{AccountId, PortalConfigurationId};

#[derive(Debug)]
pub struct PortalSettings {
    /// The named configuration, or the default one. None if it does not exist.
    pub configuration: Option<PortalConfiguration>,
    /// The `Date` of the response, in Unix seconds.
    pub answered_at: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct PortalConfiguration {
    /// Whether portal sessions can use it.
    pub active: bool,
    #[serde(default)]
    features: BTreeMap<String, PortalFeature>,
}

#[derive(Debug, Deserialize)]
struct PortalFeature {
    #[serde(default)]
    enabled: bool,
}

/// The features that a billing page links to: its flows, and open invoices.
const REQUIRED_FEATURES: [&str; 4] =
    ["payment_method_update", "subscription_cancel", "subscription_update", "invoice_history"];

impl PortalConfiguration {
    /// The features that are off although a billing page links to them.
    pub fn disabled_features(&self) -> Vec<&'static str> {
        let is_off = |name: &&str| self.features.get(*name).is_some_and(|feature| !feature.enabled);
        REQUIRED_FEATURES.into_iter().filter(is_off).collect()
    }
}

/// A request that tests a permission of the key and changes nothing: a list, or a creation without
/// its required parameters, which Stripe rejects only after it has checked the permission.
#[derive(Debug, Clone, Copy)]
pub struct PermissionCheck {
    /// What the permission is for, in words for the operator.
    pub purpose: &'static str,
    operation: &'static str,
    method: StripeMethod,
    path: &'static str,
}

/// The permissions that no other check covers.
pub const PERMISSION_CHECKS: [PermissionCheck; 5] = [
    PermissionCheck {
        purpose: "reading events",
        operation: "GET /v1/events",
        method: StripeMethod::Get,
        path: "/events",
    },
    PermissionCheck {
        purpose: "reading subscriptions",
        operation: "GET /v1/subscriptions",
        method: StripeMethod::Get,
        path: "/subscriptions",
    },
    PermissionCheck {
        purpose: "reading invoices",
        operation: "GET /v1/invoices",
        method: StripeMethod::Get,
        path: "/invoices",
    },
    PermissionCheck {
        purpose: "creating Checkout Sessions",
        operation: "POST /v1/checkout/sessions",
        method: StripeMethod::Post,
        path: "/checkout/sessions",
    },
    PermissionCheck {
        purpose: "opening the Customer Portal",
        operation: "POST /v1/billing_portal/sessions",
        method: StripeMethod::Post,
        path: "/billing_portal/sessions",
    },
];

impl Stripe {
    /// Returns the key's account (<https://docs.stripe.com/api/accounts/retrieve>). A restricted
    /// key may not be allowed to read it.
    pub async fn own_account(&self, deadline: Deadline) -> Result<AccountId, StripeError> {
        let request = RequestBuilder::new(StripeMethod::Get, "/account");
        let response = self.send("GET /v1/account", request, deadline).await?;
        Ok(response.parse(|body: ObjectId| AccountId::parse(&body.id).ok())?.value)
    }

    /// Fails if the key lacks the permission.
    pub async fn check_permission(
        &self,
        check: PermissionCheck,
        deadline: Deadline,
    ) -> Result<(), StripeError> {
        let mut request = RequestBuilder::new(check.method, check.path);
        if matches!(check.method, StripeMethod::Get) {
            request = request.query(&[("limit", 1)]);
        }
        match self.send(check.operation, request, deadline).await {
            Ok(_) | Err(StripeError::Rejected(Rejection { status: 400, .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the named portal configuration, or the default one.
    pub async fn portal_settings(
        &self,
        named: Option<&PortalConfigurationId>,
        deadline: Deadline,
    ) -> Result<PortalSettings, StripeError> {
        let Some(id) = named else {
            let request =
                ListBillingPortalConfiguration::new().is_default(true).active(true).limit(1).build();
            let response = self.send("GET /v1/billing_portal/configurations", request, deadline).await?;
            let answered_at = response.answered_at;
            let configuration = response.parse(|list: List<_>| Some(list.data.into_iter().next()))?.value;
            return Ok(PortalSettings { configuration, answered_at });
        };
        let request = RetrieveBillingPortalConfiguration::new(id.as_str()).build();
        let operation = "GET /v1/billing_portal/configurations/{id}";
        let Some(response) = self.send_if_exists(operation, request, deadline).await? else {
            return Ok(PortalSettings { configuration: None, answered_at: None });
        };
        let answered_at = response.answered_at;
        Ok(PortalSettings { configuration: response.parse(Some)?.value, answered_at })
    }
}
