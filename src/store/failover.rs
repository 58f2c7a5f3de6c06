//! Detects a PostgreSQL failover. Afterwards a pooled connection can still lead to the old server,
//! which serves reads and rejects writes. A new connection finds the new primary.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::DbErr;

use super::error::code_of;

/// Errors of a server that takes no writes or is stopping: `read_only_sql_transaction`,
/// `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const FAILOVER_CODES: [&str; 4] = ["25006", "57P01", "57P02", "57P03"];

/// A younger connection is not replaced. While no server accepts writes, new connections fail as
/// well, and this limits how often each of them is replaced.
const MIN_AGE: Duration = Duration::from_secs(1);

/// The time of the last such error, on any connection of a store. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Failover(Arc<Mutex<Option<Instant>>>);

impl Failover {
    /// Records the time of the error if its code is one of [`FAILOVER_CODES`].
    pub(super) fn observe(&self, error: &DbErr) {
        let Some(code) = code_of(error).filter(|code| FAILOVER_CODES.contains(&code.as_str())) else {
            return;
        };
        let now = Instant::now();
        let earlier = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if earlier.is_none_or(|earlier| now - earlier >= MIN_AGE) {
            tracing::warn!(
                code,
                "PostgreSQL takes no writes or is stopping; replacing the connections to it"
            );
        }
    }

    /// Whether a connection of this age was opened before the last such error. It must not be used
    /// again.
    pub(super) fn outdates(&self, age: Duration) -> bool {
        let failed_at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        age >= MIN_AGE && failed_at.is_some_and(|failed_at| age > failed_at.elapsed())
    }
}
