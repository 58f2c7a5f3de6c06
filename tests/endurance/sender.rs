//! Stripe, as far as it is stubborn: it sends every event until there is a 2xx, some of them twice, from many
//! subscriptions at a time, while the tenants look at their page.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use billhook::clock::{Clock, SystemClock};
use futures_util::future::join;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tokio::task::JoinHandle;

use crate::chance;
use crate::ledger::Ledger;
use crate::life::{Event, Life};
use crate::running::{ANSWER, Running, WEBHOOK_SECRET, token_of};
use crate::support::answer;
use crate::waiting::{DEADLINE, eventually};

/// How many tenants have something happen at a time.
const TENANTS: usize = 8;

/// The pauses between an event's deliveries. Stripe takes hours.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How long a connection may lie idle and be used again. As with any client it is shorter than the time for which a replica
/// says that it leaves, so that none is used again that has not heard of it.
const IDLE: Duration = Duration::from_secs(2);

/// A load on the service, that goes on until it is told to end.
pub struct Load {
    sender: Arc<Sender>,
    couriers: Vec<JoinHandle<()>>,
}

struct Sender {
    http: Client,
    url: String,
    ledger: Ledger,
    tally: Tally,
    /// No more lives are begun.
    ending: AtomicBool,
    /// Goes up when the database is taken away, and when it is given back: odd means away.
    outage: AtomicUsize,
    /// When the database was last given back.
    returned_at: Mutex<Instant>,
    /// How many deliveries were begun, each of which has its number.
    deliveries: AtomicUsize,
    /// The deliveries that have not been answered 2xx.
    untaken: Mutex<HashSet<usize>>,
}

/// What was answered, to deliveries and to the tenants' looks.
#[derive(Debug, Default)]
pub struct Tally {
    deliveries: AtomicUsize,
    taken: AtomicUsize,
    refused: AtomicUsize,
    cut_off: AtomicUsize,
    shown: AtomicUsize,
    longest_ms: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Good,
    /// An honest 503.
    Refused,
    /// The connection was refused or broke.
    CutOff,
}

impl Load {
    /// The usual load.
    pub fn on(service: &Running) -> Self {
        Self::at(&service.url())
    }

    /// The same, at whatever stands before the service.
    pub fn at(url: &str) -> Self {
        Self::by_tenants(url, TENANTS)
    }

    /// The same, with so many tenants at a time.
    pub fn of_tenants(service: &Running, tenants: usize) -> Self {
        Self::by_tenants(&service.url(), tenants)
    }

    fn by_tenants(url: &str, tenants: usize) -> Self {
        let sender = Arc::new(Sender {
            http: Client::builder().timeout(ANSWER).pool_idle_timeout(IDLE).build().expect("a client"),
            url: url.to_owned(),
            ledger: Ledger::default(),
            tally: Tally::default(),
            ending: AtomicBool::new(false),
            outage: AtomicUsize::new(0),
            returned_at: Mutex::new(Instant::now()),
            deliveries: AtomicUsize::new(0),
            untaken: Mutex::default(),
        });
        let couriers = (0..tenants).map(|_| tokio::spawn(sender.clone().carry())).collect();
        Self { sender, couriers }
    }

    /// How many deliveries have been answered 2xx.
    pub fn taken(&self) -> usize {
        self.sender.tally.taken.load(SeqCst)
    }

    /// Waits until so many more deliveries are answered 2xx.
    pub async fn until_taken(&self, more: usize) {
        self.until("deliveries are taken", &self.sender.tally.taken, more).await;
    }

    /// Waits until so many deliveries are answered 2xx without a request that is answered 503.
    pub async fn until_taken_without_refusal(&self, count: usize) {
        let refused = || self.sender.tally.refused.load(SeqCst);
        eventually("deliveries are taken without a refusal", || async {
            let before = refused();
            self.until_taken(count).await;
            (refused() == before).then_some(())
        })
        .await;
    }

    /// Waits until every event is taken that is being delivered now.
    pub async fn until_none_waits(&self) {
        let waiting = self.sender.untaken().clone();
        eventually("the events that wait are taken", || async {
            self.assert_couriers_live();
            waiting.is_disjoint(&self.sender.untaken()).then_some(())
        })
        .await;
    }

    /// Waits until so many more requests are answered 503.
    pub async fn until_refused(&self, more: usize) {
        self.until("requests are refused", &self.sender.tally.refused, more).await;
    }

    async fn until(&self, what: &str, count: &AtomicUsize, more: usize) {
        let enough = count.load(SeqCst) + more;
        eventually(what, || async {
            self.assert_couriers_live();
            (count.load(SeqCst) >= enough).then_some(())
        })
        .await;
    }

    /// A courier ends before its time only by a failed assertion, which `end` reports.
    fn assert_couriers_live(&self) {
        let died = self.couriers.iter().any(JoinHandle::is_finished);
        assert!(!died, "a courier has failed: see above");
    }

    /// From now on a 2xx would be a lie.
    pub fn database_is_away(&self) {
        self.sender.outage.fetch_add(1, SeqCst);
    }

