//! Counts of exported and dropped spans.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts every ended span, because the SDK drops spans silently.
#[derive(Debug, Default)]
pub struct SpanTally {
    ended: AtomicU64,
    exported: AtomicU64,
    no_room: AtomicU64,
    not_taken: AtomicU64,
}

impl SpanTally {
    /// Spans that the collector accepted.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans dropped because the queue was full.
    pub fn no_room(&self) -> u64 {
        self.no_room.load(Ordering::Relaxed)
    }

    /// Spans dropped because the export failed.
    pub fn not_taken(&self) -> u64 {
        self.not_taken.load(Ordering::Relaxed)
    }

    /// Dropped or queued spans.
    pub fn unsent(&self) -> u64 {
        self.ended.load(Ordering::Relaxed).saturating_sub(self.exported())
    }

    pub(super) fn record_export(&self, spans: u64, is_success: bool) {
        let counter = if is_success { &self.exported } else { &self.not_taken };
        counter.fetch_add(spans, Ordering::Relaxed);
    }

    /// Counts an ended span. Returns whether the queue has room for it.
    pub(super) fn admit(&self, max_queued: u64) -> bool {
        let done = self.exported() + self.no_room() + self.not_taken();
        let queued = self.ended.fetch_add(1, Ordering::Relaxed).saturating_sub(done);
        let has_room = queued < max_queued;
        if !has_room {
            self.no_room.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}
