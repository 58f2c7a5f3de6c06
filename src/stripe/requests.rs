//! The requests for single objects, one function each.

use std::collections::{BTreeSet, HashMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stripe::StripeRequest;
use stripe_billing::BillingPortalSessionLocale;
use stripe_billing::billing_portal_session::{
    CreateBillingPortalSession, CreateBillingPortalSessionFlowData,
    CreateBillingPortalSessionFlowDataSubscriptionCancel,
    CreateBillingPortalSessionFlowDataSubscriptionUpdate, CreateBillingPortalSessionFlowDataType,
};
use stripe_billing::subscription::RetrieveSubscription;
use stripe_checkout::CheckoutSessionMode;
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, CreateCheckoutSessionSubscriptionData,
    ExpireCheckoutSession, RetrieveCheckoutSession,
};
use stripe_client_core::{RequestBuilder, StripeMethod};
use stripe_core::customer::{CreateCustomer, RetrieveCustomer};

use super::client::{Deadline, RawResponse, Stripe};
use super::error::StripeError;
use super::lists::FetchedSubscriptions;
use crate::domain::event::{self, CUSTOMER_IDEMPOTENCY_KEY_PREFIX, Session};
use crate::domain::ids::{
    CustomerId, DeploymentId, InvoiceId, PortalConfigurationId, PriceId, SessionId, SubscriptionId, TenantId,
};
use crate::domain::journey::Traceparent;
use crate::domain::locale::Locale;
use crate::domain::metadata::Metadata;
use crate::domain::mode::Mode;

/// A parsed response.
#[derive(Debug)]
pub struct ApiResponse<T> {
    pub value: T,
    /// `req_...`
    pub request_id: Option<String>,
}

#[derive(Debug)]
pub struct CheckoutParams<'a> {
    pub deployment: &'a DeploymentId,
    pub tenant: &'a TenantId,
    pub customer: &'a CustomerId,
    pub price: &'a PriceId,
    /// Stripe accepts no quantity for a metered price.
    pub is_metered: bool,
    /// The origin of the journey that starts here.
    pub journey: Traceparent,
    /// Absolute URL.
    pub success_url: &'a str,
    /// Absolute URL.
    pub cancel_url: &'a str,
}

/// Anyone with the URL can pay as the tenant, so it goes to the caller only.
pub struct NewSession {
    /// `cs_...`
    pub id: SessionId,
    pub url: String,
}

/// The state of a checkout session at Stripe.
pub enum StripeCheckoutState {
    Open {
        url: String,
        /// Until the session expires, by Stripe's clock.
        seconds_left: i64,
    },
    Complete(Box<Session>),
    Expired,
}

/// The state of a customer at Stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerState {
    Exists,
    /// Its subscriptions ended with it.
    Deleted,
    /// The key's account never had it.
    Unknown,
}

impl CustomerState {
    /// The value in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug)]
pub struct PortalParams<'a> {
    pub customer: &'a CustomerId,
    /// Absolute URL.
    pub return_url: &'a str,
    /// Default: the browser's language.
    pub locale: Option<&'a Locale>,
    /// Default: the account's default configuration.
    pub configuration: Option<&'a PortalConfigurationId>,
    /// Default: the portal's home.
    pub flow: Option<&'a PortalFlow>,
}

#[derive(Debug, Clone)]
pub enum PortalFlow {
    PaymentMethodUpdate,
    SubscriptionUpdate(SubscriptionId),
    SubscriptionCancel(SubscriptionId),
}

