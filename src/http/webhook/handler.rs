//! One webhook, from its request to its response.

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

use super::admission::Admission;
use super::body::WebhookBody;
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

/// After how many seconds Stripe is asked to send an event again that was not stored. It has a schedule of its own, but
/// proxies and people read the header too.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Stands for a client without an address. All connections are TCP, where every client has one.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where proxies write the addresses that a request came through.
const FORWARDED: &str = "x-forwarded-for";

/// The webhook endpoint.
pub(in crate::http) struct WebhookApi;

/// What the webhook endpoint works with.
pub(in crate::http) struct Webhook {
    billing: Arc<Billing>,
    ingest: Ingest,
    secrets: watch::Receiver<WebhookSecrets>,
    trusted_proxies: TrustedProxies,
    admission: Arc<Admission>,
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
        webhook: Data<&Arc<Webhook>>,
        request: &Request,
        body: WebhookBody,
    ) -> Result<Json<Received>, Failure<WebhookProblems>> {
        let webhook = Arc::clone(&webhook);
        let request = webhook.admit(request)?;
        run_to_end(async move {
            let payload = webhook.read(&request, body).await?;
            let verified = webhook.verify(&request, &payload)?;
            let event = webhook.parse(&payload, &verified)?;
            webhook.enqueue(event, payload, verified).await
        })
        .await?;
        Ok(Json(Received { received: true }))
    }
}

/// Runs the rest of a webhook in a task of its own: a client that hangs up after it has sent everything loses nothing.
async fn run_to_end(rest: impl Future<Output = Result<(), Problem>> + Send + 'static) -> Result<(), Problem> {
    match tokio::spawn(rest.in_current_span()).await.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(not_stored()),
    }
}

/// The head of a request whose signature may be Stripe's.
struct SignedRequest {
    client: ClientAddress,
    signature: Option<String>,
    received_at_seconds: i64,
    trust_mark: Option<TrustMark>,
}

impl Webhook {
    pub(in crate::http) fn new(
        billing: Arc<Billing>,
        ingest: Ingest,
        secrets: watch::Receiver<WebhookSecrets>,
        trusted_proxies: TrustedProxies,
    ) -> Self {
        let admission = Arc::new(Admission::new(&billing));
        Self { billing, ingest, secrets, trusted_proxies, admission }
    }

