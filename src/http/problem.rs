//! Converts errors to responses: RFC 9457 problem details with a stable `code`.
//!
//! The detail says what is wrong and what to do. It never contains the cause, which is logged, or
//! text from Stripe.
//!
//! No crate does this: poem-openapi supports only its own media type for errors, and a
//! problem-details crate would still need the table of codes, which is most of this file.

use std::marker::PhantomData;

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, PathPattern, Response};
use poem_openapi::error::ParsePathError;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{Example, Type};
use poem_openapi::{ApiResponse, Enum, Object};

use crate::billing::{BillingError, CheckoutError, OpenStreamError};
use crate::domain::journey::{JourneyId, Traceparent};
use crate::store::{StoreError, StoreErrorKind};
use crate::stripe::StripeError;
use crate::telemetry::spans;

/// RFC 9457's media type.
const CONTENT_TYPE: &str = "application/problem+json";

/// The kind of problem. A code never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Code {
    InvalidRequest,
    InvalidSignature,
    UnreadableEvent,
    NotAuthenticated,
    NotAllowed,
    NotFound,
    MethodNotAllowed,
    NoCustomer,
    NoSubscription,
    AlreadySubscribed,
    TooLarge,
    UnsupportedMediaType,
    Throttled,
    Internal,
    StripeRejected,
    StripeUnavailable,
    BillingNotConfigured,
    Unavailable,
}

struct ProblemType {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    /// Used unless the place that reports the problem has a more specific detail.
    default_detail: &'static str,
}

impl Code {
    #[rustfmt::skip]
    fn problem_type(self) -> ProblemType {
        let (code, status, title, default_detail) = match self {
            Self::InvalidRequest => ("invalid_request", StatusCode::BAD_REQUEST,
                "The request is invalid", "The request is invalid. See the operation in /openapi.json."),
            Self::InvalidSignature => ("invalid_signature", StatusCode::BAD_REQUEST,
                "The signature is invalid", "The signature is invalid or too old. Sign the raw body with this endpoint's signing secret and the current time."),
            Self::UnreadableEvent => ("unreadable_event", StatusCode::BAD_REQUEST,
                "The body is not a Stripe event", "The body is not a Stripe event. Send Stripe snapshot events."),
            Self::NotAuthenticated => ("not_authenticated", StatusCode::UNAUTHORIZED,
                "A valid token is required", "The request has no bearer token. Send `Authorization: Bearer ...`."),
            Self::NotAllowed => ("not_allowed", StatusCode::FORBIDDEN,
                "The token does not allow this", "You may not manage billing. Ask an administrator of your organization to do this or to give you the permission."),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND,
                "Not found", "There is nothing at this path. See /openapi.json for the paths of this API."),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed", "This path does not support the method. See /openapi.json for its methods."),
            Self::NoCustomer => ("no_customer", StatusCode::CONFLICT,
                "There is no Stripe customer", "This tenant has no Stripe customer. Start a checkout to create one."),
            Self::NoSubscription => ("no_subscription", StatusCode::CONFLICT,
                "There is no subscription", "This tenant has no subscription to change. Start a checkout first."),
            Self::AlreadySubscribed => ("already_subscribed", StatusCode::CONFLICT,
                "There is already a subscription", "This tenant already has a subscription. Open the customer portal to change it or pay for it."),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large", "The body is too large. Send a smaller one."),
            Self::UnsupportedMediaType => ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be JSON", "The body must be JSON. Send `Content-Type: application/json`."),
            Self::Throttled => ("throttled", StatusCode::TOO_MANY_REQUESTS,
                "Too many requests", "Too many requests. Try again in a minute."),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error", "The request failed because of an internal error. Try again. If it fails again, send the trace id to the operator of this service."),
            Self::StripeRejected => ("stripe_rejected", StatusCode::BAD_GATEWAY,
                "The payment provider rejected the request", "The payment provider rejected the request. Trying again will not help. Send the trace id to the operator of this service."),
            Self::StripeUnavailable => ("stripe_unavailable", StatusCode::BAD_GATEWAY,
                "The payment provider does not respond", "The payment provider does not respond. This request charged nothing. Try again in a minute."),
            Self::BillingNotConfigured => ("billing_not_configured", StatusCode::SERVICE_UNAVAILABLE,
                "Billing is not set up yet", "Billing is not set up yet. Ask the operator of this service to finish the setup."),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE,
                "The service is temporarily unavailable", "The service is temporarily unavailable. Try again in a few seconds."),
        };
        ProblemType { code, status, title, default_detail }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after_seconds: Option<u64>,
    /// Replaces the current trace.
    trace: Option<JourneyId>,
}

