//! The one place that turns errors into answers: RFC 9457 problem details with a stable `code`.
//!
//! Made here and not by a crate: poem-openapi knows no media type but its own for an error, and a crate for problem details
//! would still need the table of codes, which is most of this file.
//!
//! A problem says what to do next and nothing of the cause, which goes to the log. What Stripe said is never passed on.

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

use crate::billing::{BillingError, CheckoutFailed, NotOpened};
use crate::domain::journey::{JourneyId, Traceparent};
use crate::store::{StoreError, StoreFailure};
use crate::stripe::StripeError;
use crate::telemetry::spans;

/// RFC 9457's media type.
const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong, in a word that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Code {
    /// The request does not make sense; the detail says why.
    InvalidRequest,
    /// The webhook is not signed by one of our secrets, or too long ago.
    InvalidSignature,
    /// The webhook is signed, but no event.
    UnreadableEvent,
    /// There is no valid token.
    NotAuthenticated,
    /// The token is valid, but not for this.
    NotAllowed,
    /// There is nothing here.
    NotFound,
    /// There is something here, but not for this method.
    MethodNotAllowed,
    /// The tenant has no customer at Stripe yet.
    NoCustomer,
    /// The tenant has no subscription that can be changed.
    NoSubscription,
    /// The tenant has a subscription that another one would double.
    AlreadySubscribed,
    /// The body is too large.
    TooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// Too many requests of this tenant.
    Throttled,
    /// A defect of ours.
    Internal,
    /// Stripe refused what we asked.
    StripeRejected,
    /// Stripe did not answer in time.
    StripeUnavailable,
    /// Billing is not set up to do this yet.
    BillingNotConfigured,
    /// Our database, or what else it takes, is not available.
    Unavailable,
}

/// What is fixed about a code.
struct Kind {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    /// What to do next, unless the place that reports the problem says it more exactly.
    advice: &'static str,
}

impl Code {
    /// The table of problems.
    #[rustfmt::skip]
    fn kind(self) -> Kind {
        let (code, status, title, advice) = match self {
            Self::InvalidRequest => ("invalid_request", StatusCode::BAD_REQUEST,
                "The request cannot be understood", "Look the operation up in /openapi.json."),
            Self::InvalidSignature => ("invalid_signature", StatusCode::BAD_REQUEST,
                "The signature is not valid", "Sign the raw body with this endpoint's secret, now."),
            Self::UnreadableEvent => ("unreadable_event", StatusCode::BAD_REQUEST,
                "The body is not a Stripe event", "Send snapshot events as Stripe makes them."),
            Self::NotAuthenticated => ("not_authenticated", StatusCode::UNAUTHORIZED,
                "A valid token is needed", "Send a token: `Authorization: Bearer ...`."),
            Self::NotAllowed => ("not_allowed", StatusCode::FORBIDDEN,
                "The token does not allow this", "Ask an owner of your organisation to do this, or to let you manage its billing."),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND,
                "There is nothing here", "Look the path up in /openapi.json."),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED,
                "This method is not allowed here", "Look the method up in /openapi.json."),
            Self::NoCustomer => ("no_customer", StatusCode::CONFLICT,
                "There is nothing to manage yet", "Start a checkout first: it makes the customer that can be managed."),
            Self::NoSubscription => ("no_subscription", StatusCode::CONFLICT,
                "There is no subscription", "Start a checkout first: there is no subscription to change."),
            Self::AlreadySubscribed => ("already_subscribed", StatusCode::CONFLICT,
                "There is a subscription already", "Open the customer portal instead: the subscription can be changed or paid there."),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large", "Send a smaller body."),
            Self::UnsupportedMediaType => ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be JSON", "Send `Content-Type: application/json`."),
            Self::Throttled => ("throttled", StatusCode::TOO_MANY_REQUESTS,
                "Too many requests", "Try again in a minute."),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong on our side", "Try again; if it persists, quote the trace id to whoever runs this service."),
            Self::StripeRejected => ("stripe_rejected", StatusCode::BAD_GATEWAY,
                "The payment provider refused the request", "Trying again will not help; quote the trace id to whoever runs this service."),
            Self::StripeUnavailable => ("stripe_unavailable", StatusCode::BAD_GATEWAY,
                "The payment provider does not answer", "Nothing was charged. Try again in a minute."),
            Self::BillingNotConfigured => ("billing_not_configured", StatusCode::SERVICE_UNAVAILABLE,
                "Billing is not set up yet", "Ask whoever runs this service to finish setting up billing."),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE,
                "The service is not available right now", "Try again in a few seconds."),
        };
        Kind { code, status, title, advice }
    }
}