    /// The limits, without the queue: the ingest ends when nothing holds its queue any more.
    pub(in crate::http) fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }

    /// Reads the head, and rejects what it alone shows to be wrong before the body is read. While the queue is full
    /// everything is rejected: to read and verify an event that cannot be stored costs those that can.
    fn admit(&self, request: &Request) -> Result<SignedRequest, Problem> {
        if self.secrets.borrow().is_empty() {
            return Err(self.not_configured());
        }
        if !self.ingest.has_room() {
            self.billing.metrics.webhook_rejected(NotStored::QueueFull.as_str());
            return Err(not_stored());
        }
        let signed = SignedRequest {
            client: self.client_of(request),
            signature: signature_header(request),
            received_at_seconds: self.billing.clock.now_seconds(),
            trust_mark: request.extensions().get().cloned(),
        };
        signature::check_header(signed.signature.as_deref(), signed.received_at_seconds)
            .map_err(|refusal| self.reject_signature(signed.client, refusal))?;
        Ok(signed)
    }

    async fn read(&self, request: &SignedRequest, body: WebhookBody) -> Result<Vec<u8>, Problem> {
        let slot = self.admission.body_slots.acquire(request.client);
        body.read(slot).await.map_err(|refusal| self.reject_body(request.client, refusal))
    }

    fn verify(&self, request: &SignedRequest, payload: &[u8]) -> Result<Verified, Problem> {
        let secrets = self.secrets.borrow().clone();
        let signature = request.signature.as_deref();
        let verified = signature::verify(payload, signature, &secrets, request.received_at_seconds)
            .map_err(|refusal| self.reject_signature(request.client, refusal))?;
        if let Some(trust_mark) = &request.trust_mark {
            trust_mark.set();
        }
        let Billing { webhook_record, clock, metrics, .. } = &*self.billing;
        if let Some(fingerprint) = secrets.fingerprint(&verified.secret) {
            webhook_record.note_verified(&verified.secret, fingerprint, clock.now_ms());
        }
        metrics.webhook_verified(&verified.secret);
        Ok(verified)
    }

    fn parse(&self, payload: &[u8], verified: &Verified) -> Result<Event, Problem> {
        let event = Event::read(payload).map_err(|error| self.unreadable(error, verified))?;
        if matches!(event.subject, Subject::Thin) {
            tracing::warn!(event = %event.id, "a thin event came: set the endpoint to snapshot payloads");
        }
        Ok(event)
    }

    /// Hands the event to the ingest and waits until it is committed, in a span under the request's.
    async fn enqueue(&self, event: Event, payload: Vec<u8>, verified: Verified) -> Result<(), Problem> {
        let now_ms = self.billing.clock.now_ms();
        self.billing.metrics.webhook_lag(now_ms.div_euclid(1000) - event.created);
        let delivery = Delivery::by_webhook(event, payload, verified, now_ms);
        let span = delivery.span.clone();
        let committed = self.ingest.enqueue(delivery).instrument(span).await;
        committed.map(|_| ()).map_err(|error| {
            tracing::warn!(%error, "an event was not stored; Stripe will send it again");
            self.billing.metrics.webhook_rejected(error.as_str());
            not_stored()
        })
    }

    fn client_of(&self, request: &Request) -> ClientAddress {
        let peer = request.remote_addr().as_socket_addr().map_or(NO_ADDRESS, SocketAddr::ip);
        let forwarded = request.headers().get_all(FORWARDED).iter().map(HeaderValue::as_bytes);
        self.trusted_proxies.client_of(peer, forwarded)
    }

    fn reject_signature(&self, client: ClientAddress, refusal: signature::Refusal) -> Problem {
        self.admission.rejections.note(refusal);
        self.billing.metrics.webhook_rejected(refusal.reason.as_str());
        self.charge(client).unwrap_or_else(|| Code::InvalidSignature.into())
    }

    fn reject_body(&self, client: ClientAddress, refusal: body::Refusal) -> Problem {
        self.billing.metrics.webhook_rejected(refusal.as_str());
        // An evicted body may be Stripe's.
        let charged = if refusal == body::Refusal::Crowded { None } else { self.charge(client) };
        charged.unwrap_or_else(|| refusal.into())
    }

    /// Charges a client for a webhook that was not verified. Returns the problem of one that has sent too many.
    fn charge(&self, client: ClientAddress) -> Option<Problem> {
        let retry_after_seconds = self.admission.limiter.charge(client).err()?;
        self.billing.metrics.webhook_throttled();
        Some(throttled(retry_after_seconds))
    }

    fn not_configured(&self) -> Problem {
        if self.admission.rejections.may_print() {
            tracing::error!(
                "a webhook came, but STRIPE_WEBHOOK_SECRET is not set; Stripe will send it again"
            );
        }
        self.billing.metrics.webhook_rejected("not_configured");
        let detail = "No webhook secret is configured; send it again later.";
        Problem::new(Code::BillingNotConfigured, detail).retry_after(RETRY_AFTER_SECONDS)
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
}

fn not_stored() -> Problem {
    Problem::new(Code::Unavailable, "Send it again later.").retry_after(RETRY_AFTER_SECONDS)
}

/// The header, or several of them as the one list that they are (RFC 9110, section 5.3): two timestamps in it are
/// malformed then, as they should be.
fn signature_header(request: &Request) -> Option<String> {
    let values = request.headers().get_all("stripe-signature");
    let texts: Vec<&str> = values.iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
