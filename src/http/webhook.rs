//! Where Stripe posts its events: `POST /api/billing/webhook/`.

use std::sync::Arc;

use poem::Request;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use tokio::sync::watch;
use tracing::Instrument;

use super::api::Tag;
use super::body::WebhookBody;
use super::problem::{Code, Documented, Failure, Problem};
use super::rejections::Rejections;
use crate::billing::{Billing, Delivery, Ingest};
use crate::domain::event::{Event, Subject, UnreadableEvent};
use crate::domain::signature::{self, Verified};
use crate::domain::webhook_secret::WebhookSecrets;
use crate::telemetry::topics::{Level, Line, Topic};

/// How long Stripe is asked to stay away when we cannot take an event; it has a schedule of its own, but proxies and
/// people read the header too.
const RETRY_SECONDS: u64 = 5;

/// The webhook endpoint.
pub(super) struct WebhookApi;

/// What the webhook endpoint works with.
#[derive(Clone)]
pub(super) struct WebhookState {
    pub(super) billing: Arc<Billing>,
    pub(super) ingest: Ingest,
    pub(super) secrets: watch::Receiver<WebhookSecrets>,
    pub(super) rejections: Arc<Rejections>,
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
        state: Data<&WebhookState>,
        request: &Request,
        body: WebhookBody,
    ) -> Result<Json<Received>, Failure<WebhookProblems>> {
        let WebhookBody(payload) = body;
        let verified = state.verify(request, &payload)?;
        state.billing.metrics.webhook_verified(&verified.secret);
        let event = Event::read(&payload).map_err(|error| state.unreadable(error, &verified))?;
        if matches!(event.subject, Subject::Thin) {
            tracing::warn!(event = %event.id, "a thin event came: set the endpoint to snapshot payloads");
        }
        state.hand_in(event, payload, verified).await?;
        Ok(Json(Received { received: true }))
    }
}

impl WebhookState {
    fn verify(&self, request: &Request, payload: &[u8]) -> Result<Verified, Problem> {
        let secrets = self.secrets.borrow().clone();
        if secrets.is_empty() {
            tracing::error!(
                "a webhook came, but STRIPE_WEBHOOK_SECRET is not set; Stripe will send it again"
            );
            self.billing.metrics.webhook_rejected("not_configured");
            let detail = "No webhook secret is configured; send it again later.";
            return Err(Problem::new(Code::BillingNotConfigured, detail).retry_after(RETRY_SECONDS));
        }
        let header = signature_header(request);
        let now_seconds = self.billing.clock.now_seconds();
        signature::verify(payload, header.as_deref(), &secrets, now_seconds).map_err(|refusal| {
            self.billing.metrics.webhook_rejected(refusal.reason.as_str());
            self.rejections.note(refusal);
            Problem::new(Code::InvalidSignature, "Sign the raw body with this endpoint's secret, now.")
        })
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
            Problem::new(Code::Unavailable, "Send it again later.").retry_after(RETRY_SECONDS)
        })
    }
}

/// The header, or several of them as the one list that they are (RFC 9110, section 5.3): two timestamps in it are
/// malformed then, as they should be.
fn signature_header(request: &Request) -> Option<String> {
    let values = request.headers().get_all("stripe-signature");
    let texts: Vec<&str> = values.iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
