//! The lanes: queues of events, each with one task that applies them.
//!
//! A lane takes its waiting events, up to a bound and without a timer, and applies them in one
//! transaction. Under load many events share a commit, and a single event is applied at once. All
//! events of a customer are in one lane: they are applied in order of arrival and do not wait for
//! each other's locks. Lanes only reduce contention. Correctness comes from the row locks and the
//! unique event id.
//!
//! The work belongs to the lane, not to the request: an event is stored even if its client
//! disconnects.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::thread;

use futures_util::FutureExt;
use tokio::runtime;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::batch::BatchProcessor;
use super::delivery::Delivery;
use super::report::Reporter;
use crate::domain::batch::Policy;
use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::outcome::Outcome;
use crate::store::{POSTGRES_LANES, Store};

/// In all lanes together: more than a renewal burst brings while the database stalls for a second.
/// When they are full, Stripe is asked to retry.
const MAX_WAITING_EVENTS: usize = 1024;

/// Enough to share the cost of a commit, and few enough that locks are held briefly.
const MAX_BATCH_EVENTS: usize = 64;

/// The event was not stored: Stripe must send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    #[error("too many events are waiting")]
    QueueFull,
    #[error("the service is stopping")]
    Stopping,
    #[error("the database is unavailable or too slow")]
    Database,
    /// Only this event: it kept conflicting with other transactions, or the database accepted it
    /// neither as applied nor as failed.
    #[error("the database did not accept the event")]
    Event,
}

impl NotStored {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Stopping => "stopping",
            Self::Database | Self::Event => "database",
        }
    }
}

struct QueuedEvent {
    delivery: Delivery,
    reply: oneshot::Sender<Result<Outcome, NotStored>>,
    /// One of [`MAX_WAITING_EVENTS`].
    _permit: OwnedSemaphorePermit,
}

type LaneReceiver = mpsc::UnboundedReceiver<QueuedEvent>;

/// The sending end of the lanes. Cheap to clone. After the last clone is dropped, the lanes apply
/// their remaining events and stop.
#[derive(Clone)]
pub struct Ingest {
    processor: Arc<BatchProcessor>,
    lanes: Arc<[mpsc::UnboundedSender<QueuedEvent>]>,
    permits: Arc<Semaphore>,
}

impl Ingest {
    /// Starts the lanes on one thread of their own. In the runtime of the requests, each step of a
    /// batch would wait its turn behind all runnable requests, and in a flood almost nothing would
    /// be stored. Also returns a future that completes when the lanes have stopped, and panics if
    /// one of them panicked.
    ///
    /// Fails if the system provides no thread.
    pub fn start(
        store: Store,
        policy: Policy,
        reporter: Reporter,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let count = if store.has_concurrent_writers() { POSTGRES_LANES } else { 1 };
        let processor = Arc::new(BatchProcessor { store, policy, reporter });
        let (lanes, queues): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let stopped = run_on_thread(run_lanes(processor.clone(), queues))?;
        let permits = Arc::new(Semaphore::new(MAX_WAITING_EVENTS));
        Ok((Self { processor, lanes: lanes.into(), permits }, stopped))
    }

    pub fn has_room(&self) -> bool {
        self.permits.available_permits() > 0
    }

    /// Returns after the event is committed. If the lanes are full, it fails at once.
    pub async fn enqueue(&self, delivery: Delivery) -> Result<Outcome, NotStored> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.processor.reporter.report_not_stored(&[delivery]);
            return Err(NotStored::QueueFull);
        };
        let (reply, outcome) = oneshot::channel();
        let lane = &self.lanes[lane_of(&delivery.event, self.lanes.len())];
        if let Err(SendError(rejected)) = lane.send(QueuedEvent { delivery, reply, _permit: permit }) {
            self.processor.reporter.report_not_stored(&[rejected.delivery]);
            return Err(NotStored::Stopping);
        }
        outcome.await.unwrap_or(Err(NotStored::Stopping))
    }
}

/// By the event's customer, else its subscription, else its id.
fn lane_of(event: &Event, lanes: usize) -> usize {
    let key = event.customer().map(CustomerId::as_str);
    let key = key.or_else(|| event.subscription().map(SubscriptionId::as_str));
    let mut hasher = DefaultHasher::new();
    key.unwrap_or(event.id.as_str()).hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or_default()
}

/// Runs `work` on a new thread with a runtime of its own. The returned future completes when `work`
/// has, and panics if it panicked.
///
/// Fails if the system provides no thread or no runtime.
fn run_on_thread(
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
    Ok(has_ended.map(|ended| ended.expect("the ingest thread did not panic")))
}

/// Returns when the last [`Ingest`] is dropped and all lanes are empty.
async fn run_lanes(processor: Arc<BatchProcessor>, queues: Vec<LaneReceiver>) {
    let lanes: JoinSet<()> = queues.into_iter().map(|queue| run_lane(processor.clone(), queue)).collect();
    lanes.join_all().await;
}

