//! Load like Stripe's: sends the events of many subscriptions at a time, each until it gets a 2xx
//! and some twice, while the tenants read their subscription.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use billhook::clock::{Clock, SystemClock};
use futures_util::future::join;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tokio::task::JoinHandle;

use crate::eventually::{TEST_TIMEOUT, eventually};
use crate::ledger::Ledger;
use crate::lifecycle::{Event, Lifecycle};
use crate::random;
use crate::service_process::{RESPONSE_TIMEOUT, ServiceProcess, WEBHOOK_SECRET, token_of};
use crate::support::api_response::ApiResponse;

/// Tenants with concurrent events.
const TENANTS: usize = 8;

/// Between the attempts to deliver an event. Stripe waits for hours.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(5);
const MAX_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Shorter than the time for which a stopping replica still accepts requests, as a client's should
/// be. So no idle connection is reused after its replica has closed it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs until `finish`.
pub struct Load {
    sender: Arc<Sender>,
    tasks: Vec<JoinHandle<()>>,
}

struct Sender {
    http: Client,
    url: String,
    ledger: Ledger,
    stats: LoadStats,
    /// Starts no more lifecycles.
    is_finishing: AtomicBool,
    /// Incremented when the database goes down and when it comes back: odd means down.
    outage: AtomicUsize,
    /// When the database last came back.
    back_at: Mutex<Instant>,
    /// Deliveries started so far. Gives each delivery its number.
    deliveries: AtomicUsize,
    /// The deliveries without a 2xx so far.
    pending: Mutex<HashSet<usize>>,
}

/// Counts the responses to deliveries and to the tenants' reads.
#[derive(Debug, Default)]
pub struct LoadStats {
    attempts: AtomicUsize,
    accepted: AtomicUsize,
    unavailable: AtomicUsize,
    disconnected: AtomicUsize,
    reads: AtomicUsize,
    longest_ms: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestOutcome {
    /// A 2xx.
    Success,
    /// A 503.
    Unavailable,
    /// The connection was refused or broke.
    Disconnected,
}

impl Load {
    pub fn start(service: &ServiceProcess) -> Self {
        Self::start_at(&service.url())
    }

    /// For a service behind a load balancer.
    pub fn start_at(url: &str) -> Self {
        Self::spawn(url, TENANTS)
    }

    pub fn start_with_tenants(service: &ServiceProcess, tenants: usize) -> Self {
        Self::spawn(&service.url(), tenants)
    }

    fn spawn(url: &str, tenants: usize) -> Self {
        let http = Client::builder().timeout(RESPONSE_TIMEOUT).pool_idle_timeout(POOL_IDLE_TIMEOUT);
        let sender = Arc::new(Sender {
            http: http.build().expect("a client"),
            url: url.to_owned(),
            ledger: Ledger::default(),
            stats: LoadStats::default(),
            is_finishing: AtomicBool::new(false),
            outage: AtomicUsize::new(0),
            back_at: Mutex::new(Instant::now()),
            deliveries: AtomicUsize::new(0),
            pending: Mutex::default(),
        });
        let tasks = (0..tenants).map(|_| tokio::spawn(sender.clone().run())).collect();
        Self { sender, tasks }
    }

    pub fn accepted(&self) -> usize {
        self.sender.stats.accepted.load(SeqCst)
    }

    /// Waits until that many more deliveries got a 2xx.
    pub async fn until_accepted(&self, more: usize) {
        self.until("deliveries are accepted", &self.sender.stats.accepted, more).await;
    }

    /// Waits until that many deliveries got a 2xx and no request got a 503 in between.
    pub async fn until_accepted_without_503(&self, count: usize) {
        let unavailable = || self.sender.stats.unavailable.load(SeqCst);
        eventually("deliveries are accepted without a 503", || async {
            let before = unavailable();
            self.until_accepted(count).await;
            (unavailable() == before).then_some(())
        })
        .await;
    }

    /// Waits until each event that is being delivered now got a 2xx.
    pub async fn until_current_events_accepted(&self) {
        let current = self.sender.pending().clone();
        eventually("the pending events are accepted", || async {
            self.assert_tasks_run();
            current.is_disjoint(&self.sender.pending()).then_some(())
        })
        .await;
    }

    /// Waits until that many more requests got a 503.
    pub async fn until_503(&self, more: usize) {
        self.until("requests get a 503", &self.sender.stats.unavailable, more).await;
    }

    async fn until(&self, what: &str, count: &AtomicUsize, more: usize) {
        let enough = count.load(SeqCst) + more;
        eventually(what, || async {
            self.assert_tasks_run();
            (count.load(SeqCst) >= enough).then_some(())
        })
        .await;
    }

    /// A task ends early only by a failed assertion, which `finish` reports.
    fn assert_tasks_run(&self) {
        let has_failed = self.tasks.iter().any(JoinHandle::is_finished);
        assert!(!has_failed, "a sender has failed: see above");
    }

    /// Until `database_came_back`, a 2xx fails the test.
    pub fn database_went_down(&self) {
        self.sender.outage.fetch_add(1, SeqCst);
    }

    pub fn database_came_back(&self) {
        *self.sender.back_at.lock().expect("not poisoned") = Instant::now();
        self.sender.outage.fetch_add(1, SeqCst);
    }

