//! Waiting for what must happen, and never longer than it may take.

use std::time::{Duration, Instant};

/// Long, for slow machines; nothing waits for it to pass.
pub const DEADLINE: Duration = Duration::from_mins(1);

const PAUSE: Duration = Duration::from_millis(5);

/// Asks again and again, until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "still waiting: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
