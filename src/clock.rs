//! Time as an argument: everything that asks for the hour asks a [`Clock`], so that a test can set it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, in Unix milliseconds.
    fn now_ms(&self) -> i64;

    /// Time that only goes forward, in milliseconds since some moment in the past: for what is counted by the minute,
    /// which a clock that is set back must not stop.
    fn steady_ms(&self) -> i64;

    /// Now, in whole Unix seconds.
    fn now_seconds(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn steady_ms(&self) -> i64 {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        i64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    steady_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn at_ms(now_ms: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_ms), steady_ms: AtomicI64::default() }
    }

    /// Moves on by `seconds`, or is set back when they are negative.
    pub fn advance_seconds(&self, seconds: i64) {
        self.now_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
        self.steady_ms.fetch_add(seconds.max(0) * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> i64 {
        self.steady_ms.load(Ordering::SeqCst)
    }
}
