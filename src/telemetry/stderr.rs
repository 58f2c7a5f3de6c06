//! stderr: what `tracing` logs, panics, and reports about the logs themselves.
//!
//! The service writes it by a thread of its own, within a budget. So neither a reader that stops nor a client that
//! causes a line with each frame it sends can block a request or fill a disk. A command is not set up for that; its
//! few sentences are written at once.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::line_queue::{LineQueue, count_lines};
use super::stream::StreamWriter;

/// The most bytes of lines in each window: 9 GB a day, and enough for `RUST_LOG=debug` on a service that is not under
/// load.
const BUDGET_BYTES: usize = 512 * 1024;
const BUDGET_WINDOW: Duration = Duration::from_secs(5);

/// The most bytes of lines that wait for the thread.
const QUEUE_BYTES: usize = 1024 * 1024;

/// A process has one stderr.
static STDERR: OnceLock<Stderr> = OnceLock::new();

#[derive(Debug)]
struct Stderr {
    queue: LineQueue,
    budget: Arc<Mutex<Budget>>,
}

/// Starts the thread, and lets panics be reported through it.
pub(super) fn start() -> io::Result<()> {
    let stderr = Stderr::start(io::stderr)?;
    if STDERR.set(stderr).is_ok() {
        panic::set_hook(Box::new(report_panic));
    }
    Ok(())
}

/// Reports one thing that no `RUST_LOG` may mute and no budget leave out.
pub(crate) fn report(sentence: fmt::Arguments<'_>) {
    let line = format!("billhook: {sentence}\n");
    match STDERR.get() {
        Some(stderr) => stderr.queue_line(line.as_bytes()),
        // Not by `eprintln!`, which panics when stderr is closed.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Waits until all lines so far are written, or until the deadline.
pub(crate) fn flush(deadline: Instant) {
    if let Some(stderr) = STDERR.get() {
        stderr.queue.flush(deadline);
    }
}

/// How many lines were not written since the start.
pub(super) fn dropped_lines() -> u64 {
    STDERR.get().map_or(0, |stderr| stderr.budget().dropped)
}

fn report_panic(info: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    let mut report = format!("billhook: a defect: thread '{name}' {info}\n").into_bytes();
    if backtrace.status() == BacktraceStatus::Captured {
        // A vector takes all that is written.
        let _ = writeln!(report, "{backtrace}");
    }
    let _ = Lines.write(&report);
}

/// For `tracing`: each write is a line.
#[derive(Debug)]
pub(super) struct Lines;

impl Write for Lines {
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
            let excess = lock(&writer_budget).take_excess(Instant::now());
            if excess > 0 {
                let report = format!("billhook: {excess} lines were left out here: there were too many\n");
                let _ = stream.write(open(), report.as_bytes());
            }
        })?;
        Ok(Self { queue, budget })
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        lock(&self.budget)
    }

    /// Writes a line as far as the budget goes.
    fn write_line(&self, line: &[u8]) {
        if self.budget().admit(line.len(), Instant::now()) {
            self.queue_line(line);
        }
    }

    fn queue_line(&self, line: &[u8]) {
        if !self.queue.push(line) {
            self.budget().leave_out();
        }
    }
}

fn lock(budget: &Mutex<Budget>) -> MutexGuard<'_, Budget> {
    budget.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much may be written in a window of time, and what was too much.
#[derive(Debug)]
struct Budget {
    window_began: Instant,
    admitted_bytes: usize,
    /// Lines of this window that were left out, and lines of earlier windows that are not reported yet.
    left_out: u64,
    unreported: u64,
    dropped: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { window_began: now, admitted_bytes: 0, left_out: 0, unreported: 0, dropped: 0 }
    }

    fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        self.end_window(now);
        let is_admitted = self.admitted_bytes + bytes <= BUDGET_BYTES;
        if is_admitted {
            self.admitted_bytes += bytes;
        } else {
            self.leave_out();
        }
        is_admitted
    }

    fn leave_out(&mut self) {
        self.left_out += 1;
        self.dropped += 1;
    }

    /// How many lines are to be reported, once their window is over.
    fn take_excess(&mut self, now: Instant) -> u64 {
        self.end_window(now);
        mem::take(&mut self.unreported)
    }

    fn end_window(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_began) >= BUDGET_WINDOW {
            self.window_began = now;
            self.admitted_bytes = 0;
            self.unreported += mem::take(&mut self.left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_leaves_out_the_excess_and_reports_it_in_the_next_window() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert!(budget.admit(BUDGET_BYTES - 10, start));
        assert!(!budget.admit(11, start), "too much");
        assert!(budget.admit(10, start), "a short line fits");
        assert!(!budget.admit(1, start));
        assert_eq!(budget.take_excess(start), 0, "not before the window is over");

        let next = start + BUDGET_WINDOW;
        assert!(budget.admit(BUDGET_BYTES, next));
        assert!(!budget.admit(1, next));
        assert_eq!(budget.take_excess(next), 2, "of the first window");
        assert_eq!(budget.take_excess(next), 0, "once");
        assert_eq!(budget.take_excess(next + BUDGET_WINDOW), 1, "though no line came since");
        assert_eq!(budget.dropped, 3);
    }

    #[test]
    fn line_for_a_full_queue_is_left_out_and_counted() {
        let (reader, writer) = io::pipe().expect("a pipe that nothing reads");
        let stderr = Stderr::start(move || writer.try_clone().expect("its end")).expect("a thread");
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<_>>();
        // As reports do it, which have no budget.
        while stderr.budget().dropped == 0 {
            stderr.queue_line(&line);
        }
        assert_eq!(stderr.budget().left_out, 1);
        drop(reader);
    }
}
