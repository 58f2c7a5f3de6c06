//! Transactions that lose a race begin again.

use std::time::Duration;

use crate::store::StoreError;

/// How often a transaction is begun. Every race has a winner, so that a few times are enough.
const TRIES: u32 = 5;

/// The longest pause before the next try: a few transactions' time.
const PAUSE_MS: u64 = 20;

/// Does it, and again for as long as another transaction was in the way, after a pause of random length.
pub(super) async fn race<T, E, F>(begin: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: Lost,
{
    for _ in 1..TRIES {
        match begin().await {
            Err(error) if error.lost() => tokio::time::sleep(pause()).await,
            result => return result,
        }
    }
    begin().await
}

/// An error that may be a lost race.
pub(super) trait Lost {
    fn lost(&self) -> bool;
}

impl Lost for StoreError {
    fn lost(&self) -> bool {
        self.failure().is_conflict()
    }
}

fn pause() -> Duration {
    let chance = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(chance * PAUSE_MS / 255)
}
