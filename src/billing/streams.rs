//! Streams: who wants to be told when a tenant's entitlement changes. Here is who they are, how many there may be, and
//! what they were told last; [`follow`](super::jobs::stream_updates) keeps it up to date.
//!
//! However many streams a tenant has, its entitlement is read once for all of them. Each is told the latest and nothing
//! between, so that one that is slow holds nobody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::domain::ids::TenantId;
use crate::domain::plan::Entitlement;
use crate::store::{StoreFailure, TenantKey};

/// Streams of all tenants. Each holds a connection, and a process may have 1024 files open unless somebody allowed it
/// more: half of them are for those who ask and go, webhooks above all.
const STREAMS: usize = 512;

/// Streams of one tenant: a billing page is for a few people of an organisation, and each has it open in a tab or two.
/// Some thirty tenants would have to mean harm before the others are left to asking again and again.
const STREAMS_OF_TENANT: usize = 16;

/// Who is told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tenants: Mutex<Tenants>,
    /// Told when there is something to read.
    wanted: Notify,
    /// Whether all streams are to end.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Tenants {
    followed: HashMap<TenantKey, Followed>,
    /// How many rounds of reading have begun.
    rounds: u64,
}

/// A tenant that has streams.
#[derive(Debug)]
struct Followed {
    tenant: TenantId,
    streams: usize,
    /// Something may have changed since it was read.
    is_wanted: bool,
    /// What was told last.
    told: watch::Sender<Option<Told>>,
}

/// What a tenant is entitled to, or why that could not be read.
pub(super) type Read = Result<Entitlement, StoreFailure>;

#[derive(Debug, Clone)]
struct Told {
    round: u64,
    read: Read,
}

/// What is to be read in one go. It is older than the streams that are opened meanwhile.
#[derive(Debug)]
pub(super) struct Round {
    /// Later ones have greater numbers.
    pub(super) number: u64,
    pub(super) tenants: Vec<TenantId>,
}

/// Why a stream was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// There are as many as there may be.
    #[error("there are too many streams already")]
    Crowded,
    /// The tenant has as many as it may have.
    #[error("the tenant has too many streams already")]
    TenantCrowded,
    /// What there would be to tell cannot be read.
    #[error("what there is to tell cannot be read: {}", .0.as_str())]
    NotRead(StoreFailure),
    /// We are stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// Tells what a tenant is entitled to, now and whenever it may have changed. Dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    streams: Streams,
    key: TenantKey,
    told: watch::Receiver<Option<Told>>,
    ended: watch::Receiver<bool>,
}

impl Streams {
    /// Opens a stream, and waits for the first that it has to tell: from a round that begins after it was opened, so that no
    /// change is missed between the two.
    pub async fn open(&self, tenant: &TenantId) -> Result<(Stream, Entitlement), NotOpened> {
        let (mut stream, rounds) = self.enter(tenant)?;
        let stopping = stream.ended();
        let read = tokio::select! {
            biased;
            () = stopping => return Err(NotOpened::Stopping),
            read = stream.told_after(rounds) => read,
        };
        read.map(|first| (stream, first)).map_err(NotOpened::NotRead)
    }

    /// Takes a place for a stream, and says how many rounds had begun by then.
    fn enter(&self, tenant: &TenantId) -> Result<(Stream, u64), NotOpened> {
        let key = TenantKey::of(tenant);
        let mut tenants = self.tenants();
        if tenants.streams() >= STREAMS {
            return Err(NotOpened::Crowded);
        }
        let rounds = tenants.rounds;
        let of_tenant = tenants.followed.entry(key.clone()).or_insert_with(|| Followed {
            tenant: tenant.clone(),
            streams: 0,
            is_wanted: true,
            told: watch::Sender::new(None),
        });
        if of_tenant.streams >= STREAMS_OF_TENANT {
            return Err(NotOpened::TenantCrowded);
        }
        of_tenant.streams += 1;
        of_tenant.is_wanted = true;
        self.0.wanted.notify_one();
        let told = of_tenant.told.subscribe();
        Ok((Stream { streams: self.clone(), key, told, ended: self.0.ended.subscribe() }, rounds))
    }

