//! Delivery of events to webhook endpoints: signing, sending, retries, and the record of every
//! attempt.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::double::Double;
use crate::state::dispatcher::{Delivery, DeliveryCommand};
use crate::state::{Cause, text};
use crate::{clock, signature};

/// Attempts per event and endpoint.
const MAX_ATTEMPTS: u32 = 8;

/// As long as Stripe's checkout waits for an endpoint.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

/// The part of an endpoint's response body that is recorded.
const MAX_RECORDED_BODY_BYTES: usize = 4096;

/// How long events are collected before they are sent in reverse order. One action emits all its
/// events at once, so any window contains all of them.
const REORDER_WINDOW: Duration = Duration::from_millis(50);

const USER_AGENT: &str = "Stripe/1.0 (+https://stripe.com/docs/webhooks)";

/// Does not follow redirects, which count as failures, and keeps no idle connections: a restarted
/// endpoint must not lose an event to a connection of the old process.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .timeout(ENDPOINT_TIMEOUT)
        .user_agent(USER_AGENT)
        .build()
}

/// Runs until the double is dropped.
pub(crate) async fn run(double: Weak<Double>, mut commands: UnboundedReceiver<DeliveryCommand>) {
    while let Some(command) = commands.recv().await {
        match command {
            DeliveryCommand::ServeQueue(queue) => tokio::spawn(serve_queue(double.clone(), queue)),
            DeliveryCommand::EndReorderWindow => tokio::spawn(end_reorder_window(double.clone())),
        };
    }
}

async fn end_reorder_window(double: Weak<Double>) {
    tokio::time::sleep(REORDER_WINDOW).await;
    if let Some(double) = double.upgrade() {
        double.state(Cause::default()).dispatcher.end_reorder_window();
    }
}

/// Sends the events of one endpoint in order. A failed event is retried outside the queue, as at
/// Stripe, so it does not delay the next one.
async fn serve_queue(double: Weak<Double>, mut queue: UnboundedReceiver<Delivery>) {
    while let Some(delivery) = queue.recv().await {
        let Some(double) = double.upgrade() else { return };
        if !attempt(&double, &delivery, 1).await.is_settled() {
            tokio::spawn(retry(Arc::downgrade(&double), double.retry_delay, delivery));
        }
    }
}

async fn retry(double: Weak<Double>, mut delay: Duration, delivery: Delivery) {
    for number in 2..=MAX_ATTEMPTS {
        tokio::time::sleep(delay).await;
        let Some(double) = double.upgrade() else { return };
        if attempt(&double, &delivery, number).await.is_settled() {
            return;
        }
        delay *= 2;
    }
}

/// Sends an event once more to every endpoint that subscribes to its type and returns the records
/// of the attempts. Pending retries are not affected. Returns `None` if there is no such event.
pub(crate) async fn resend(double: &Arc<Double>, event: &str) -> Option<Vec<Value>> {
    let endpoints = {
        let state = double.state(Cause::default());
        state.endpoints_for(text(state.events.get(event)?, "type"))
    };
    let mut attempts = Vec::new();
    for endpoint in endpoints {
        let delivery = Delivery { event: event.to_owned(), endpoint };
        if let Attempt::Sent { record, .. } = attempt(double, &delivery, 1).await {
            attempts.push(record);
        }
    }
    Some(attempts)
}

enum Attempt {
    /// The endpoint is deleted or disabled.
    Skipped,
    Sent {
        record: Value,
        success: bool,
    },
}

impl Attempt {
    fn is_settled(&self) -> bool {
        !matches!(self, Attempt::Sent { success: false, .. })
    }
}

struct WebhookRequest {
    url: String,
    secret: String,
    kind: String,
    body: Vec<u8>,
}

async fn attempt(double: &Arc<Double>, delivery: &Delivery, number: u32) -> Attempt {
    let Some(webhook) = build_request(double, delivery) else { return Attempt::Skipped };
    let result = send(&double.http, &webhook).await;
    let success = result.as_ref().is_ok_and(|(status, _)| (200..300).contains(status));
    if success {
        double.state(Cause::default()).settle_delivery(delivery);
    }
    let record = attempt_record(delivery, number, &webhook, &result);
    let outcome = if record["status"].is_null() { &record["error"] } else { &record["status"] };
    tracing::info!("webhook {} {} -> {} {outcome}", webhook.kind, delivery.event, webhook.url);
    double.deliveries.push(record.clone());
    Attempt::Sent { record, success }
}

fn build_request(double: &Double, delivery: &Delivery) -> Option<WebhookRequest> {
    let state = double.state(Cause::default());
    let endpoint = state.endpoints.get(&delivery.endpoint)?;
    let event = state.events.get(&delivery.event)?;
    Some(WebhookRequest {
        url: endpoint.enabled_url()?.to_owned(),
        secret: endpoint.secret.clone(),
        kind: text(event, "type").to_owned(),
        body: serde_json::to_vec_pretty(event).ok()?,
    })
}

/// Returns status and body of the response, or the text of the error.
async fn send(http: &reqwest::Client, webhook: &WebhookRequest) -> Result<(u16, String), String> {
    // The receiver compares the signature's time with the system clock, not with the double's.
    let signed_at = clock::system_now();
    let request = http
        .post(&webhook.url)
        .header("Content-Type", "application/json; charset=utf-8")
        .header("Stripe-Signature", signature::sign(&webhook.secret, signed_at, &webhook.body))
        .body(webhook.body.clone());
    let mut response = request.send().await.map_err(|error| innermost_cause(&error))?;
    let mut body = Vec::new();
    while body.len() < MAX_RECORDED_BODY_BYTES {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_RECORDED_BODY_BYTES);
    Ok((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

fn innermost_cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn attempt_record(
    delivery: &Delivery,
    number: u32,
    webhook: &WebhookRequest,
    result: &Result<(u16, String), String>,
) -> Value {
    let (status, body, error) = match result {
        Ok((status, body)) => (Some(status), Some(body), None),
        Err(error) => (None, None, Some(error)),
    };
    json!({
        "event": delivery.event,
        "type": webhook.kind,
        "endpoint": delivery.endpoint,
        "url": webhook.url,
        "attempt": number,
        "status": status,
        "success": status.is_some_and(|status| (200..300).contains(status)),
        "error": error,
        "answer": body,
    })
}
