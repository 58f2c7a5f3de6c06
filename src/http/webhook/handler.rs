//! Handles a webhook: checks its signature and returns 200 once its event is committed.

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
use crate::billing::Billing;
use crate::domain::client_address::ClientAddress;
use crate::domain::event::{Event, Subject, UnreadableEvent};
use crate::domain::signature::{self, SignatureError, Verified};
use crate::domain::trusted_proxies::TrustedProxies;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::http::api::Tag;
use crate::http::body::{BodyError, WebhookBody};
use crate::http::problem::{Code, DocumentedProblems, Problem, ProblemResponse};
use crate::http::throttle::throttled;
use crate::ingest::{Delivery, Ingest, NotStored};
use crate::server::TrustMark;
use crate::telemetry::topics::{Level, Line, Topic};

/// `Retry-After` of an event that was not stored. Stripe has its own retry schedule, but proxies
/// and people read the header.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Used if the client has no address. That cannot happen over TCP.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const FORWARDED_FOR: &str = "x-forwarded-for";

pub(in crate::http) struct WebhookApi;

pub(in crate::http) struct WebhookState {
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

impl DocumentedProblems for WebhookProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_signature`, `unreadable_event` or `invalid_request`"),
        (413, "`too_large`"),
        (
            429,
            "`throttled`: too many unverified webhooks from this address. Verified webhooks are never rate limited",
        ),
        (500, "`internal`"),
        (503, "`billing_not_configured` or `unavailable`: send the event again"),
    ];
}

#[OpenApi(tag = "Tag::Stripe")]
impl WebhookApi {
    /// Receive an event from Stripe
    ///
    /// Returns 200 once the event is committed, also for duplicates and for events that change
    /// nothing. The signature in `Stripe-Signature` is checked against the raw body.
    #[oai(path = "/api/billing/webhook/", method = "post", operation_id = "receiveWebhook")]
    async fn receive(
        &self,
        webhook: Data<&Arc<WebhookState>>,
        request: &Request,
        body: WebhookBody,
    ) -> Result<Json<Received>, ProblemResponse<WebhookProblems>> {
        let webhook = Arc::clone(&webhook);
        let head = webhook.admit(request)?;
        run_to_end(async move {
            let payload = webhook.read(&head, body).await?;
            let verified = webhook.verify(&head, &payload)?;
            let event = webhook.parse(&payload, &verified)?;
            webhook.enqueue(event, payload, verified).await
        })
        .await?;
        Ok(Json(Received { received: true }))
    }
}

/// Runs the rest of a webhook in its own task, so that it completes even if the client disconnects
/// after sending the body.
async fn run_to_end(rest: impl Future<Output = Result<(), Problem>> + Send + 'static) -> Result<(), Problem> {
    match tokio::spawn(rest.in_current_span()).await.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(not_stored()),
    }
}

/// The parts of a request's head that are needed after the head is dropped. The signature is not
/// verified yet.
struct RequestHead {
    client: ClientAddress,
    signature: Option<String>,
    received_at_seconds: i64,
    trust_mark: Option<TrustMark>,
}

impl WebhookState {
    pub(in crate::http) fn new(
        billing: Arc<Billing>,
        ingest: Ingest,
        secrets: watch::Receiver<WebhookSecrets>,
        trusted_proxies: TrustedProxies,
    ) -> Self {
        let admission = Arc::new(Admission::new(&billing));
        Self { billing, ingest, secrets, trusted_proxies, admission }
    }

    /// Returns the limits alone, since a caller that held the whole state would keep the ingest
    /// queue open.
    pub(in crate::http) fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }

    /// Checks the head before the body is read. Rejects every webhook while the queue is full:
    /// reading and verifying an event that cannot be stored would slow down the queued ones.
    fn admit(&self, request: &Request) -> Result<RequestHead, Problem> {
        if self.secrets.borrow().is_empty() {
            return Err(self.not_configured());
        }
        if !self.ingest.has_room() {
            self.billing.metrics.webhook_rejected(NotStored::QueueFull.as_str());
            return Err(not_stored());
        }
        let head = RequestHead {
            client: self.client_of(request),
            signature: signature_header(request),
            received_at_seconds: self.billing.clock.now_seconds(),
            trust_mark: request.extensions().get().cloned(),
        };
        signature::check_header(head.signature.as_deref(), head.received_at_seconds)
            .map_err(|error| self.reject_signature(head.client, error))?;
        Ok(head)
    }

    async fn read(&self, head: &RequestHead, body: WebhookBody) -> Result<Vec<u8>, Problem> {
        let slot = self.admission.body_slots.acquire(head.client);
        let read = tokio::select! {
            biased;
            read = body.read() => read,
            () = slot.evicted() => Err(BodyError::Evicted),
        };
        read.map_err(|error| self.reject_body(head.client, error))
    }

    fn verify(&self, head: &RequestHead, payload: &[u8]) -> Result<Verified, Problem> {
        let secrets = self.secrets.borrow().clone();
        let signature = head.signature.as_deref();
        let verified = signature::verify(payload, signature, &secrets, head.received_at_seconds)
            .map_err(|error| self.reject_signature(head.client, error))?;
        if let Some(trust_mark) = &head.trust_mark {
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
            tracing::warn!(event = %event.id, "received a thin event; set the endpoint to snapshot payloads");
        }
        Ok(event)
    }

    /// Enqueues the event and waits until it is committed, in a span under the request's.
    async fn enqueue(&self, event: Event, payload: Vec<u8>, verified: Verified) -> Result<(), Problem> {
        let now_ms = self.billing.clock.now_ms();
        self.billing.metrics.webhook_lag(now_ms.div_euclid(1000) - event.created);
        let delivery = Delivery::from_webhook(event, payload, verified, now_ms);
        let span = delivery.span.clone();
        let committed = self.ingest.enqueue(delivery).instrument(span).await;
        committed.map(|_| ()).map_err(|error| {
            tracing::warn!(%error, "could not store an event; Stripe will retry");
            self.billing.metrics.webhook_rejected(error.as_str());
            not_stored()
        })
    }

    fn client_of(&self, request: &Request) -> ClientAddress {
        let peer = request.remote_addr().as_socket_addr().map_or(NO_ADDRESS, SocketAddr::ip);
        let forwarded = request.headers().get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
        self.trusted_proxies.client_address(peer, forwarded)
    }

    fn reject_signature(&self, client: ClientAddress, error: SignatureError) -> Problem {
        self.admission.rejections.record(error);
        self.billing.metrics.webhook_rejected(error.reason.as_str());
        self.count_unverified(client).unwrap_or_else(|| Code::InvalidSignature.into())
    }

    fn reject_body(&self, client: ClientAddress, error: BodyError) -> Problem {
        self.billing.metrics.webhook_rejected(error.as_str());
        // An evicted body may be Stripe's.
        let throttled = if error == BodyError::Evicted { None } else { self.count_unverified(client) };
        throttled.unwrap_or_else(|| error.into())
    }

    /// Counts an unverified webhook. Returns a problem if the client is over its rate limit.
    fn count_unverified(&self, client: ClientAddress) -> Option<Problem> {
        let retry_after_seconds = self.admission.limiter.count_unverified(client).err()?;
        self.billing.metrics.webhook_throttled();
        Some(throttled(retry_after_seconds))
    }

    fn not_configured(&self) -> Problem {
        if self.admission.rejections.may_warn() {
            tracing::error!("rejected a webhook, since STRIPE_WEBHOOK_SECRET is not set; Stripe will retry");
        }
        self.billing.metrics.webhook_rejected("not_configured");
        let detail = "No webhook secret is configured. Send the event again later.";
        Problem::new(Code::BillingNotConfigured, detail).retry_after(RETRY_AFTER_SECONDS)
    }

    fn unreadable(&self, error: UnreadableEvent, verified: &Verified) -> Problem {
        tracing::error!(%error, "a signed webhook is not a Stripe event");
        self.billing.metrics.webhook_rejected("unreadable_event");
        let now_ms = self.billing.clock.now_ms();
        let line = Line::new(Topic::WebhookSignatures, Level::Error, "signature.accepted", now_ms)
            .outcome("accepted")
            .reason("unreadable_event")
            .skew_seconds(verified.skew_seconds)
            .secret_name(&verified.secret)
            .traced();
        self.billing.topics.append(&[line]);
        Problem::new(
            Code::UnreadableEvent,
            format!("The webhook cannot be read: {error}. Send Stripe snapshot events."),
        )
    }
}

fn not_stored() -> Problem {
    Problem::new(Code::Unavailable, "The event could not be stored. Send it again later.")
        .retry_after(RETRY_AFTER_SECONDS)
}

/// Joins repeated headers to one list (RFC 9110, section 5.3). Two timestamps in it make it
/// malformed.
fn signature_header(request: &Request) -> Option<String> {
    let values = request.headers().get_all("stripe-signature");
    let texts: Vec<&str> = values.iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