/// An answer that is not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after_seconds: Option<u64>,
    /// Where to look, if it is not the trace that we are in.
    trace: Option<JourneyId>,
}

/// RFC 9457 problem details.
#[derive(Debug, Object)]
#[oai(rename = "Problem", example)]
struct ProblemBody {
    /// A URI that names the kind of problem.
    #[oai(rename = "type", validator(min_length = 1))]
    kind: String,
    /// The kind of problem in a sentence.
    #[oai(validator(min_length = 1))]
    title: String,
    /// The HTTP status.
    #[oai(validator(minimum(value = "400"), maximum(value = "599")))]
    status: u16,
    /// What to do next.
    #[oai(validator(min_length = 1))]
    detail: String,
    /// The kind of problem in a word that never changes.
    code: Code,
    /// The id to quote to support.
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
    /// A problem, and what to do next.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_seconds: None, trace: None }
    }

    /// Why nothing was learned of a checkout. Whoever asks may just have paid: what else is said of a silent Stripe, that
    /// nothing was charged, would be wrong here.
    pub fn of_checkout_refresh(error: BillingError) -> Self {
        match error {
            BillingError::Stripe(StripeError::Unavailable { .. }) => Self::new(
                Code::StripeUnavailable,
                "A payment that was made is not lost. Ask again in a minute.",
            ),
            other => other.into(),
        }
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// Names another trace than the one that we are in.
    #[must_use]
    pub fn in_trace(self, trace: JourneyId) -> Self {
        Self { trace: Some(trace), ..self }
    }

    fn body(&self) -> ProblemBody {
        let here = || spans::current_trace().map(Traceparent::journey_id);
        let Kind { code, status, title, .. } = self.code.kind();
        ProblemBody {
            kind: format!("urn:billhook:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            code: self.code,
            trace_id: self.trace.or_else(here).map(|trace| trace.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Json(self.body()).into_response();
        response.set_status(self.code.kind().status);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::NotAuthenticated {
            // RFC 9110, section 15.5.2: a 401 names the scheme that would be taken.
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
        Self::new(code, code.kind().advice)
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
            BillingError::SubscribedElsewhere => Self::new(
                Code::AlreadySubscribed,
                "This tenant has bought a subscription as another customer. Ask support to link it to that customer.",
            ),
            BillingError::UnknownCheckout => {
                Self::new(Code::NotFound, "The tenant has no checkout session of this id.")
            }
            BillingError::Stripe(error) if error.is_not_permitted() => Self::new(
                Code::BillingNotConfigured,
                "The service's Stripe key lacks a permission; quote the trace id to whoever runs this service.",
            ),
            BillingError::Stripe(StripeError::Rejected(_)) => Code::StripeRejected.into(),
            BillingError::Stripe(StripeError::Unavailable { .. }) => Code::StripeUnavailable.into(),
            BillingError::CatchingUp => Self::new(
                Code::Unavailable,
                "What was bought while the service was away is being read. Try again in a few seconds.",
            )
            .retry_after(RETRY_AFTER_SECONDS),
            BillingError::Outpaced => Self::new(Code::Unavailable, "Ask once, and wait for the answer.")
                .retry_after(RETRY_AFTER_SECONDS),
            BillingError::Store(error) => error.into(),
        }
    }
}

impl From<CheckoutFailed> for Problem {
    fn from(failed: CheckoutFailed) -> Self {
        Self::from(failed.error).in_trace(failed.trace)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        error.failure().into()
    }
}

impl From<StoreFailure> for Problem {
    fn from(failure: StoreFailure) -> Self {
        if failure == StoreFailure::Refused {
            return Code::Internal.into();
        }
        Self::from(Code::Unavailable).retry_after(RETRY_AFTER_SECONDS)
    }
}

impl From<NotOpened> for Problem {
    fn from(error: NotOpened) -> Self {
        match error {
            NotOpened::Crowded | NotOpened::TenantCrowded => {
                Self::new(Code::Unavailable, "Too many follow it already: ask for it now and then instead.")
                    .retry_after(CROWDED_RETRY_AFTER_SECONDS)
            }
            NotOpened::NotRead(failure) => failure.into(),
            NotOpened::Stopping => Self::from(Code::Unavailable).retry_after(RETRY_AFTER_SECONDS),
        }
    }
}

/// When to come back to where there was no room: pages are open for longer, and each can ask without a stream.
const CROWDED_RETRY_AFTER_SECONDS: u64 = 60;

/// When to come back to a database that was not there: it may be failing over.
const RETRY_AFTER_SECONDS: u64 = 5;

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(chars).chain(['.']).collect()
}

/// The problems that an operation can answer with, for the contract: each status once, with its codes.
pub trait Documented: Send + Sync + 'static {
    /// Status and codes.
    const PROBLEMS: &'static [(u16, &'static str)];
}