impl Stripe {
    /// Creates the tenant's customer. The idempotency key contains deployment, mode, tenant and
    /// generation, and the body only tenant and deployment. So two concurrent first checkouts
    /// create one customer, and the next generation creates another.
    pub async fn create_customer(
        &self,
        deployment: &DeploymentId,
        tenant: &TenantId,
        generation: i64,
        deadline: Deadline,
    ) -> Result<ApiResponse<CustomerId>, StripeError> {
        let metadata = HashMap::from([
            ("tenant_id".to_owned(), tenant.to_string()),
            ("deployment_id".to_owned(), deployment.to_string()),
        ]);
        let request = CreateCustomer::new().metadata(metadata).build();
        let key = customer_key(deployment, self.mode(), tenant, generation);
        let response = self.send_with_key("POST /v1/customers", &request, &key, deadline).await?;
        response.parse(|body: ObjectId| CustomerId::parse(&body.id).ok())
    }

    pub async fn customer_state(
        &self,
        id: &CustomerId,
        deadline: Deadline,
    ) -> Result<CustomerState, StripeError> {
        let Some(response) = self.retrieve_customer(id, deadline).await? else {
            return Ok(CustomerState::Unknown);
        };
        let is_deleted = response.parse(|body: CustomerBody| Some(body.deleted))?.value;
        Ok(if is_deleted { CustomerState::Deleted } else { CustomerState::Exists })
    }

    /// Reads a customer's metadata; none if the customer does not exist or was deleted.
    pub async fn customer_metadata(
        &self,
        id: &CustomerId,
        deadline: Deadline,
    ) -> Result<Option<Metadata>, StripeError> {
        let Some(response) = self.retrieve_customer(id, deadline).await? else { return Ok(None) };
        let metadata = event::read_customer(&response.body).map(|(_, metadata)| metadata);
        Ok(response.parse(|body: CustomerBody| Some(metadata.filter(|_| !body.deleted)))?.value)
    }

    async fn retrieve_customer(
        &self,
        id: &CustomerId,
        deadline: Deadline,
    ) -> Result<Option<RawResponse>, StripeError> {
        let request = RetrieveCustomer::new(encode_segment(id.as_str())).build();
        self.send_if_exists("GET /v1/customers/{id}", request, deadline).await
    }

