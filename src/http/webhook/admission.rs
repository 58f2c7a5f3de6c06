//! The limits on webhooks that are not verified yet. Anyone can send those, as many as they like and as slowly as they like.
//!
//! A client is charged only for a rejected webhook: one with a wrong signature, or with a body that is too large, too slow or
//! broken off. So a stranger's rejected webhooks never limit verified ones from the same address. Behind a proxy that is not
//! trusted, all clients have one address.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::Notify;

use super::rejections::Rejections;
use crate::billing::Billing;
use crate::clock::Clock;
use crate::domain::client_address::ClientAddress;
use crate::domain::crowd::{Holding, oldest_of_largest_crowd};
use crate::http::throttle::{SteadyClock, wait_seconds};

/// Bodies that are read at once, of a megabyte at most: as many megabytes of memory as strangers can use.
const MAX_BODIES: usize = 128;

/// What limits webhooks that are not verified, and logs those that are rejected.
pub(in crate::http) struct Admission {
    pub(super) rejections: Rejections,
    pub(super) limiter: UnverifiedLimiter,
    pub(super) body_slots: BodySlots,
}

impl Admission {
    pub(super) fn new(billing: &Billing) -> Self {
        let Billing { topics, webhook_record, clock, .. } = billing;
        Self {
            rejections: Rejections::new(topics.clone(), webhook_record.clone(), clock.clone()),
            limiter: UnverifiedLimiter::new(clock.clone()),
            body_slots: BodySlots::default(),
        }
    }

    /// Forgets the clients whose quota is whole again, and logs the rejections that no line has mentioned.
    pub(in crate::http) fn sweep(&self) {
        self.limiter.sweep();
        self.rejections.log_suppressed();
    }
}

/// How many rejected webhooks of one client get the reason at once, which helps an operator who sets up an endpoint. After
/// these, one a second gets the reason, and the others get 429.
const UNVERIFIED_BURST: NonZeroU32 = NonZeroU32::new(60).expect("not zero");

/// Into so many cells the clients are hashed, so that however many addresses a flood comes from, what is remembered of
/// them takes some 4 MB at most. Two of a cell share its quota, which costs neither more than the reason of a refusal.
const CELLS: u64 = 1 << 16;

type Limiter = RateLimiter<u16, DashMapStateStore<u16>, SteadyClock, NoOpMiddleware<Nanos>>;

/// Counts each client's unverified webhooks.
pub(super) struct UnverifiedLimiter {
    limiter: Limiter,
    clock: SteadyClock,
    hashing: RandomState,
}

impl fmt::Debug for UnverifiedLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnverifiedLimiter({} cells)", self.limiter.len())
    }
}

impl UnverifiedLimiter {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let clock = SteadyClock(clock);
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(UNVERIFIED_BURST);
        let limiter = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { limiter, clock, hashing: RandomState::new() }
    }

    /// Charges a client for a webhook that was not verified. Once it has sent too many, returns after how many seconds it
    /// may come back.
    pub(super) fn charge(&self, client: ClientAddress) -> Result<(), u64> {
        let cell = u16::try_from(self.hashing.hash_one(client) % CELLS).unwrap_or_default();
        let checked = self.limiter.check_key(&cell);
        checked.map_err(|not_until| wait_seconds(not_until.wait_time_from(self.clock.now())))
    }

    /// Forgets the clients whose quota is whole again.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// A bound on the bodies that are read at once. A new body always gets a slot: when all are taken, the client that holds the
/// most loses its oldest. Stripe's bodies take moments, so no crowd of slow senders keeps them out, not even one that
/// shares Stripe's address.
#[derive(Debug, Default)]
pub(super) struct BodySlots(Mutex<TakenSlots>);

#[derive(Debug, Default)]
struct TakenSlots {
    /// By their numbers, which rise.
    slots: BTreeMap<u64, (ClientAddress, Arc<Notify>)>,
    next_number: u64,
}

/// A slot for one body, until this is dropped.
#[derive(Debug)]
pub(super) struct BodySlot<'a> {
    all: &'a BodySlots,
    number: u64,
    evicted: Arc<Notify>,
}

