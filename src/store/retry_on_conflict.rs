//! Transactions that conflict with another one are tried again.

use std::time::Duration;

use super::StoreError;

/// How often a transaction is tried. Each conflict has a winner, so a few times are enough.
const MAX_TRIES: u32 = 5;

/// The longest pause before the next try: the time of a few transactions.
const MAX_PAUSE_MS: u64 = 20;

/// Runs a transaction, and runs it again while another one is in the way, after a pause of random length.
pub async fn retry_on_conflict<T, E, F>(transaction: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: MayConflict,
{
    for _ in 1..MAX_TRIES {
        match transaction().await {
            Err(error) if error.is_conflict() => tokio::time::sleep(pause()).await,
            result => return result,
        }
    }
    transaction().await
}

/// An error of a transaction that may come from another one.
pub trait MayConflict {
    /// Whether another transaction was in the way.
    fn is_conflict(&self) -> bool;
}

impl MayConflict for StoreError {
    fn is_conflict(&self) -> bool {
        self.failure().is_conflict()
    }
}

fn pause() -> Duration {
    let chance = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(chance * MAX_PAUSE_MS / 255)
}