/// RFC 9457 problem details.
#[derive(Debug, Object)]
#[oai(rename = "Problem", example)]
struct ProblemBody {
    /// A URI that identifies the kind of problem.
    #[oai(rename = "type", validator(min_length = 1))]
    kind: String,
    /// A short summary of the kind of problem.
    #[oai(validator(min_length = 1))]
    title: String,
    /// The HTTP status.
    #[oai(validator(minimum(value = "400"), maximum(value = "599")))]
    status: u16,
    /// What is wrong, and what to do.
    #[oai(validator(min_length = 1))]
    detail: String,
    /// The kind of problem. A code never changes.
    code: Code,
    /// The trace id. Include it when you contact support.
    #[oai(skip_serializing_if_is_none, validator(min_length = 32, max_length = 32))]
    trace_id: Option<String>,
}

impl Example for ProblemBody {
    fn example() -> Self {
        let trace_id = Some("cf5f3932217a6780037336f2da8e06da".to_owned());
        Self { trace_id, ..Problem::from(BillingError::NoCustomer).body() }
    }
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_seconds: None, trace: None }
    }

    /// For the refresh of a checkout session. The user may just have paid, so the default detail
    /// "This request charged nothing" could be misread.
    pub fn from_checkout_refresh(error: BillingError) -> Self {
        match error {
            BillingError::Stripe(StripeError::Unavailable { .. }) => Self::new(
                Code::StripeUnavailable,
                "The payment provider does not respond. A completed payment is not lost. Try again in a minute.",
            ),
            other => other.into(),
        }
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// Shows this trace's id instead of the current one.
    #[must_use]
    pub fn in_trace(self, trace: JourneyId) -> Self {
        Self { trace: Some(trace), ..self }
    }

    fn body(&self) -> ProblemBody {
        let current = || spans::current_trace().map(Traceparent::trace_id);
        let ProblemType { code, status, title, .. } = self.code.problem_type();
        ProblemBody {
            kind: format!("urn:billhook:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            code: self.code,
            trace_id: self.trace.or_else(current).map(|trace| trace.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Json(self.body()).into_response();
        response.set_status(self.code.problem_type().status);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::NotAuthenticated {
            // Required by RFC 9110, section 15.5.2.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Problem> for poem::Error {
    fn from(problem: Problem) -> Self {
        Self::from_response(problem.into_response())
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code, code.problem_type().default_detail)
    }
}

impl From<BillingError> for Problem {
    fn from(error: BillingError) -> Self {
        match error {
            BillingError::NotConfigured(_) => Code::BillingNotConfigured.into(),
            BillingError::InvalidRequest(why) => Self::new(Code::InvalidRequest, sentence(why)),
            BillingError::NotAllowed => Code::NotAllowed.into(),
            BillingError::NoCustomer => Code::NoCustomer.into(),
            BillingError::NoSubscription => Code::NoSubscription.into(),
            BillingError::AlreadySubscribed => Code::AlreadySubscribed.into(),
            BillingError::SubscribedAsOtherCustomer => Self::new(
                Code::AlreadySubscribed,
                "This tenant bought a subscription under another Stripe customer. Ask support to link the tenant to that customer.",
            ),
            BillingError::UnknownCheckout => {
                Self::new(Code::NotFound, "This tenant has no checkout session with this id.")
            }
            BillingError::Stripe(error) if error.is_not_permitted() => Self::new(
                Code::BillingNotConfigured,
                "The service's Stripe key lacks a permission. Send the trace id to the operator of this service.",
            ),
            BillingError::Stripe(StripeError::Rejected(_)) => Code::StripeRejected.into(),
            BillingError::Stripe(StripeError::Unavailable { .. }) => Code::StripeUnavailable.into(),
            BillingError::CatchingUp => Self::new(
                Code::Unavailable,
                "The service was down and is still reading missed events. Try again in a few seconds.",
            )
            .retry_after(RETRY_AFTER_SECONDS),
            BillingError::Contention => Self::new(
                Code::Unavailable,
                "The tenant's state changed during the request. Send one request at a time, and try again in a few seconds.",
            )
            .retry_after(RETRY_AFTER_SECONDS),
            BillingError::Store(error) => error.into(),
        }
    }
}

impl From<CheckoutError> for Problem {
    fn from(error: CheckoutError) -> Self {
        Self::from(error.error).in_trace(error.trace)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        error.kind().into()
    }
}

impl From<StoreErrorKind> for Problem {
    fn from(kind: StoreErrorKind) -> Self {
        if kind == StoreErrorKind::Rejected {
            return Code::Internal.into();
        }
        Self::from(Code::Unavailable).retry_after(RETRY_AFTER_SECONDS)
    }
}

impl From<OpenStreamError> for Problem {
    fn from(error: OpenStreamError) -> Self {
        match error {
            OpenStreamError::TooMany | OpenStreamError::TooManyOfTenant => {
                Self::new(Code::Unavailable, "Too many open streams. Poll the subscription endpoint instead.")
                    .retry_after(TOO_MANY_STREAMS_RETRY_AFTER_SECONDS)
            }
            OpenStreamError::Database(kind) => kind.into(),
            OpenStreamError::Stopping => Self::from(Code::Unavailable).retry_after(RETRY_AFTER_SECONDS),
        }
    }
}

/// Pages usually stay open for longer than this, and can poll instead.
const TOO_MANY_STREAMS_RETRY_AFTER_SECONDS: u64 = 60;

/// For an unavailable database, which may be failing over.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Adds an initial capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(chars).chain(['.']).collect()
}

/// The problems that an operation can return, for the OpenAPI document.
pub trait DocumentedProblems: Send + Sync + 'static {
    /// Each status once, with its codes.
    const PROBLEMS: &'static [(u16, &'static str)];
}

