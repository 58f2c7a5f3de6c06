//! What we ask of Stripe, one function for each.

use std::collections::HashMap;

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

use super::client::{Deadline, Reply, Stripe};
use super::error::StripeError;
use super::setup::List;
use crate::domain::event::{self, CUSTOMER_KEY_PREFIX, Session};
use crate::domain::ids::{
    CustomerId, DeploymentId, InvoiceId, PortalConfigurationId, PriceId, SessionId, SubscriptionId, TenantId,
};
use crate::domain::journey::Traceparent;
use crate::domain::locale::Locale;
use crate::domain::mode::Mode;
use crate::domain::subscription::Snapshot;
use crate::domain::tags::Tags;

/// What Stripe answered, and its id of the request.
#[derive(Debug)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// `req_...`
    pub request_id: Option<String>,
}

/// What a checkout session is made of.
#[derive(Debug)]
pub struct CheckoutOrder<'a> {
    /// Which deployment sells.
    pub deployment: &'a DeploymentId,
    /// Who buys.
    pub tenant: &'a TenantId,
    /// Who pays.
    pub customer: &'a CustomerId,
    /// What.
    pub price: &'a PriceId,
    /// Whether its usage is billed: then Stripe takes no quantity.
    pub is_metered: bool,
    /// The origin of the journey that this begins.
    pub journey: Traceparent,
    /// Where Stripe's page goes when it is paid: an absolute URL.
    pub success_url: &'a str,
    /// Where it goes when it is not: an absolute URL.
    pub cancel_url: &'a str,
}

/// A session just made. Whoever has its URL can pay as the tenant: it goes to the caller and nowhere else.
pub struct NewSession {
    /// `cs_...`
    pub id: SessionId,
    /// Stripe's page.
    pub url: String,
}

/// How far a session got, as Stripe says.
pub enum SessionView {
    /// It can still be paid, here.
    Open {
        /// Stripe's page.
        url: String,
        /// For how long.
        seconds_left: i64,
    },
    /// Walked to its end.
    Complete(Box<Session>),
    /// Over without a purchase.
    Expired,
}

/// Whether a customer is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerStanding {
    /// It is.
    Living,
    /// It was deleted, and its subscriptions ended with it.
    Deleted,
    /// The key's account never had it.
    Unknown,
}

/// What a portal session is made of.
#[derive(Debug)]
pub struct PortalOrder<'a> {
    /// Whose portal.
    pub customer: &'a CustomerId,
    /// Where the portal's way back leads: an absolute URL.
    pub return_url: &'a str,
    /// The page's language; Stripe follows the browser's without one.
    pub locale: Option<&'a Locale>,
    /// The settings to use, if they are not the default ones.
    pub configuration: Option<&'a PortalConfigurationId>,
    /// The one thing to do, if it is not the whole portal.
    pub flow: Option<&'a PortalFlow>,
}

/// A portal session that goes straight to one thing.
#[derive(Debug, Clone)]
pub enum PortalFlow {
    /// A new card.
    PaymentMethodUpdate,
    /// Another plan.
    SubscriptionUpdate(SubscriptionId),
    /// The end.
    SubscriptionCancel(SubscriptionId),
}

impl Stripe {
    /// Creates the tenant's customer. The key is deployment, mode, tenant and generation, the body nothing but the tenant and
    /// the deployment, so that two first checkouts at once are one request to Stripe, and the next generation's is another.
    pub async fn create_customer(
        &self,
        deployment: &DeploymentId,
        tenant: &TenantId,
        generation: i64,
        deadline: Deadline,
    ) -> Result<Answer<CustomerId>, StripeError> {
        let metadata = HashMap::from([
            ("tenant_id".to_owned(), tenant.to_string()),
            ("deployment_id".to_owned(), deployment.to_string()),
        ]);
        let request = CreateCustomer::new().metadata(metadata).build();
        let key = customer_key(deployment, self.mode(), tenant, generation);
        let reply = self.send_with_key("POST /v1/customers", &request, &key, deadline).await?;
        reply.read(|body: Identified| CustomerId::parse(&body.id).ok())
    }

    /// Asks whether a customer is still there.
    pub async fn customer_standing(
        &self,
        id: &CustomerId,
        deadline: Deadline,
    ) -> Result<Answer<CustomerStanding>, StripeError> {
        let request = RetrieveCustomer::new(encode_segment(id.as_str())).build();
        match self.send("GET /v1/customers/{id}", request, deadline).await {
            Ok(reply) => reply.read(|body: CustomerBody| {
                Some(if body.deleted { CustomerStanding::Deleted } else { CustomerStanding::Living })
            }),
            Err(error) if error.is_missing() => {
                let request_id = error.request_id().map(str::to_owned);
                Ok(Answer { value: CustomerStanding::Unknown, request_id })
            }
            Err(error) => Err(error),
        }
    }

