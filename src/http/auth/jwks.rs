//! Fetches an issuer's keys (JWKS): at the start, when they get old, and when a token names an
//! unknown key.
//!
//! One task does all fetches. So there is never more than one at a time, and never one sooner than
//! [`MIN_FETCH_INTERVAL`] after the last, whatever tokens clients send.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_LENGTH};
use reqwest::{StatusCode, Url};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tracing::{Instrument, Span, field};

use crate::clock::Clock;
use crate::domain::jwks_url::JwksUrl;
use crate::domain::token::{InvalidJwkSet, JwkSet, PublicAlgorithm, VerificationKeys};
use crate::telemetry::metrics::Metrics;

/// How long a new key can stay unknown, and how often tokens with invented key ids can cause a
/// fetch.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(30);

/// After this time the keys are fetched again. A withdrawn key can be accepted for this long.
const MAX_AGE: Duration = Duration::from_mins(10);

/// How often the age is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For a whole fetch including the body. Requests may be waiting for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for a fetch: slightly longer than [`FETCH_TIMEOUT`].
const WAIT_TIMEOUT: Duration = Duration::from_secs(6);

/// Enough for 64 keys with a certificate chain each: more than ten times what the largest issuers
/// publish.
const MAX_BODY_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum FetchError {
    #[error("timed out")]
    Timeout,
    #[error("could not connect")]
    NoConnection,
    #[error("status {0} (redirects are not followed)")]
    Status(u16),
    #[error("the response is too large")]
    TooLarge,
    #[error("the response ended early")]
    Broken,
    #[error(transparent)]
    Invalid(#[from] InvalidJwkSet),
}

impl FetchError {
    /// The label in metrics and spans.
    fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NoConnection => "no_connection",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Broken => "broken_reply",
            Self::Invalid(InvalidJwkSet::NotAJwkSet) => "not_a_key_set",
            Self::Invalid(InvalidJwkSet::TooManyKeys) => "too_many_keys",
        }
    }
}

#[derive(Clone)]
pub(super) struct CachedKeys {
    /// Empty before the first successful fetch.
    pub(super) keys: Arc<VerificationKeys>,
    /// Whether the last fetch succeeded. If so, a key that is not among them is not the issuer's.
    pub(super) is_current: bool,
    /// SHA-256 of the response body.
    digest: Option<[u8; 32]>,
    /// The last successful fetch, in milliseconds of the steady clock.
    fetched_ms: Option<i64>,
    /// The end of the last fetch, in milliseconds of the steady clock.
    last_attempt_ms: Option<i64>,
    attempts: u64,
    is_fetching: bool,
}

