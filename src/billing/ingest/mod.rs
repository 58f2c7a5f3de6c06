//! From a verified event to a committed one.
//!
//! A writer takes whatever is waiting, up to a bound, and applies it in one transaction: under load a commit is shared by
//! many events, and alone an event waits for nobody. While it commits another writer has its turn. Work that has been
//! handed over is done even if whoever handed it over has gone.

mod batch;
mod report;
mod turn;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::{Instrument, Span, info_span};

use self::batch::Inbox;
use self::turn::{Turn, Turns};
use super::Billing;
use crate::domain::event::Event;
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::outcome::Outcome;
use crate::domain::signature::Verified;
use crate::domain::unit_of_work::{Changes, Effect};
use crate::store::{StoreError, StoreFailure};
use crate::telemetry::metrics::Source;
use crate::telemetry::spans::{self, BillingAttributes};

pub(super) use report::{report_changes, report_retried};

/// Events that wait for their turn. More than a renewal burst brings in the second that a database may stall; beyond
/// it Stripe is better asked to come again than kept waiting.
const WAITING: usize = 1024;

/// Events in one transaction: enough to share a commit's cost, few enough that its locks are short.
const BATCH: usize = 64;

/// Batches at a time: one is prepared while the one before it is committed.
const WRITERS: usize = 2;

/// How long a batch may take: beyond it the database is as good as gone, and Stripe is better told to come again. If
/// the batch was committed after all, its events are known when they come again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A verified event on its way in.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// The bytes that came.
    pub payload: Vec<u8>,
    /// Which secret verified it, and how old it was; none if we fetched it ourselves.
    pub verified: Option<Verified>,
    /// When it came, in Unix milliseconds.
    pub received_at_ms: i64,
    /// The span that processes it.
    pub span: Span,
    /// The same, named for others.
    trace: Option<Traceparent>,
    /// The span of the request that brought it, if one did.
    pub request_span: Span,
}

impl Delivery {
    /// An event that Stripe posted, in the span of its request.
    pub fn by_webhook(event: Event, payload: Vec<u8>, verified: Verified, now_ms: i64) -> Self {
        let span = span(&event, Source::Webhook);
        let request_span = Span::current();
        Self { verified: Some(verified), request_span, ..Self::new(event, payload, now_ms, span) }
    }

    /// An event that Stripe listed when asked. Its trace is its own, since a journey may begin with it, and links to that
    /// of the run that found it.
    pub(super) fn by_backfill(event: Event, payload: Vec<u8>, now_ms: i64) -> Self {
        let span = span(&event, Source::Backfill);
        spans::detach(&span);
        if let Some(run) = spans::current_trace() {
            spans::link(&span, run);
        }
        Self::new(event, payload, now_ms, span)
    }

    /// In a span that has its place.
    fn new(event: Event, payload: Vec<u8>, received_at_ms: i64, span: Span) -> Self {
        let (event_id, event_type) = (Some(&event.id), Some(event.type_name.as_str()));
        BillingAttributes { event_id, event_type, ..BillingAttributes::default() }.record(&span);
        let trace = spans::traceparent_of(&span);
        Self { event, payload, verified: None, received_at_ms, span, trace, request_span: Span::none() }
    }

    /// How it came: what nobody signed for us we have fetched ourselves.
    fn source(&self) -> Source {
        if self.verified.is_some() { Source::Webhook } else { Source::Backfill }
    }

    /// The journey that would begin where the event is processed.
    fn here(&self, now_ms: i64) -> Option<Journey> {
        self.trace.map(|origin| Journey { origin, began_at_ms: now_ms })
    }
}

fn span(event: &Event, source: Source) -> Span {
    info_span!(
        "process event",
        otel.name = format!("process {}", event.type_name),
        otel.kind = "consumer",
        billing.event.source = source.as_str(),
    )
}

/// The event was not stored: Stripe must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// Too many are waiting.
    #[error("too many events are waiting")]
    QueueFull,
    /// We are stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The database was not available, or in too great a demand.
    #[error("the database did not take it")]
    Database,
}

type Reply = oneshot::Sender<Result<Outcome, NotStored>>;

/// An event that was handed in, and who waits for what becomes of it.
type Handed = (Delivery, Reply);

type Queue = mpsc::Receiver<Handed>;

/// Where events are handed in. Cheap to clone; when the last clone is gone the writers finish what they have and end.
#[derive(Clone)]
pub struct Ingest {
    billing: Arc<Billing>,
    waiting: mpsc::Sender<Handed>,
}

/// The writers behind [`Ingest`].
pub type IngestTask = JoinHandle<()>;

impl NotStored {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Stopping => "stopping",
            Self::Database => "database",
        }
    }
}

