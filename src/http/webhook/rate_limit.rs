//! A limiter for the webhooks that are not verified, by client: see [`crate::domain::trusted_proxies`].
//!
//! It is asked only once a signature has failed, so what is verified is never refused here, whoever else comes from the
//! same address; and behind a proxy that is not trusted everybody does.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::clock::Clock;
use crate::domain::client_address::ClientAddress;
use crate::http::throttle::{SteadyClock, wait_seconds};

/// Unverified webhooks of one client that are answered with their reason at once, as somebody who sets up an endpoint
/// wants them; and of whom is over it, one a second.
const BURST: NonZeroU32 = NonZeroU32::new(60).expect("not zero");

/// Into so many cells the clients are hashed, so that however many addresses a flood comes from, what is remembered of
/// them takes some 4 MB at most. Two of a cell share its quota, which costs neither more than the reason of a refusal.
const CELLS: u64 = 1 << 16;

type Limiter = RateLimiter<u16, DashMapStateStore<u16>, SteadyClock, NoOpMiddleware<Nanos>>;

/// Counts each client's unverified webhooks.
pub(in crate::http) struct UnverifiedLimiter {
    limiter: Limiter,
    clock: SteadyClock,
    hashing: RandomState,
}

/// A client has sent too many, and may come back after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct TooMany {
    pub(in crate::http) retry_after_seconds: u64,
}

impl fmt::Debug for UnverifiedLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnverifiedLimiter({} cells)", self.limiter.len())
    }
}

impl UnverifiedLimiter {
    pub(in crate::http) fn new(clock: Arc<dyn Clock>) -> Self {
        let clock = SteadyClock(clock);
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(BURST);
        let limiter = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { limiter, clock, hashing: RandomState::new() }
    }

    /// Charges a client with one that was not verified.
    pub(in crate::http) fn charge(&self, client: ClientAddress) -> Result<(), TooMany> {
        let cell = u16::try_from(self.hashing.hash_one(client) % CELLS).unwrap_or_default();
        self.limiter.check_key(&cell).map_err(|not_until| TooMany {
            retry_after_seconds: wait_seconds(not_until.wait_time_from(self.clock.now())),
        })
    }

    /// Forgets the clients whose quota is whole again.
    pub(in crate::http) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

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
        assert_eq!(limiter.charge(client(1)), Err(TooMany { retry_after_seconds: 1 }));
        clock.advance_seconds(1);
        assert_eq!(limiter.charge(client(1)), Ok(()));
        assert_eq!(limiter.charge(client(1)), Err(TooMany { retry_after_seconds: 1 }));
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
}