impl BodySlots {
    /// Takes a slot, and evicts another body if all are taken.
    pub(super) fn acquire(&self, client: ClientAddress) -> BodySlot<'_> {
        let evicted = Arc::new(Notify::new());
        let mut taken = self.lock();
        let number = taken.next_number;
        taken.next_number += 1;
        taken.slots.insert(number, (client, evicted.clone()));
        if taken.slots.len() > MAX_BODIES {
            taken.evict_one();
        }
        BodySlot { all: self, number, evicted }
    }

    fn lock(&self) -> MutexGuard<'_, TakenSlots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenSlots {
    fn evict_one(&mut self) {
        let holdings = self.slots.iter().map(|(number, (client, _))| Holding {
            client: *client,
            counts: true,
            age: Some(*number),
            key: *number,
        });
        let oldest = oldest_of_largest_crowd(holdings, 0).and_then(|number| self.slots.remove(&number));
        if let Some((_, evicted)) = oldest {
            evicted.notify_one();
        }
    }
}

impl BodySlot<'_> {
    /// Waits until another body needs the slot.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for BodySlot<'_> {
    fn drop(&mut self) {
        self.all.lock().slots.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::FutureExt;

    use super::*;
    use crate::clock::ManualClock;

    fn client(number: u32) -> ClientAddress {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    fn limiter() -> (Arc<ManualClock>, UnverifiedLimiter) {
        let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
        (clock.clone(), UnverifiedLimiter::new(clock))
    }

    #[test]
    fn sixty_are_let_through_and_then_one_a_second() {
        let (clock, limiter) = limiter();
        for _ in 0..60 {
            assert_eq!(limiter.charge(client(1)), Ok(()));
        }
        assert_eq!(limiter.charge(client(1)), Err(1));
        clock.advance_seconds(1);
        assert_eq!(limiter.charge(client(1)), Ok(()));
        assert_eq!(limiter.charge(client(1)), Err(1));
        let others = (2..12).filter(|other| limiter.charge(client(*other)).is_ok()).count();
        assert!(others >= 9, "and hardly anybody shares the cell: {others}");
    }

    #[test]
    fn a_million_clients_are_remembered_in_so_many_cells_and_forgotten() {
        let (clock, limiter) = limiter();
        for number in 0..1_000_000 {
            let _ = limiter.charge(client(number));
        }
        assert!(limiter.limiter.len() <= 1 << 16, "{limiter:?}");
        clock.advance_seconds(120);
        limiter.sweep();
        assert_eq!(limiter.limiter.len(), 0);
    }

    fn is_evicted(slot: &BodySlot<'_>) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    #[test]
    fn full_slots_evict_the_oldest_of_the_largest_crowd() {
        let slots = BodySlots::default();
        let stripe = slots.acquire(client(1));
        let crowd: Vec<_> = (1..MAX_BODIES).map(|_| slots.acquire(client(2))).collect();
        let more = [client(1), client(3)].map(|client| slots.acquire(client));
        assert!(!is_evicted(&stripe), "however long it takes");
        assert!(more.iter().all(|slot| !is_evicted(slot)));
        let evicted: Vec<_> = crowd.iter().map(is_evicted).collect();
        assert!(evicted[..2].iter().all(|evicted| *evicted));
        assert!(evicted[2..].iter().all(|evicted| !evicted));
    }

    #[test]
    fn crowd_of_one_address_loses_its_oldest() {
        let slots = BodySlots::default();
        let taken: Vec<_> = (0..=MAX_BODIES).map(|_| slots.acquire(client(1))).collect();
        let evicted: Vec<_> = taken.iter().map(is_evicted).collect();
        assert_eq!(evicted.iter().position(|evicted| *evicted), Some(0));
        assert_eq!(evicted.iter().filter(|evicted| **evicted).count(), 1);
    }

    #[test]
    fn dropped_slot_is_free() {
        let slots = BodySlots::default();
        for _ in 0..3 {
            let taken: Vec<_> = (0..MAX_BODIES).map(|_| slots.acquire(client(1))).collect();
            assert!(taken.iter().all(|slot| !is_evicted(slot)));
        }
        assert!(slots.lock().slots.is_empty());
    }
}
