//! The work that nobody waits for, and the loop that all of it runs in.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::backfill::Backfill;
use super::{
    Billing, BillingError, Ingest, account, follow, parked_customers, price_check, refresh, retention, retry,
    webhook_record,
};
use crate::store::AccountConflict;

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
pub(super) enum Step {
    /// There may be more to do at once.
    More,
    /// There is nothing to do for now.
    Idle,
    /// It could not be done; what failed has been told.
    Trouble,
}

/// When a job that runs at intervals is due, by a clock that nobody sets.
#[derive(Debug)]
pub(super) struct DueTime(AtomicI64);

impl DueTime {
    /// Due at once.
    pub(super) fn now() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    pub(super) fn has_come(&self, steady_ms: i64) -> bool {
        steady_ms >= self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, steady_ms: i64) {
        self.0.store(steady_ms, Ordering::Relaxed);
    }
}

/// Starts the background work. It ends when told to, or with a conflict when the key turns out to be of another account
/// than the database, wherever it is: what was begun is undone by its transaction, and begun again by the next process.
pub fn start(
    billing: Arc<Billing>,
    ingest: Ingest,
    told_to_stop: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<Option<AccountConflict>> {
    tokio::spawn(async move {
        let backfill = Backfill::new(&billing, ingest);
        let work = async {
            tokio::join!(
                refresh::run(&billing),
                retry::run(&billing),
                retention::run(&billing),
                price_check::run(&billing),
                webhook_record::run(&billing),
                parked_customers::run(&billing),
                backfill.run(),
                follow::read(&billing),
                follow::listen(&billing)
            );
        };
        let conflict = tokio::select! {
            () = work => None,
            conflict = account::guard(&billing) => Some(conflict),
            () = told_to_stop => None,
        };
        // The server waits for what it is answering, and streams would let it wait for an hour.
        billing.streams.end();
        backfill.give_way().await;
        conflict
    })
}

/// Takes one step after the other, for good. `what` names the work in the log; `woken` tells that there is some.
pub(super) async fn forever<F>(what: &'static str, woken: Option<&Notify>, step: impl Fn() -> F)
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
