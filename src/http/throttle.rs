//! A rate limit per tenant for the requests that call Stripe, such as checkout and portal.

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

/// About 100 bytes each. Only tenants with a valid token are counted, and they are removed when
/// their quota is full again.
const MAX_TENANTS: usize = 100_000;

/// `Retry-After` when there are too many tenants even after a sweep.
const TOO_MANY_TENANTS_RETRY_SECONDS: u64 = 60;

type Limiter = RateLimiter<TenantId, DashMapStateStore<TenantId>, SteadyClock, NoOpMiddleware<Nanos>>;

pub(super) struct Throttle {
    limiter: Limiter,
    clock: SteadyClock,
}

/// Adapts [`Clock`] to governor.
#[derive(Clone)]
pub(super) struct SteadyClock(pub(super) Arc<dyn Clock>);

impl GovernorClock for SteadyClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_millis(u64::try_from(self.0.steady_ms()).unwrap_or_default()).into()
    }
}

/// Limits log lines that unauthenticated requests can cause.
pub(super) type LineLimiter = RateLimiter<NotKeyed, InMemoryState, SteadyClock, NoOpMiddleware<Nanos>>;

pub(super) fn one_line_per_minute(clock: Arc<dyn Clock>) -> LineLimiter {
    RateLimiter::direct_with_clock(Quota::per_minute(NonZeroU32::MIN), SteadyClock(clock))
}

impl Throttle {
    pub(super) fn per_minute(requests: NonZeroU32, clock: Arc<dyn Clock>) -> Self {
        let clock = SteadyClock(clock);
        let limiter =
            RateLimiter::new(Quota::per_minute(requests), DashMapStateStore::default(), clock.clone());
        Self { limiter, clock }
    }

    /// Counts a request of the tenant. Fails if it is over the limit.
    pub(super) fn check(&self, tenant: &TenantId) -> Result<(), Problem> {
        if self.limiter.len() >= MAX_TENANTS {
            self.sweep();
            if self.limiter.len() >= MAX_TENANTS {
                return Err(throttled(TOO_MANY_TENANTS_RETRY_SECONDS));
            }
        }
        self.limiter
            .check_key(tenant)
            .map_err(|not_until| throttled(wait_seconds(not_until.wait_time_from(self.clock.now()))))
    }

    /// Removes the tenants that have their full quota again.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// The value of `Retry-After`: whole seconds, rounded up, at least 1.
pub(super) fn wait_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(TOO_MANY_TENANTS_RETRY_SECONDS).max(1)
}

pub(super) fn throttled(seconds: u64) -> Problem {
    Problem::new(Code::Throttled, format!("Too many requests. Try again in {seconds} s."))
        .retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).expect("a tenant")
    }

    #[test]
    fn only_the_tenant_over_its_limit_is_throttled() {
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
    fn tenants_with_full_quota_are_removed() {
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
