//! `POST /api/billing/create-checkout-session/`, and
//! `POST /api/billing/checkout-sessions/{session_id}/refresh/` for a buyer who returns from
//! Checkout.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};

use super::subscription::Subscription;
use super::{ApiState, Tag, action_problems, return_path};
use crate::billing::{self, CheckoutRequest, Operation};
use crate::domain::ids::{PlanName, SessionId};
use crate::http::auth::UserToken;
use crate::http::body::JsonBody;
use crate::http::problem::{Code, DocumentedProblems, Problem, ProblemResponse};

/// Stripe replaces the placeholder.
const SUCCESS_PATH: &str = "/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}";

const CANCEL_PATH: &str = "/billing?checkout=canceled";

pub(in crate::http) struct CheckoutApi;

/// The plan to buy, and where to return.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields, example)]
struct CheckoutSessionRequest {
    /// The plan's name. Default: the first configured plan.
    plan: Option<String>,
    /// The path of the app that Checkout redirects to after the payment. Stripe replaces
    /// `{CHECKOUT_SESSION_ID}`. Default:
    /// `/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}`.
    success_path: Option<String>,
    /// The path of the app that Checkout redirects to if the user cancels. Default:
    /// `/billing?checkout=canceled`.
    cancel_path: Option<String>,
}

/// A Checkout session.
#[derive(Debug, Object)]
#[oai(example)]
struct CheckoutSession {
    /// Redirect the browser to this URL. Anyone who has it can pay for the tenant.
    #[oai(validator(min_length = 1))]
    url: String,
    /// The session's id at Stripe.
    #[oai(validator(min_length = 1))]
    session_id: String,
}

impl Example for CheckoutSessionRequest {
    fn example() -> Self {
        Self {
            plan: Some("pro".to_owned()),
            success_path: Some(SUCCESS_PATH.to_owned()),
            cancel_path: Some(CANCEL_PATH.to_owned()),
        }
    }
}

impl Example for CheckoutSession {
    fn example() -> Self {
        Self {
            url: "https://checkout.stripe.com/c/pay/cs_test_a1b2c3".to_owned(),
            session_id: "cs_test_a1b2c3".to_owned(),
        }
    }
}

struct CheckoutProblems;

impl DocumentedProblems for CheckoutProblems {
    const PROBLEMS: &'static [(u16, &'static str)] =
        &action_problems("`already_subscribed` or `no_customer`");
}

struct RefreshProblems;

impl DocumentedProblems for RefreshProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (404, "`not_found`: the tenant has no such session"),
        (429, "`throttled`"),
        (500, "`internal`"),
        (502, "`stripe_rejected` or `stripe_unavailable`"),
        (503, "`billing_not_configured` or `unavailable`"),
    ];
}

#[OpenApi(tag = "Tag::Billing")]
impl CheckoutApi {
    /// Start a checkout
    ///
    /// Returns the tenant's open session if it was created by an identical request, is for the same
    /// price and customer, and is open for at least 30 more minutes. Expires any other open session
    /// first. Only for users who may manage billing (`may_manage` of `getSubscription`).
    #[oai(
        path = "/api/billing/create-checkout-session/",
        method = "post",
        operation_id = "createCheckoutSession"
    )]
    async fn create(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        body: JsonBody<CheckoutSessionRequest>,
    ) -> Result<Json<CheckoutSession>, ProblemResponse<CheckoutProblems>> {
        let UserToken(caller) = token;
        state.admit_manager(&caller, Operation::Checkout)?;
        let request = body.read().await.and_then(CheckoutSessionRequest::parse);
        let request = state.log_if_invalid(&caller, Operation::Checkout, request)?;
        let page = billing::create_checkout_session(&state.billing, &caller, request).await?;
        Ok(Json(CheckoutSession { url: page.url, session_id: page.session.to_string() }))
    }

    /// Apply a completed checkout
    ///
    /// For a buyer who returns before the webhook arrives: reads the session from Stripe, applies
    /// its subscription, and returns the same object as `getSubscription`. An open session changes
    /// nothing. Safe to call again.
    #[oai(
        path = "/api/billing/checkout-sessions/:session_id/refresh/",
        method = "post",
        operation_id = "refreshCheckoutSession"
    )]
    async fn refresh(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        /// The session's id at Stripe.
        session_id: Path<String>,
    ) -> Result<Json<Subscription>, ProblemResponse<RefreshProblems>> {
        let UserToken(caller) = token;
        state.admit(&caller)?;
        let session = SessionId::parse(&session_id.0).ok();
        let refreshed = billing::refresh_checkout_session(&state.billing, &caller, session.as_ref()).await;
        let entitlement = refreshed.map_err(Problem::from_checkout_refresh)?;
        Ok(Json(Subscription::new(&caller.tenant, &entitlement, caller.may_manage)))
    }
}

impl CheckoutSessionRequest {
    fn parse(self) -> Result<CheckoutRequest, Problem> {
        let plan = self.plan.as_deref().map(PlanName::parse).transpose();
        Ok(CheckoutRequest {
            plan: plan.map_err(|error| Problem::new(Code::InvalidRequest, format!("`plan` is {error}.")))?,
            success_path: return_path("success_path", self.success_path.as_deref(), SUCCESS_PATH)?,
            cancel_path: return_path("cancel_path", self.cancel_path.as_deref(), CANCEL_PATH)?,
        })
    }
}
