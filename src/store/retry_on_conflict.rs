//! Runs a transaction again after a conflict with another one.

use std::time::Duration;

use super::StoreError;

/// Each conflict has a winner, so a few attempts are enough.
const MAX_ATTEMPTS: u32 = 5;

/// About as long as a few transactions take.
const MAX_DELAY_MS: u64 = 20;

/// Waits for a random time before each further attempt.
pub async fn retry_on_conflict<T, E, F>(transaction: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: MayConflict,
{
    for _ in 1..MAX_ATTEMPTS {
        match transaction().await {
            Err(error) if error.is_conflict() => {
                let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
                tokio::time::sleep(Duration::from_millis(random * MAX_DELAY_MS / 255)).await;
            }
            result => return result,
        }
    }
    transaction().await
}

pub trait MayConflict {
    /// Whether the error is a conflict with another transaction.
    fn is_conflict(&self) -> bool;
}

impl MayConflict for StoreError {
    fn is_conflict(&self) -> bool {
        self.kind().is_conflict()
    }
}
