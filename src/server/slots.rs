//! Limits the number of open connections.
//!
//! Unauthenticated traffic must not block valid requests. So a new connection is accepted even if
//! all slots are taken: the client with the most connections loses the one that has waited longest
//! for its client. A connection with a request in progress is not evicted, unless clients leave too
//! many responses unread.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::activity::{ConnectionActivity, Overdue};
use super::trust::{TrustMark, TrustedClients};
use crate::domain::client_address::ClientAddress;
use crate::domain::eviction::{OccupiedSlot, choose_eviction};
use crate::telemetry::metrics::Metrics;

/// Four times the limit of event streams, so that webhooks and reads have three quarters of the
/// slots. A connection takes 45 to 80 KB.
const MAX_CONNECTIONS: usize = 2048;

/// File descriptors for everything else: database, topic logs, Stripe, the trace collector.
const RESERVED_FILES: usize = 256;

/// The minimum, whatever the file limit is: more than the webhook bodies that are read at once,
/// whose connections cannot be evicted.
const MIN_CONNECTIONS: usize = 192;

/// Unread responses over all connections, about 10 KB each. Eight times the length of the event
/// queue: a proxy reads its responses as they come.
const MAX_UNREAD_RESPONSES: usize = 8 * 1024;

/// How long an evicted connection may take to free its slot. Its task only has to be scheduled.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The slots of one listener. Clones share them.
#[derive(Debug, Clone)]
pub struct ConnectionSlots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    permits: Arc<Semaphore>,
    /// By connection id.
    open: Mutex<HashMap<u64, Arc<OpenConnection>>>,
    next_id: AtomicU64,
    trusted: Arc<TrustedClients>,
    metrics: Metrics,
}

#[derive(Debug)]
struct OpenConnection {
    id: u64,
    client: ClientAddress,
    activity: Arc<ConnectionActivity>,
    end: watch::Sender<Option<EndReason>>,
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Another connection needed its slot.
    Evicted,
    Overdue(Overdue),
    /// The client speaks no TLS or does not trust the certificate.
    NoTls,
    /// There was no slot for it.
    Refused,
}

impl EndReason {
    /// The label in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "crowded",
            Self::Overdue(Overdue::Idle) => "silent",
            Self::Overdue(Overdue::Stalled) => "stalled",
            Self::NoTls => "no_tls",
            Self::Refused => "refused",
        }
    }
}

