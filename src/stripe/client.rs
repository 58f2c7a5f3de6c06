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

use super::error::{REPLAYED, Rejection, StripeError};
use crate::domain::api_base::ApiBase;
use crate::domain::mode::Mode;
use crate::domain::secret_key::SecretKey;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::{BillingAttributes, Whose};

/// The API version that async-stripe's requests are made for. Pinned, so that an account's own default cannot change
/// what we are answered.
pub(super) const API_VERSION: &str = "2026-09-30.endive";

/// Tries in all: Stripe's own SDKs make two retries.
const TRIES: u32 = 3;

/// Long enough for Stripe's slowest calls, short enough to leave time for another try.
const ATTEMPT: Duration = Duration::from_secs(5);

const CONNECT: Duration = Duration::from_secs(3);

/// The largest reply that is read: a page of a hundred events with their objects.
const REPLY_BYTES: usize = 8 * 1024 * 1024;

/// Stripe's SDKs wait 0.5 s before the first retry, twice as long before each further one, and 5 s at most.
const BACKOFF: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(5);

/// Stripe takes 25 requests a second of one kind, in a sandbox of all kinds together
/// (<https://docs.stripe.com/rate-limits>): two replicas in full work, or one and a reconcile, leave room for people.
const PACED_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// By when an answer is wanted, however many requests it takes.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline from now.
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A connection to Stripe's API. Cheap to clone.
#[derive(Clone)]
pub struct Stripe {
    connection: Arc<Connection>,
    /// Whether each request waits for the budget.
    is_paced: bool,
    /// On whose behalf requests are made, as their spans say.
    whose: Whose,
}

struct Connection {
    http: reqwest::Client,
    base: Url,
    key: SecretKey,
    /// What requests that nobody waits for may take of Stripe's limits.
    budget: DefaultDirectRateLimiter,
    metrics: Metrics,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripe({}, {:?})", self.connection.base, self.connection.key)
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) body: Vec<u8>,
    pub(super) request_id: Option<String>,
    /// Stripe's clock when it answered, in whole Unix seconds.
    pub(super) answered_at: Option<i64>,
}

/// One try's end: an answer, or a failure that another try may mend.
enum Attempt {
    Done(Result<Reply, StripeError>),
    Again { failure: StripeError, after: Option<Duration> },
}

impl Attempt {
    fn error(&self) -> Option<&'static str> {
        match self {
            Self::Done(result) => result.as_ref().err().map(StripeError::class),
            Self::Again { failure, .. } => Some(failure.class()),
        }
    }
}

impl Stripe {
    /// Makes a client. Redirects are not followed: Stripe's API has none, and the key must not travel.
    pub fn new(base: ApiBase, key: SecretKey, metrics: Metrics) -> Result<Self, reqwest::Error> {
        let base = base.into_url();
        let http = reqwest::Client::builder()
            .user_agent(concat!("billhook/", env!("CARGO_PKG_VERSION")))
            .https_only(base.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()?;
        let budget = RateLimiter::direct(Quota::per_second(PACED_PER_SECOND).allow_burst(NonZeroU32::MIN));
        let connection = Connection { http, base, key, budget, metrics };
        Ok(Self { connection: Arc::new(connection), is_paced: false, whose: Whose::default() })
    }

    /// The key's mode.
    pub fn mode(&self) -> Mode {
        self.connection.key.mode()
    }

    /// The same connection for work that nobody waits for: each of its requests, the retries too, first waits for the
    /// budget that all such work shares.
    #[must_use]
    pub fn paced(&self) -> Self {
        Self { is_paced: true, ..self.clone() }
    }

    /// The same connection, for requests on somebody's behalf.
    #[must_use]
    pub fn on_behalf_of(&self, whose: Whose) -> Self {
        Self { whose, ..self.clone() }
    }

    /// Sends a request until it is answered, refused, or out of time. `operation` is its method and its path with the
    /// ids left out, for spans and metrics. Every try of a POST bears the same idempotency key, unless Stripe keeps a failure
    /// under it: the next try bears another.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        deadline: Deadline,
    ) -> Result<Reply, StripeError> {
        for _ in 1..TRIES {
            match self.send_with_key(operation, &request, &fresh_key(), deadline).await {
                Err(error) if error.is_replayed() => {}
                sent => return sent,
            }
        }
        self.send_with_key(operation, &request, &fresh_key(), deadline).await
    }

