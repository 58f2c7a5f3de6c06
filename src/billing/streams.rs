//! Streams: who wants to be told when a tenant's entitlement changes. Here is who they are, how many there may be, and
//! what they were told last; [`follow`](super::follow) keeps it up to date.
//!
//! However many streams a tenant has, its entitlement is read once for all of them. Each is told the latest and nothing
//! between, so that one that is slow holds nobody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::domain::ids::TenantId;
use crate::domain::plan::Entitlement;
use crate::store::TenantKey;

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
    followed: Mutex<HashMap<TenantKey, Followed>>,
    /// Told when there is something to read.
    wanted: Notify,
    /// Whether all streams are to end.
    ended: watch::Sender<bool>,
}

/// A tenant that has streams.
#[derive(Debug)]
struct Followed {
    tenant: TenantId,
    streams: usize,
    /// Something may have changed since it was read.
    is_wanted: bool,
    /// What was read last; none if it could not be.
    read: watch::Sender<Option<Entitlement>>,
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
    #[error("the database did not answer")]
    NotRead,
    /// We are stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// Tells what a tenant is entitled to, now and whenever it may have changed. Dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    streams: Streams,
    key: TenantKey,
    read: watch::Receiver<Option<Entitlement>>,
    ended: watch::Receiver<bool>,
}

impl Streams {
    /// Opens a stream, and waits for the first that it has to tell: read after it was opened, so that no change is
    /// missed between the two.
    pub async fn open(&self, tenant: &TenantId) -> Result<(Stream, Entitlement), NotOpened> {
        let mut stream = self.enter(tenant)?;
        let Stream { read, ended, .. } = &mut stream;
        let first = tokio::select! {
            biased;
            () = told_to_end(ended) => return Err(NotOpened::Stopping),
            first = next_read(read) => first.ok_or(NotOpened::NotRead)?,
        };
        Ok((stream, first))
    }

    fn enter(&self, tenant: &TenantId) -> Result<Stream, NotOpened> {
        let key = TenantKey::of(tenant);
        let mut followed = self.followed();
        if followed.values().map(|one| one.streams).sum::<usize>() >= STREAMS {
            return Err(NotOpened::Crowded);
        }
        let of_tenant = followed.entry(key.clone()).or_insert_with(|| Followed {
            tenant: tenant.clone(),
            streams: 0,
            is_wanted: true,
            read: watch::Sender::new(None),
        });
        if of_tenant.streams >= STREAMS_OF_TENANT {
            return Err(NotOpened::TenantCrowded);
        }
        of_tenant.streams += 1;
        of_tenant.is_wanted = true;
        self.0.wanted.notify_one();
        let read = of_tenant.read.subscribe();
        Ok(Stream { streams: self.clone(), key, read, ended: self.0.ended.subscribe() })
    }

