//! The queue of events, and the writers that empty it.
//!
//! A writer takes whatever is waiting, up to a bound, and applies it in one transaction: under load a commit is shared by
//! many events, and alone an event waits for nobody. While it commits another writer has its turn. Work that has been
//! handed over is done even if whoever handed it over has gone.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use super::batch::{self, Inbox, IngestContext};
use super::delivery::Delivery;
use super::report::Reporter;
use super::turn::{Turn, Turns};
use crate::domain::outcome::Outcome;
use crate::domain::unit_of_work::{Changes, Effect, Policy};
use crate::store::{Store, StoreError, StoreFailure};
use crate::telemetry::spans;

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

pub(super) type Reply = oneshot::Sender<Result<Outcome, NotStored>>;

/// An event that was handed in, and who waits for what becomes of it.
pub(super) type Handed = (Delivery, Reply);

pub(super) type Queue = mpsc::Receiver<Handed>;

/// Where events are handed in. Cheap to clone; when the last clone is gone the writers finish what they have and end.
#[derive(Clone)]
pub struct Ingest {
    context: Arc<IngestContext>,
    waiting: mpsc::Sender<Handed>,
}

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
    /// Starts the writers, on a thread of their own: among the tasks of requests each step of a batch would wait until
    /// every request that came meanwhile has had its moment, and in a flood nearly nothing would be stored. Returns also
    /// what waits for the writers to end, and panics if they have panicked.
    ///
    /// Fails if the system gives no thread.
    pub fn start(
        store: Store,
        policy: Policy,
        reporter: Reporter,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let context = Arc::new(IngestContext { store, policy, reporter });
        let (waiting, queue) = mpsc::channel(WAITING);
        let writers = on_a_thread(write_all(context.clone(), Turns::at(queue)))?;
        Ok((Self { context, waiting }, writers))
    }

    /// Whether another event may wait.
    pub fn has_room(&self) -> bool {
        self.waiting.capacity() > 0
    }

    /// Puts an event into the queue and waits until it is committed. If the queue is full, it fails at once.
    pub async fn take(&self, delivery: Delivery) -> Result<Outcome, NotStored> {
        let (reply, outcome) = oneshot::channel();
        match self.waiting.try_send((delivery, reply)) {
            Ok(()) => outcome.await.unwrap_or(Err(NotStored::Stopping)),
            Err(refused) => {
                let (reason, (delivery, _)) = match refused {
                    TrySendError::Full(returned) => (NotStored::QueueFull, returned),
                    TrySendError::Closed(returned) => (NotStored::Stopping, returned),
                };
                self.context.reporter.report_not_stored(&[delivery]);
                Err(reason)
            }
        }
    }
}

/// Does something on a thread of its own. What is returned waits for its end, and panics if it has panicked.
///
/// Fails if the system gives no thread.
fn on_a_thread(
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
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
    Ok(has_ended.map(|ended| ended.expect("the thread has done its work")))
}

/// Until nothing is handed in any more.
async fn write_all(context: Arc<IngestContext>, turns: Turns) {
    let writers: JoinSet<()> = (0..WRITERS).map(|_| write(context.clone(), turns.clone())).collect();
    writers.join_all().await;
}

async fn write(context: Arc<IngestContext>, turns: Turns) {
    loop {
        let mut turn = turns.next().await;
        let batch = turn.take_waiting(BATCH).await;
        if batch.is_empty() {
            return;
        }
        let (deliveries, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let outcomes = process(&context, &deliveries, &mut turn).await;
        let nothing_stored = outcomes.iter().all(|outcome| *outcome == Err(NotStored::Database));
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // Nobody waits for the reply of a request whose sender has hung up.
            let _ = reply.send(outcome);
        }
        if nothing_stored {
            refuse_waiting(&context, &mut turn);
        }
    }
}

