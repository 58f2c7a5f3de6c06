//! Polls until a condition holds, up to a timeout.

use std::time::{Duration, Instant};

/// Long enough for slow machines. A passing test never waits this long.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Polls until there is a value. `what` names the condition in the panic message.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut poll: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(started.elapsed() < TEST_TIMEOUT, "still waiting: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
