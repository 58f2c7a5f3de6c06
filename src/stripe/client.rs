//! The transport under the typed requests.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use stripe_client_core::{RequestBuilder, StripeMethod};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};

use super::error::{REPLAYED_FAILURE, Rejection, StripeError};
use crate::domain::api_base::ApiBase;
use crate::domain::mode::Mode;
use crate::domain::secret_key::SecretKey;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::{BillingAttributes, BillingContext};

/// The API version of async-stripe's requests. Pinned, so that an account's default version cannot
/// change the responses.
pub(super) const API_VERSION: &str = "2026-09-30.endive";

/// With one idempotency key: the first attempt and two retries, as in Stripe's own SDKs.
const MAX_SENDS_PER_KEY: u32 = 3;

/// A request gets another key only after Stripe has replayed a failure, so usually one is enough.
const MAX_KEYS: u32 = 3;

/// Long enough for Stripe's slowest calls, short enough to leave time for a retry.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Enough for a page of a hundred events with their objects.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// Stripe's SDKs wait 0.5 s before the first retry, twice as long before each further one, and 5 s
/// at most.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Stripe allows 25 requests per second per endpoint, or 25 in total in a sandbox
/// (<https://docs.stripe.com/rate-limits>). Two busy replicas, or one and a reconcile, leave room
/// for users' requests.
const THROTTLED_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// When a call gives up, however many requests it has sent.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Stripe {
    connection: Arc<Connection>,
    /// Whether each request waits for the rate limiter.
    is_throttled: bool,
    /// Tenant, customer and journey for the spans.
    context: BillingContext,
}

struct Connection {
    http: reqwest::Client,
    base: Url,
    key: SecretKey,
    /// Shared by all throttled requests.
    rate_limiter: DefaultDirectRateLimiter,
    metrics: Metrics,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripe({}, {:?})", self.connection.base, self.connection.key)
    }
}

/// A response with a 2xx status.
#[derive(Debug)]
pub(super) struct RawResponse {
    pub(super) body: Vec<u8>,
    pub(super) request_id: Option<String>,
    /// The `Date` header, in Unix seconds.
    pub(super) answered_at: Option<i64>,
}

/// The result of one attempt.
enum Attempt {
    Done(Result<RawResponse, StripeError>),
    Retry { failure: StripeError, after: Option<Duration> },
}

impl Attempt {
    fn error(&self) -> Option<&'static str> {
        match self {
            Self::Done(result) => result.as_ref().err().map(StripeError::class),
            Self::Retry { failure, .. } => Some(failure.class()),
        }
    }
}

impl Stripe {
    /// Does not follow redirects: Stripe's API has none, and the key must not be sent elsewhere.
    pub fn new(base: ApiBase, key: SecretKey, metrics: Metrics) -> Result<Self, reqwest::Error> {
        let base = base.into_url();
        let http = reqwest::Client::builder()
            .user_agent(concat!("billhook/", env!("CARGO_PKG_VERSION")))
            .https_only(base.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        let rate_limiter = RateLimiter::direct(
            Quota::per_second(THROTTLED_REQUESTS_PER_SECOND).allow_burst(NonZeroU32::MIN),
        );
        let connection = Connection { http, base, key, rate_limiter, metrics };
        Ok(Self { connection: Arc::new(connection), is_throttled: false, context: BillingContext::default() })
    }

    pub fn mode(&self) -> Mode {
        self.connection.key.mode()
    }

    /// The same client for background work. Each of its requests, including retries, first waits
    /// for the rate limiter that all background work shares.
    #[must_use]
    pub fn throttled(&self) -> Self {
        Self { is_throttled: true, ..self.clone() }
    }

    /// The same client, with `context` on the spans of its requests.
    #[must_use]
    pub fn with_span_context(&self, context: BillingContext) -> Self {
        Self { context, ..self.clone() }
    }

    /// Sends a request, with retries until the deadline. `operation` is its method and its path
    /// with placeholders for ids, for spans and metrics. Every attempt of a POST has the same
    /// idempotency key, unless Stripe replays a failure for it: then the next attempt gets a new
    /// key.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        deadline: Deadline,
    ) -> Result<RawResponse, StripeError> {
        let mut keys = 0;
        loop {
            let sent = self.send_with_key(operation, &request, &new_idempotency_key(), deadline).await;
            keys += 1;
            if keys == MAX_KEYS || !sent.as_ref().is_err_and(StripeError::is_replayed) {
                return sent;
            }
        }
    }

