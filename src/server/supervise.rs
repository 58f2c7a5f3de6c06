//! Restarts background tasks that panic.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

/// The pause before a restart, so that a task that panics at once does not use a whole core.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Runs a part of the service until it returns, and restarts it when it panics. A defect in one
/// part must neither end the service nor leave it running without that part.
pub async fn supervised<F: Future<Output = ()>>(part: &'static str, mut run: impl FnMut() -> F) {
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        tracing::error!(part, "a part of the service panicked; restarting it");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn panicking_part_is_restarted_until_it_returns() {
        let mut starts = 0;
        supervised("a test's part", || {
            starts += 1;
            let is_third = starts == 3;
            async move { assert!(is_third, "the first two panic") }
        })
        .await;
        assert_eq!(starts, 3);
    }
}
