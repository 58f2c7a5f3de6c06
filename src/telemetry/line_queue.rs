//! A bounded queue of lines and the thread that writes them.
//!
//! The caller copies its lines into the queue and never waits for a disk, a pipe or a terminal. The
//! thread writes everything that is in the queue in one call.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the thread calls its writer when no line arrives, so that it can reopen a file or
/// report drops.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The sending end. When it is dropped, the thread writes the remaining lines and ends.
#[derive(Debug)]
pub(super) struct LineQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines since the start, so that a flush waits only for those that were queued before it.
    queued_lines: u64,
    written_lines: u64,
    is_closed: bool,
}

impl LineQueue {
    /// Starts the thread. It calls `write` with whole lines, and with an empty slice at its start
    /// and when idle.
    pub(super) fn start(
        thread_name: String,
        max_bytes: usize,
        write: impl FnMut(&[u8]) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { max_bytes, state: Mutex::default(), changed: Condvar::new() });
        let queue = Self(shared.clone());
        thread::Builder::new().name(thread_name).spawn(move || shared.run(write))?;
        Ok(queue)
    }

    /// Adds all of the whole lines, or returns false and adds none if the queue is full.
    pub(super) fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.0.lock();
        let has_room = state.waiting.len() + lines.len() <= self.0.max_bytes;
        if has_room {
            state.waiting.extend_from_slice(lines);
            state.queued_lines += count_lines(lines);
            self.0.changed.notify_all();
        }
        has_room
    }

    /// Waits until all earlier lines are written. Returns how many are unwritten at the deadline.
    pub(super) fn flush(&self, deadline: Instant) -> u64 {
        let state = self.0.lock();
        let queued = state.queued_lines;
        let timeout = deadline.saturating_duration_since(Instant::now());
        let is_unwritten = |state: &mut State| state.written_lines < queued;
        let waited = self.0.changed.wait_timeout_while(state, timeout, is_unwritten);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queued.saturating_sub(state.written_lines)
    }
}

impl Drop for LineQueue {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut write: impl FnMut(&[u8])) {
        let mut lines = Vec::new();
        loop {
            // A bug that panics on some lines must not stop all later ones. The panic hook reports
            // it.
            let _ = catch_unwind(AssertUnwindSafe(|| write(&lines)));
            match self.next_after(&lines) {
                Some(next) => lines = next,
                None => return,
            }
        }
    }

    /// The lines queued since the last call; empty after [`IDLE_INTERVAL`] without a line; None
    /// once the queue is closed and empty.
    fn next_after(&self, written: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.lock();
        state.written_lines += count_lines(written);
        self.changed.notify_all();
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, IDLE_INTERVAL, is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_over = state.is_closed && state.waiting.is_empty();
        (!is_over).then(|| mem::take(&mut state.waiting))
    }
}

pub(super) fn count_lines(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').skip(1).count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Far longer than any step here takes.
    const TIMEOUT: Duration = Duration::from_mins(1);

    /// The writer waits for a permit before each write, and sends the lines that it wrote.
    struct GatedQueue {
        queue: LineQueue,
        permits: Sender<()>,
        written: Receiver<String>,
    }

    impl GatedQueue {
        fn start(max_bytes: usize) -> Self {
            let (permits, permitted) = channel::<()>();
            let (write, written) = channel();
            let queue = LineQueue::start("test".into(), max_bytes, move |lines: &[u8]| {
                if lines.is_empty() {
                    return;
                }
                assert_ne!(lines, b"bug\n", "a bug in the writer");
                // An error means that the test no longer stalls the writer.
                let _ = permitted.recv();
                let _ = write.send(String::from_utf8_lossy(lines).into_owned());
            });
            Self { queue: queue.expect("a thread"), permits, written }
        }

        /// Queues a line and waits until the writer has taken it and stalls.
        fn stall_with(&self, line: &str) {
            assert!(self.queue.push(line.as_bytes()));
            while !self.queue.0.lock().waiting.is_empty() {
                thread::yield_now();
            }
        }

        fn next_written(&self) -> String {
            self.written.recv_timeout(TIMEOUT).expect("a write")
        }
    }

    #[test]
    fn stalled_writer_blocks_no_push_and_gets_all_queued_lines() {
        let gated = GatedQueue::start(8);
        gated.stall_with("1\n");
        let has_room = ["2\n", "3\n", "4\n", "5\n", "6\n"].map(|line| gated.queue.push(line.as_bytes()));
        assert_eq!(has_room, [true, true, true, true, false]);
        assert_eq!(gated.queue.flush(Instant::now()), 5, "lines are not written yet");

        gated.permits.send(()).expect("the writer runs");
        assert_eq!(gated.next_written(), "1\n");
        gated.permits.send(()).expect("the writer runs");
        assert_eq!(gated.next_written(), "2\n3\n4\n5\n");
        assert_eq!(gated.queue.flush(Instant::now() + TIMEOUT), 0);
        assert!(gated.queue.push(b"7\n"), "there is room again");
    }

    #[test]
    fn panicking_writer_loses_its_lines_and_writes_later_ones() {
        let gated = GatedQueue::start(100);
        assert!(gated.queue.push(b"bug\n"));
        assert_eq!(gated.queue.flush(Instant::now() + TIMEOUT), 0);
        gated.permits.send(()).expect("the writer runs");
        assert!(gated.queue.push(b"later\n"));
        assert_eq!(gated.next_written(), "later\n");
    }

    #[test]
    fn dropped_queue_writes_remaining_lines_and_ends_thread() {
        let gated = GatedQueue::start(100);
        gated.stall_with("1\n");
        assert!(gated.queue.push(b"2\n"));
        let GatedQueue { queue, permits, written } = gated;
        drop((queue, permits));
        // The channel ends with the thread that sends.
        assert_eq!(written.iter().collect::<Vec<_>>(), ["1\n", "2\n"]);
    }
}