impl ConnectionSlots {
    /// As many slots as the process's file limit allows.
    pub fn for_public(metrics: Metrics) -> Self {
        let files = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        Self::new(files.saturating_sub(RESERVED_FILES).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS), metrics)
    }

    /// Few slots, for a listener that only operators use.
    pub fn for_operators(metrics: Metrics) -> Self {
        Self::new(MIN_CONNECTIONS, metrics)
    }

    fn new(limit: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            limit,
            permits: Arc::new(Semaphore::new(limit)),
            open: Mutex::default(),
            next_id: AtomicU64::new(0),
            trusted: Arc::default(),
            metrics,
        }))
    }

    /// Acquires a slot for a new connection. None if every connection has a request in progress:
    /// close the new one.
    pub(super) async fn acquire(&self, address: SocketAddr) -> Option<ConnectionSlot> {
        let Shared { permits, metrics, .. } = &*self.0;
        let client = address.ip().into();
        let permit = async {
            if !self.make_room(client) {
                return None;
            }
            timeout(EVICTION_TIMEOUT, permits.clone().acquire_owned()).await.ok()?.ok()
        };
        let Some(permit) = permit.await else {
            metrics.connection_ended(EndReason::Refused.as_str());
            return None;
        };
        metrics.connection_opened();
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (activity, end) = (Arc::new(ConnectionActivity::new()), watch::Sender::new(None));
        let connection = Arc::new(OpenConnection { id, client, activity, end });
        self.lock().insert(id, connection.clone());
        let is_end_counted = AtomicBool::new(false);
        Some(ConnectionSlot { slots: self.clone(), address, connection, is_end_counted, _permit: permit })
    }

    /// Evicts a connection if necessary. Returns whether there is a slot for the client.
    fn make_room(&self, client: ClientAddress) -> bool {
        let limit = self.0.limit;
        let mut open = self.lock();
        let is_own = |one: &OpenConnection| one.client == client;
        // While slots are scarce, a client may have an eighth of them, unless it sends verified
        // requests: behind a load balancer that is not configured as a trusted proxy, all clients
        // have one address.
        let is_scarce = open.len() >= limit / 4 * 3;
        let own = open.values().filter(|one| is_own(one));
        if is_scarce && own.clone().count() >= limit / 8 && !self.0.trusted.contains(client) {
            return evict(&mut open, is_own, 0);
        }
        if open.len() < limit {
            return true;
        }
        // A client with fewer connections than this one loses none to it.
        let min_size = own.filter(|one| !one.activity.is_verified()).count();
        evict(&mut open, |_| true, min_size)
    }

    /// Ends all overdue connections. If there are too many unread responses, also evicts the
    /// connections with the most.
    pub(super) fn end_overdue(&self) {
        let now = Instant::now();
        let open = self.lock();
        for connection in open.values() {
            if let Some(overdue) = connection.activity.overdue(now) {
                connection.end(EndReason::Overdue(overdue));
            }
        }
        let mut unread: Vec<_> = open.values().map(|one| (one.activity.unread_responses(), one)).collect();
        let mut total: usize = unread.iter().map(|(count, _)| count).sum();
        if total <= MAX_UNREAD_RESPONSES {
            return;
        }
        unread.sort_unstable_by_key(|(count, one)| (one.activity.is_verified(), Reverse(*count)));
        for (count, connection) in unread {
            if total <= MAX_UNREAD_RESPONSES {
                return;
            }
            connection.end(EndReason::Evicted);
            total -= count;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<OpenConnection>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts the connection that has waited longest for its client, of the client with the most
/// connections. Verified connections are not counted and are evicted last. A connection with a
/// request in progress is not evicted.
fn evict(
    open: &mut HashMap<u64, Arc<OpenConnection>>,
    is_candidate: impl Fn(&OpenConnection) -> bool,
    min_size: usize,
) -> bool {
    let slots = open.values().filter(|one| is_candidate(one)).map(|one| {
        let is_verified = one.activity.is_verified();
        let waiting_since = one.activity.waiting_on_client_since();
        let eviction_order = waiting_since.map(|since| (is_verified, since, one.id));
        OccupiedSlot { client: one.client, is_counted: !is_verified, eviction_order, key: one.id }
    });
    let evicted = choose_eviction(slots, min_size).and_then(|id| open.remove(&id));
    evicted.is_some_and(|evicted| {
        evicted.end(EndReason::Evicted);
        true
    })
}

impl OpenConnection {
    /// Asks the connection's task to end it. An eviction overrides a timeout, after which other
    /// responses may still be finished.
    fn end(&self, reason: EndReason) {
        self.end.send_if_modified(|end| {
            let is_new = end.is_none() || (reason == EndReason::Evicted && *end != Some(reason));
            if is_new {
                *end = Some(reason);
            }
            is_new
        });
    }
}

/// A connection's slot. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: ConnectionSlots,
    address: SocketAddr,
    connection: Arc<OpenConnection>,
    is_end_counted: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionSlot {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn activity(&self) -> &Arc<ConnectionActivity> {
        &self.connection.activity
    }

    /// Whether the client has sent a verified request within the last hour.
    pub(super) fn is_trusted(&self) -> bool {
        self.slots.0.trusted.contains(self.connection.client)
    }

    pub(super) fn trust_mark(&self) -> TrustMark {
        self.slots.0.trusted.mark(self.connection.client, &self.connection.activity)
    }

    /// Waits until another connection needs the slot.
    pub(super) async fn evicted(&self) {
        // It cannot fail: `self.connection` holds the sender.
        let _ = self.connection.end.subscribe().wait_for(|end| *end == Some(EndReason::Evicted)).await;
    }

    /// Waits until the connection is overdue.
    pub(super) async fn overdue(&self) -> Overdue {
        let mut end = self.connection.end.subscribe();
        loop {
            if let Some(EndReason::Overdue(overdue)) = *end.borrow_and_update() {
                return overdue;
            }
            // It cannot fail: `self.connection` holds the sender.
            let _ = end.changed().await;
        }
    }

    /// Counts the reason for the end of the connection. Only the first call counts.
    pub(super) fn count_end(&self, reason: EndReason) {
        if !self.is_end_counted.swap(true, Ordering::Relaxed) {
            self.slots.0.metrics.connection_ended(reason.as_str());
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.0.metrics.connection_closed();
        self.slots.lock().remove(&self.connection.id);
    }
}

/// Raises the process's limit on open files to what the service can use. Shells and supervisors
/// often set a low limit for old programs that use `select`.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = u64::try_from(MAX_CONNECTIONS + RESERVED_FILES).unwrap_or(u64::MAX);
    let needed = maximum.map_or(needed, |maximum| maximum.min(needed));
    if current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: Some(needed), maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "could not raise the limit on open files; accepting fewer connections");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::telemetry::topics::TopicLogs;

    fn slots(limit: usize) -> ConnectionSlots {
        ConnectionSlots::new(limit, Metrics::new(TopicLogs::none(), Arc::default()))
    }

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    async fn acquire(slots: &ConnectionSlots, address: SocketAddr) -> ConnectionSlot {
        slots.acquire(address).await.expect("a slot")
    }

    /// Opens connections of one client. A task ends each when it is evicted, as a real connection's
    /// task does.
    async fn open(slots: &ConnectionSlots, host: u8, ports: std::ops::Range<u16>) -> Vec<TestConnection> {
        join_all(ports.map(async |port| TestConnection::start(acquire(slots, address(host, port)).await)))
            .await
    }

    /// Opens one connection for each of `clients` clients.
    async fn open_each(slots: &ConnectionSlots, clients: u8) -> Vec<TestConnection> {
        join_all((0..clients).map(|host| open(slots, 100 + host, 0..1))).await.into_iter().flatten().collect()
    }

    struct TestConnection {
        activity: Arc<ConnectionActivity>,
        trust_mark: TrustMark,
        task: tokio::task::JoinHandle<()>,
    }

    impl TestConnection {
        fn start(slot: ConnectionSlot) -> Self {
            let (activity, trust_mark) = (slot.activity().clone(), slot.trust_mark());
            let task = tokio::spawn(async move { slot.evicted().await });
            Self { activity, trust_mark, task }
        }

        fn is_evicted(&self) -> bool {
            self.task.is_finished()
        }
    }

    fn evicted(connections: &[TestConnection]) -> Vec<usize> {
        (0..connections.len()).filter(|index| connections[*index].is_evicted()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn full_slots_evict_longest_waiting_of_largest_client() {
        let slots = slots(16);
        let mut large = open(&slots, 1, 0..1).await;
        // Otherwise the client would be limited to an eighth of the slots.
        large[0].trust_mark.set();
        large.extend(open(&slots, 1, 1..12).await);
        let others = open_each(&slots, 4).await;
        let _exchange = large[1].activity.start_exchange();
        let newcomer = open(&slots, 2, 0..1).await;
        let none: Vec<usize> = Vec::new();
        assert_eq!((evicted(&others), evicted(&large), evicted(&newcomer)), (none.clone(), vec![2], none));
    }

    #[tokio::test(start_paused = true)]
    async fn large_client_does_not_evict_a_smaller_one() {
        let slots = slots(16);
        let mut large = open(&slots, 1, 0..1).await;
        large[0].trust_mark.set();
        large.extend(open(&slots, 1, 1..12).await);
        let others = open_each(&slots, 4).await;
        let _busy: Vec<_> = large.iter().map(|one| one.activity.start_exchange()).collect();
        assert!(slots.acquire(address(1, 100)).await.is_none());
        assert_eq!(evicted(&others), [0; 0]);
        let _newcomer = acquire(&slots, address(2, 1)).await;
        assert_eq!(evicted(&others).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn busy_connections_are_never_evicted() {
        let slots = slots(8);
        let busy = open_each(&slots, 8).await;
        let mut exchanges: Vec<_> = busy.iter().map(|one| one.activity.start_exchange()).collect();
        assert!(slots.acquire(address(2, 1)).await.is_none());
        exchanges.pop();
        let _newcomer = acquire(&slots, address(2, 1)).await;
        assert_eq!(evicted(&busy), [7]);
    }

    #[tokio::test(start_paused = true)]
    async fn unread_response_is_evicted_like_an_idle_connection() {
        let slots = slots(8);
        let all = open_each(&slots, 8).await;
        let exchanges: Vec<_> = all.iter().map(|one| one.activity.start_exchange()).collect();
        exchanges[3].respond(false);
        let _newcomer = acquire(&slots, address(2, 1)).await;
        assert_eq!(evicted(&all), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn client_is_limited_only_while_slots_are_scarce() {
        let slots = slots(16);
        let large = open(&slots, 1, 0..12).await;
        assert_eq!(evicted(&large), [0; 0], "a quarter is free");
        let _busy: Vec<_> = large.iter().map(|one| one.activity.start_exchange()).collect();
        assert!(slots.acquire(address(1, 100)).await.is_none(), "it holds more than an eighth");
        let _other = acquire(&slots, address(2, 1)).await;
        large[0].trust_mark.set();
        let _own = acquire(&slots, address(1, 100)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn overdue_connection_can_still_be_evicted() {
        let slots = slots(8);
        let slot = acquire(&slots, address(1, 1)).await;
        let others = open_each(&slots, 7).await;
        let _busy: Vec<_> = others.iter().map(|one| one.activity.start_exchange()).collect();
        slots.end_overdue();
        assert!(slot.overdue().now_or_never().is_none());
        tokio::time::advance(Duration::from_mins(1)).await;
        slots.end_overdue();
        assert_eq!(slot.overdue().await, Overdue::Idle);
        assert!(slots.make_room(address(2, 1).ip().into()));
        slot.evicted().await;
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_unread_responses_evict_the_largest_holder() {
        let slots = slots(8);
        let connections = open_each(&slots, 3).await;
        let exchange = |connection: &TestConnection, count: usize| -> Vec<_> {
            let exchanges = (0..count).map(|_| connection.activity.start_exchange());
            exchanges.inspect(|exchange| exchange.respond(false)).collect()
        };
        let _few = exchange(&connections[0], 1);
        let _most = exchange(&connections[1], MAX_UNREAD_RESPONSES / 2 + 1);
        let _many = exchange(&connections[2], MAX_UNREAD_RESPONSES / 2 - 2);
        slots.end_overdue();
        tokio::task::yield_now().await;
        assert_eq!(evicted(&connections), [0; 0]);
        let _one_more = exchange(&connections[0], 1);
        slots.end_overdue();
        tokio::task::yield_now().await;
        assert_eq!(evicted(&connections), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_slot_is_free_again() {
        let slots = slots(8);
        for port in 0..30 {
            drop(acquire(&slots, address(1, port)).await);
        }
        assert!(slots.lock().is_empty());
    }
}
