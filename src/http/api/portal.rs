//! `POST /api/billing/create-portal-session/`

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object, OpenApi};

use super::{ApiState, Tag, problems_of_an_action, return_path};
use crate::billing::{self, Operation, PortalFlowWish, PortalWish};
use crate::domain::locale::Locale;
use crate::http::auth::UserToken;
use crate::http::body::OptionalJson;
use crate::http::problem::{Code, Documented, Failure, Problem};

/// The Customer Portal.
pub(in crate::http) struct PortalApi;

/// What is wanted of the portal.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields, example)]
struct PortalSessionRequest {
    /// Where the portal's way back leads: a path of the app. Default: `/billing`.
    return_path: Option<String>,
    /// The one thing to do, if it is not the whole portal.
    flow: Option<PortalFlow>,
    /// The page's language, such as `de` or `pt-BR`. Default: the browser's.
    locale: Option<String>,
}

/// The one thing to do in the portal.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum PortalFlow {
    /// A new card for the subscription.
    PaymentMethodUpdate,
    /// Another plan.
    SubscriptionUpdate,
    /// The end of the subscription.
    SubscriptionCancel,
}

/// Where the portal is, or the page of an open invoice.
#[derive(Debug, Object)]
#[oai(example)]
struct PortalSession {
    /// Send the browser there at once: it is short-lived, and a key to the customer's billing.
    #[oai(validator(min_length = 1))]
    url: String,
}

impl Example for PortalSessionRequest {
    fn example() -> Self {
        Self {
            return_path: Some("/settings/billing".to_owned()),
            flow: Some(PortalFlow::PaymentMethodUpdate),
            locale: Some("de".to_owned()),
        }
    }
}

impl Example for PortalSession {
    fn example() -> Self {
        Self { url: "https://billing.stripe.com/p/session/test_a1b2c3".to_owned() }
    }
}

struct PortalProblems;

impl Documented for PortalProblems {
    const PROBLEMS: &'static [(u16, &'static str)] =
        &problems_of_an_action("`no_customer` or `no_subscription`");
}

#[OpenApi(tag = "Tag::Billing")]
impl PortalApi {
    /// Open the Customer Portal
    ///
    /// For those who may manage the tenant's billing: `may_manage` of `getSubscription`. Each
    /// call makes another page at Stripe: make it when somebody clicks, and keep none.
    ///
    /// The flow `payment_method_update` opens the portal's home for a tenant with a subscription:
    /// there the card that the subscription is charged to can be changed. For an `unpaid`
    /// subscription it opens the page of the open invoice. If Stripe does not take a flow, because of
    /// the portal's settings or because the subscription is set to end already, the whole portal opens.
    #[oai(
        path = "/api/billing/create-portal-session/",
        method = "post",
        operation_id = "createBillingPortalSession"
    )]
    async fn create(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        body: OptionalJson<PortalSessionRequest>,
    ) -> Result<Json<PortalSession>, Failure<PortalProblems>> {
        let UserToken(caller) = token;
        state.admit_manager(&caller, Operation::Portal)?;
        let wish = body.read().await.and_then(PortalSessionRequest::into_wish);
        let wish = state.understand(&caller, Operation::Portal, wish)?;
        let url = billing::create_portal_session(&state.billing, &caller, wish).await?;
        Ok(Json(PortalSession { url }))
    }
}

impl PortalSessionRequest {
    fn into_wish(self) -> Result<PortalWish, Problem> {
        let locale = self.locale.as_deref().map(Locale::parse).transpose();
        Ok(PortalWish {
            return_path: return_path("return_path", self.return_path.as_deref(), "/billing")?,
            flow: self.flow.map(PortalFlow::into_wish),
            locale: locale
                .map_err(|error| Problem::new(Code::InvalidRequest, format!("`locale` is {error}.")))?,
        })
    }
}

impl PortalFlow {
    fn into_wish(self) -> PortalFlowWish {
        match self {
            Self::PaymentMethodUpdate => PortalFlowWish::PaymentMethodUpdate,
            Self::SubscriptionUpdate => PortalFlowWish::SubscriptionUpdate,
            Self::SubscriptionCancel => PortalFlowWish::SubscriptionCancel,
        }
    }
}