impl Ingest {
    /// Starts the writers, on a thread of their own. Among the tasks of requests each step of a batch would wait until all
    /// who have come meanwhile have had their moment, and while thousands come nearly nothing would be stored.
    ///
    /// Fails if the system gives no thread.
    pub fn start(billing: Arc<Billing>) -> io::Result<(Self, IngestTask)> {
        let (waiting, queue) = mpsc::channel(WAITING);
        let task = on_a_thread(write_all(billing.clone(), Turns::at(queue)))?;
        Ok((Self { billing, waiting }, task))
    }

    /// Whether another event may wait.
    pub fn has_room(&self) -> bool {
        self.waiting.capacity() > 0
    }

    /// Hands an event in and waits until it is committed.
    pub async fn take(&self, delivery: Delivery) -> Result<Outcome, NotStored> {
        let (reply, outcome) = oneshot::channel();
        match self.waiting.try_send((delivery, reply)) {
            Ok(()) => outcome.await.unwrap_or(Err(NotStored::Stopping)),
            Err(refused) => {
                let (reason, (delivery, _)) = match refused {
                    TrySendError::Full(returned) => (NotStored::QueueFull, returned),
                    TrySendError::Closed(returned) => (NotStored::Stopping, returned),
                };
                report::report_not_stored(&self.billing, &[delivery]);
                Err(reason)
            }
        }
    }
}

/// Does something on a thread of its own. The task ends with it, and panics if it does.
///
/// Fails if the system gives no thread.
fn on_a_thread(work: impl Future<Output = ()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (ended, has_ended) = oneshot::channel();
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        match runtime::Builder::new_current_thread().enable_all().build() {
            Err(error) => _ = begun.send(Err(error)),
            Ok(runtime) => {
                _ = begun.send(Ok(()));
                runtime.block_on(work);
                _ = ended.send(());
            }
        }
    })?;
    has_begun.recv().map_err(io::Error::other)??;
    Ok(tokio::spawn(has_ended.map(|ended| ended.expect("the thread has done its work"))))
}

/// Until nothing is handed in any more.
async fn write_all(billing: Arc<Billing>, turns: Turns) {
    let writers: JoinSet<()> = (0..WRITERS).map(|_| write(billing.clone(), turns.clone())).collect();
    writers.join_all().await;
}

async fn write(billing: Arc<Billing>, turns: Turns) {
    loop {
        let mut turn = turns.next().await;
        let batch = turn.take_waiting(BATCH).await;
        if batch.is_empty() {
            return;
        }
        let (deliveries, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let outcomes = process(&billing, &deliveries, &mut turn).await;
        let nothing_stored = outcomes.iter().all(|outcome| *outcome == Err(NotStored::Database));
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // Nobody waits for the reply of a request whose sender has hung up.
            let _ = reply.send(outcome);
        }
        if nothing_stored {
            refuse_waiting(&billing, &mut turn);
        }
    }
}

/// Those who wait already have waited while the database took nothing. Batch after batch they would find out the same for
/// themselves, the last of them long after Stripe has given up.
fn refuse_waiting(billing: &Billing, turn: &mut Turn) {
    for (delivery, reply) in turn.take_all() {
        report::report_not_stored(billing, &[delivery]);
        let _ = reply.send(Err(NotStored::Database));
    }
}

/// Why a batch came to nothing.
enum Setback {
    /// The database's trouble: Stripe sends the events again.
    Database,
    /// Something about one of the events.
    Event,
}

/// Applies a batch; if that fails for a reason of its own events, each of them alone, so that a poisoned one harms no
/// neighbour.
async fn process(
    billing: &Billing,
    deliveries: &[Delivery],
    turn: &mut Turn,
) -> Vec<Result<Outcome, NotStored>> {
    match attempt(billing, deliveries, Inbox::NotAsked, turn).await {
        Ok(effects) => effects.into_iter().map(|effect| Ok(effect.outcome)).collect(),
        Err(Setback::Database) => refuse(billing, deliveries),
        // Its commit came to nothing, and the next batch is prepared: one by one the events would come behind it, and each of
        // the two would wait for the other.
        Err(Setback::Event) if !turn.is_at_the_queue() => refuse(billing, deliveries),
        Err(Setback::Event) => process_one_by_one(billing, deliveries, turn).await,
    }
}

/// In the time that one batch may take, and no more: who is left then is told to come again.
async fn process_one_by_one(
    billing: &Billing,
    deliveries: &[Delivery],
    turn: &mut Turn,
) -> Vec<Result<Outcome, NotStored>> {
    turn.keep();
    let end = Instant::now() + PATIENCE;
    let mut outcomes = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        if Instant::now() > end {
            break;
        }
        outcomes.push(process_alone(billing, delivery, turn).await);
    }
    outcomes.extend(refuse(billing, &deliveries[outcomes.len()..]));
    outcomes
}