pub(super) struct Jwks {
    http: reqwest::Client,
    url: Url,
    algorithm: PublicAlgorithm,
    cached: watch::Sender<CachedKeys>,
    /// Notified when a token names an unknown key.
    fetch_request: Notify,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Jwks {
    /// Fails if the HTTP client cannot be built. Redirects are not followed: keys come only from
    /// the configured URL.
    pub(super) fn new(
        url: JwksUrl,
        algorithm: PublicAlgorithm,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, reqwest::Error> {
        let url = url.into_url();
        let http = reqwest::Client::builder()
            .user_agent(concat!("billhook/", env!("CARGO_PKG_VERSION")))
            .https_only(url.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(FETCH_TIMEOUT)
            .build()?;
        let (cached, _) = watch::channel(CachedKeys {
            keys: Arc::new(VerificationKeys::empty(algorithm)),
            is_current: false,
            digest: None,
            fetched_ms: None,
            last_attempt_ms: None,
            attempts: 0,
            is_fetching: false,
        });
        Ok(Self { http, url, algorithm, cached, fetch_request: Notify::new(), clock, metrics })
    }

    pub(super) fn cached(&self) -> CachedKeys {
        self.cached.borrow().clone()
    }

    pub(super) fn has_fetched(&self) -> bool {
        self.cached.borrow().fetched_ms.is_some()
    }

    /// The keys after another fetch, or the cached ones if the last fetch was too recent.
    pub(super) async fn refetch(&self) -> CachedKeys {
        let mut cached = self.cached.subscribe();
        let before = cached.borrow_and_update().clone();
        if !before.is_fetching && self.seconds_to_next_fetch(&before) > 0 {
            return before;
        }
        self.fetch_request.notify_one();
        let fetched = cached.wait_for(|now| now.attempts > before.attempts);
        match tokio::time::timeout(WAIT_TIMEOUT, fetched).await {
            Ok(Ok(now)) => now.clone(),
            Ok(Err(_)) | Err(_) => CachedKeys { is_current: false, ..before },
        }
    }

    pub(super) fn seconds_to_next_fetch(&self, cached: &CachedKeys) -> u64 {
        let Some(last_attempt_ms) = cached.last_attempt_ms else { return 0 };
        let left = MIN_FETCH_INTERVAL.saturating_sub(self.elapsed_since(last_attempt_ms));
        left.as_millis().div_ceil(1000).try_into().unwrap_or(MIN_FETCH_INTERVAL.as_secs())
    }

    /// Fetches the keys when they are too old or a fetch is requested. Never returns.
    pub(super) async fn run(&self) {
        let mut is_requested = false;
        loop {
            if self.is_due(is_requested) {
                self.refresh().await;
            }
            is_requested = tokio::time::timeout(CHECK_INTERVAL, self.fetch_request.notified()).await.is_ok();
        }
    }

    fn is_due(&self, is_requested: bool) -> bool {
        let cached = self.cached.borrow();
        let is_old = cached.fetched_ms.is_none_or(|fetched_ms| self.elapsed_since(fetched_ms) >= MAX_AGE);
        self.seconds_to_next_fetch(&cached) == 0 && (is_requested || is_old || !cached.is_current)
    }

    fn elapsed_since(&self, then_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.steady_ms() - then_ms).unwrap_or_default())
    }

    async fn refresh(&self) {
        self.cached.send_modify(|cached| cached.is_fetching = true);
        let fetched = self.fetch().instrument(self.fetch_span()).await;
        let now_ms = self.clock.steady_ms();
        let outcome = fetched.as_ref().map_or_else(|error| error.as_str(), |_| "success");
        if fetched.is_ok() {
            self.metrics.set_token_keys_fetched(self.clock.now_seconds());
        }
        self.cached.send_modify(|cached| {
            cached.is_fetching = false;
            cached.last_attempt_ms = Some(now_ms);
            cached.attempts += 1;
            match fetched {
                Ok((set, digest)) => {
                    if cached.digest != Some(digest) {
                        log_key_set(&set);
                    }
                    cached.keys = Arc::new(set.keys);
                    cached.digest = Some(digest);
                    cached.fetched_ms = Some(now_ms);
                    cached.is_current = true;
                }
                Err(error) => {
                    let age_seconds = cached.fetched_ms.map(|fetched_ms| self.elapsed_since(fetched_ms).as_secs());
                    tracing::warn!(%error, age_seconds, "could not fetch the issuer's keys from BILLHOOK_JWT_JWKS_URL");
                    cached.is_current = false;
                }
            }
        });
        self.metrics.token_key_fetch(outcome);
    }

    async fn fetch(&self) -> Result<(JwkSet, [u8; 32]), FetchError> {
        let fetched = self.fetch_body().await.and_then(|body| {
            let set = JwkSet::read(&body, self.algorithm)?;
            Ok((set, Sha256::digest(&body).into()))
        });
        if let Err(error) = &fetched {
            Span::current().record("error.type", error.as_str());
            Span::current().record("otel.status_code", "ERROR");
        }
        fetched
    }

    async fn fetch_body(&self) -> Result<Vec<u8>, FetchError> {
        let request = self.http.get(self.url.clone());
        let sent = request.header(ACCEPT, "application/jwk-set+json, application/json").send().await;
        let mut response = sent.map_err(|error| {
            // The URL may contain secrets. The error's causes still say what failed: DNS, TLS or
            // the port.
            let error = error.without_url();
            tracing::debug!(error = ?error, "could not request the issuer's keys");
            if error.is_timeout() { FetchError::Timeout } else { FetchError::NoConnection }
        })?;
        Span::current().record("http.response.status_code", response.status().as_u16());
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let content_length =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if content_length.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
            return Err(FetchError::TooLarge);
        }
        let mut body = Vec::new();
        let broken = |error: reqwest::Error| {
            if error.is_timeout() { FetchError::Timeout } else { FetchError::Broken }
        };
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Follows OpenTelemetry's conventions for HTTP clients, without `url.full`. The span has a
    /// trace of its own, since no single request causes the fetch.
    fn fetch_span(&self) -> Span {
        tracing::info_span!(
            parent: None,
            "fetch token keys",
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.request.method = "GET",
            http.response.status_code = field::Empty,
            server.address = self.url.host_str(),
            server.port = self.url.port_or_known_default(),
            error.r#type = field::Empty,
        )
    }
}

/// Called when the published keys have changed.
fn log_key_set(set: &JwkSet) {
    let (keys, unfit) = (set.keys.len(), set.unusable);
    if set.private > 0 {
        let private = set.private;
        tracing::error!(
            private,
            "ignoring private keys that the issuer publishes; anyone can sign tokens with them"
        );
    }
    if set.keys.is_empty() {
        tracing::error!(unfit, "rejecting every token: no key of the issuer is for BILLHOOK_JWT_ALGORITHM");
    } else {
        tracing::info!(keys, unfit, "fetched the issuer's keys");
    }
}
