//! The loop that each job runs in.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

use crate::billing::BillingError;

/// How often an idle job looks for work without a notification: another replica may have left some,
/// or it became due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a failure doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// A step that takes longer is started again. A hanging database server honours no timeout, and a
/// half-open connection is silent for hours. A long backfill continues from its watermark.
const STEP_TIMEOUT: Duration = Duration::from_mins(10);

/// Ordered by the pause that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::billing) enum Step {
    /// There may be more work right now.
    More,
    Idle,
    /// The cause has been logged.
    Failed,
}

/// When a periodic job is due, in milliseconds of the steady clock.
#[derive(Debug)]
pub(in crate::billing) struct DueTime(AtomicI64);

impl DueTime {
    pub(in crate::billing) fn now() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    pub(in crate::billing) fn has_come(&self, steady_ms: i64) -> bool {
        steady_ms >= self.0.load(Ordering::Relaxed)
    }

    pub(in crate::billing) fn set(&self, steady_ms: i64) {
        self.0.store(steady_ms, Ordering::Relaxed);
    }
}

/// Runs one step after another, forever. `what` names the job in the log; `woken` notifies it of
/// new work.
pub(in crate::billing) async fn run_forever<F>(
    what: &'static str,
    woken: Option<&Notify>,
    step: impl Fn() -> F,
) where
    F: Future<Output = Result<Step, BillingError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        // A panic over one item must not end the job.
        let stepped = tokio::time::timeout(STEP_TIMEOUT, AssertUnwindSafe(step()).catch_unwind()).await;
        let stepped = match stepped {
            Ok(Ok(Ok(stepped))) => stepped,
            Err(_) => {
                tracing::error!(what, "background work timed out; trying again");
                Step::Failed
            }
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, what, "background work failed; trying again");
                Step::Failed
            }
            Ok(Err(_)) => {
                tracing::error!(what, "background work panicked; trying again");
                Step::Failed
            }
        };
        match stepped {
            Step::More => pause = FIRST_PAUSE,
            Step::Idle => {
                pause = FIRST_PAUSE;
                match woken {
                    Some(woken) => _ = tokio::time::timeout(POLL_INTERVAL, woken.notified()).await,
                    None => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
            Step::Failed => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Returns half to the whole of a pause that doubles with each try, at random, so that items that
/// failed together are not retried together. All in milliseconds.
pub(super) fn backoff_ms(first_ms: i64, longest_ms: i64, tries: i64) -> i64 {
    let pause_ms = first_ms.saturating_mul(1 << tries.clamp(0, 30)).min(longest_ms);
    let random = i64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause_ms / 2 + pause_ms / 2 * random / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_maximum_with_half_as_jitter() {
        for (tries, whole) in [(0, 1000), (1, 2000), (5, 32_000), (9, 300_000), (10_000, 300_000)] {
            for _ in 0..50 {
                let pause = backoff_ms(1000, 300_000, tries);
                assert!((whole / 2..=whole).contains(&pause), "{tries}: {pause}");
            }
        }
    }
}
