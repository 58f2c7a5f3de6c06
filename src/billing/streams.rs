//! The open entitlement streams: their limits and their latest update.
//! [`stream_updates`](super::jobs::stream_updates) keeps them up to date.
//!
//! A tenant's entitlement is read once for all of its streams. Each stream gets only the latest
//! update, so that a slow client delays no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::domain::ids::TenantId;
use crate::domain::plan::Entitlement;
use crate::store::{StoreErrorKind, TenantKey};

/// Limit for all tenants. Each stream holds a connection, and the usual limit of a process is 1024
/// open files: half of them stay free for other requests, above all webhooks.
const MAX_STREAMS: usize = 512;

/// Enough for a few people with a tab or two each. Some thirty tenants would have to be hostile
/// before the others have to poll.
const MAX_STREAMS_PER_TENANT: usize = 16;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tenants: Mutex<Tenants>,
    read_requested: Notify,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Tenants {
    watched: HashMap<TenantKey, WatchedTenant>,
    /// The number of rounds started so far.
    rounds: u64,
}

/// A tenant with open streams.
#[derive(Debug)]
struct WatchedTenant {
    tenant: TenantId,
    streams: usize,
    /// The entitlement may have changed since it was read.
    needs_read: bool,
    latest: watch::Sender<Option<StreamUpdate>>,
}

pub(super) type ReadResult = Result<Entitlement, StoreErrorKind>;

#[derive(Debug, Clone)]
struct StreamUpdate {
    round: u64,
    result: ReadResult,
}

/// The tenants to read in one go. A stream that is opened after the start does not use the result.
#[derive(Debug)]
pub(super) struct Round {
    /// Rises with each round.
    pub(super) number: u64,
    pub(super) tenants: Vec<TenantId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenStreamError {
    #[error("too many streams are open")]
    TooMany,
    #[error("the tenant has too many open streams")]
    TooManyOfTenant,
    #[error("could not read the entitlement: {}", .0.as_str())]
    Database(StoreErrorKind),
    #[error("the service is stopping")]
    Stopping,
}

/// Yields a tenant's entitlement whenever it may have changed. Closed by dropping it.
#[derive(Debug)]
pub struct EntitlementStream {
    streams: Streams,
    key: TenantKey,
    updates: watch::Receiver<Option<StreamUpdate>>,
    closed: watch::Receiver<bool>,
}

impl Streams {
    /// Opens a stream and waits for its first entitlement. That comes from a round which starts
    /// after the stream is registered, so that no change in between is missed.
    pub async fn open(&self, tenant: &TenantId) -> Result<(EntitlementStream, Entitlement), OpenStreamError> {
        let (mut stream, rounds) = self.register(tenant)?;
        let closed = stream.closed();
        let result = tokio::select! {
            biased;
            () = closed => return Err(OpenStreamError::Stopping),
            result = stream.result_after(rounds) => result,
        };
        result.map(|first| (stream, first)).map_err(OpenStreamError::Database)
    }

    /// Returns the stream and the number of rounds started before it.
    fn register(&self, tenant: &TenantId) -> Result<(EntitlementStream, u64), OpenStreamError> {
        let key = TenantKey::of(tenant);
        let mut tenants = self.tenants();
        if tenants.streams() >= MAX_STREAMS {
            return Err(OpenStreamError::TooMany);
        }
        let rounds = tenants.rounds;
        let watched = tenants.watched.entry(key.clone()).or_insert_with(|| WatchedTenant {
            tenant: tenant.clone(),
            streams: 0,
            needs_read: true,
            latest: watch::Sender::new(None),
        });
        if watched.streams >= MAX_STREAMS_PER_TENANT {
            return Err(OpenStreamError::TooManyOfTenant);
        }
        watched.streams += 1;
        watched.needs_read = true;
        self.0.read_requested.notify_one();
        let updates = watched.latest.subscribe();
        let closed = self.0.closed.subscribe();
        Ok((EntitlementStream { streams: self.clone(), key, updates, closed }, rounds))
    }

