//! Whether the database takes writes. A full disk, or a server that has become read-only, still answers every read, so
//! readiness asks here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Store, StoreError, StoreFailure};

/// The name of the row that a test write writes.
const TEST_WRITE: &str = "test_write";

/// The shortest time between two test writes: anyone can ask `/readyz` as often as they like.
const TEST_WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// What the last writes came to.
#[derive(Debug, Default)]
pub(super) struct WriteHealth {
    last_write_failed: AtomicBool,
    last_test_write: Mutex<Option<Instant>>,
}

impl WriteHealth {
    pub(super) fn note_failure(&self, error: &StoreError) {
        if error.failure() == StoreFailure::Unavailable {
            self.last_write_failed.store(true, Ordering::Relaxed);
        }
    }

    fn may_test_write(&self) -> bool {
        let mut last = self.last_test_write.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= TEST_WRITE_INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

impl Store {
    /// Notes that a write failed, or took too long, through the database's fault.
    pub fn note_failed_write(&self) {
        self.write_health.last_write_failed.store(true, Ordering::Relaxed);
    }

    /// Whether the database takes writes, as far as is known. It is asked with a small write only after one has failed,
    /// and at most once a second.
    pub async fn is_writable(&self) -> Result<bool, StoreError> {
        if !self.write_health.last_write_failed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        if !self.write_health.may_test_write() {
            return Ok(false);
        }
        // Something new each time: SQLite does not write a page that stays the same.
        let content = Uuid::new_v4().simple().to_string();
        self.observe(TEST_WRITE, 0, 0, Some(&content)).await?;
        self.write_health.last_write_failed.store(false, Ordering::Relaxed);
        Ok(true)
    }
}