    /// Asks what a customer's metadata says; none if Stripe does not have the customer, or not any more.
    pub async fn customer_tags(
        &self,
        id: &CustomerId,
        deadline: Deadline,
    ) -> Result<Option<Tags>, StripeError> {
        let request = RetrieveCustomer::new(encode_segment(id.as_str())).build();
        match self.send("GET /v1/customers/{id}", request, deadline).await {
            Ok(reply) => {
                let tags = event::read_customer(&reply.body).map(|(_, tags)| tags);
                Ok(reply.read(|body: CustomerBody| Some(tags.filter(|_| !body.deleted)))?.value)
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a checkout session.
    pub async fn create_checkout_session(
        &self,
        order: &CheckoutOrder<'_>,
        deadline: Deadline,
    ) -> Result<Answer<NewSession>, StripeError> {
        let CheckoutOrder {
            deployment,
            tenant,
            customer,
            price,
            is_metered,
            journey,
            success_url,
            cancel_url,
        } = order;
        let metadata = tags(deployment, tenant, *journey);
        let mut line_item = CreateCheckoutSessionLineItems::new();
        line_item.price = Some(price.to_string());
        line_item.quantity = (!is_metered).then_some(1);
        let mut subscription = CreateCheckoutSessionSubscriptionData::new();
        subscription.metadata = Some(metadata.clone());
        let request = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Subscription)
            .customer(customer.to_string())
            .client_reference_id(tenant.to_string())
            .metadata(metadata)
            .subscription_data(subscription)
            .line_items(vec![line_item])
            .success_url(*success_url)
            .cancel_url(*cancel_url)
            .build();
        let reply = self.send("POST /v1/checkout/sessions", request, deadline).await?;
        reply.read(|body: SessionBody| {
            Some(NewSession { id: SessionId::parse(&body.id).ok()?, url: body.url? })
        })
    }

    /// Asks how far a checkout session got.
    pub async fn retrieve_checkout_session(
        &self,
        session: &SessionId,
        deadline: Deadline,
    ) -> Result<Answer<SessionView>, StripeError> {
        let request = RetrieveCheckoutSession::new(session.as_str()).build();
        let reply = self.send("GET /v1/checkout/sessions/{id}", request, deadline).await?;
        let session = event::read_session(&reply.body);
        let answered_at = reply.answered_at;
        reply.read(|body: SessionBody| match (body.status.as_deref(), body.url) {
            // Stripe closes an overdue session a little later. It can neither be paid nor closed by then.
            (Some("open"), _) if answered_at.is_some_and(|at| body.expires_at <= at) => {
                Some(SessionView::Expired)
            }
            (Some("open"), Some(url)) => {
                let seconds_left = answered_at.map_or(i64::MAX, |at| body.expires_at - at);
                Some(SessionView::Open { url, seconds_left })
            }
            (Some("complete"), _) => session.map(|session| SessionView::Complete(Box::new(session))),
            (Some("expired"), _) => Some(SessionView::Expired),
            _ => None,
        })
    }

    /// Closes a checkout session, so that it cannot be paid any more.
    pub async fn expire_checkout_session(
        &self,
        session: &SessionId,
        deadline: Deadline,
    ) -> Result<(), StripeError> {
        let request = ExpireCheckoutSession::new(session.as_str()).build();
        self.send("POST /v1/checkout/sessions/{id}/expire", request, deadline).await?;
        Ok(())
    }

    /// Opens the Customer Portal. Returns its URL, which is a key to the customer's billing: it goes to the caller and
    /// nowhere else.
    pub async fn create_portal_session(
        &self,
        order: &PortalOrder<'_>,
        deadline: Deadline,
    ) -> Result<Answer<String>, StripeError> {
        let mut session = CreateBillingPortalSession::new()
            .customer(order.customer.to_string())
            .return_url(order.return_url);
        if let Some(locale) = order.locale.and_then(portal_language) {
            session = session.locale(locale);
        }
        if let Some(configuration) = order.configuration {
            session = session.configuration(configuration.as_str());
        }
        if let Some(flow) = order.flow {
            session = session.flow_data(flow_data(flow));
        }
        let reply = self.send("POST /v1/billing_portal/sessions", session.build(), deadline).await?;
        reply.read(|body: PortalBody| Some(body.url))
    }

    /// Asks how a subscription stands, and when that was, by Stripe's clock in whole Unix seconds.
    pub async fn retrieve_subscription(
        &self,
        id: &SubscriptionId,
        deadline: Deadline,
    ) -> Result<Answer<(Snapshot, i64)>, StripeError> {
        let request = RetrieveSubscription::new(id.as_str()).build();
        let reply = self.send("GET /v1/subscriptions/{id}", request, deadline).await?;
        let broken = || reply.broken();
        let snapshot = event::read_subscription(&reply.body).ok_or_else(broken)?;
        let answered_at = reply.answered_at.ok_or_else(broken)?;
        let snapshot = self.with_all_items(snapshot, deadline).await?;
        Ok(Answer { value: (snapshot, answered_at), request_id: reply.request_id })
    }

    /// Asks whether nothing is owed on an invoice any more: it is paid, or void.
    pub async fn is_invoice_settled(&self, id: &InvoiceId, deadline: Deadline) -> Result<bool, StripeError> {
        let request = RequestBuilder::new(StripeMethod::Get, format!("/invoices/{id}"));
        let reply = self.send("GET /v1/invoices/{id}", request, deadline).await?;
        let status = reply.read(|body: InvoiceBody| body.status)?.value;
        Ok(matches!(status.as_str(), "paid" | "void"))
    }

    /// Asks for the page on which the newest open invoice of a subscription can be paid. Whoever has its URL can pay and see
    /// the invoice: it goes to the caller and nowhere else.
    pub async fn open_invoice_page(
        &self,
        subscription: &SubscriptionId,
        deadline: Deadline,
    ) -> Result<Answer<Option<String>>, StripeError> {
        let query = InvoiceQuery { subscription: subscription.as_str(), status: "open", limit: 1 };
        let request = RequestBuilder::new(StripeMethod::Get, "/invoices").query(&query);
        let reply = self.send("GET /v1/invoices", request, deadline).await?;
        reply.read(|body: List<OpenInvoiceBody>| {
            Some(body.data.into_iter().next().and_then(|invoice| invoice.hosted_invoice_url))
        })
    }
}

fn customer_key(deployment: &DeploymentId, mode: Mode, tenant: &TenantId, generation: i64) -> String {
    format!("{CUSTOMER_KEY_PREFIX}{deployment}-{mode}-{tenant}-{generation}")
}

/// What RFC 3986 does not call unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An id as a segment of a path: its owner may have chosen spaces and slashes.
pub(super) fn encode_segment(id: &str) -> String {
    utf8_percent_encode(id, RESERVED).to_string()
}

/// What our webhooks will read back.
fn tags(deployment: &DeploymentId, tenant: &TenantId, journey: Traceparent) -> HashMap<String, String> {
    HashMap::from([
        ("deployment_id".to_owned(), deployment.to_string()),
        ("tenant_id".to_owned(), tenant.to_string()),
        ("journey_id".to_owned(), journey.journey_id().to_string()),
        ("traceparent".to_owned(), journey.to_string()),
    ])
}

fn portal_language(locale: &Locale) -> Option<BillingPortalSessionLocale> {
    let known = locale.as_str().parse().ok();
    known.filter(|language| !matches!(language, BillingPortalSessionLocale::Unknown(_)))
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

impl Reply {
    pub(super) fn read<B: DeserializeOwned, T>(
        self,
        pick: impl FnOnce(B) -> Option<T>,
    ) -> Result<Answer<T>, StripeError> {
        let value = serde_json::from_slice(&self.body).ok().and_then(pick);
        match value {
            Some(value) => Ok(Answer { value, request_id: self.request_id }),
            None => Err(self.broken()),
        }
    }

    /// A success that does not hold what its kind holds: something between us and Stripe answered in its place.
    pub(super) fn broken(&self) -> StripeError {
        StripeError::Unavailable { what: "unreadable_reply", request_id: self.request_id.clone() }
    }
}

#[derive(Deserialize)]
pub(super) struct Identified {
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

/// Which invoices are asked for.
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
    fn every_portal_language_is_known_to_async_stripe() {
        for tag in Locale::TAGS {
            let locale = Locale::parse(tag).expect(tag);
            assert!(portal_language(&locale).is_some(), "{tag}");
        }
    }

    #[test]
    fn customer_key_is_deployment_mode_tenant_and_generation() {
        let tenant = TenantId::parse("acme").expect("a tenant");
        let deployment = DeploymentId::parse("staging").expect("a deployment");
        assert_eq!(
            customer_key(&deployment, Mode::Test, &tenant, 2),
            "billhook-customer-staging-test-acme-2"
        );
    }
}