    fn unregister(&self, key: &TenantKey) {
        let all = &mut self.tenants().watched;
        if let Some(watched) = all.get_mut(key) {
            watched.streams -= 1;
            if watched.streams == 0 {
                all.remove(key);
            }
        }
    }

    /// The number of open streams.
    pub fn count(&self) -> usize {
        self.tenants().streams()
    }

    /// The tenant's entitlement may have changed.
    pub(super) fn request_read(&self, key: &TenantKey) {
        if let Some(watched) = self.tenants().watched.get_mut(key) {
            watched.needs_read = true;
            self.0.read_requested.notify_one();
        }
    }

    pub(super) fn request_read_of_all(&self) {
        self.tenants().watched.values_mut().for_each(|watched| watched.needs_read = true);
        self.0.read_requested.notify_one();
    }

    /// Notified when a tenant has to be read.
    pub(super) fn read_requested(&self) -> &Notify {
        &self.0.read_requested
    }

    /// Starts a round with all tenants that have to be read. A change from now on needs another
    /// round.
    pub(super) fn start_round(&self) -> Round {
        let mut tenants = self.tenants();
        tenants.rounds += 1;
        let number = tenants.rounds;
        let to_read = tenants.watched.values_mut().filter(|watched| watched.needs_read);
        let to_read = to_read.map(|watched| {
            watched.needs_read = false;
            watched.tenant.clone()
        });
        Round { number, tenants: to_read.collect() }
    }

    /// Sends the result of a round to the tenant's streams.
    pub(super) fn publish(&self, round: u64, tenant: &TenantId, result: ReadResult) {
        if let Some(watched) = self.tenants().watched.get(&TenantKey::of(tenant)) {
            watched.latest.send_replace(Some(StreamUpdate { round, result }));
        }
    }

    /// Closes all streams and opens no more.
    pub(super) fn close_all(&self) {
        self.0.closed.send_replace(true);
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    fn streams(&self) -> usize {
        self.watched.values().map(|one| one.streams).sum()
    }
}

impl EntitlementStream {
    /// Waits for the next read, whose result may be unchanged. Cancel-safe.
    pub async fn next(&mut self) -> Entitlement {
        loop {
            if let Ok(entitlement) = self.update().await.result {
                return entitlement;
            }
        }
    }

    /// Waits until all streams are closed.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closed = self.closed.clone();
        async move {
            // An error means that the sender is gone, so the service has stopped.
            let _ = closed.wait_for(|closed| *closed).await;
        }
    }

    async fn result_after(&mut self, rounds: u64) -> ReadResult {
        loop {
            let update = self.update().await;
            if update.round > rounds {
                return update.result;
            }
        }
    }