    pub async fn create_checkout_session(
        &self,
        params: &CheckoutParams<'_>,
        deadline: Deadline,
    ) -> Result<ApiResponse<NewSession>, StripeError> {
        let metadata = metadata(params.deployment, params.tenant, params.journey);
        let mut line_item = CreateCheckoutSessionLineItems::new();
        line_item.price = Some(params.price.to_string());
        line_item.quantity = (!params.is_metered).then_some(1);
        let mut subscription = CreateCheckoutSessionSubscriptionData::new();
        subscription.metadata = Some(metadata.clone());
        let request = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Subscription)
            .customer(params.customer.to_string())
            .client_reference_id(params.tenant.to_string())
            .metadata(metadata)
            .subscription_data(subscription)
            .line_items(vec![line_item])
            .success_url(params.success_url)
            .cancel_url(params.cancel_url)
            .build();
        let response = self.send("POST /v1/checkout/sessions", request, deadline).await?;
        response.parse(|body: SessionBody| {
            Some(NewSession { id: SessionId::parse(&body.id).ok()?, url: body.url? })
        })
    }

    pub async fn retrieve_checkout_session(
        &self,
        session: &SessionId,
        deadline: Deadline,
    ) -> Result<ApiResponse<StripeCheckoutState>, StripeError> {
        let request = RetrieveCheckoutSession::new(session.as_str()).build();
        let response = self.send("GET /v1/checkout/sessions/{id}", request, deadline).await?;
        let session = event::read_session(&response.body);
        let answered_at = response.answered_at;
        response.parse(|body: SessionBody| match (body.status.as_deref(), body.url) {
            // Stripe expires an overdue session with a delay, in which it can be neither paid nor
            // closed.
            (Some("open"), _) if answered_at.is_some_and(|at| body.expires_at <= at) => {
                Some(StripeCheckoutState::Expired)
            }
            (Some("open"), Some(url)) => {
                let seconds_left = answered_at.map_or(i64::MAX, |at| body.expires_at - at);
                Some(StripeCheckoutState::Open { url, seconds_left })
            }
            (Some("complete"), _) => session.map(|session| StripeCheckoutState::Complete(Box::new(session))),
            (Some("expired"), _) => Some(StripeCheckoutState::Expired),
            _ => None,
        })
    }

    pub async fn expire_checkout_session(
        &self,
        session: &SessionId,
        deadline: Deadline,
    ) -> Result<(), StripeError> {
        let request = ExpireCheckoutSession::new(session.as_str()).build();
        self.send("POST /v1/checkout/sessions/{id}/expire", request, deadline).await?;
        Ok(())
    }

    /// Returns the URL of the session. It gives access to the customer's billing, so it goes to the
    /// caller only.
    pub async fn create_portal_session(
        &self,
        params: &PortalParams<'_>,
        deadline: Deadline,
    ) -> Result<ApiResponse<String>, StripeError> {
        let mut session = CreateBillingPortalSession::new()
            .customer(params.customer.to_string())
            .return_url(params.return_url);
        if let Some(locale) = params.locale.and_then(portal_locale) {
            session = session.locale(locale);
        }
        if let Some(configuration) = params.configuration {
            session = session.configuration(configuration.as_str());
        }
        if let Some(flow) = params.flow {
            session = session.flow_data(flow_data(flow));
        }
        let response = self.send("POST /v1/billing_portal/sessions", session.build(), deadline).await?;
        response.parse(|body: PortalBody| Some(body.url))
    }

    /// Returns one subscription; `paid_or_void` is empty.
    pub async fn retrieve_subscription(
        &self,
        id: &SubscriptionId,
        deadline: Deadline,
    ) -> Result<ApiResponse<FetchedSubscriptions>, StripeError> {
        let request = RetrieveSubscription::new(id.as_str()).build();
        let response = self.send("GET /v1/subscriptions/{id}", request, deadline).await?;
        let unreadable = || response.unreadable();
        let snapshot = event::read_subscription(&response.body).ok_or_else(unreadable)?;
        let answered_at = response.answered_at.ok_or_else(unreadable)?;
        let snapshots = vec![self.with_all_items(snapshot, deadline).await?];
        let value = FetchedSubscriptions { snapshots, answered_at, paid_or_void: BTreeSet::new() };
        Ok(ApiResponse { value, request_id: response.request_id })
    }

    /// Whether an invoice is paid or void, so that nothing is owed on it.
    pub async fn is_invoice_paid_or_void(
        &self,
        id: &InvoiceId,
        deadline: Deadline,
    ) -> Result<bool, StripeError> {
        let request = RequestBuilder::new(StripeMethod::Get, format!("/invoices/{id}"));
        let response = self.send("GET /v1/invoices/{id}", request, deadline).await?;
        let status = response.parse(|body: InvoiceBody| body.status)?.value;
        Ok(matches!(status.as_str(), "paid" | "void"))
    }

    /// Returns the page to pay the newest open invoice of a subscription. Anyone with the URL can
    /// see and pay the invoice, so it goes to the caller only.
    pub async fn open_invoice_page(
        &self,
        subscription: &SubscriptionId,
        deadline: Deadline,
    ) -> Result<ApiResponse<Option<String>>, StripeError> {
        let query = InvoiceQuery { subscription: subscription.as_str(), status: "open", limit: 1 };
        let request = RequestBuilder::new(StripeMethod::Get, "/invoices").query(&query);
        let response = self.send("GET /v1/invoices", request, deadline).await?;
        response.parse(|body: List<OpenInvoiceBody>| {
            Some(body.data.into_iter().next().and_then(|invoice| invoice.hosted_invoice_url))
        })
    }
}

fn customer_key(deployment: &DeploymentId, mode: Mode, tenant: &TenantId, generation: i64) -> String {
    format!("{CUSTOMER_IDEMPOTENCY_KEY_PREFIX}{deployment}-{mode}-{tenant}-{generation}")
}

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes an id for a URL path. An id chosen by the account's owner can contain spaces and
/// slashes.
pub(super) fn encode_segment(id: &str) -> String {
    utf8_percent_encode(id, RESERVED).to_string()
}

