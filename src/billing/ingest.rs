//! From a verified event to a committed one.
//!
//! One task takes whatever is waiting, up to a bound, and applies it in one transaction: under load a commit is shared
//! by many events, and alone an event waits for nobody. Work that has been handed over is done even if whoever handed
//! it over has gone.

mod batch;
mod tell;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{Instrument, Span, info_span};

use super::Billing;
use crate::domain::event::Event;
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::scene::Effect;
use crate::domain::signature::Verified;
use crate::store::{StoreError, StoreFailure};
use crate::telemetry::spans;

pub(super) use tell::tell_changes;

/// Events that wait for their turn. More than a renewal burst brings in the second that a database may stall; beyond
/// it Stripe is better asked to come again than kept waiting.
const WAITING: usize = 1024;

/// Events in one transaction: enough to share a commit's cost, few enough that its locks are short.
const BATCH: usize = 64;

/// A verified event on its way in.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// The bytes that came.
    pub payload: Vec<u8>,
    /// Which secret verified it, and how old it was.
    pub verified: Verified,
    /// When it came, in Unix milliseconds.
    pub received_at_ms: i64,
    /// The span that processes it.
    pub span: Span,
}

impl Delivery {
    fn trace(&self) -> Option<Traceparent> {
        spans::traceparent_of(&self.span)
    }
}

/// The event was not taken, or not kept: Stripe must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// Too many are waiting.
    #[error("too many events are waiting")]
    QueueFull,
    /// The database is not available, or we are stopping.
    #[error("the event could not be stored")]
    NotStored,
}

type Reply = oneshot::Sender<Result<Outcome, Overloaded>>;

/// Where events are handed in. Cheap to clone; when the last clone is gone the task finishes what it has and ends.
#[derive(Debug, Clone)]
pub struct Ingest {
    waiting: mpsc::Sender<(Delivery, Reply)>,
}

/// The task behind [`Ingest`].
pub type IngestTask = JoinHandle<()>;

impl Ingest {
    /// Starts the task.
    pub fn start(billing: Arc<Billing>) -> (Self, IngestTask) {
        let (waiting, queue) = mpsc::channel(WAITING);
        (Self { waiting }, tokio::spawn(run(billing, queue)))
    }

    /// Hands an event in and waits until it is committed.
    pub async fn take(&self, delivery: Delivery) -> Result<Outcome, Overloaded> {
        let (reply, outcome) = oneshot::channel();
        self.waiting.try_send((delivery, reply)).map_err(|_| Overloaded::QueueFull)?;
        outcome.await.unwrap_or(Err(Overloaded::NotStored))
    }
}

async fn run(billing: Arc<Billing>, mut queue: mpsc::Receiver<(Delivery, Reply)>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut waiting, BATCH).await > 0 {
        let (deliveries, replies): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        let outcomes = process(&billing, &deliveries).await;
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // Nobody waits for the reply of a request whose sender has hung up.
            let _ = reply.send(outcome);
        }
    }
}

/// Applies a batch; if that fails for a reason of its own events, each of them alone, so that a poisoned one harms no
/// neighbour.
async fn process(billing: &Billing, deliveries: &[Delivery]) -> Vec<Result<Outcome, Overloaded>> {
    match apply(billing, deliveries).await {
        Ok(effects) => effects.into_iter().map(|effect| Ok(effect.outcome)).collect(),
        Err(error) if error.failure() == StoreFailure::Unavailable => {
            tracing::error!(%error, events = deliveries.len(), "events not stored; Stripe will send them again");
            vec![Err(Overloaded::NotStored); deliveries.len()]
        }
        Err(error) => {
            tracing::warn!(%error, events = deliveries.len(), "a batch failed; its events are tried one by one");
            let mut outcomes = Vec::with_capacity(deliveries.len());
            for delivery in deliveries {
                outcomes.push(process_alone(billing, delivery).await);
            }
            outcomes
        }
    }
}

/// Applies one event, or keeps it as failed.
async fn process_alone(billing: &Billing, delivery: &Delivery) -> Result<Outcome, Overloaded> {
    let one = std::slice::from_ref(delivery);
    let result = match apply(billing, one).await {
        Err(error) if error.failure() != StoreFailure::Unavailable => {
            tracing::error!(%error, event = %delivery.event.id, "an event cannot be applied; it is kept as failed");
            batch::keep_as_failed(billing, delivery).await.inspect(|effect| {
                tell::tell(
                    billing,
                    one,
                    std::slice::from_ref(effect),
                    &crate::domain::scene::Changes::default(),
                );
            })
        }
        result => result.map(|mut effects| effects.remove(0)),
    };
    result.map(|effect| effect.outcome).map_err(|error| {
        tracing::error!(%error, event = %delivery.event.id, "an event was not stored; Stripe will send it again");
        Overloaded::NotStored
    })
}

/// Applies events in one transaction, and tells of it once it is committed. The transaction has a trace of its own,
/// which links to those of the events that share it.
async fn apply(billing: &Billing, deliveries: &[Delivery]) -> Result<Vec<Effect>, StoreError> {
    let span = info_span!(parent: None, "ingest batch", billing.batch.events = deliveries.len());
    for trace in deliveries.iter().filter_map(Delivery::trace) {
        spans::link(&span, trace);
    }
    let (effects, changes) = batch::apply(billing, deliveries).instrument(span).await?;
    tell::tell(billing, deliveries, &effects, &changes);
    Ok(effects)
}
