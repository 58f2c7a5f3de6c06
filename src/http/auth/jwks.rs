//! An issuer's keys, by URL: fetched at the start, kept fresh, and asked for again when a token names one that is not there.
//!
//! One task does all the fetching, so that there is never more than one fetch under way, and never one sooner than
//! [`FLOOR`] after the last, whatever tokens are sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_LENGTH};
use reqwest::{StatusCode, Url};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tracing::{Instrument, Span, field};

use crate::clock::Clock;
use crate::domain::jwks_url::JwksUrl;
use crate::domain::token::{InvalidKeySet, KeySet, Keys, PublicAlgorithm};
use crate::telemetry::metrics::Metrics;

/// The shortest time from one fetch to the next: so long a new key may take to be known, and so seldom can anybody who sends
/// tokens with invented key ids have the issuer asked.
const FLOOR: Duration = Duration::from_secs(30);

/// How old the keys may become: so long a key that was withdrawn may still be taken.
const MAX_AGE: Duration = Duration::from_mins(10);

/// How often the age is looked at.
const LOOK: Duration = Duration::from_secs(1);

const CONNECT: Duration = Duration::from_secs(3);

/// For all of a fetch, the body too. Somebody may be waiting for it.
const FETCH: Duration = Duration::from_secs(5);

/// How long a request waits for a fetch: a little longer than that may take.
const WAIT: Duration = Duration::from_secs(6);

/// 64 keys with a chain of certificates each, and more than ten times what the largest issuers publish.
const BODY_BYTES: usize = 256 * 1024;

/// Why there are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum FetchError {
    #[error("it did not answer in time")]
    Timeout,
    #[error("it cannot be reached")]
    NoConnection,
    #[error("it answered {0}, and redirects are not followed")]
    Status(u16),
    #[error("its answer is too large")]
    TooLarge,
    #[error("its answer broke off")]
    Broken,
    #[error(transparent)]
    Invalid(#[from] InvalidKeySet),
}

impl FetchError {
    /// The word in metrics and spans.
    fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NoConnection => "no_connection",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Broken => "broken_reply",
            Self::Invalid(InvalidKeySet::NotAKeySet) => "not_a_key_set",
            Self::Invalid(InvalidKeySet::TooManyKeys) => "too_many_keys",
        }
    }
}

/// How things stand with the keys.
#[derive(Clone)]
pub(super) struct Held {
    /// The last that were fetched; none of them before the first fetch.
    pub(super) keys: Arc<Keys>,
    /// Whether the last fetch brought them, so that what is not among them is not the issuer's.
    pub(super) is_current: bool,
    /// What the answer was made of.
    digest: Option<[u8; 32]>,
    /// When they were fetched. This and what follows in milliseconds of the steady clock.
    fetched_ms: Option<i64>,
    /// When the last fetch ended, and how many there were.
    tried_ms: Option<i64>,
    tries: u64,
    is_trying: bool,
}

/// The keys of an issuer, and the way to them.
pub(super) struct Jwks {
    http: reqwest::Client,
    url: Url,
    algorithm: PublicAlgorithm,
    held: watch::Sender<Held>,
    /// Told when a token names a key that is not there.
    wanted: Notify,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Jwks {
    /// Makes a client. Redirects are not followed: keys come from where the operator said, and from nowhere else.
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
            .connect_timeout(CONNECT)
            .timeout(FETCH)
            .build()?;
        let (held, _) = watch::channel(Held {
            keys: Arc::new(Keys::none(algorithm)),
            is_current: false,
            digest: None,
            fetched_ms: None,
            tried_ms: None,
            tries: 0,
            is_trying: false,
        });
        Ok(Self { http, url, algorithm, held, wanted: Notify::new(), clock, metrics })
    }

    /// The keys as they are now.
    pub(super) fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    /// Whether keys were ever had.
    pub(super) fn have_come(&self) -> bool {
        self.held.borrow().fetched_ms.is_some()
    }

    /// The keys after another fetch, if the issuer may be asked again by now; else as they are.
    pub(super) async fn asked_again(&self) -> Held {
        let mut held = self.held.subscribe();
        let before = held.borrow_and_update().clone();
        if !before.is_trying && self.seconds_to_next_try(&before) > 0 {
            return before;
        }
        self.wanted.notify_one();
        let tried = held.wait_for(|now| now.tries > before.tries);
        match tokio::time::timeout(WAIT, tried).await {
            Ok(Ok(now)) => now.clone(),
            Ok(Err(_)) | Err(_) => Held { is_current: false, ..before },
        }
    }

