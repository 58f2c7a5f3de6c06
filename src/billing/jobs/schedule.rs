//! The loop that each job runs in.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

use crate::billing::BillingError;

/// How often work is looked for when nothing tells of any: another replica may have left it, or its time has come.
const LOOK: Duration = Duration::from_secs(1);

/// The pause after a failure, doubled with each further one, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How long a step may take before it is begun again: a database server that stands still keeps to no limit, and a
/// connection that nobody closed is silent for hours. A long backfill goes on where its watermark stands.
const PATIENCE: Duration = Duration::from_mins(10);

/// What a step came to; the greater asks for the longer pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::billing) enum Step {
    /// There may be more to do at once.
    More,
    /// There is nothing to do for now.
    Idle,
    /// It could not be done; what failed has been told.
    Trouble,
}

/// When a job that runs at intervals is due, by a clock that nobody sets.
#[derive(Debug)]
pub(in crate::billing) struct DueTime(AtomicI64);

impl DueTime {
    /// Due at once.
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

/// Takes one step after the other, for good. `what` names the work in the log; `woken` tells that there is some.
pub(in crate::billing) async fn forever<F>(what: &'static str, woken: Option<&Notify>, step: impl Fn() -> F)
where
    F: Future<Output = Result<Step, BillingError>>,
{
    let mut pause = PAUSE;
    loop {
        // A defect that panics over one thing must not end the task that everything else needs.
        let stepped = tokio::time::timeout(PATIENCE, AssertUnwindSafe(step()).catch_unwind()).await;
        let stepped = match stepped {
            Ok(Ok(Ok(stepped))) => stepped,
            Err(_) => {
                tracing::error!(what, "background work took too long; it is tried again");
                Step::Trouble
            }
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, what, "background work failed; it is tried again");
                Step::Trouble
            }
            Ok(Err(_)) => {
                tracing::error!(what, "a defect: background work panicked; it is tried again");
                Step::Trouble
            }
        };
        match stepped {
            Step::More => pause = PAUSE,
            Step::Idle => {
                pause = PAUSE;
                rest(LOOK, woken).await;
            }
            Step::Trouble => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn rest(pause: Duration, woken: Option<&Notify>) {
    match woken {
        Some(woken) => {
            let _ = tokio::time::timeout(pause, woken.notified()).await;
        }
        None => tokio::time::sleep(pause).await,
    }
}

/// Half to the whole of a pause that doubles with each try, by chance, so that what failed together is not tried again
/// together. All in milliseconds.
pub(super) fn backoff_ms(first_ms: i64, longest_ms: i64, tries: i64) -> i64 {
    let pause_ms = first_ms.saturating_mul(1 << tries.clamp(0, 30)).min(longest_ms);
    let chance = i64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause_ms / 2 + pause_ms / 2 * chance / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_longest_and_is_never_less_than_half() {
        for (tries, whole) in [(0, 1000), (1, 2000), (5, 32_000), (9, 300_000), (10_000, 300_000)] {
            for _ in 0..50 {
                let pause = backoff_ms(1000, 300_000, tries);
                assert!((whole / 2..=whole).contains(&pause), "{tries}: {pause}");
            }
        }
    }
}
