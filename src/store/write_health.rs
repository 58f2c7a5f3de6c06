//! Whether the database accepts writes, for `/readyz`. A database with a full disk and a read-only
//! server still serve reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Store, StoreError, StoreErrorKind};

/// The name of the `observation` that a test write replaces.
const TEST_WRITE: &str = "test_write";

/// Clients can call `/readyz` as often as they like.
const MIN_TEST_WRITE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct WriteHealth {
    last_write_failed: AtomicBool,
    last_test_write: Mutex<Option<Instant>>,
}

impl WriteHealth {
    pub(super) fn record_failure(&self, error: &StoreError) {
        if error.kind() == StoreErrorKind::Unavailable {
            self.last_write_failed.store(true, Ordering::Relaxed);
        }
    }

    fn may_test_write(&self) -> bool {
        let mut last = self.last_test_write.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= MIN_TEST_WRITE_INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

impl Store {
    /// Records a write that failed because the database is unavailable or too slow.
    pub fn record_failed_write(&self) {
        self.write_health.last_write_failed.store(true, Ordering::Relaxed);
    }

    /// Assumes so until a write fails. Then it makes a small test write, at most once a second.
    pub async fn is_writable(&self) -> Result<bool, StoreError> {
        if !self.write_health.last_write_failed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        if !self.write_health.may_test_write() {
            return Ok(false);
        }
        // Random, since SQLite does not write an unchanged page.
        let content = Uuid::new_v4().simple().to_string();
        self.record_observation(TEST_WRITE, 0, 0, Some(&content)).await?;
        self.write_health.last_write_failed.store(false, Ordering::Relaxed);
        Ok(true)
    }
}