    /// The same under one idempotency key: a failure that Stripe keeps under it is returned.
    pub(super) async fn send_with_key(
        &self,
        operation: &'static str,
        request: &RequestBuilder,
        idempotency_key: &str,
        deadline: Deadline,
    ) -> Result<Reply, StripeError> {
        let (mut tries, mut deadline) = (0, deadline);
        loop {
            if self.is_paced {
                let began = Instant::now();
                self.connection.budget.until_ready().await;
                deadline.0 += began.elapsed();
            }
            let (span, began) = (self.span(operation, tries), Instant::now());
            let attempt = self.attempt(request, idempotency_key, deadline).instrument(span).await;
            self.connection.metrics.stripe_request(operation, attempt.error(), began.elapsed());
            let (failure, after) = match attempt {
                Attempt::Done(result) => return result,
                Attempt::Again { failure, after } => (failure, after),
            };
            tries += 1;
            let pause = after.unwrap_or_default().max(backoff(tries));
            if tries == TRIES || pause >= deadline.remaining() {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, request: &RequestBuilder, idempotency_key: &str, deadline: Deadline) -> Attempt {
        let unavailable = |what, request_id| StripeError::Unavailable { what, request_id };
        let timeout = ATTEMPT.min(deadline.remaining());
        let sent = match self.request(request, idempotency_key).timeout(timeout).send().await {
            Ok(response) => response,
            Err(error) => {
                let what = if error.is_timeout() { "timeout" } else { "no_connection" };
                // The URL may bear a session's id; the causes below it say what failed: the name, TLS, the port.
                let error = error.without_url();
                tracing::warn!(error = ?error, "Stripe cannot be reached");
                Span::current().record("error.type", what);
                return Attempt::Again { failure: unavailable(what, None), after: None };
            }
        };
        let status = sent.status();
        let headers = sent.headers().clone();
        let request_id = text_of(&headers, "request-id");
        record(status, request_id.as_deref());
        let Some(body) = read_bounded(sent).await else {
            let failure = unavailable("broken_reply", request_id);
            return Attempt::Again { failure, after: None };
        };
        if status.is_success() {
            let answered_at = date_of(&headers);
            return Attempt::Done(Ok(Reply { body, request_id, answered_at }));
        }
        let failure = if status.is_server_error() && headers.contains_key("idempotent-replayed") {
            // Stripe keeps the answer to an idempotency key for a day: trying again gets the same failure again.
            tracing::error!(
                request_id,
                "Stripe replays an earlier failure of this request, and will for a day"
            );
            return Attempt::Done(Err(unavailable(REPLAYED, request_id)));
        } else if status.is_server_error() {
            unavailable("server_error", request_id)
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            unavailable("rate_limited", request_id)
        } else {
            StripeError::Rejected(Rejection::read(status.as_u16(), &body, request_id))
        };
        if should_retry(status, &headers) {
            Attempt::Again { failure, after: retry_after(&headers) }
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

    /// By OpenTelemetry's stable conventions (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>),
    /// but for `url.full`: a path may bear a session's id, and whoever has that may be able to pay with it.
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
        self.whose.attributes().record(&span);
        span
    }
}

/// A key for one call and its retries.
fn fresh_key() -> String {
    format!("billhook-{}", uuid::Uuid::new_v4())
}

fn record(status: StatusCode, request_id: Option<&str>) {
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

async fn read_bounded(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > REPLY_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// RFC 9110's date, which RFC 2822's grammar reads once its zone is a number.
fn date_of(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get("date")?.to_str().ok()?.replace("GMT", "+0000");
    OffsetDateTime::parse(&date, &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

/// Stripe's own word decides first; without it a conflict or a server error is worth another try, and a rate limit
/// is not (<https://docs.stripe.com/error-low-level>).
fn should_retry(status: StatusCode, headers: &HeaderMap) -> bool {
    match headers.get("stripe-should-retry").map(HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => status == StatusCode::CONFLICT || status.is_server_error(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text_of(headers, "retry-after")?.parse().ok().map(Duration::from_secs)
}

/// Half to the whole of the pause, by chance, so that replicas do not return in step; never less than the first.
fn backoff(tries: u32) -> Duration {
    let pause = BACKOFF.saturating_mul(1 << (tries - 1).min(8)).min(BACKOFF_CAP);
    let chance = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    (pause / 2 + pause / 2 * chance / 255).max(BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_date_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Tue, 14 Nov 2023 22:13:20 GMT"));
        assert_eq!(date_of(&headers), Some(1_700_000_000));
    }

    #[test]
    fn stripes_word_on_retries_comes_before_the_status() {
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
    fn pauses_grow_to_a_cap_and_are_never_in_step() {
        for (tries, most) in [(1, 500), (2, 1000), (4, 4000), (5, 5000), (40, 5000)] {
            let pause = backoff(tries);
            assert!(
                pause <= Duration::from_millis(most) && pause >= Duration::from_millis(most / 2),
                "{pause:?}"
            );
        }
    }
}
