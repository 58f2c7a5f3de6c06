//! The one place that turns errors into answers: RFC 9457 problem details with a stable `code`.
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

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::InvalidSignature | Self::UnreadableEvent => StatusCode::BAD_REQUEST,
            Self::NotAuthenticated => StatusCode::UNAUTHORIZED,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoCustomer | Self::NoSubscription | Self::AlreadySubscribed => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StripeRejected | Self::StripeUnavailable => StatusCode::BAD_GATEWAY,
            Self::BillingNotConfigured | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidSignature => "invalid_signature",
            Self::UnreadableEvent => "unreadable_event",
            Self::NotAuthenticated => "not_authenticated",
            Self::NotAllowed => "not_allowed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NoCustomer => "no_customer",
            Self::NoSubscription => "no_subscription",
            Self::AlreadySubscribed => "already_subscribed",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Throttled => "throttled",
            Self::Internal => "internal",
            Self::StripeRejected => "stripe_rejected",
            Self::StripeUnavailable => "stripe_unavailable",
            Self::BillingNotConfigured => "billing_not_configured",
            Self::Unavailable => "unavailable",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request cannot be understood",
            Self::InvalidSignature => "The signature is not valid",
            Self::UnreadableEvent => "The body is not a Stripe event",
            Self::NotAuthenticated => "A valid token is needed",
            Self::NotAllowed => "The token does not allow this",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "This method is not allowed here",
            Self::NoCustomer => "There is nothing to manage yet",
            Self::NoSubscription => "There is no subscription",
            Self::AlreadySubscribed => "There is a subscription already",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body must be JSON",
            Self::Throttled => "Too many requests",
            Self::Internal => "Something went wrong on our side",
            Self::StripeRejected => "The payment provider refused the request",
            Self::StripeUnavailable => "The payment provider does not answer",
            Self::BillingNotConfigured => "Billing is not set up yet",
            Self::Unavailable => "The service is not available right now",
        }
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
        ProblemBody {
            kind: format!("urn:billhook:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone(),
            code: self.code,
            trace_id: self.trace.or_else(here).map(|trace| trace.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Json(self.body()).into_response();
        response.set_status(self.code.status());
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

impl From<BillingError> for Problem {
    fn from(error: BillingError) -> Self {
        match error {
            BillingError::NotConfigured(_) => Self::new(
                Code::BillingNotConfigured,
                "Ask whoever runs this service to finish setting up billing.",
            ),
            BillingError::InvalidRequest(why) => Self::new(Code::InvalidRequest, sentence(why)),
            BillingError::NotAllowed => Self::new(
                Code::NotAllowed,
                "Ask an owner of your organisation to do this, or to let you manage its billing.",
            ),
            BillingError::NoCustomer => Self::new(
                Code::NoCustomer,
                "Start a checkout first: it makes the customer that can be managed.",
            ),
            BillingError::NoSubscription => {
                Self::new(Code::NoSubscription, "Start a checkout first: there is no subscription to change.")
            }
            BillingError::AlreadySubscribed => Self::new(
                Code::AlreadySubscribed,
                "Open the customer portal instead: the subscription can be changed or paid there.",
            ),
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
            BillingError::Stripe(StripeError::Rejected(_)) => Self::new(
                Code::StripeRejected,
                "Trying again will not help; quote the trace id to whoever runs this service.",
            ),
            BillingError::Stripe(StripeError::Unavailable { .. }) => {
                Self::new(Code::StripeUnavailable, "Nothing was charged. Try again in a minute.")
            }
            BillingError::CatchingUp => Self::new(
                Code::Unavailable,
                "What was bought while the service was away is being read. Try again in a few seconds.",
            )
            .retry_after(RETRY_SECONDS),
            BillingError::Outpaced => {
                Self::new(Code::Unavailable, "Ask once, and wait for the answer.").retry_after(RETRY_SECONDS)
            }
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
            return Self::new(Code::Internal, DEFECT);
        }
        Self::new(Code::Unavailable, "Try again in a few seconds.").retry_after(RETRY_SECONDS)
    }
}

impl From<NotOpened> for Problem {
    fn from(error: NotOpened) -> Self {
        match error {
            NotOpened::Crowded | NotOpened::TenantCrowded => {
                Self::new(Code::Unavailable, "Too many follow it already: ask for it now and then instead.")
                    .retry_after(CROWDED_SECONDS)
            }
            NotOpened::NotRead(failure) => failure.into(),
            NotOpened::Stopping => {
                Self::new(Code::Unavailable, "Try again in a few seconds.").retry_after(RETRY_SECONDS)
            }
        }
    }
}

/// When to come back to where there was no room: pages are open for longer, and each can ask without a stream.
const CROWDED_SECONDS: u64 = 60;

/// What to do about a defect of ours.
const DEFECT: &str = "Try again; if it persists, quote the trace id to whoever runs this service.";

/// When to come back to a database that was not there: it may be failing over.
const RETRY_SECONDS: u64 = 5;

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
pub(super) async fn from_framework(error: poem::Error) -> Response {
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
    match error.status() {
        StatusCode::UNAUTHORIZED => {
            Problem::new(Code::NotAuthenticated, "Send a token: `Authorization: Bearer ...`.")
        }
        StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "Look the path up in /openapi.json."),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Code::MethodNotAllowed, "Look the method up in /openapi.json.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::TooLarge, "Send a smaller body."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::new(Code::UnsupportedMediaType, "Send `Content-Type: application/json`.")
        }
        status if status.is_client_error() => {
            Problem::new(Code::InvalidRequest, "Look the operation up in /openapi.json.")
        }
        status => {
            tracing::error!(%status, %error, "a request failed inside the framework");
            Problem::new(Code::Internal, DEFECT)
        }
    }
}

/// Gives a panic the shape of our other errors. What it said is in the log already.
pub(super) fn from_panic() -> Response {
    Problem::new(Code::Internal, DEFECT).into_response()
}

/// What takes too long to answer is told to come again.
pub(super) fn from_silence() -> Response {
    tracing::error!("an answer took too long");
    Problem::new(Code::Unavailable, "Try again in a few seconds.").retry_after(RETRY_SECONDS).into_response()
}
