//! Rate and latencies of many requests or transactions.

use std::time::Duration;

pub struct RunStats {
    /// Sorted.
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl RunStats {
    pub fn new(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        assert!(!latencies.is_empty(), "nothing was measured");
        latencies.sort_unstable();
        Self { latencies, elapsed }
    }

    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    #[allow(clippy::cast_precision_loss, reason = "the count is small")]
    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency in milliseconds that `permille` of a thousand do not exceed.
    pub fn permille(&self, permille: usize) -> f64 {
        let index = (self.count() * permille / 1000).min(self.count() - 1);
        self.latencies[index].as_secs_f64() * 1000.0
    }
}