/// Those who wait already have waited while the database took nothing. Batch after batch they would find out the same for
/// themselves, the last of them long after Stripe has given up.
fn refuse_waiting(context: &IngestContext, turn: &mut Turn) {
    for (delivery, reply) in turn.take_all() {
        context.reporter.report_not_stored(&[delivery]);
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
    context: &IngestContext,
    deliveries: &[Delivery],
    turn: &mut Turn,
) -> Vec<Result<Outcome, NotStored>> {
    match attempt(context, deliveries, Inbox::NotAsked, turn).await {
        Ok(effects) => effects.into_iter().map(|effect| Ok(effect.outcome)).collect(),
        Err(Setback::Database) => refuse(context, deliveries),
        // The commit failed, and another writer has prepared the next batch, which waits for this turn to end. If these events
        // were applied one by one now, they could wait for its locks: a deadlock. So Stripe sends them again.
        Err(Setback::Event) if !turn.is_at_the_queue() => refuse(context, deliveries),
        Err(Setback::Event) => process_one_by_one(context, deliveries, turn).await,
    }
}

/// In the time that one batch may take, and no more: who is left then is told to come again.
async fn process_one_by_one(
    context: &IngestContext,
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
        outcomes.push(process_alone(context, delivery, turn).await);
    }
    outcomes.extend(refuse(context, &deliveries[outcomes.len()..]));
    outcomes
}

fn refuse(context: &IngestContext, deliveries: &[Delivery]) -> Vec<Result<Outcome, NotStored>> {
    context.reporter.report_not_stored(deliveries);
    vec![Err(NotStored::Database); deliveries.len()]
}

/// Applies one event, or keeps it as failed.
async fn process_alone(
    context: &IngestContext,
    delivery: &Delivery,
    turn: &mut Turn,
) -> Result<Outcome, NotStored> {
    let one = std::slice::from_ref(delivery);
    match attempt(context, one, Inbox::Asked, turn).await {
        Ok(effects) => Ok(effects.first().map_or(Outcome::Failed, |effect| effect.outcome)),
        Err(Setback::Database) => {
            context.reporter.report_not_stored(one);
            Err(NotStored::Database)
        }
        Err(Setback::Event) => keep_as_failed(context, delivery).await,
    }
}

async fn keep_as_failed(context: &IngestContext, delivery: &Delivery) -> Result<Outcome, NotStored> {
    let one = std::slice::from_ref(delivery);
    match tokio::time::timeout(PATIENCE, batch::keep_as_failed(context, delivery)).await {
        Ok(Ok(effect)) => {
            context.reporter.report_batch(one, std::slice::from_ref(&effect), &Changes::default());
            return Ok(effect.outcome);
        }
        Ok(Err(error)) => {
            tracing::error!(%error, event = %delivery.event.id, "a failed event cannot be kept");
        }
        Err(_) => tracing::error!(event = %delivery.event.id, "keeping a failed event took too long"),
    }
    context.reporter.report_not_stored(one);
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
    context: &IngestContext,
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
        let applied = batch::apply(context, deliveries, inbox).await?;
        turn.reach_commit().await;
        if context.store.writes_side_by_side() {
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
            let telling = || span.in_scope(|| context.reporter.report_batch(deliveries, &effects, &changes));
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
            context.store.note_failed_write();
            Err(Setback::Database)
        }
        Ok(Err(_)) => {
            tracing::error!(events, "a defect: applying events panicked");
            Err(Setback::Event)
        }
        Err(_) => {
            tracing::error!(events, "the database took too long; Stripe will send the events again");
            context.store.note_failed_write();
            Err(Setback::Database)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn end_of_the_thread_is_waited_for() {
        let ended = on_a_thread(async { tokio::time::sleep(Duration::from_millis(1)).await });
        ended.expect("a thread").await;
    }

    #[tokio::test]
    async fn panic_of_the_thread_is_passed_on() {
        let ended = on_a_thread(async { panic!("a defect") }).expect("a thread");
        assert!(tokio::spawn(ended).await.expect_err("it fails").is_panic());
    }
}
