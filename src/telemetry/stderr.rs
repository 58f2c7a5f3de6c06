//! stderr: log lines from `tracing`, panics, and failures of the logs themselves.
//!
//! In the service a thread writes them within a byte budget, so that neither a stalled reader nor a
//! client that causes a line per frame can block a request or fill a disk. Commands write directly.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::line_queue::{LineQueue, count_lines};
use super::stream_writer::StreamWriter;

/// The limit for each window: 9 GB a day, and enough for `RUST_LOG=debug` without load.
const BUDGET_BYTES: usize = 512 * 1024;
const BUDGET_WINDOW: Duration = Duration::from_secs(5);

const QUEUE_BYTES: usize = 1024 * 1024;

static STDERR: OnceLock<Stderr> = OnceLock::new();

#[derive(Debug)]
struct Stderr {
    queue: LineQueue,
    budget: Arc<Mutex<Budget>>,
}

/// Starts the thread, and installs a panic hook that reports through it.
pub(super) fn start() -> io::Result<()> {
    let stderr = Stderr::start(io::stderr)?;
    if STDERR.set(stderr).is_ok() {
        panic::set_hook(Box::new(report_panic));
    }
    Ok(())
}

/// Reports regardless of `RUST_LOG` and of the budget.
pub(crate) fn report(sentence: fmt::Arguments<'_>) {
    let line = format!("billhook: {sentence}\n");
    match STDERR.get() {
        Some(stderr) => stderr.queue_line(line.as_bytes()),
        // Not by `eprintln!`, which panics when stderr is closed.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Waits until all earlier lines are written, or until the deadline.
pub(crate) fn flush(deadline: Instant) {
    if let Some(stderr) = STDERR.get() {
        stderr.queue.flush(deadline);
    }
}

/// Lines dropped since the start.
pub(super) fn dropped_lines() -> u64 {
    STDERR.get().map_or(0, |stderr| lock(&stderr.budget).dropped)
}

fn report_panic(info: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    let mut report = format!("billhook: a defect: thread '{name}' {info}\n").into_bytes();
    if backtrace.status() == BacktraceStatus::Captured {
        // Writing to a vector cannot fail.
        let _ = writeln!(report, "{backtrace}");
    }
    let _ = LineWriter.write(&report);
}

/// For `tracing`, which writes a whole line at a time.
#[derive(Debug)]
pub(super) struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match STDERR.get() {
            Some(stderr) => stderr.write_line(line),
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stderr {
    fn start<F: std::os::fd::AsFd>(open: impl Fn() -> F + Send + 'static) -> io::Result<Self> {
        let budget = Arc::new(Mutex::new(Budget::new(Instant::now())));
        let (writer_budget, mut stream) = (budget.clone(), StreamWriter::default());
        let queue = LineQueue::start("log stderr".into(), QUEUE_BYTES, move |lines: &[u8]| {
            if stream.write(open(), lines).is_err() {
                lock(&writer_budget).dropped += count_lines(lines);
            }
            let unreported = lock(&writer_budget).take_unreported(Instant::now());
            if unreported > 0 {
                let report = format!("billhook: dropped {unreported} lines here: there were too many\n");
                let _ = stream.write(open(), report.as_bytes());
            }
        })?;
        Ok(Self { queue, budget })
    }

    fn write_line(&self, line: &[u8]) {
        if lock(&self.budget).admit(line.len(), Instant::now()) {
            self.queue_line(line);
        }
    }

    fn queue_line(&self, line: &[u8]) {
        if !self.queue.push(line) {
            lock(&self.budget).record_drop();
        }
    }
}

fn lock(budget: &Mutex<Budget>) -> MutexGuard<'_, Budget> {
    budget.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fixed-window limit on the bytes written.
#[derive(Debug)]
struct Budget {
    window_started: Instant,
    admitted_bytes: usize,
    dropped_in_window: u64,
    /// Dropped lines of earlier windows that are not reported yet.
    unreported: u64,
    dropped: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { window_started: now, admitted_bytes: 0, dropped_in_window: 0, unreported: 0, dropped: 0 }
    }

    fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        self.end_window(now);
        let is_admitted = self.admitted_bytes + bytes <= BUDGET_BYTES;
        if is_admitted {
            self.admitted_bytes += bytes;
        } else {
            self.record_drop();
        }
        is_admitted
    }

    fn record_drop(&mut self) {
        self.dropped_in_window += 1;
        self.dropped += 1;
    }

    /// The dropped lines of finished windows, each returned once.
    fn take_unreported(&mut self, now: Instant) -> u64 {
        self.end_window(now);
        mem::take(&mut self.unreported)
    }

    fn end_window(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_started) >= BUDGET_WINDOW {
            self.window_started = now;
            self.admitted_bytes = 0;
            self.unreported += mem::take(&mut self.dropped_in_window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_budget_are_dropped_and_reported_in_next_window() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert!(budget.admit(BUDGET_BYTES - 10, start));
        assert!(!budget.admit(11, start), "over budget");
        assert!(budget.admit(10, start), "a shorter line fits");
        assert!(!budget.admit(1, start));
        assert_eq!(budget.take_unreported(start), 0, "the window is not over");

        let next = start + BUDGET_WINDOW;
        assert!(budget.admit(BUDGET_BYTES, next));
        assert!(!budget.admit(1, next));
        assert_eq!(budget.take_unreported(next), 2, "of the first window");
        assert_eq!(budget.take_unreported(next), 0, "each is reported once");
        assert_eq!(budget.take_unreported(next + BUDGET_WINDOW), 1, "without a new line");
        assert_eq!(budget.dropped, 3);
    }

    #[test]
    fn line_for_a_full_queue_is_dropped_and_counted() {
        let (reader, writer) = io::pipe().expect("a pipe that nothing reads");
        let stderr = Stderr::start(move || writer.try_clone().expect("its end")).expect("a thread");
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<_>>();
        // Bypasses the budget.
        while lock(&stderr.budget).dropped == 0 {
            stderr.queue_line(&line);
        }
        assert_eq!(lock(&stderr.budget).dropped_in_window, 1);
        drop(reader);
    }
}