    async fn update(&mut self) -> StreamUpdate {
        loop {
            if self.updates.changed().await.is_err() {
                // Unreachable: the sender lives as long as the tenant has a stream.
                std::future::pending::<()>().await;
            }
            let update = self.updates.borrow_and_update().clone();
            if let Some(update) = update {
                return update;
            }
        }
    }
}

impl Drop for EntitlementStream {
    fn drop(&mut self) {
        self.streams.unregister(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(&format!("tenant-{number}")).expect("a valid tenant")
    }

    fn paid_until(seconds: i64) -> Entitlement {
        Entitlement { current_period_end: Some(seconds), ..Entitlement::default() }
    }

    fn publish_all(streams: &Streams, round: &Round, result: &ReadResult) {
        round.tenants.iter().for_each(|tenant| streams.publish(round.number, tenant, result.clone()));
    }

    /// Opens a stream and publishes its first entitlement at once.
    async fn opened(streams: &Streams, tenant: &TenantId) -> Result<EntitlementStream, OpenStreamError> {
        let read = async {
            streams.read_requested().notified().await;
            publish_all(streams, &streams.start_round(), &Ok(Entitlement::default()));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            opened = streams.open(tenant) => opened.map(|(stream, _)| stream),
            () = read => unreachable!(),
        }
    }

    #[tokio::test]
    async fn streams_are_limited_in_total_and_per_tenant() {
        let streams = Streams::default();
        let mut open = Vec::new();
        for number in 0..MAX_STREAMS {
            open.push(
                opened(&streams, &tenant(number / MAX_STREAMS_PER_TENANT)).await.expect("below the limit"),
            );
            if number == MAX_STREAMS_PER_TENANT {
                assert_eq!(opened(&streams, &tenant(0)).await.err(), Some(OpenStreamError::TooManyOfTenant));
            }
        }
        assert_eq!(streams.count(), MAX_STREAMS);
        assert_eq!(opened(&streams, &tenant(9999)).await.err(), Some(OpenStreamError::TooMany));
        open.pop();
        open.push(opened(&streams, &tenant(9999)).await.expect("below the limit again"));
        open.clear();
        assert_eq!(streams.count(), 0);
        assert!(streams.tenants().watched.is_empty(), "no tenant is left over");
    }

    #[tokio::test]
    async fn slow_stream_gets_only_the_latest_entitlement() {
        let streams = Streams::default();
        let mut slow = opened(&streams, &tenant(1)).await.expect("open");
        for seconds in 1..=1000 {
            streams.publish(2, &tenant(1), Ok(paid_until(seconds)));
        }
        assert_eq!(slow.next().await, paid_until(1000));
        let more = tokio::time::timeout(Duration::from_millis(10), slow.next()).await;
        assert!(more.is_err(), "only one update: {more:?}");
    }

    #[tokio::test]
    async fn round_contains_each_changed_watched_tenant_once() {
        let streams = Streams::default();
        let _open = opened(&streams, &tenant(1)).await.expect("open");
        for _ in 0..1000 {
            streams.request_read(&TenantKey::of(&tenant(1)));
            streams.request_read(&TenantKey::of(&tenant(2)));
        }
        assert_eq!(streams.start_round().tenants, [tenant(1)]);
        assert!(streams.start_round().tenants.is_empty());
        streams.request_read_of_all();
        assert_eq!(streams.start_round().tenants, [tenant(1)]);
    }

    #[tokio::test]
    async fn failed_read_rejects_new_streams_and_keeps_open_ones() {
        let streams = Streams::default();
        let mut open = opened(&streams, &tenant(1)).await.expect("open");
        for failure in [StoreErrorKind::Unavailable, StoreErrorKind::Rejected] {
            let failing = async {
                streams.read_requested().notified().await;
                publish_all(&streams, &streams.start_round(), &Err(failure));
            };
            let one = tenant(1);
            let (refused, ()) = tokio::join!(streams.open(&one), failing);
            assert_eq!(refused.err(), Some(OpenStreamError::Database(failure)));
        }
        streams.publish(9, &tenant(1), Ok(paid_until(2)));
        assert_eq!(open.next().await, paid_until(2));
    }

    #[tokio::test]
    async fn stream_opened_during_a_round_waits_for_the_next() {
        let (streams, tenant) = (Streams::default(), tenant(1));
        let mut before = pin!(streams.open(&tenant));
        assert!(poll!(&mut before).is_pending());
        let round = streams.start_round();
        let mut during = pin!(streams.open(&tenant));
        assert!(poll!(&mut during).is_pending());

        publish_all(&streams, &round, &Ok(paid_until(1)));
        let Poll::Ready(Ok((_stream, first))) = poll!(before) else { panic!("not published") };
        assert_eq!(first, paid_until(1));
        assert!(poll!(&mut during).is_pending(), "that round started before it was opened");

        publish_all(&streams, &streams.start_round(), &Ok(paid_until(2)));
        let Poll::Ready(Ok((_stream, first))) = poll!(during) else { panic!("not published") };
        assert_eq!(first, paid_until(2));
    }

    #[tokio::test]
    async fn close_all_ends_open_streams_and_rejects_new_ones() {
        let streams = Streams::default();
        let open = opened(&streams, &tenant(1)).await.expect("open");
        streams.close_all();
        open.closed().await;
        assert_eq!(streams.open(&tenant(2)).await.err(), Some(OpenStreamError::Stopping));
    }
}