    /// Like [`Self::send`] with a fixed key: a failure that Stripe replays for it is returned.
    pub(super) async fn send_with_key(
        &self,
        operation: &'static str,
        request: &RequestBuilder,
        idempotency_key: &str,
        deadline: Deadline,
    ) -> Result<RawResponse, StripeError> {
        let (mut attempts, mut deadline) = (0, deadline);
        loop {
            if self.is_throttled {
                let started = Instant::now();
                self.connection.rate_limiter.until_ready().await;
                deadline.0 += started.elapsed();
            }
            let (span, started) = (self.span(operation, attempts), Instant::now());
            let attempt = self.attempt(request, idempotency_key, deadline).instrument(span).await;
            self.connection.metrics.stripe_request(operation, attempt.error(), started.elapsed());
            let (failure, after) = match attempt {
                Attempt::Done(result) => return result,
                Attempt::Retry { failure, after } => (failure, after),
            };
            attempts += 1;
            let pause = after.unwrap_or_default().max(backoff(attempts));
            if attempts == MAX_SENDS_PER_KEY || pause >= deadline.remaining() {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns none if the object does not exist.
    pub(super) async fn send_if_exists(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        deadline: Deadline,
    ) -> Result<Option<RawResponse>, StripeError> {
        match self.send(operation, request, deadline).await {
            Err(error) if error.is_missing() => Ok(None),
            sent => sent.map(Some),
        }
    }

    async fn attempt(&self, request: &RequestBuilder, idempotency_key: &str, deadline: Deadline) -> Attempt {
        let unavailable = |what, request_id| StripeError::Unavailable { what, request_id };
        let timeout = ATTEMPT_TIMEOUT.min(deadline.remaining());
        let response = match self.request(request, idempotency_key).timeout(timeout).send().await {
            Ok(response) => response,
            Err(error) => {
                let what = if error.is_timeout() { "timeout" } else { "no_connection" };
                // The URL may contain a session id. The causes say what failed: DNS, TLS or the
                // port.
                let error = error.without_url();
                tracing::warn!(error = ?error, "could not reach Stripe");
                Span::current().record("error.type", what);
                return Attempt::Retry { failure: unavailable(what, None), after: None };
            }
        };
        let status = response.status();
        let headers = response.headers().clone();
        let request_id = header_text(&headers, "request-id");
        record_status(status, request_id.as_deref());
        let Some(body) = read_body(response).await else {
            let failure = unavailable("broken_reply", request_id);
            return Attempt::Retry { failure, after: None };
        };
        if status.is_success() {
            let answered_at = parse_date(&headers);
            return Attempt::Done(Ok(RawResponse { body, request_id, answered_at }));
        }
        let failure = if status.is_server_error() && headers.contains_key("idempotent-replayed") {
            // Stripe keeps the response to an idempotency key for a day, so a retry would get the
            // same failure.
            tracing::error!(request_id, "Stripe replays an earlier failure of this request, for up to a day");
            return Attempt::Done(Err(unavailable(REPLAYED_FAILURE, request_id)));
        } else if status.is_server_error() {
            unavailable("server_error", request_id)
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            unavailable("rate_limited", request_id)
        } else {
            StripeError::Rejected(Rejection::read(status.as_u16(), &body, request_id))
        };
        if should_retry(status, &headers) {
            Attempt::Retry { failure, after: retry_after(&headers) }
        } else {
            Attempt::Done(Err(failure))
        }
    }

    fn request(&self, request: &RequestBuilder, idempotency_key: &str) -> reqwest::RequestBuilder {
        let Connection { http, base, key, .. } = &*self.connection;
        let mut url = base.clone();
        url.set_path(&format!("/v1{}", request.path));
        url.set_query(request.query.as_deref().filter(|query| !query.is_empty()));
        let sent = http
            .request(method(request.method), url)
            .bearer_auth(key.expose())
            .header("Stripe-Version", API_VERSION);
        match request.method {
            StripeMethod::Post => sent
                .header("Idempotency-Key", idempotency_key)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(request.body.clone().unwrap_or_default()),
            StripeMethod::Get | StripeMethod::Delete => sent,
        }
    }

    /// Follows OpenTelemetry's stable conventions
    /// (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>), but
    /// without `url.full`: a path may contain a session id, and a session id may be enough to pay.
    fn span(&self, operation: &'static str, resend_count: u32) -> Span {
        let (method, template) = operation.split_once(' ').unwrap_or(("_OTHER", operation));
        let base = &self.connection.base;
        let span = tracing::info_span!(
            "stripe request",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.request.method = method,
            url.template = template,
            server.address = base.host_str(),
            server.port = base.port_or_known_default(),
            http.response.status_code = field::Empty,
            http.request.resend_count = field::Empty,
            billing.stripe.request.id = field::Empty,
            error.r#type = field::Empty,
        );
        if resend_count > 0 {
            span.record("http.request.resend_count", resend_count);
        }
        self.context.attributes().record(&span);
        span
    }
}

fn new_idempotency_key() -> String {
    format!("billhook-{}", uuid::Uuid::new_v4())
}

fn record_status(status: StatusCode, request_id: Option<&str>) {
    let span = Span::current();
    span.record("http.response.status_code", status.as_u16());
    if let Some(request_id) = request_id {
        BillingAttributes { request_id: Some(request_id), ..BillingAttributes::default() }.record(&span);
    }
    if status.is_client_error() || status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
}

fn method(method: StripeMethod) -> Method {
    match method {
        StripeMethod::Get => Method::GET,
        StripeMethod::Post => Method::POST,
        StripeMethod::Delete => Method::DELETE,
    }
}

async fn read_body(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// RFC 9110's date format is RFC 2822's with `GMT` instead of a numeric zone.
fn parse_date(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get("date")?.to_str().ok()?.replace("GMT", "+0000");
    OffsetDateTime::parse(&date, &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

/// `Stripe-Should-Retry` decides if present. Otherwise a conflict or a server error is retried, and
/// a rate limit is not (<https://docs.stripe.com/error-low-level>).
fn should_retry(status: StatusCode, headers: &HeaderMap) -> bool {
    match headers.get("stripe-should-retry").map(HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => status == StatusCode::CONFLICT || status.is_server_error(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    header_text(headers, "retry-after")?.parse().ok().map(Duration::from_secs)
}

/// Half to the whole of the pause, at random, so that replicas do not retry in step. Never less
/// than [`FIRST_BACKOFF`].
fn backoff(attempts: u32) -> Duration {
    let pause = FIRST_BACKOFF.saturating_mul(1 << (attempts - 1).min(8)).min(MAX_BACKOFF);
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    (pause / 2 + pause / 2 * random / 255).max(FIRST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_date_is_read_as_unix_seconds() {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Tue, 14 Nov 2023 22:13:20 GMT"));
        assert_eq!(parse_date(&headers), Some(1_700_000_000));
    }

    #[test]
    fn should_retry_header_overrides_the_status() {
        let mut headers = HeaderMap::new();
        assert!(should_retry(StatusCode::CONFLICT, &headers));
        assert!(should_retry(StatusCode::BAD_GATEWAY, &headers));
        assert!(!should_retry(StatusCode::TOO_MANY_REQUESTS, &headers));
        headers.insert("stripe-should-retry", HeaderValue::from_static("true"));
        assert!(should_retry(StatusCode::TOO_MANY_REQUESTS, &headers));
        headers.insert("stripe-should-retry", HeaderValue::from_static("false"));
        assert!(!should_retry(StatusCode::BAD_GATEWAY, &headers));
    }

    #[test]
    fn backoff_grows_to_a_maximum() {
        for (attempts, most) in [(1, 500), (2, 1000), (4, 4000), (5, 5000), (40, 5000)] {
            let pause = backoff(attempts);
            assert!(
                pause <= Duration::from_millis(most) && pause >= Duration::from_millis(most / 2),
                "{pause:?}"
            );
        }
    }
}
