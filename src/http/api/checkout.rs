//! `POST /api/billing/create-checkout-session/`, and `POST /api/billing/checkout-sessions/{session_id}/refresh/` for whoever
//! is back from there.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};

use super::subscription::Subscription;
use super::{ApiState, Tag, problems_of_an_action, return_path};
use crate::billing::{self, CheckoutWish, Operation};
use crate::domain::ids::{PlanName, SessionId};
use crate::http::auth::UserToken;
use crate::http::body::OptionalJson;
use crate::http::problem::{Code, Documented, Failure, Problem};

/// Where Stripe's page goes when it is paid; Stripe puts the session's id in.
const SUCCESS_PATH: &str = "/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}";

/// Where it goes when it is not.
const CANCEL_PATH: &str = "/billing?checkout=canceled";

/// Stripe's checkout.
pub(in crate::http) struct CheckoutApi;

/// What is to be bought.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields, example)]
struct CheckoutSessionRequest {
    /// The plan. Default: the first that is configured.
    plan: Option<String>,
    /// Where Stripe's page goes when it is paid: a path of the app, in which Stripe replaces `{CHECKOUT_SESSION_ID}`.
    /// Default: `/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}`.
    success_path: Option<String>,
    /// Where it goes when it is not: a path of the app. Default: `/billing?checkout=canceled`.
    cancel_path: Option<String>,
}

/// Where to pay.
#[derive(Debug, Object)]
#[oai(example)]
struct CheckoutSession {
    /// Send the browser there: whoever has this address can pay as the tenant.
    #[oai(validator(min_length = 1))]
    url: String,
    /// Stripe's id of the session.
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

impl Documented for CheckoutProblems {
    const PROBLEMS: &'static [(u16, &'static str)] =
        &problems_of_an_action("`already_subscribed` or `no_customer`");
}

struct RefreshProblems;

impl Documented for RefreshProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (404, "`not_found`: the tenant has no such session"),
        (429, "`throttled`; `Retry-After` says for how long"),
        (500, "`internal`"),
        (502, "`stripe_rejected` or `stripe_unavailable`"),
        (503, "`billing_not_configured` or `unavailable`"),
    ];
}

#[OpenApi(tag = "Tag::Billing")]
impl CheckoutApi {
    /// Start a checkout
    ///
    /// An open session that asks for the same is handed out again; one that asks for something else is closed first. For
    /// those who may manage the tenant's billing: `may_manage` of `getSubscription`.
    #[oai(
        path = "/api/billing/create-checkout-session/",
        method = "post",
        operation_id = "createCheckoutSession"
    )]
    async fn create(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        body: OptionalJson<CheckoutSessionRequest>,
    ) -> Result<Json<CheckoutSession>, Failure<CheckoutProblems>> {
        let UserToken(caller) = token;
        state.admit_manager(&caller, Operation::Checkout)?;
        let wish = body.read().await.and_then(CheckoutSessionRequest::into_wish);
        let wish = state.understand(&caller, Operation::Checkout, wish)?;
        let purchase = billing::create_checkout_session(&state.billing, &caller, wish).await?;
        Ok(Json(CheckoutSession { url: purchase.url, session_id: purchase.session.to_string() }))
    }

    /// Ask Stripe about a checkout
    ///
    /// For a buyer who is back before the webhook: takes over what the session made, and answers as `getSubscription`
    /// does. A session that is still open changes nothing, and asking twice is asking once.
    #[oai(
        path = "/api/billing/checkout-sessions/:session_id/refresh/",
        method = "post",
        operation_id = "refreshCheckoutSession"
    )]
    async fn refresh(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        /// Stripe's id of the session.
        session_id: Path<String>,
    ) -> Result<Json<Subscription>, Failure<RefreshProblems>> {
        let UserToken(caller) = token;
        state.admit(&caller)?;
        let session = SessionId::parse(&session_id.0).ok();
        let refreshed = billing::refresh_checkout_session(&state.billing, &caller, session.as_ref()).await;
        let entitlement = refreshed.map_err(Problem::of_checkout_refresh)?;
        Ok(Json(Subscription::new(&caller.tenant, &entitlement, caller.may_manage)))
    }
}

impl CheckoutSessionRequest {
    fn into_wish(self) -> Result<CheckoutWish, Problem> {
        let plan = self.plan.as_deref().map(PlanName::parse).transpose();
        Ok(CheckoutWish {
            plan: plan.map_err(|error| Problem::new(Code::InvalidRequest, format!("`plan` is {error}.")))?,
            success_path: return_path("success_path", self.success_path.as_deref(), SUCCESS_PATH)?,
            cancel_path: return_path("cancel_path", self.cancel_path.as_deref(), CANCEL_PATH)?,
        })
    }
}
