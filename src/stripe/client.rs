//! The transport under the typed requests.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use stripe_client_core::{RequestBuilder, StripeMethod};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};

use super::error::{Rejection, StripeError};
use crate::domain::mode::Mode;
use crate::telemetry::spans;

/// The API version that async-stripe's requests are made for. Pinned, so that an account's own default cannot change
/// what we are answered.
const API_VERSION: &str = "2026-09-30.endive";

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

/// Stripe's secret key. It cannot be printed, and it knows its mode.
#[derive(Clone)]
pub struct SecretKey {
    key: SecretString,
    mode: Mode,
}

/// Why a text is not a key we can use. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// A publishable key, which cannot do what we do.
    #[error("is a publishable key: use a secret key (`sk_...`) or a restricted key (`rk_...`)")]
    Publishable,
    /// Anything else.
    #[error("is not a Stripe secret key (`sk_test_...`, `sk_live_...`, `rk_test_...` or `rk_live_...`)")]
    Unknown,
}

impl SecretKey {
    /// Reads a secret or restricted key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.starts_with("pk_") {
            return Err(InvalidKey::Publishable);
        }
        let kinds = [
            ("sk_test_", Mode::Test),
            ("rk_test_", Mode::Test),
            ("sk_live_", Mode::Live),
            ("rk_live_", Mode::Live),
        ];
        let named = |(prefix, _): &(&str, Mode)| {
            text.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()))
        };
        let (_, mode) = kinds.into_iter().find(named).ok_or(InvalidKey::Unknown)?;
        Ok(Self { key: text.into(), mode })
    }

    /// Test or live.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, ..)", self.mode)
    }
}

/// Where Stripe's API is.
#[derive(Debug, Clone)]
pub struct ApiBase(Url);

/// Why a text is not a usable base. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiBase {
    /// Not a URL of an HTTP server.
    #[error("is not a URL of the form `https://host[:port]`")]
    NotAUrl,
    /// The key would travel in the clear.
    #[error(
        "is plain http to a host that is not loopback, where the key would travel in the clear: use https"
    )]
    PlainHttp,
}

impl ApiBase {
    /// Reads a base URL: `https`, or plain `http` to loopback.
    pub fn parse(text: &str) -> Result<Self, InvalidApiBase> {
        let url = Url::parse(text).map_err(|_| InvalidApiBase::NotAUrl)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidApiBase::NotAUrl);
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => Err(InvalidApiBase::PlainHttp),
            _ => Err(InvalidApiBase::NotAUrl),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

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
    http: reqwest::Client,
    base: Url,
    key: SecretKey,
    /// What requests that nobody waits for may take of Stripe's limits.
    budget: Arc<DefaultDirectRateLimiter>,
    /// Whether each request waits for the budget.
    is_paced: bool,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripe({}, {:?})", self.base, self.key)
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

impl Stripe {
    /// Makes a client. Redirects are not followed: Stripe's API has none, and the key must not travel.
    pub fn new(base: ApiBase, key: SecretKey) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("billhook/", env!("CARGO_PKG_VERSION")))
            .https_only(base.0.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()?;
        let budget =
            Arc::new(RateLimiter::direct(Quota::per_second(PACED_PER_SECOND).allow_burst(NonZeroU32::MIN)));
        Ok(Self { http, base: base.0, key, budget, is_paced: false })
    }

    /// The key's mode.
    pub fn mode(&self) -> Mode {
        self.key.mode()
    }

    /// The same connection for work that nobody waits for: each of its requests, the retries too, first waits for the
    /// budget that all such work shares.
    #[must_use]
    pub fn paced(&self) -> Self {
        Self { is_paced: true, ..self.clone() }
    }

    /// Sends a request until it is answered, refused, or out of time. `template` is the path with its ids left out,
    /// for the span. Every try of a POST bears the same idempotency key.
    pub(super) async fn send(
        &self,
        template: &'static str,
        request: RequestBuilder,
        idempotency_key: &str,
        deadline: Deadline,
    ) -> Result<Reply, StripeError> {
        let (mut tries, mut deadline) = (0, deadline);
        loop {
            if self.is_paced {
                let began = Instant::now();
                self.budget.until_ready().await;
                deadline.0 += began.elapsed();
            }
            let span = self.span(template, &request, tries);
            let attempt = self.attempt(&request, idempotency_key, deadline).instrument(span.clone()).await;
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
            return Attempt::Done(Err(unavailable("replayed_server_error", request_id)));
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
        let mut url = self.base.clone();
        url.set_path(&format!("/v1{}", request.path));
        url.set_query(request.query.as_deref().filter(|query| !query.is_empty()));
        let sent = self
            .http
            .request(method(request.method), url)
            .bearer_auth(self.key.key.expose_secret())
            .header("Stripe-Version", API_VERSION);
        match request.method {
            StripeMethod::Post => sent
                .header("Idempotency-Key", idempotency_key)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(request.body.clone().unwrap_or_default()),
            StripeMethod::Get | StripeMethod::Delete => sent,
        }
    }

    fn span(&self, template: &'static str, request: &RequestBuilder, resend_count: u32) -> Span {
        let method = method(request.method);
        let span = tracing::info_span!(
            "stripe request",
            otel.name = format!("{method} {template}"),
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.request.method = %method,
            url.template = template,
            server.address = self.base.host_str(),
            server.port = self.base.port_or_known_default(),
            http.response.status_code = field::Empty,
            http.request.resend_count = field::Empty,
            billing.stripe.request.id = field::Empty,
            error.r#type = field::Empty,
        );
        if resend_count > 0 {
            span.record("http.request.resend_count", resend_count);
        }
        span
    }
}

fn record(status: StatusCode, request_id: Option<&str>) {
    let span = Span::current();
    span.record("http.response.status_code", status.as_u16());
    if let Some(request_id) = request_id {
        let attributes = spans::BillingAttributes { request_id: Some(request_id), ..Default::default() };
        attributes.record(&span);
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
    fn a_key_knows_its_mode_and_cannot_be_printed() {
        for (text, mode) in [
            ("sk_test_canary", Mode::Test),
            ("rk_test_canary", Mode::Test),
            ("sk_live_canary", Mode::Live),
            ("rk_live_canary", Mode::Live),
        ] {
            let key = SecretKey::parse(text).expect(text);
            assert_eq!(key.mode(), mode);
            assert!(!format!("{key:?}").contains("canary"));
        }
        assert_eq!(SecretKey::parse("pk_test_1").err(), Some(InvalidKey::Publishable));
        for bad in ["", "sk_test_", "sk_1", "whsec_1", "sk_test_a b"] {
            assert_eq!(SecretKey::parse(bad).err(), Some(InvalidKey::Unknown), "{bad}");
        }
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for good in
            ["https://api.stripe.com", "http://127.0.0.1:12111", "http://localhost:1/", "http://[::1]:12111"]
        {
            assert!(ApiBase::parse(good).is_ok(), "{good}");
        }
        assert_eq!(ApiBase::parse("http://stripe.example").err(), Some(InvalidApiBase::PlainHttp));
        for bad in
            ["", "api.stripe.com", "ftp://127.0.0.1", "https://u:p@host", "https://host/v1", "https://host?a"]
        {
            assert_eq!(ApiBase::parse(bad).err(), Some(InvalidApiBase::NotAUrl), "{bad}");
        }
    }

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
