//! What became of the spans.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the spans that ended. The SDK drops spans without a word; here each of them is accounted for.
#[derive(Debug, Default)]
pub struct SpanTally {
    ended: AtomicU64,
    exported: AtomicU64,
    no_room: AtomicU64,
    not_taken: AtomicU64,
}

impl SpanTally {
    /// Spans that the collector has taken.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that were dropped because too many were waiting.
    pub fn no_room(&self) -> u64 {
        self.no_room.load(Ordering::Relaxed)
    }

    /// Spans that were dropped because the collector did not take them.
    pub fn not_taken(&self) -> u64 {
        self.not_taken.load(Ordering::Relaxed)
    }

    /// Spans that no collector has: dropped, or still waiting.
    pub fn unsent(&self) -> u64 {
        self.ended.load(Ordering::Relaxed).saturating_sub(self.exported())
    }

    /// Counts spans that the collector has taken, or has not.
    pub(super) fn settle(&self, spans: u64, is_taken: bool) {
        let counter = if is_taken { &self.exported } else { &self.not_taken };
        counter.fetch_add(spans, Ordering::Relaxed);
    }

    /// Counts a span that has ended. Whether there is room for it among those that wait.
    pub(super) fn admit(&self, most: u64) -> bool {
        let settled = self.exported() + self.no_room() + self.not_taken();
        let waiting = self.ended.fetch_add(1, Ordering::Relaxed).saturating_sub(settled);
        let has_room = waiting < most;
        if !has_room {
            self.no_room.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}