fn refuse(billing: &Billing, deliveries: &[Delivery]) -> Vec<Result<Outcome, NotStored>> {
    report::report_not_stored(billing, deliveries);
    vec![Err(NotStored::Database); deliveries.len()]
}

/// Applies one event, or keeps it as failed.
async fn process_alone(
    billing: &Billing,
    delivery: &Delivery,
    turn: &mut Turn,
) -> Result<Outcome, NotStored> {
    let one = std::slice::from_ref(delivery);
    match attempt(billing, one, Inbox::Asked, turn).await {
        Ok(effects) => Ok(effects.first().map_or(Outcome::Failed, |effect| effect.outcome)),
        Err(Setback::Database) => {
            report::report_not_stored(billing, one);
            Err(NotStored::Database)
        }
        Err(Setback::Event) => keep_as_failed(billing, delivery).await,
    }
}

async fn keep_as_failed(billing: &Billing, delivery: &Delivery) -> Result<Outcome, NotStored> {
    let one = std::slice::from_ref(delivery);
    match tokio::time::timeout(PATIENCE, batch::keep_as_failed(billing, delivery)).await {
        Ok(Ok(effect)) => {
            report::report(billing, one, std::slice::from_ref(&effect), &Changes::default());
            return Ok(effect.outcome);
        }
        Ok(Err(error)) => {
            tracing::error!(%error, event = %delivery.event.id, "a failed event cannot be kept");
        }
        Err(_) => tracing::error!(event = %delivery.event.id, "keeping a failed event took too long"),
    }
    report::report_not_stored(billing, one);
    Err(NotStored::Database)
}

/// Whether a failure is worth trying the events one by one: it is of what one of them says, or several of them were in
/// somebody's way again and again.
fn is_of_its_events(error: &StoreError, events: usize) -> bool {
    match error.failure() {
        StoreFailure::Refused => true,
        StoreFailure::Conflict | StoreFailure::DuplicateKey => events > 1,
        StoreFailure::Unavailable => false,
    }
}

/// Applies events in one transaction, and tells of it once it is committed. The transaction has a trace of its own,
/// which links to those of the events that share it.
async fn attempt(
    billing: &Billing,
    deliveries: &[Delivery],
    inbox: Inbox,
    turn: &mut Turn,
) -> Result<Vec<Effect>, Setback> {
    let span = info_span!(parent: None, "ingest batch", billing.batch.events = deliveries.len());
    for trace in deliveries.iter().filter_map(|delivery| delivery.trace) {
        spans::link(&span, trace);
    }
    // A defect that panics over one event must not end the task that every other event needs.
    let applying = async {
        let applied = batch::apply(billing, deliveries, inbox).await?;
        turn.reach_commit().await;
        if billing.store.writes_side_by_side() {
            turn.let_in();
        }
        let committed = applied.commit().await?;
        turn.let_in();
        Ok::<_, StoreError>(committed)
    };
    let applying = AssertUnwindSafe(applying.instrument(span.clone())).catch_unwind();
    let events = deliveries.len();
    match tokio::time::timeout(PATIENCE, applying).await {
        Ok(Ok(Ok((effects, changes)))) => {
            let telling = || span.in_scope(|| report::report(billing, deliveries, &effects, &changes));
            // They are stored, whatever becomes of the telling.
            if std::panic::catch_unwind(AssertUnwindSafe(telling)).is_err() {
                tracing::error!(events, "a defect: telling of events panicked");
            }
            Ok(effects)
        }
        Ok(Ok(Err(error))) if is_of_its_events(&error, events) => {
            tracing::error!(%error, events, "events cannot be applied together");
            Err(Setback::Event)
        }
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, events, "events are not stored; Stripe will send them again");
            billing.store.note_failed_write();
            Err(Setback::Database)
        }
        Ok(Err(_)) => {
            tracing::error!(events, "a defect: applying events panicked");
            Err(Setback::Event)
        }
        Err(_) => {
            tracing::error!(events, "the database took too long; Stripe will send the events again");
            billing.store.note_failed_write();
            Err(Setback::Database)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_thread_is_the_end_of_its_task() {
        let task = on_a_thread(async { tokio::time::sleep(Duration::from_millis(1)).await });
        task.expect("a thread").await.expect("it ends well");
    }

    #[tokio::test]
    async fn a_panic_of_the_thread_is_one_of_its_task() {
        let task = on_a_thread(async { panic!("a defect") }).expect("a thread");
        assert!(task.await.expect_err("it fails").is_panic());
    }
}
