//! Where Stripe posts its events: `POST /api/billing/webhook/`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use poem::Request;
use poem::http::HeaderValue;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use tokio::sync::watch;
use tokio::task::JoinError;
use tracing::Instrument;

use super::body::WebhookBody;
use super::body_slots::Bodies;
use super::rate_limit::{TooMany, UnverifiedLimiter};
use super::rejections::Rejections;
use crate::billing::Billing;
use crate::domain::client_address::ClientAddress;
use crate::domain::event::{Event, Subject, UnreadableEvent};
use crate::domain::signature::{self, Verified};
use crate::domain::trusted_proxies::TrustedProxies;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::http::api::Tag;
use crate::http::body;
use crate::http::problem::{Code, Documented, Failure, Problem};
use crate::http::throttle::throttled;
use crate::ingest::{Delivery, Ingest, NotStored};
use crate::server::TrustMark;
use crate::telemetry::topics::{Level, Line, Topic};

/// How long Stripe is asked to stay away when we cannot take an event; it has a schedule of its own, but proxies and
/// people read the header too.
const RETRY_SECONDS: u64 = 5;

/// Stands for the address of whoever has none. All that is served comes over TCP, where everybody has one.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where proxies write the addresses that a request came through.
const FORWARDED: &str = "x-forwarded-for";

/// The webhook endpoint.
pub(in crate::http) struct WebhookApi;

/// What the webhook endpoint works with.
pub(in crate::http) struct WebhookState {
    pub(in crate::http) billing: Arc<Billing>,
    pub(in crate::http) ingest: Ingest,
    pub(in crate::http) secrets: watch::Receiver<WebhookSecrets>,
    pub(in crate::http) rejections: Arc<Rejections>,
    pub(in crate::http) trusted_proxies: TrustedProxies,
    pub(in crate::http) limiter: Arc<UnverifiedLimiter>,
    pub(in crate::http) bodies: Arc<Bodies>,
}

/// The event is stored and will not be lost.
#[derive(Debug, Object)]
#[oai(example)]
struct Received {
    /// Always true.
    received: bool,
}

impl Example for Received {
    fn example() -> Self {
        Self { received: true }
    }
}

struct WebhookProblems;