/// The metadata that our webhook handler reads back.
fn metadata(deployment: &DeploymentId, tenant: &TenantId, journey: Traceparent) -> HashMap<String, String> {
    HashMap::from([
        ("deployment_id".to_owned(), deployment.to_string()),
        ("tenant_id".to_owned(), tenant.to_string()),
        ("journey_id".to_owned(), journey.trace_id().to_string()),
        ("traceparent".to_owned(), journey.to_string()),
    ])
}

fn portal_locale(locale: &Locale) -> Option<BillingPortalSessionLocale> {
    let known = locale.as_str().parse().ok();
    known.filter(|locale| !matches!(locale, BillingPortalSessionLocale::Unknown(_)))
}

fn flow_data(flow: &PortalFlow) -> CreateBillingPortalSessionFlowData {
    use CreateBillingPortalSessionFlowDataType as Type;
    match flow {
        PortalFlow::PaymentMethodUpdate => CreateBillingPortalSessionFlowData::new(Type::PaymentMethodUpdate),
        PortalFlow::SubscriptionUpdate(id) => {
            let update = CreateBillingPortalSessionFlowDataSubscriptionUpdate::new(id.to_string());
            let mut data = CreateBillingPortalSessionFlowData::new(Type::SubscriptionUpdate);
            data.subscription_update = Some(update);
            data
        }
        PortalFlow::SubscriptionCancel(id) => {
            let cancel = CreateBillingPortalSessionFlowDataSubscriptionCancel::new(id.to_string());
            let mut data = CreateBillingPortalSessionFlowData::new(Type::SubscriptionCancel);
            data.subscription_cancel = Some(cancel);
            data
        }
    }
}

impl RawResponse {
    pub(super) fn parse<B: DeserializeOwned, T>(
        self,
        convert: impl FnOnce(B) -> Option<T>,
    ) -> Result<ApiResponse<T>, StripeError> {
        let value = serde_json::from_slice(&self.body).ok().and_then(convert);
        match value {
            Some(value) => Ok(ApiResponse { value, request_id: self.request_id }),
            None => Err(self.unreadable()),
        }
    }

    /// The error for a 2xx response without the expected content: a proxy may have sent it.
    pub(super) fn unreadable(&self) -> StripeError {
        StripeError::Unavailable { what: "unreadable_reply", request_id: self.request_id.clone() }
    }
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
}

#[derive(Deserialize)]
pub(super) struct ObjectId {
    pub(super) id: String,
}

#[derive(Deserialize)]
struct CustomerBody {
    #[serde(default)]
    deleted: bool,
}

#[derive(Deserialize)]
struct InvoiceBody {
    status: Option<String>,
}

#[derive(Serialize)]
struct InvoiceQuery<'a> {
    subscription: &'a str,
    status: &'static str,
    limit: i64,
}

#[derive(Deserialize)]
struct OpenInvoiceBody {
    hosted_invoice_url: Option<String>,
}

#[derive(Deserialize)]
struct SessionBody {
    id: String,
    status: Option<String>,
    url: Option<String>,
    expires_at: i64,
}

#[derive(Deserialize)]
struct PortalBody {
    url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_portal_locale_is_known_to_async_stripe() {
        for tag in Locale::TAGS {
            let locale = Locale::parse(tag).expect(tag);
            assert!(portal_locale(&locale).is_some(), "{tag}");
        }
    }

    #[test]
    fn customer_key_has_deployment_mode_tenant_and_generation() {
        let tenant = TenantId::parse("acme").expect("a valid tenant");
        let deployment = DeploymentId::parse("staging").expect("a valid deployment");
        assert_eq!(
            customer_key(&deployment, Mode::Test, &tenant, 2),
            "billhook-customer-staging-test-acme-2"
        );
    }
}