async fn run_lane(processor: Arc<BatchProcessor>, mut queue: LaneReceiver) {
    let mut queued = Vec::new();
    while queue.recv_many(&mut queued, MAX_BATCH_EVENTS).await > 0 {
        let (deliveries, replies): (Vec<_>, Vec<_>) =
            queued.drain(..).map(|event| (event.delivery, event.reply)).unzip();
        let outcomes = processor.process(&deliveries).await;
        let nothing_stored = outcomes.iter().all(|outcome| *outcome == Err(NotStored::Database));
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // The client of this request may have disconnected.
            let _ = reply.send(outcome);
        }
        if nothing_stored {
            reject_queued(&processor, &mut queue);
        }
    }
}

/// Rejects the events that were queued while the database stored nothing. If each batch ran into
/// the same error, the last events would be answered long after Stripe has given up.
fn reject_queued(processor: &BatchProcessor, queue: &mut LaneReceiver) {
    for _ in 0..queue.len() {
        let Ok(QueuedEvent { delivery, reply, .. }) = queue.try_recv() else { return };
        processor.reporter.report_not_stored(&[delivery]);
        let _ = reply.send(Err(NotStored::Database));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sea_orm::{ConnectionTrait, Database};

    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::batch::OwnAccount;
    use crate::domain::database_url::DatabaseUrl;
    use crate::domain::ids::DeploymentId;
    use crate::domain::plan::Catalog;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::topics::TopicLogs;

    fn customer_deleted(id: &str, customer: &str) -> Event {
        let json = format!(
            r#"{{"id": "{id}", "object": "event", "type": "customer.deleted", "created": 1,
                "data": {{"object": {{"id": "{customer}", "object": "customer"}}}}}}"#
        );
        Event::read(json.as_bytes()).expect("an event")
    }

    /// With an empty database. Events of the customer `cus_conflict` conflict in each attempt.
    async fn processor_with_conflicts(dir: &tempfile::TempDir) -> BatchProcessor {
        let url = format!("sqlite://{}/billhook.db", dir.path().display());
        let store = Store::connect(&DatabaseUrl::parse(&url).expect("a URL")).await.expect("it opens");
        store.migrate().await.expect("the migrations run");
        let conflict = "CREATE TRIGGER conflict BEFORE INSERT ON customer WHEN NEW.id = 'cus_conflict'
            BEGIN SELECT RAISE(IGNORE); END";
        let database = Database::connect(url).await.expect("it opens");
        database.execute_unprepared(conflict).await.expect("a trigger");
        let policy = Policy {
            mode: None,
            account: OwnAccount::default(),
            deployment: DeploymentId::parse("ours").expect("a deployment"),
            trust_client_reference: false,
            catalog: Catalog::parse("pro=price_pro", true).expect("plans"),
        };
        let metrics = Metrics::new(TopicLogs::none(), Arc::default());
        let reporter = Reporter::new(TopicLogs::none(), metrics, Arc::new(SystemClock), 72);
        BatchProcessor { store, policy, reporter }
    }

    #[tokio::test]
    async fn conflicting_event_rejects_neither_queued_events_nor_database() {
        let dir = tempfile::tempdir().expect("a directory");
        let processor = Arc::new(processor_with_conflicts(&dir).await);
        // Uses up the test write of this second: a failed write would now stay visible.
        processor.store.record_failed_write();
        assert!(processor.store.is_writable().await.expect("a test write"));
        let (lane, queue) = mpsc::unbounded_channel();
        let enqueue = |id: &str, customer: &str| {
            let (reply, outcome) = oneshot::channel();
            let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit");
            let delivery = Delivery::from_backfill(customer_deleted(id, customer), Vec::new(), 0);
            assert!(lane.send(QueuedEvent { delivery, reply, _permit: permit }).is_ok());
            outcome
        };
        let conflicting = enqueue("evt_1", "cus_conflict");
        let mut running = std::pin::pin!(run_lane(processor.clone(), queue));
        assert!(futures_util::poll!(&mut running).is_pending(), "the first event is being applied");
        let queued = enqueue("evt_2", "cus_a");
        drop(lane);
        running.await;
        assert_eq!(queued.await, Ok(Ok(Outcome::Applied)));
        assert_eq!(conflicting.await, Ok(Err(NotStored::Event)));
        assert!(processor.store.is_writable().await.expect("no test write"));
    }

    #[tokio::test]
    async fn thread_that_finishes_completes_the_future() {
        let stopped = run_on_thread(async { tokio::time::sleep(Duration::from_millis(1)).await });
        stopped.expect("a thread").await;
    }

    #[tokio::test]
    async fn thread_that_panics_panics_the_future() {
        let stopped = run_on_thread(async { panic!("a defect") }).expect("a thread");
        assert!(tokio::spawn(stopped).await.expect_err("it fails").is_panic());
    }

    #[test]
    fn events_of_a_customer_share_a_lane() {
        let lane = |id: &str, customer: &str| lane_of(&customer_deleted(id, customer), 8);
        assert_eq!(lane("evt_1", "cus_a"), lane("evt_2", "cus_a"));
        let lanes = (0..64).map(|number| lane("evt_1", &format!("cus_{number}")));
        assert_eq!(lanes.collect::<std::collections::BTreeSet<_>>().len(), 8, "all lanes are used");
    }
}