    /// In how many seconds the issuer may be asked again.
    pub(super) fn seconds_to_next_try(&self, held: &Held) -> u64 {
        let Some(tried_ms) = held.tried_ms else { return 0 };
        let left = FLOOR.saturating_sub(self.passed_since(tried_ms));
        left.as_millis().div_ceil(1000).try_into().unwrap_or(FLOOR.as_secs())
    }

    /// Fetches the keys, and again whenever they are too old or somebody wants another one, for good.
    pub(super) async fn keep(&self) {
        let mut is_wanted = false;
        loop {
            if self.is_due(is_wanted) {
                self.fetch_and_hold().await;
            }
            is_wanted = tokio::time::timeout(LOOK, self.wanted.notified()).await.is_ok();
        }
    }

    fn is_due(&self, is_wanted: bool) -> bool {
        let held = self.held.borrow();
        let is_old = held.fetched_ms.is_none_or(|fetched_ms| self.passed_since(fetched_ms) >= MAX_AGE);
        self.seconds_to_next_try(&held) == 0 && (is_wanted || is_old || !held.is_current)
    }

    fn passed_since(&self, then_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.steady_ms() - then_ms).unwrap_or_default())
    }

    async fn fetch_and_hold(&self) {
        self.held.send_modify(|held| held.is_trying = true);
        let fetched = self.fetch().instrument(self.span()).await;
        let now_ms = self.clock.steady_ms();
        let outcome = fetched.as_ref().map_or_else(|error| error.as_str(), |_| "success");
        if fetched.is_ok() {
            self.metrics.token_keys_fetched(self.clock.now_seconds());
        }
        self.held.send_modify(|held| {
            held.is_trying = false;
            held.tried_ms = Some(now_ms);
            held.tries += 1;
            match fetched {
                Ok((set, digest)) => {
                    if held.digest != Some(digest) {
                        tell_of(&set);
                    }
                    held.keys = Arc::new(set.keys);
                    held.digest = Some(digest);
                    held.fetched_ms = Some(now_ms);
                    held.is_current = true;
                }
                Err(error) => {
                    let age_seconds = held.fetched_ms.map(|fetched_ms| self.passed_since(fetched_ms).as_secs());
                    tracing::warn!(%error, age_seconds, "BILLHOOK_JWT_JWKS_URL: the issuer's keys could not be had");
                    held.is_current = false;
                }
            }
        });
        self.metrics.token_key_fetch(outcome);
    }

    async fn fetch(&self) -> Result<(KeySet, [u8; 32]), FetchError> {
        let fetched = self.body().await.and_then(|body| {
            let set = KeySet::read(&body, self.algorithm)?;
            Ok((set, Sha256::digest(&body).into()))
        });
        if let Err(error) = &fetched {
            Span::current().record("error.type", error.as_str());
            Span::current().record("otel.status_code", "ERROR");
        }
        fetched
    }

    async fn body(&self) -> Result<Vec<u8>, FetchError> {
        let request = self.http.get(self.url.clone());
        let sent = request.header(ACCEPT, "application/jwk-set+json, application/json").send().await;
        let mut response = sent.map_err(|error| {
            // The URL may bear what is nobody's business; the causes below it say what failed: the name, TLS, the port.
            let error = error.without_url();
            tracing::debug!(error = ?error, "the issuer's keys could not be asked for");
            if error.is_timeout() { FetchError::Timeout } else { FetchError::NoConnection }
        })?;
        Span::current().record("http.response.status_code", response.status().as_u16());
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let told =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if told.is_some_and(|length: usize| length > BODY_BYTES) {
            return Err(FetchError::TooLarge);
        }
        let mut body = Vec::new();
        let broken = |error: reqwest::Error| {
            if error.is_timeout() { FetchError::Timeout } else { FetchError::Broken }
        };
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > BODY_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// By OpenTelemetry's conventions for HTTP clients, but for `url.full`. A trace of its own: nobody's request is the cause.
    fn span(&self) -> Span {
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

/// Tells an operator what the issuer publishes, whenever that has changed.
fn tell_of(set: &KeySet) {
    let (keys, unfit) = (set.keys.len(), set.unfit);
    if set.private > 0 {
        let private = set.private;
        tracing::error!(
            private,
            "the issuer publishes private keys, with which anybody can sign: they are not used"
        );
    }
    if set.keys.is_empty() {
        tracing::error!(
            unfit,
            "none of the issuer's keys is for BILLHOOK_JWT_ALGORITHM: every token is refused"
        );
    } else {
        tracing::info!(keys, unfit, "the issuer's keys are here");
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({:?})", self.held.borrow().keys)
    }
}