fn documented_headers(status: u16) -> Vec<MetaHeader> {
    let header = |name: &str, description: &str, required, schema| {
        let (name, description) = (name.to_owned(), Some(description.to_owned()));
        let schema = MetaSchemaRef::Inline(Box::new(schema));
        vec![MetaHeader { name, description, required, deprecated: false, schema }]
    };
    let seconds = || MetaSchema { minimum: Some(1.0), ..MetaSchema::new("integer") };
    match status {
        401 => header("WWW-Authenticate", "The supported scheme.", true, MetaSchema::new("string")),
        429 => header("Retry-After", "Seconds to wait before the next attempt.", true, seconds()),
        503 => header("Retry-After", "Seconds to wait before the next attempt, if known.", false, seconds()),
        _ => Vec::new(),
    }
}

/// A problem as the error response of an operation.
#[derive(Debug)]
pub struct ProblemResponse<D>(Problem, PhantomData<D>);

impl<D, E: Into<Problem>> From<E> for ProblemResponse<D> {
    fn from(error: E) -> Self {
        Self(error.into(), PhantomData)
    }
}

impl<D: Send> IntoResponse for ProblemResponse<D> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<D> From<ProblemResponse<D>> for poem::Error {
    fn from(response: ProblemResponse<D>) -> Self {
        response.0.into()
    }
}

impl<D: DocumentedProblems> ApiResponse for ProblemResponse<D> {
    fn meta() -> MetaResponses {
        let response = |(status, description): &(u16, &'static str)| MetaResponse {
            description,
            status: Some(*status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: CONTENT_TYPE,
                schema: <ProblemBody as Type>::schema_ref(),
            }],
            headers: documented_headers(*status),
        };
        MetaResponses { responses: D::PROBLEMS.iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        <Json<ProblemBody> as Payload>::register(registry);
    }
}

/// Converts poem's own errors to problems. The response keeps the matched route, which names the
/// span.
pub(super) fn from_framework(error: poem::Error) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let route = error.data::<PathPattern>().cloned();
    let mut response = framework_problem(&error).into_response();
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

fn framework_problem(error: &poem::Error) -> Problem {
    if error.is::<ParsePathError>() || error.is::<poem::error::ParsePathError>() {
        return Problem::new(Code::NotFound, "This path contains an invalid name.");
    }
    let code = match error.status() {
        StatusCode::UNAUTHORIZED => Code::NotAuthenticated,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        status if status.is_client_error() => Code::InvalidRequest,
        status => {
            tracing::error!(%status, %error, "poem could not handle a request");
            Code::Internal
        }
    };
    code.into()
}

/// For a panic, which is already logged.
pub(super) fn from_panic() -> Response {
    Problem::from(Code::Internal).into_response()
}

/// For a request that took too long.
pub(super) fn from_timeout() -> Response {
    tracing::error!("a request timed out");
    Problem::from(Code::Unavailable).retry_after(RETRY_AFTER_SECONDS).into_response()
}
