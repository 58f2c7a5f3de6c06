//! `POST /api/billing/create-portal-session/`

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object, OpenApi};

use super::{ApiState, Tag, action_problems, return_path};
use crate::billing::{self, Operation, PortalRequest, RequestedFlow};
use crate::domain::locale::Locale;
use crate::http::auth::UserToken;
use crate::http::body::JsonBody;
use crate::http::problem::{Code, DocumentedProblems, Problem, ProblemResponse};

pub(in crate::http) struct PortalApi;

/// Options for the portal.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields, example)]
struct PortalSessionRequest {
    /// The path of the app that the portal links back to. Default: `/billing`.
    return_path: Option<String>,
    /// A single task to open instead of the portal's home page.
    flow: Option<PortalFlow>,
    /// The portal's language, such as `de` or `pt-BR`. Default: the browser's.
    locale: Option<String>,
}

/// A single task in the portal.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum PortalFlow {
    PaymentMethodUpdate,
    SubscriptionUpdate,
    SubscriptionCancel,
}

/// A page of the portal, or the page of an open invoice.
#[derive(Debug, Object)]
#[oai(example)]
struct PortalSession {
    /// Redirect the browser to this URL at once. It is short-lived and gives access to the
    /// customer's billing.
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

impl DocumentedProblems for PortalProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &action_problems("`no_customer` or `no_subscription`");
}

#[OpenApi(tag = "Tag::Billing")]
impl PortalApi {
    /// Open the Customer Portal
    ///
    /// Only for users who may manage billing (`may_manage` of `getSubscription`). Each call creates
    /// a new page at Stripe: call it when the user clicks, and do not store the URL.
    ///
    /// For a tenant with a subscription, the flow `payment_method_update` opens the portal's home
    /// page, where the subscription's card can be changed. For an `unpaid` subscription it opens
    /// the page of the open invoice. If Stripe rejects a flow, because of the portal's settings or
    /// because the subscription is already set to end, the portal's home page opens.
    #[oai(
        path = "/api/billing/create-portal-session/",
        method = "post",
        operation_id = "createBillingPortalSession"
    )]
    async fn create(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        body: JsonBody<PortalSessionRequest>,
    ) -> Result<Json<PortalSession>, ProblemResponse<PortalProblems>> {
        let UserToken(caller) = token;
        state.admit_manager(&caller, Operation::Portal)?;
        let request = body.read().await.and_then(PortalSessionRequest::parse);
        let request = state.log_if_invalid(&caller, Operation::Portal, request)?;
        let url = billing::create_portal_session(&state.billing, &caller, request).await?;
        Ok(Json(PortalSession { url }))
    }
}

impl PortalSessionRequest {
    fn parse(self) -> Result<PortalRequest, Problem> {
        let locale = self.locale.as_deref().map(Locale::parse).transpose();
        Ok(PortalRequest {
            return_path: return_path("return_path", self.return_path.as_deref(), "/billing")?,
            flow: self.flow.map(RequestedFlow::from),
            locale: locale
                .map_err(|error| Problem::new(Code::InvalidRequest, format!("`locale` is {error}.")))?,
        })
    }
}

impl From<PortalFlow> for RequestedFlow {
    fn from(flow: PortalFlow) -> Self {
        match flow {
            PortalFlow::PaymentMethodUpdate => Self::PaymentMethodUpdate,
            PortalFlow::SubscriptionUpdate => Self::SubscriptionUpdate,
            PortalFlow::SubscriptionCancel => Self::SubscriptionCancel,
        }
    }
}
