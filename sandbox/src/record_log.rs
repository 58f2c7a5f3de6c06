//! A record of requests or deliveries, for tests to read.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Enough for any test; a development server must not fill the memory.
const MAX_RECORDS: usize = 10_000;

/// The latest records, oldest first.
#[derive(Default)]
pub(crate) struct RecordLog(Mutex<VecDeque<Value>>);

impl RecordLog {
    pub(crate) fn push(&self, record: Value) {
        let mut records = self.lock();
        if records.len() == MAX_RECORDS {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