    fn leave(&self, key: &TenantKey) {
        let mut followed = self.followed();
        if let Some(of_tenant) = followed.get_mut(key) {
            of_tenant.streams -= 1;
            if of_tenant.streams == 0 {
                followed.remove(key);
            }
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.followed().values().map(|one| one.streams).sum()
    }

    /// What the tenant is entitled to may have changed.
    pub(super) fn want(&self, key: &TenantKey) {
        if let Some(of_tenant) = self.followed().get_mut(key) {
            of_tenant.is_wanted = true;
            self.0.wanted.notify_one();
        }
    }

    /// Anything may have changed.
    pub(super) fn want_all(&self) {
        self.followed().values_mut().for_each(|of_tenant| of_tenant.is_wanted = true);
        self.0.wanted.notify_one();
    }

    /// Tells when there is something to read.
    pub(super) fn wanted(&self) -> &Notify {
        &self.0.wanted
    }

    /// The tenants that are to be read. Who changes from now on is to be read again.
    pub(super) fn take_wanted(&self) -> Vec<TenantId> {
        let mut followed = self.followed();
        let wanted = followed.values_mut().filter(|of_tenant| of_tenant.is_wanted);
        wanted
            .map(|of_tenant| {
                of_tenant.is_wanted = false;
                of_tenant.tenant.clone()
            })
            .collect()
    }

    /// Tells a tenant's streams what was read, or that it could not be.
    pub(super) fn tell(&self, tenant: &TenantId, read: Option<Entitlement>) {
        if let Some(of_tenant) = self.followed().get(&TenantKey::of(tenant)) {
            of_tenant.read.send_replace(read);
        }
    }

    /// Ends all streams, and opens none any more.
    pub(super) fn end(&self) {
        self.0.ended.send_replace(true);
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<TenantKey, Followed>> {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Waits until the entitlement was read again, which does not mean that it is another; none when all streams end. The
    /// caller may give up waiting and come again.
    pub async fn next(&mut self) -> Option<Entitlement> {
        let Self { read, ended, .. } = self;
        let entitlement = async {
            loop {
                if let Some(entitlement) = next_read(read).await {
                    return entitlement;
                }
            }
        };
        tokio::select! {
            biased;
            () = told_to_end(ended) => None,
            entitlement = entitlement => Some(entitlement),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.leave(&self.key);
    }
}

async fn next_read(read: &mut watch::Receiver<Option<Entitlement>>) -> Option<Entitlement> {
    if read.changed().await.is_err() {
        // The other end is kept for as long as there is this one.
        std::future::pending::<()>().await;
    }
    read.borrow_and_update().clone()
}

async fn told_to_end(ended: &mut watch::Receiver<bool>) {
    // An error means that the service is gone, which is as good as being told.
    let _ = ended.wait_for(|ended| *ended).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(&format!("tenant-{number}")).expect("a tenant")
    }

    fn paid_until(seconds: i64) -> Entitlement {
        Entitlement { current_period_end: Some(seconds), ..Entitlement::default() }
    }

    /// Opens a stream whose first is read at once.
    async fn opened(streams: &Streams, tenant: &TenantId) -> Result<Stream, NotOpened> {
        let reading = async {
            streams.wanted().notified().await;
            for tenant in streams.take_wanted() {
                streams.tell(&tenant, Some(Entitlement::default()));
            }
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
        assert!(streams.followed().is_empty(), "and nobody is remembered");
    }

    #[tokio::test]
    async fn a_stream_that_is_slow_hears_the_latest_and_nothing_between() {
        let streams = Streams::default();
        let mut slow = opened(&streams, &tenant(1)).await.expect("open");
        for seconds in 1..=1000 {
            streams.tell(&tenant(1), Some(paid_until(seconds)));
        }
        assert_eq!(slow.next().await, Some(paid_until(1000)));
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
        assert_eq!(streams.take_wanted(), [tenant(1)]);
        assert!(streams.take_wanted().is_empty());
        streams.want_all();
        assert_eq!(streams.take_wanted(), [tenant(1)]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_opens_no_stream_and_ends_none() {
        let streams = Streams::default();
        let mut open = opened(&streams, &tenant(1)).await.expect("open");
        let failing = async {
            streams.wanted().notified().await;
            streams.take_wanted().iter().for_each(|tenant| streams.tell(tenant, None));
        };
        let one = tenant(1);
        let (refused, ()) = tokio::join!(streams.open(&one), failing);
        assert_eq!(refused.err(), Some(NotOpened::NotRead));
        streams.tell(&tenant(1), Some(paid_until(2)));
        assert_eq!(open.next().await, Some(paid_until(2)));
    }

    #[tokio::test]
    async fn when_we_stop_all_streams_end_and_none_is_opened() {
        let streams = Streams::default();
        let mut open = opened(&streams, &tenant(1)).await.expect("open");
        streams.tell(&tenant(1), Some(paid_until(2)));
        streams.end();
        assert_eq!(open.next().await, None);
        assert_eq!(streams.open(&tenant(2)).await.err(), Some(NotOpened::Stopping));
    }
}
