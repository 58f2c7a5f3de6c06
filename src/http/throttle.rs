//! One throttle for all that asks Stripe for somebody who waits, checkout and portal above all, for each tenant.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::problem::{Code, Problem};
use crate::clock::Clock;
use crate::domain::ids::TenantId;

/// Tenants that are remembered at once, some 100 bytes each. Only tenants of valid tokens come here, and they are
/// forgotten when their quota is whole again.
const TENANTS: usize = 100_000;

/// How long to stay away when even a sweep leaves no room.
const CROWDED_SECONDS: u64 = 60;

type Limiter = RateLimiter<TenantId, DashMapStateStore<TenantId>, SteadyClock, NoOpMiddleware<Nanos>>;

/// Counts each tenant's requests.
pub(super) struct Throttle {
    limiter: Limiter,
    clock: SteadyClock,
}

/// Our clock, as governor reads it.
#[derive(Clone)]
pub(super) struct SteadyClock(pub(super) Arc<dyn Clock>);

impl GovernorClock for SteadyClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_millis(u64::try_from(self.0.steady_ms()).unwrap_or_default()).into()
    }
}

/// Limits log lines that anyone can cause.
pub(super) type LineLimiter = RateLimiter<NotKeyed, InMemoryState, SteadyClock, NoOpMiddleware<Nanos>>;

/// Lets one line through in a minute.
pub(super) fn one_line_a_minute(clock: Arc<dyn Clock>) -> LineLimiter {
    RateLimiter::direct_with_clock(Quota::per_minute(NonZeroU32::MIN), SteadyClock(clock))
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({} tenants)", self.limiter.len())
    }
}

impl Throttle {
    /// A throttle that lets so many requests of a tenant through in a minute.
    pub(super) fn per_minute(requests: NonZeroU32, clock: Arc<dyn Clock>) -> Self {
        let clock = SteadyClock(clock);
        let limiter =
            RateLimiter::new(Quota::per_minute(requests), DashMapStateStore::default(), clock.clone());
        Self { limiter, clock }
    }

    /// Lets a request of the tenant's through, or says when to come back.
    pub(super) fn check(&self, tenant: &TenantId) -> Result<(), Problem> {
        if self.limiter.len() >= TENANTS {
            self.sweep();
            if self.limiter.len() >= TENANTS {
                return Err(throttled(CROWDED_SECONDS));
            }
        }
        self.limiter
            .check_key(tenant)
            .map_err(|not_until| throttled(wait_seconds(not_until.wait_time_from(self.clock.now()))))
    }

    /// Forgets the tenants whose quota is whole again.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// The whole seconds after which to come back.
pub(super) fn wait_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(CROWDED_SECONDS).max(1)
}

pub(super) fn throttled(seconds: u64) -> Problem {
    Problem::new(Code::Throttled, format!("Try again in {seconds} s.")).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).expect("a tenant")
    }

    #[test]
    fn the_21st_request_in_a_minute_waits_and_other_tenants_do_not() {
        let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
        let throttle = Throttle::per_minute(NonZeroU32::new(20).expect("not zero"), clock.clone());
        for request in 1..=20 {
            assert!(throttle.check(&tenant("acme")).is_ok(), "request {request}");
        }
        assert_eq!(throttle.check(&tenant("acme")), Err(throttled(3)));
        assert!(throttle.check(&tenant("birch")).is_ok());
        clock.advance_seconds(3);
        assert!(throttle.check(&tenant("acme")).is_ok());
    }

    #[test]
    fn tenants_whose_quota_is_whole_again_are_forgotten() {
        let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
        let throttle = Throttle::per_minute(NonZeroU32::new(20).expect("not zero"), clock.clone());
        for id in 0..100 {
            assert!(throttle.check(&tenant(&format!("tenant-{id}"))).is_ok());
        }
        clock.advance_seconds(120);
        throttle.sweep();
        assert_eq!(throttle.limiter.len(), 0);
    }
}
