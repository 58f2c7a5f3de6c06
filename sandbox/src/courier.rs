//! Carrying events to endpoints: signed, tried again, written down.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::double::Double;
use crate::world::dispatch::{Errand, Job};
use crate::world::{Cause, text};
use crate::{clock, signature};

/// An endpoint that fails this often is not asked again.
const MAX_ATTEMPTS: u32 = 8;

/// As long as Stripe's own checkout waits for an endpoint.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint's answer is kept for reading; its first part tells enough.
const KEPT_ANSWER_BYTES: usize = 4096;

/// How long events are collected before they go out in reverse. One action's events are made at once, so that any
/// window catches them all.
const REORDER_WINDOW: Duration = Duration::from_millis(50);

const USER_AGENT: &str = "Stripe/1.0 (+https://stripe.com/docs/webhooks)";

/// The client that deliveries are made with. Redirects are failures, and no connection is kept: an endpoint that was
/// restarted must not lose an event to its predecessor's socket.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .timeout(TIMEOUT)
        .user_agent(USER_AGENT)
        .build()
}

/// Runs the errands of the double, for as long as there is one.
pub(crate) async fn run(double: Weak<Double>, mut errands: UnboundedReceiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Carry(queue) => tokio::spawn(carry(double.clone(), queue)),
            Errand::EndReorderWindow => tokio::spawn(end_reorder_window(double.clone())),
        };
    }
}

async fn end_reorder_window(double: Weak<Double>) {
    tokio::time::sleep(REORDER_WINDOW).await;
    if let Some(double) = double.upgrade() {
        double.world(Cause::default()).dispatch.end_reorder_window();
    }
}

/// Carries one endpoint's events in order. What fails is tried again beside the queue, as Stripe does: one bad event
/// does not hold up the next.
async fn carry(double: Weak<Double>, mut queue: UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        let Some(double) = double.upgrade() else { return };
        if !attempt(&double, &job, 1).await.is_settled() {
            tokio::spawn(try_again(Arc::downgrade(&double), double.retry_delay, job));
        }
    }
}

async fn try_again(double: Weak<Double>, mut wait: Duration, job: Job) {
    for number in 2..=MAX_ATTEMPTS {
        tokio::time::sleep(wait).await;
        let Some(double) = double.upgrade() else { return };
        if attempt(&double, &job, number).await.is_settled() {
            return;
        }
        wait *= 2;
    }
}

/// Sends an event once more to every endpoint that is told about it; what comes of it changes no retry.
pub(crate) async fn resend(double: &Arc<Double>, event: &str) -> Option<Vec<Value>> {
    let endpoints = {
        let world = double.world(Cause::default());
        world.endpoints_for(text(world.events.get(event)?, "type"))
    };
    let mut attempts = Vec::new();
    for endpoint in endpoints {
        let job = Job { event: event.to_owned(), endpoint };
        if let Attempt::Made { line, .. } = attempt(double, &job, 1).await {
            attempts.push(line);
        }
    }
    Some(attempts)
}

enum Attempt {
    /// The endpoint is gone or disabled: there is nobody to tell.
    NotWanted,
    Made {
        line: Value,
        success: bool,
    },
}

impl Attempt {
    fn is_settled(&self) -> bool {
        !matches!(self, Attempt::Made { success: false, .. })
    }
}

/// What is sent where, read under the lock.
struct Parcel {
    url: String,
    secret: String,
    kind: String,
    body: Vec<u8>,
}

async fn attempt(double: &Arc<Double>, job: &Job, number: u32) -> Attempt {
    let Some(parcel) = pack(double, job) else { return Attempt::NotWanted };
    let answer = send(&double.http, &parcel).await;
    let success = answer.as_ref().is_ok_and(|(status, _)| (200..300).contains(status));
    if success {
        double.world(Cause::default()).settle_delivery(job);
    }
    let line = describe(job, number, &parcel, &answer);
    let what_came = if line["status"].is_null() { &line["error"] } else { &line["status"] };
    tracing::info!("webhook {} {} -> {} {what_came}", parcel.kind, job.event, parcel.url);
    double.deliveries.push(line.clone());
    Attempt::Made { line, success }
}

fn pack(double: &Double, job: &Job) -> Option<Parcel> {
    let world = double.world(Cause::default());
    let endpoint = world.endpoints.get(&job.endpoint)?;
    let event = world.events.get(&job.event)?;
    Some(Parcel {
        url: endpoint.live_url()?.to_owned(),
        secret: endpoint.secret.clone(),
        kind: text(event, "type").to_owned(),
        body: serde_json::to_vec_pretty(event).ok()?,
    })
}

async fn send(http: &reqwest::Client, parcel: &Parcel) -> Result<(u16, String), String> {
    // The receiver holds the time of a signature to its own clock, which is not the double's.
    let signed_at = clock::machine_now();
    let request = http
        .post(&parcel.url)
        .header("Content-Type", "application/json; charset=utf-8")
        .header("Stripe-Signature", signature::sign(&parcel.secret, signed_at, &parcel.body))
        .body(parcel.body.clone());
    let mut response = request.send().await.map_err(|error| reason(&error))?;
    let mut answer = Vec::new();
    while answer.len() < KEPT_ANSWER_BYTES {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        answer.extend_from_slice(&chunk);
    }
    answer.truncate(KEPT_ANSWER_BYTES);
    Ok((response.status().as_u16(), String::from_utf8_lossy(&answer).into_owned()))
}

/// The innermost cause, which is the one that says something.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn describe(job: &Job, number: u32, parcel: &Parcel, answer: &Result<(u16, String), String>) -> Value {
    let (status, body, error) = match answer {
        Ok((status, body)) => (Some(status), Some(body), None),
        Err(error) => (None, None, Some(error)),
    };
    json!({
        "event": job.event,
        "type": parcel.kind,
        "endpoint": job.endpoint,
        "url": parcel.url,
        "attempt": number,
        "status": status,
        "success": status.is_some_and(|status| (200..300).contains(status)),
        "error": error,
        "answer": body,
    })
}
