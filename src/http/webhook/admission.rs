//! Limits for unverified webhooks. Anyone can send those, as many and as slowly as they like.
//!
//! Only rejected webhooks count towards a client's rate limit: those with an invalid signature, or
//! a body that is too large, too slow or incomplete. Verified webhooks from the same address are
//! never limited. Behind a proxy that is not trusted, all clients have one address.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::Notify;

use super::rejection_log::RejectionLog;
use crate::billing::Billing;
use crate::clock::Clock;
use crate::domain::client_address::ClientAddress;
use crate::domain::eviction::{OccupiedSlot, choose_eviction};
use crate::http::throttle::{SteadyClock, wait_seconds};

/// Bodies that are read at once, of at most 1 MiB each. It bounds the memory for unverified
/// webhooks.
const MAX_BODIES: usize = 128;

pub(in crate::http) struct Admission {
    pub(super) rejections: RejectionLog,
    pub(super) limiter: UnverifiedLimiter,
    pub(super) body_slots: BodySlots,
}

impl Admission {
    pub(super) fn new(billing: &Billing) -> Self {
        let Billing { topics, webhook_record, clock, .. } = billing;
        Self {
            rejections: RejectionLog::new(topics.clone(), webhook_record.clone(), clock.clone()),
            limiter: UnverifiedLimiter::new(clock.clone()),
            body_slots: BodySlots::default(),
        }
    }

    /// Removes the clients that have their full quota again, and logs the suppressed rejections.
    pub(in crate::http) fn sweep(&self) {
        self.limiter.sweep();
        self.rejections.log_suppressed();
    }
}

/// How many rejected webhooks of a client are answered with the reason, which helps an operator who
/// sets up an endpoint. After these, one per second gets it, and the others get 429.
const MAX_UNVERIFIED_BURST: NonZeroU32 = NonZeroU32::new(60).expect("not zero");

/// Clients are hashed into this many buckets, so that a flood from any number of addresses takes at
/// most about 4 MB. Two clients in one bucket share a quota. They then get 429 instead of the
/// reason.
const BUCKETS: u64 = 1 << 16;

type Limiter = RateLimiter<u16, DashMapStateStore<u16>, SteadyClock, NoOpMiddleware<Nanos>>;

pub(super) struct UnverifiedLimiter {
    limiter: Limiter,
    clock: SteadyClock,
    hashing: RandomState,
}

impl UnverifiedLimiter {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let clock = SteadyClock(clock);
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(MAX_UNVERIFIED_BURST);
        let limiter = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { limiter, clock, hashing: RandomState::new() }
    }

    /// Counts an unverified webhook. Over the rate limit, returns the seconds until the next one is
    /// allowed.
    pub(super) fn count_unverified(&self, client: ClientAddress) -> Result<(), u64> {
        let bucket = u16::try_from(self.hashing.hash_one(client) % BUCKETS).unwrap_or_default();
        let checked = self.limiter.check_key(&bucket);
        checked.map_err(|not_until| wait_seconds(not_until.wait_time_from(self.clock.now())))
    }

    /// Removes the clients that have their full quota again.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// Limits the bodies that are read at once. A new body always gets a slot: if all are taken, the
/// client with the most slots loses its oldest. Stripe sends its bodies fast, so slow senders
/// cannot block them, even from Stripe's address.
#[derive(Debug, Default)]
pub(super) struct BodySlots(Mutex<TakenSlots>);

#[derive(Debug, Default)]
struct TakenSlots {
    /// By number. The oldest slot has the lowest.
    slots: BTreeMap<u64, (ClientAddress, Arc<Notify>)>,
    next_number: u64,
}

/// It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct BodySlot<'a> {
    all: &'a BodySlots,
    number: u64,
    evicted: Arc<Notify>,
}

impl BodySlots {
    /// Evicts another body if all slots are taken.
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
        let slots = self.slots.iter().map(|(number, (client, _))| OccupiedSlot {
            client: *client,
            is_counted: true,
            eviction_order: Some(*number),
            key: *number,
        });
        let oldest = choose_eviction(slots, 0).and_then(|number| self.slots.remove(&number));
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
    fn client_may_send_sixty_then_one_per_second() {
        let (clock, limiter) = limiter();
        for _ in 0..60 {
            assert_eq!(limiter.count_unverified(client(1)), Ok(()));
        }
        assert_eq!(limiter.count_unverified(client(1)), Err(1));
        clock.advance_seconds(1);
        assert_eq!(limiter.count_unverified(client(1)), Ok(()));
        assert_eq!(limiter.count_unverified(client(1)), Err(1));
        let others = (2..12).filter(|other| limiter.count_unverified(client(*other)).is_ok()).count();
        assert!(others >= 9, "other clients rarely share the bucket: {others}");
    }

    #[test]
    fn million_clients_take_bounded_memory_and_are_removed() {
        let (clock, limiter) = limiter();
        for number in 0..1_000_000 {
            let _ = limiter.count_unverified(client(number));
        }
        assert!(limiter.limiter.len() <= 1 << 16, "{}", limiter.limiter.len());
        clock.advance_seconds(120);
        limiter.sweep();
        assert_eq!(limiter.limiter.len(), 0);
    }

    fn is_evicted(slot: &BodySlot<'_>) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    #[test]
    fn full_slots_evict_oldest_of_largest_client() {
        let slots = BodySlots::default();
        let stripe = slots.acquire(client(1));
        let large: Vec<_> = (1..MAX_BODIES).map(|_| slots.acquire(client(2))).collect();
        let more = [client(1), client(3)].map(|client| slots.acquire(client));
        assert!(!is_evicted(&stripe), "however long it takes");
        assert!(more.iter().all(|slot| !is_evicted(slot)));
        let evicted: Vec<_> = large.iter().map(is_evicted).collect();
        assert!(evicted[..2].iter().all(|evicted| *evicted));
        assert!(evicted[2..].iter().all(|evicted| !evicted));
    }

    #[test]
    fn single_client_loses_its_oldest_slot() {
        let slots = BodySlots::default();
        let taken: Vec<_> = (0..=MAX_BODIES).map(|_| slots.acquire(client(1))).collect();
        let evicted: Vec<_> = taken.iter().map(is_evicted).collect();
        assert_eq!(evicted.iter().position(|evicted| *evicted), Some(0));
        assert_eq!(evicted.iter().filter(|evicted| **evicted).count(), 1);
    }

    #[test]
    fn dropped_slot_is_free_again() {
        let slots = BodySlots::default();
        for _ in 0..3 {
            let taken: Vec<_> = (0..MAX_BODIES).map(|_| slots.acquire(client(1))).collect();
            assert!(taken.iter().all(|slot| !is_evicted(slot)));
        }
        assert!(slots.lock().slots.is_empty());
    }
}