    /// Starts no new lifecycles, and waits for the current ones to end.
    pub async fn finish(self) -> (Ledger, LoadStats) {
        self.sender.is_finishing.store(true, SeqCst);
        for task in self.tasks {
            task.await.expect("the sender did not fail");
        }
        let sender = Arc::into_inner(self.sender).expect("the tasks have ended");
        eprintln!("{} events acknowledged; {:?}", sender.ledger.count_acknowledged(), sender.stats);
        (sender.ledger, sender.stats)
    }
}

impl Sender {
    async fn run(self: Arc<Self>) {
        while !self.is_finishing.load(SeqCst) {
            let [one, other] = Lifecycle::two_for_one_tenant().map(|lifecycle| self.ledger.add(lifecycle));
            join(self.send(&one), self.send(&other)).await;
        }
    }

    /// Sends the events in order. Sends some twice concurrently, and some again later.
    async fn send(&self, lifecycle: &Lifecycle) {
        for (nth, event) in lifecycle.events.iter().enumerate() {
            if random::one_in(8) {
                join(self.deliver(event), self.deliver(event)).await;
            } else {
                self.deliver(event).await;
            }
            if random::one_in(8) {
                self.deliver(&lifecycle.events[random::below(nth + 1)]).await;
            }
            if random::one_in(4) {
                self.read_subscription(&lifecycle.tenant).await;
            }
        }
    }

    async fn deliver(&self, event: &Event) {
        let (started, number) = (Instant::now(), self.deliveries.fetch_add(1, SeqCst));
        self.pending().insert(number);
        let mut delay = FIRST_RETRY_DELAY;
        while self.attempt(event).await != RequestOutcome::Success {
            // An outage takes a third of the timeout, and an event may wait through several
            // outages. So the time counts from the end of the last.
            let is_down = self.outage.load(SeqCst) % 2 == 1;
            let since = started.max(*self.back_at.lock().expect("not poisoned"));
            assert!(is_down || since.elapsed() < TEST_TIMEOUT, "not accepted in time: {}", event.id);
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(MAX_RETRY_DELAY);
        }
        self.pending().remove(&number);
        self.ledger.acknowledge(event);
    }

    fn pending(&self) -> MutexGuard<'_, HashSet<usize>> {
        self.pending.lock().expect("not poisoned")
    }

    /// Signs the event again for each attempt, as Stripe does.
    async fn attempt(&self, event: &Event) -> RequestOutcome {
        let signature = sandbox::sign(WEBHOOK_SECRET, SystemClock.now_seconds(), event.body.as_bytes());
        let request = self.http.post(format!("{}/api/billing/webhook/", self.url));
        let outage = self.outage.load(SeqCst);
        self.stats.attempts.fetch_add(1, SeqCst);
        let request = request.header("Stripe-Signature", signature).body(event.body.clone());
        let outcome = self.request(request).await;
        if outcome == RequestOutcome::Success {
            let was_down = outage % 2 == 1 && outage == self.outage.load(SeqCst);
            assert!(!was_down, "acknowledged without a database: {}", event.id);
            self.stats.accepted.fetch_add(1, SeqCst);
        }
        outcome
    }

    async fn read_subscription(&self, tenant: &str) {
        let request = self.http.get(format!("{}/api/billing/subscription/", self.url));
        if self.request(request.bearer_auth(token_of(tenant))).await == RequestOutcome::Success {
            self.stats.reads.fetch_add(1, SeqCst);
        }
    }

    /// Fails unless the response comes in time and is a 2xx or a 503.
    async fn request(&self, request: RequestBuilder) -> RequestOutcome {
        let started = Instant::now();
        let received = async { ApiResponse::read(request.send().await?).await };
        let outcome = match received.await {
            Ok(response) => {
                response.assert_conforms(&Method::GET);
                match response.status {
                    status if status.is_success() => RequestOutcome::Success,
                    StatusCode::SERVICE_UNAVAILABLE => RequestOutcome::Unavailable,
                    status => panic!("unexpected {status}: {}", response.text),
                }
            }
            Err(error) if error.is_timeout() => panic!("no response within {RESPONSE_TIMEOUT:?}: {error:?}"),
            Err(_) => RequestOutcome::Disconnected,
        };
        self.stats.count(outcome, started.elapsed());
        outcome
    }
}

impl LoadStats {
    fn count(&self, outcome: RequestOutcome, took: Duration) {
        match outcome {
            RequestOutcome::Success => {}
            RequestOutcome::Unavailable => _ = self.unavailable.fetch_add(1, SeqCst),
            RequestOutcome::Disconnected => _ = self.disconnected.fetch_add(1, SeqCst),
        }
        self.longest_ms.fetch_max(usize::try_from(took.as_millis()).unwrap_or(usize::MAX), SeqCst);
    }

    /// For a service that had its database and disk all the time.
    pub fn assert_no_503(&self) {
        assert_eq!(self.unavailable.load(SeqCst), 0, "{self:?}");
    }

    /// For a service that was never killed.
    pub fn assert_no_connection_broke(&self) {
        assert_eq!(self.disconnected.load(SeqCst), 0, "{self:?}");
    }
}
