//! What was measured of many requests or transactions.

use std::time::Duration;

/// How many there were, in what time, and how long each took.
pub struct Figures {
    /// From the shortest to the longest.
    latencies: Vec<Duration>,
    lasted: Duration,
}

impl Figures {
    pub fn of(mut latencies: Vec<Duration>, lasted: Duration) -> Self {
        assert!(!latencies.is_empty(), "something was done");
        latencies.sort_unstable();
        Self { latencies, lasted }
    }

    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    #[allow(clippy::cast_precision_loss, reason = "no run has so many")]
    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.lasted.as_secs_f64()
    }

    /// The latency that so many of a thousand do not exceed, in milliseconds.
    pub fn permille(&self, permille: usize) -> f64 {
        let index = (self.count() * permille / 1000).min(self.count() - 1);
        self.latencies[index].as_secs_f64() * 1000.0
    }
}