    /// From now on it may be true again.
    pub fn database_comes_back(&self) {
        *self.sender.returned_at.lock().expect("nobody panics with it") = Instant::now();
        self.sender.outage.fetch_add(1, SeqCst);
    }

    /// Begins no new lives, and waits for the end of those that were begun.
    pub async fn end(self) -> (Ledger, Tally) {
        self.sender.ending.store(true, SeqCst);
        for courier in self.couriers {
            courier.await.expect("the courier has done its work");
        }
        let sender = Arc::into_inner(self.sender).expect("the couriers are gone");
        eprintln!("{} events acknowledged; {:?}", sender.ledger.count_acknowledged(), sender.tally);
        (sender.ledger, sender.tally)
    }
}

impl Sender {
    async fn carry(self: Arc<Self>) {
        while !self.ending.load(SeqCst) {
            let [one, other] = Life::two_of_a_tenant().map(|life| self.ledger.begin(life));
            join(self.tell(&one), self.tell(&other)).await;
        }
    }

    /// Sends a life's events in their order. Some go out twice at once, some come back later.
    async fn tell(&self, life: &Life) {
        for (nth, event) in life.events.iter().enumerate() {
            if chance::one_in(8) {
                join(self.deliver(event), self.deliver(event)).await;
            } else {
                self.deliver(event).await;
            }
            if chance::one_in(8) {
                self.deliver(&life.events[chance::below(nth + 1)]).await;
            }
            if chance::one_in(4) {
                self.look(&life.tenant).await;
            }
        }
    }

    async fn deliver(&self, event: &Event) {
        let (begun, number) = (Instant::now(), self.deliveries.fetch_add(1, SeqCst));
        self.untaken().insert(number);
        let mut pause = FIRST_PAUSE;
        while self.attempt(event).await != Answer::Good {
            // An outage takes a third of the deadline, and an event may wait through more than one.
            let is_away = self.outage.load(SeqCst) % 2 == 1;
            let since = begun.max(*self.returned_at.lock().expect("nobody panics with it"));
            assert!(is_away || since.elapsed() < DEADLINE, "not taken in all that time: {}", event.id);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.untaken().remove(&number);
        self.ledger.acknowledge(event);
    }

    fn untaken(&self) -> MutexGuard<'_, HashSet<usize>> {
        self.untaken.lock().expect("nobody panics with it")
    }

    /// Each delivery is signed anew, as Stripe does.
    async fn attempt(&self, event: &Event) -> Answer {
        let signature = sandbox::sign(WEBHOOK_SECRET, SystemClock.now_seconds(), event.body.as_bytes());
        let request = self.http.post(format!("{}/api/billing/webhook/", self.url));
        let outage = self.outage.load(SeqCst);
        self.tally.deliveries.fetch_add(1, SeqCst);
        let answer = self.ask(request.header("Stripe-Signature", signature).body(event.body.clone())).await;
        if answer == Answer::Good {
            let was_away = outage % 2 == 1 && outage == self.outage.load(SeqCst);
            assert!(!was_away, "acknowledged without a database: {}", event.id);
            self.tally.taken.fetch_add(1, SeqCst);
        }
        answer
    }

    async fn look(&self, tenant: &str) {
        let request = self.http.get(format!("{}/api/billing/subscription/", self.url));
        if self.ask(request.bearer_auth(token_of(tenant))).await == Answer::Good {
            self.tally.shown.fetch_add(1, SeqCst);
        }
    }

    /// Whatever happens, there is an answer in time, and it is a 2xx or a 503.
    async fn ask(&self, request: RequestBuilder) -> Answer {
        let begun = Instant::now();
        let answered = async { answer::Answer::of(request.send().await?).await };
        let answer = match answered.await {
            Ok(answer) => {
                answer.assert_well_made(&Method::GET);
                match answer.status {
                    status if status.is_success() => Answer::Good,
                    StatusCode::SERVICE_UNAVAILABLE => Answer::Refused,
                    status => panic!("answered {status}: {}", answer.text),
                }
            }
            Err(error) if error.is_timeout() => panic!("no answer within {ANSWER:?}: {error:?}"),
            Err(_) => Answer::CutOff,
        };
        self.tally.count(answer, begun.elapsed());
        answer
    }
}

impl Tally {
    fn count(&self, answer: Answer, took: Duration) {
        match answer {
            Answer::Good => {}
            Answer::Refused => _ = self.refused.fetch_add(1, SeqCst),
            Answer::CutOff => _ = self.cut_off.fetch_add(1, SeqCst),
        }
        self.longest_ms.fetch_max(usize::try_from(took.as_millis()).unwrap_or(usize::MAX), SeqCst);
    }

    /// A service that lacks nothing refuses nothing.
    pub fn assert_none_was_refused(&self) {
        assert_eq!(self.refused.load(SeqCst), 0, "{self:?}");
    }

    /// A service that was never killed breaks no connection.
    pub fn assert_every_request_was_answered(&self) {
        assert_eq!(self.cut_off.load(SeqCst), 0, "{self:?}");
    }
}