impl Documented for WebhookProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_signature`, `unreadable_event` or `invalid_request`"),
        (413, "`too_large`"),
        (429, "`throttled`: too many unverified ones from this address; what is verified is always taken"),
        (500, "`internal`"),
        (503, "`billing_not_configured` or `unavailable`: send it again"),
    ];
}

#[OpenApi(tag = "Tag::Stripe")]
impl WebhookApi {
    /// Take an event from Stripe
    ///
    /// Answers 200 once the event is committed, also for events that are repeated or of no use. The signature in
    /// `Stripe-Signature` is checked over the raw body.
    #[oai(path = "/api/billing/webhook/", method = "post", operation_id = "receiveWebhook")]
    async fn receive(
        &self,
        state: Data<&Arc<WebhookState>>,
        request: &Request,
        body: WebhookBody,
    ) -> Result<Json<Received>, Failure<WebhookProblems>> {
        let claim = state.claim(request)?;
        let state = Arc::clone(&state);
        // A task of its own: what has been sent whole is taken, though its sender has hung up since.
        let taking = tokio::spawn(async move { state.take(claim, body).await }.in_current_span());
        match taking.await.map_err(JoinError::try_into_panic) {
            Ok(taken) => taken?,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => return Err(not_taken().into()),
        }
        Ok(Json(Received { received: true }))
    }
}

/// What a webhook's head says, as long as it may be Stripe's.
struct Claim {
    client: ClientAddress,
    signature: Option<String>,
    came_at_seconds: i64,
    trust_mark: Option<TrustMark>,
}

/// Why a webhook is not known to be Stripe's.
#[derive(Debug, Clone, Copy)]
enum Unverified {
    Signature(signature::Refusal),
    Body(body::Refusal),
}

impl WebhookState {
    /// Reads the head. What it alone tells is told before the body is read.
    fn claim(&self, request: &Request) -> Result<Claim, Problem> {
        if self.secrets.borrow().is_empty() {
            return Err(self.not_configured());
        }
        if !self.ingest.has_room() {
            return Err(self.full());
        }
        let (client, signature) = (self.client_of(request), signature_header(request));
        let came_at_seconds = self.billing.clock.now_seconds();
        let trust_mark = request.extensions().get().cloned();
        match signature::check_header(signature.as_deref(), came_at_seconds) {
            Ok(()) => Ok(Claim { client, signature, came_at_seconds, trust_mark }),
            Err(refusal) => Err(self.refuse(client, Unverified::Signature(refusal))),
        }
    }

    /// Takes the event that is in the body.
    async fn take(&self, claim: Claim, body: WebhookBody) -> Result<(), Problem> {
        let verified = self.verify(&claim, body).await;
        let (payload, verified) = verified.map_err(|unverified| self.refuse(claim.client, unverified))?;
        if let Some(trust_mark) = &claim.trust_mark {
            trust_mark.set();
        }
        self.billing.metrics.webhook_verified(&verified.secret);
        let event = Event::read(&payload).map_err(|error| self.unreadable(error, &verified))?;
        if matches!(event.subject, Subject::Thin) {
            tracing::warn!(event = %event.id, "a thin event came: set the endpoint to snapshot payloads");
        }
        self.hand_in(event, payload, verified).await
    }

    async fn verify(&self, claim: &Claim, body: WebhookBody) -> Result<(Vec<u8>, Verified), Unverified> {
        let payload = body.read(self.bodies.enter(claim.client)).await.map_err(Unverified::Body)?;
        let signature = claim.signature.as_deref();
        let secrets = self.secrets.borrow().clone();
        let verified = signature::verify(&payload, signature, &secrets, claim.came_at_seconds)
            .map_err(Unverified::Signature)?;
        if let Some(fingerprint) = secrets.fingerprint(&verified.secret) {
            let Billing { webhook_record, clock, .. } = &*self.billing;
            webhook_record.note_verified(&verified.secret, fingerprint, clock.now_ms());
        }
        Ok((payload, verified))
    }

    fn client_of(&self, request: &Request) -> ClientAddress {
        let peer = request.remote_addr().as_socket_addr().map_or(NOWHERE, SocketAddr::ip);
        let forwarded = request.headers().get_all(FORWARDED).iter().map(HeaderValue::as_bytes);
        self.trusted_proxies.client_of(peer, forwarded)
    }

    /// Whoever sent it pays for it: what is verified never comes here.
    fn refuse(&self, client: ClientAddress, unverified: Unverified) -> Problem {
        let (reason, problem) = match unverified {
            Unverified::Signature(refusal) => {
                self.rejections.note(refusal);
                let how = "Sign the raw body with this endpoint's secret, now.";
                (refusal.reason.as_str(), Problem::new(Code::InvalidSignature, how))
            }
            Unverified::Body(refusal) => (refusal.as_str(), refusal.into()),
        };
        self.billing.metrics.webhook_rejected(reason);
        if matches!(unverified, Unverified::Body(body::Refusal::Crowded)) {
            // It might have been Stripe's.
            return problem;
        }
        match self.limiter.charge(client) {
            Ok(()) => problem,
            Err(TooMany { retry_after_seconds }) => {
                self.billing.metrics.webhook_throttled();
                throttled(retry_after_seconds)
            }
        }
    }

    fn not_configured(&self) -> Problem {
        if self.rejections.may_print() {
            tracing::error!(
                "a webhook came, but STRIPE_WEBHOOK_SECRET is not set; Stripe will send it again"
            );
        }
        self.billing.metrics.webhook_rejected("not_configured");
        let detail = "No webhook secret is configured; send it again later.";
        Problem::new(Code::BillingNotConfigured, detail).retry_after(RETRY_SECONDS)
    }

    /// Whoever waits has been verified: in a flood it is Stripe's own events that have no room, and to read and verify one that
    /// cannot be taken would cost those that can.
    fn full(&self) -> Problem {
        self.billing.metrics.webhook_rejected(NotStored::QueueFull.as_str());
        not_taken()
    }

    fn unreadable(&self, error: UnreadableEvent, verified: &Verified) -> Problem {
        tracing::error!(%error, "a signed webhook is not an event: what does the endpoint send?");
        self.billing.metrics.webhook_rejected("unreadable_event");
        let line = Line::new(
            Topic::WebhookSignatures,
            Level::Error,
            "signature.accepted",
            self.billing.clock.now_ms(),
        )
        .outcome("accepted")
        .reason("unreadable_event")
        .skew_seconds(verified.skew_seconds)
        .secret_name(&verified.secret)
        .traced();
        self.billing.topics.append(&[line]);
        Problem::new(Code::UnreadableEvent, format!("Send snapshot events as Stripe makes them: {error}."))
    }

    /// Hands the event in and waits for its commit, in a span of its own under the request's.
    async fn hand_in(&self, event: Event, payload: Vec<u8>, verified: Verified) -> Result<(), Problem> {
        let now_ms = self.billing.clock.now_ms();
        self.billing.metrics.webhook_lag(now_ms.div_euclid(1000) - event.created);
        let delivery = Delivery::by_webhook(event, payload, verified, now_ms);
        let span = delivery.span.clone();
        let taken = self.ingest.take(delivery).instrument(span).await;
        taken.map(|_| ()).map_err(|error| {
            tracing::warn!(%error, "an event was not stored; Stripe will send it again");
            self.billing.metrics.webhook_rejected(error.as_str());
            not_taken()
        })
    }
}

fn not_taken() -> Problem {
    Problem::new(Code::Unavailable, "Send it again later.").retry_after(RETRY_SECONDS)
}

/// The header, or several of them as the one list that they are (RFC 9110, section 5.3): two timestamps in it are
/// malformed then, as they should be.
fn signature_header(request: &Request) -> Option<String> {
    let values = request.headers().get_all("stripe-signature");
    let texts: Vec<&str> = values.iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
