//! The lanes: queues of events, each of which one task empties.
//!
//! A lane takes what is waiting, up to a bound and without a timer, and applies it in one transaction. Under load many events
//! share a commit, and an event that is alone is applied at once. The events of a customer are in one lane, so that they are
//! applied in the order in which they came and do not wait for each other's locks. Lanes only reduce contention: correctness
//! comes from the row locks and the unique id of each event.
//!
//! The work belongs to the lane, not to the request: a client that hangs up loses nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::thread;

use futures_util::FutureExt;
use tokio::runtime;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::batch::{self, IngestContext};
use super::delivery::Delivery;
use super::report::Reporter;
use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::outcome::Outcome;
use crate::domain::unit_of_work::Policy;
use crate::store::{POSTGRES_LANES, Store};

/// Events that may wait in all lanes together. More than a renewal burst brings in the second that a database may stall;
/// beyond it Stripe is asked to retry instead of waiting.
const MAX_WAITING_EVENTS: usize = 1024;

/// Events in one transaction: enough to share the cost of a commit, few enough that its locks are short.
const MAX_BATCH_EVENTS: usize = 64;

/// The event was not stored: Stripe must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// Too many events wait.
    #[error("too many events are waiting")]
    QueueFull,
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
    /// The database was not available, or too busy.
    #[error("the database did not take it")]
    Database,
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

/// An event in a lane.
struct Waiting {
    delivery: Delivery,
    reply: oneshot::Sender<Result<Outcome, NotStored>>,
    /// One of [`MAX_WAITING_EVENTS`].
    _permit: OwnedSemaphorePermit,
}

type Lane = mpsc::UnboundedReceiver<Waiting>;

/// Accepts events for the lanes. Cheap to clone; when the last clone is dropped, the lanes apply what they have and end.
#[derive(Clone)]
pub struct Ingest {
    context: Arc<IngestContext>,
    lanes: Arc<[mpsc::UnboundedSender<Waiting>]>,
    permits: Arc<Semaphore>,
}

impl Ingest {
    /// Starts the lanes, on a thread of their own: among the tasks of requests each step of a batch would wait until every
    /// request that came meanwhile has had its moment, and in a flood nearly nothing would be stored. Also returns a future
    /// that waits for the lanes to end, and panics if they have panicked.
    ///
    /// Fails if the system provides no thread.
    pub fn start(
        store: Store,
        policy: Policy,
        reporter: Reporter,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let count = if store.has_concurrent_writers() { POSTGRES_LANES } else { 1 };
        let context = Arc::new(IngestContext { store, policy, reporter });
        let (lanes, queues): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let ended = on_a_thread(run_lanes(context.clone(), queues))?;
        let permits = Arc::new(Semaphore::new(MAX_WAITING_EVENTS));
        Ok((Self { context, lanes: lanes.into(), permits }, ended))
    }

    /// Whether another event may wait.
    pub fn has_room(&self) -> bool {
        self.permits.available_permits() > 0
    }

    /// Puts an event into its lane and waits until it is committed. If too many events wait, it fails at once.
    pub async fn enqueue(&self, delivery: Delivery) -> Result<Outcome, NotStored> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.context.reporter.report_not_stored(&[delivery]);
            return Err(NotStored::QueueFull);
        };
        let (reply, outcome) = oneshot::channel();
        let lane = &self.lanes[lane_of(&delivery.event, self.lanes.len())];
        if let Err(SendError(refused)) = lane.send(Waiting { delivery, reply, _permit: permit }) {
            self.context.reporter.report_not_stored(&[refused.delivery]);
            return Err(NotStored::Stopping);
        }
        outcome.await.unwrap_or(Err(NotStored::Stopping))
    }
}

/// The lane of an event: by its customer, else by its subscription, else by its own id.
fn lane_of(event: &Event, lanes: usize) -> usize {
    let key = event.customer().map(CustomerId::as_str);
    let key = key.or_else(|| event.subscription().map(SubscriptionId::as_str));
    let mut hasher = DefaultHasher::new();
    key.unwrap_or(event.id.as_str()).hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or_default()
}

/// Runs work on a thread of its own. The returned future waits for its end, and panics if it has panicked.
///
/// Fails if the system provides no thread or no runtime.
fn on_a_thread(
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (started, has_started) = std::sync::mpsc::channel();
    let (ended, has_ended) = oneshot::channel();
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        match runtime::Builder::new_current_thread().enable_all().build() {
            Err(error) => _ = started.send(Err(error)),
            Ok(runtime) => {
                _ = started.send(Ok(()));
                runtime.block_on(work);
                _ = ended.send(());
            }
        }
    })?;
    has_started.recv().map_err(io::Error::other)??;
    Ok(has_ended.map(|ended| ended.expect("the thread has done its work")))
}

/// Runs until nothing can be enqueued any more and all lanes are empty.
async fn run_lanes(context: Arc<IngestContext>, queues: Vec<Lane>) {
    let lanes: JoinSet<()> = queues.into_iter().map(|queue| run_lane(context.clone(), queue)).collect();
    lanes.join_all().await;
}

async fn run_lane(context: Arc<IngestContext>, mut queue: Lane) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, MAX_BATCH_EVENTS).await > 0 {
        let (deliveries, replies): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|waiting| (waiting.delivery, waiting.reply)).unzip();
        let outcomes = batch::process(&context, &deliveries).await;
        let nothing_stored = outcomes.iter().all(|outcome| *outcome == Err(NotStored::Database));
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // The client of this request may have hung up.
            let _ = reply.send(outcome);
        }
        if nothing_stored {
            refuse_waiting(&context, &mut queue);
        }
    }
}

/// Refuses the events that have waited while the database took nothing. Batch after batch they would find out the same, the
/// last of them long after Stripe has given up.
fn refuse_waiting(context: &IngestContext, queue: &mut Lane) {
    for _ in 0..queue.len() {
        let Ok(Waiting { delivery, reply, .. }) = queue.try_recv() else { return };
        context.reporter.report_not_stored(&[delivery]);
        let _ = reply.send(Err(NotStored::Database));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn events_of_a_customer_share_a_lane() {
        let event = |id: &str, customer: &str| {
            let json = format!(
                r#"{{"id": "{id}", "object": "event", "type": "customer.deleted", "created": 1,
                    "data": {{"object": {{"id": "{customer}", "object": "customer"}}}}}}"#
            );
            Event::read(json.as_bytes()).expect("an event")
        };
        assert_eq!(lane_of(&event("evt_1", "cus_a"), 8), lane_of(&event("evt_2", "cus_a"), 8));
        let lanes = (0..64).map(|number| lane_of(&event("evt_1", &format!("cus_{number}")), 8));
        assert_eq!(lanes.collect::<std::collections::BTreeSet<_>>().len(), 8, "all lanes are used");
    }
}