/// The headers of a problem, which are those of its status.
fn headers(status: u16) -> Vec<MetaHeader> {
    let header = |name: &str, description: &str, required, schema| {
        let (name, description) = (name.to_owned(), Some(description.to_owned()));
        let schema = MetaSchemaRef::Inline(Box::new(schema));
        vec![MetaHeader { name, description, required, deprecated: false, schema }]
    };
    let seconds = || MetaSchema { minimum: Some(1.0), ..MetaSchema::new("integer") };
    match status {
        401 => header("WWW-Authenticate", "The scheme that is taken.", true, MetaSchema::new("string")),
        429 => header("Retry-After", "After how many seconds to come back.", true, seconds()),
        503 => {
            let description = "After how many seconds to come back, where that is known.";
            header("Retry-After", description, false, seconds())
        }
        _ => Vec::new(),
    }
}

/// A problem as an operation's answer.
#[derive(Debug)]
pub struct Failure<D>(Problem, PhantomData<D>);

impl<D, E: Into<Problem>> From<E> for Failure<D> {
    fn from(error: E) -> Self {
        Self(error.into(), PhantomData)
    }
}

impl<D> IntoResponse for Failure<D>
where
    D: Send,
{
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<D> From<Failure<D>> for poem::Error {
    fn from(failure: Failure<D>) -> Self {
        failure.0.into()
    }
}

impl<D: Documented> ApiResponse for Failure<D> {
    fn meta() -> MetaResponses {
        let response = |(status, description): &(u16, &'static str)| MetaResponse {
            description,
            status: Some(*status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: CONTENT_TYPE,
                schema: <ProblemBody as Type>::schema_ref(),
            }],
            headers: headers(*status),
        };
        MetaResponses { responses: D::PROBLEMS.iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        <Json<ProblemBody> as Payload>::register(registry);
    }
}

/// Gives the framework's own errors the shape of ours. The matched route stays with the answer, for the span's name.
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
        return Problem::new(Code::NotFound, "Nothing can have this name.");
    }
    let code = match error.status() {
        StatusCode::UNAUTHORIZED => Code::NotAuthenticated,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        status if status.is_client_error() => Code::InvalidRequest,
        status => {
            tracing::error!(%status, %error, "a request failed inside the framework");
            Code::Internal
        }
    };
    code.into()
}

/// Gives a panic the shape of our other errors. What it said is in the log already.
pub(super) fn from_panic() -> Response {
    Problem::from(Code::Internal).into_response()
}

/// What takes too long to answer is told to come again.
pub(super) fn from_silence() -> Response {
    tracing::error!("an answer took too long");
    Problem::from(Code::Unavailable).retry_after(RETRY_AFTER_SECONDS).into_response()
}