    fn leave(&self, key: &TenantKey) {
        let followed = &mut self.tenants().followed;
        if let Some(of_tenant) = followed.get_mut(key) {
            of_tenant.streams -= 1;
            if of_tenant.streams == 0 {
                followed.remove(key);
            }
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.tenants().streams()
    }

    /// What the tenant is entitled to may have changed.
    pub(super) fn want(&self, key: &TenantKey) {
        if let Some(of_tenant) = self.tenants().followed.get_mut(key) {
            of_tenant.is_wanted = true;
            self.0.wanted.notify_one();
        }
    }

    /// Anything may have changed.
    pub(super) fn want_all(&self) {
        self.tenants().followed.values_mut().for_each(|of_tenant| of_tenant.is_wanted = true);
        self.0.wanted.notify_one();
    }

    /// Tells when there is something to read.
    pub(super) fn wanted(&self) -> &Notify {
        &self.0.wanted
    }

    /// Begins a round with the tenants that are to be read. Who changes from now on is to be read again.
    pub(super) fn take_wanted(&self) -> Round {
        let mut tenants = self.tenants();
        tenants.rounds += 1;
        let number = tenants.rounds;
        let wanted = tenants.followed.values_mut().filter(|of_tenant| of_tenant.is_wanted);
        let wanted = wanted.map(|of_tenant| {
            of_tenant.is_wanted = false;
            of_tenant.tenant.clone()
        });
        Round { number, tenants: wanted.collect() }
    }

    /// Tells a tenant's streams what was read in a round, or why it could not be.
    pub(super) fn tell(&self, round: u64, tenant: &TenantId, read: Read) {
        if let Some(of_tenant) = self.tenants().followed.get(&TenantKey::of(tenant)) {
            of_tenant.told.send_replace(Some(Told { round, read }));
        }
    }

    /// Ends all streams, and opens none any more.
    pub(super) fn end(&self) {
        self.0.ended.send_replace(true);
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    fn streams(&self) -> usize {
        self.followed.values().map(|one| one.streams).sum()
    }
}

impl Stream {
    /// Waits until the entitlement was read again, which does not mean that it is another. The caller may give up waiting and
    /// come again.
    pub async fn next(&mut self) -> Entitlement {
        loop {
            if let Ok(entitlement) = self.told().await.read {
                return entitlement;
            }
        }
    }

    /// Waits until all streams end.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error means that the service is gone, which is as good as being told.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    async fn told_after(&mut self, rounds: u64) -> Read {
        loop {
            let told = self.told().await;
            if told.round > rounds {
                return told.read;
            }
        }
    }

    async fn told(&mut self) -> Told {
        loop {
            if self.told.changed().await.is_err() {
                // The other end is kept for as long as there is this one.
                std::future::pending::<()>().await;
            }
            let told = self.told.borrow_and_update().clone();
            if let Some(told) = told {
                return told;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.leave(&self.key);
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
        TenantId::parse(&format!("tenant-{number}")).expect("a tenant")
    }

    fn paid_until(seconds: i64) -> Entitlement {
        Entitlement { current_period_end: Some(seconds), ..Entitlement::default() }
    }

    fn tell_all(streams: &Streams, round: &Round, read: &Read) {
        round.tenants.iter().for_each(|tenant| streams.tell(round.number, tenant, read.clone()));
    }

    /// Opens a stream whose first is read at once.
    async fn opened(streams: &Streams, tenant: &TenantId) -> Result<Stream, NotOpened> {
        let reading = async {
            streams.wanted().notified().await;
            tell_all(streams, &streams.take_wanted(), &Ok(Entitlement::default()));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            opened = streams.open(tenant) => opened.map(|(stream, _)| stream),
            () = reading => unreachable!(),
        }
    }

    #[tokio::test]
    async fn there_are_only_so_many_streams_and_only_so_many_of_a_tenant() {
        let streams = Streams::default();
        let mut open = Vec::new();
        for number in 0..STREAMS {
            open.push(opened(&streams, &tenant(number / STREAMS_OF_TENANT)).await.expect("there is room"));
            if number == STREAMS_OF_TENANT {
                assert_eq!(opened(&streams, &tenant(0)).await.err(), Some(NotOpened::TenantCrowded));
            }
        }
        assert_eq!(streams.count(), STREAMS);
        assert_eq!(opened(&streams, &tenant(9999)).await.err(), Some(NotOpened::Crowded));
        open.pop();
        open.push(opened(&streams, &tenant(9999)).await.expect("there is room again"));
        open.clear();
        assert_eq!(streams.count(), 0);
        assert!(streams.tenants().followed.is_empty(), "and nobody is remembered");
    }

    #[tokio::test]
    async fn a_stream_that_is_slow_hears_the_latest_and_nothing_between() {
        let streams = Streams::default();
        let mut slow = opened(&streams, &tenant(1)).await.expect("open");
        for seconds in 1..=1000 {
            streams.tell(2, &tenant(1), Ok(paid_until(seconds)));
        }
        assert_eq!(slow.next().await, paid_until(1000));
        let more = tokio::time::timeout(Duration::from_millis(10), slow.next()).await;
        assert!(more.is_err(), "there is no more: {more:?}");
    }

    #[tokio::test]
    async fn many_changes_are_one_thing_to_read_and_those_of_others_none() {
        let streams = Streams::default();
        let _open = opened(&streams, &tenant(1)).await.expect("open");
        for _ in 0..1000 {
            streams.want(&TenantKey::of(&tenant(1)));
            streams.want(&TenantKey::of(&tenant(2)));
        }
        assert_eq!(streams.take_wanted().tenants, [tenant(1)]);
        assert!(streams.take_wanted().tenants.is_empty());
        streams.want_all();
        assert_eq!(streams.take_wanted().tenants, [tenant(1)]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_opens_no_stream_and_ends_none() {
        let streams = Streams::default();
        let mut open = opened(&streams, &tenant(1)).await.expect("open");
        for failure in [StoreFailure::Unavailable, StoreFailure::Refused] {
            let failing = async {
                streams.wanted().notified().await;
                tell_all(&streams, &streams.take_wanted(), &Err(failure));
            };
            let one = tenant(1);
            let (refused, ()) = tokio::join!(streams.open(&one), failing);
            assert_eq!(refused.err(), Some(NotOpened::NotRead(failure)));
        }
        streams.tell(9, &tenant(1), Ok(paid_until(2)));
        assert_eq!(open.next().await, paid_until(2));
    }

    #[tokio::test]
    async fn a_stream_that_is_opened_during_a_round_waits_for_the_next() {
        let (streams, tenant) = (Streams::default(), tenant(1));
        let mut before = pin!(streams.open(&tenant));
        assert!(poll!(&mut before).is_pending());
        let round = streams.take_wanted();
        let mut during = pin!(streams.open(&tenant));
        assert!(poll!(&mut during).is_pending());

        tell_all(&streams, &round, &Ok(paid_until(1)));
        let Poll::Ready(Ok((_stream, first))) = poll!(before) else { panic!("it was told") };
        assert_eq!(first, paid_until(1));
        assert!(poll!(&mut during).is_pending(), "this is from before it was opened");

        tell_all(&streams, &streams.take_wanted(), &Ok(paid_until(2)));
        let Poll::Ready(Ok((_stream, first))) = poll!(during) else { panic!("it was told") };
        assert_eq!(first, paid_until(2));
    }

    #[tokio::test]
    async fn when_we_stop_all_streams_end_and_none_is_opened() {
        let streams = Streams::default();
        let open = opened(&streams, &tenant(1)).await.expect("open");
        streams.end();
        open.ended().await;
        assert_eq!(streams.open(&tenant(2)).await.err(), Some(NotOpened::Stopping));
    }
}
