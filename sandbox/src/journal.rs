//! What came in and what went out, for tests to read back.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// A test asserts a conversation, not a day's traffic; a development server must not fill the memory.
const MAX_LINES: usize = 10_000;

/// The latest lines, oldest first.
#[derive(Default)]
pub(crate) struct Journal(Mutex<VecDeque<Value>>);

impl Journal {
    pub(crate) fn push(&self, line: Value) {
        let mut lines = self.lines();
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        self.lines().iter().cloned().collect()
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
