//! A topic's outputs, file and stdout, and how lines reach them: directly or through a queue.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Topic;
use super::file::{FileError, TopicFile};
use crate::domain::log_config::LogConfig;
use crate::telemetry::line_queue::{LineQueue, count_lines};
use crate::telemetry::stream_writer::{StreamWriter, pieces};
use crate::telemetry::{ReportLimiter, stderr};

/// About 2500 lines.
const QUEUE_BYTES: usize = 1024 * 1024;

/// The limit for a single write to a file, well below the smallest rotation size.
const MAX_WRITE_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) enum Output {
    File(TopicFile),
    Stdout(StreamWriter),
}

#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot be written, lines are lost: {0}")]
    Stdout(#[from] io::Error),
}

impl Output {
    pub(super) fn file(config: &LogConfig, topic: Topic) -> Self {
        let path = config.dir.join(format!("{}.log", topic.as_str()));
        Self::File(TopicFile::new(path, config.rotation))
    }

    pub(super) fn stdout() -> Self {
        Self::Stdout(StreamWriter::default())
    }

    fn name(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Stdout(_) => "stdout".into(),
        }
    }

    fn reopen(&mut self) -> Result<(), OutputError> {
        match self {
            Self::File(file) => Ok(file.reopen()?),
            Self::Stdout(_) => Ok(()),
        }
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), OutputError> {
        match self {
            Self::File(file) => Ok(file.append(lines)?),
            Self::Stdout(stream) => Ok(stream.write(io::stdout(), lines)?),
        }
    }
}

/// One output of a topic, with its queue if it has one.
#[derive(Debug)]
pub(super) struct Route {
    writer: Writer,
    status: Arc<Status>,
}

#[derive(Debug)]
enum Writer {
    /// The caller of `append` writes.
    Direct(Mutex<Output>),
    /// A thread writes.
    Queued(LineQueue),
}

impl Route {
    pub(super) fn direct(output: Output) -> Self {
        let status = Arc::new(Status::of(&output));
        Self { writer: Writer::Direct(Mutex::new(output)), status }
    }

    pub(super) fn queued(topic: Topic, mut output: Output) -> io::Result<Self> {
        let status = Arc::new(Status::of(&output));
        // The thread opens the file when it starts, because the volume may already hang.
        status.is_reopen_requested.store(true, Ordering::Relaxed);
        let thread_status = status.clone();
        let queue =
            LineQueue::start(format!("log {}", topic.as_str()), QUEUE_BYTES, move |lines: &[u8]| {
                if thread_status.is_reopen_requested.swap(false, Ordering::Relaxed) {
                    thread_status.record(output.reopen());
                }
                for piece in pieces(lines, MAX_WRITE_BYTES) {
                    thread_status.record(output.write(piece));
                }
                thread_status.report_dropped();
            })?;
        Ok(Self { writer: Writer::Queued(queue), status })
    }

    pub(super) fn append(&self, lines: &[u8]) {
        match &self.writer {
            Writer::Direct(output) => self.status.record(lock(output).write(lines)),
            Writer::Queued(queue) => {
                if !queue.push(lines) {
                    self.status.dropped_lines.fetch_add(count_lines(lines), Ordering::Relaxed);
                    self.status.report_dropped();
                }
            }
        }
    }

    pub(super) fn reopen(&self) {
        match &self.writer {
            Writer::Direct(output) => self.status.record(lock(output).reopen()),
            Writer::Queued(_) => self.status.is_reopen_requested.store(true, Ordering::Relaxed),
        }
    }

    pub(super) fn flush(&self, deadline: Instant) {
        let Writer::Queued(queue) = &self.writer else { return };
        let unwritten = queue.flush(deadline);
        if unwritten > 0 {
            stderr::report(format_args!("{} hangs: {unwritten} lines are not written", self.status.name));
        }
    }

    pub(super) fn write_errors(&self) -> u64 {
        self.status.write_errors.load(Ordering::Relaxed)
    }

    pub(super) fn dropped_lines(&self) -> u64 {
        self.status.dropped_lines.load(Ordering::Relaxed)
    }
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts an output's failures, and remembers which were reported.
#[derive(Debug)]
struct Status {
    /// The path, or `stdout`.
    name: String,
    is_reopen_requested: AtomicBool,
    write_errors: AtomicU64,
    error_reports: ReportLimiter,
    dropped_lines: AtomicU64,
    reported_lines: AtomicU64,
    drop_reports: ReportLimiter,
}

impl Status {
    fn of(output: &Output) -> Self {
        Self {
            name: output.name(),
            is_reopen_requested: AtomicBool::default(),
            write_errors: AtomicU64::default(),
            error_reports: ReportLimiter::default(),
            dropped_lines: AtomicU64::default(),
            reported_lines: AtomicU64::default(),
            drop_reports: ReportLimiter::default(),
        }
    }

    /// Counts a failure, and reports at most one a minute.
    fn record(&self, result: Result<(), OutputError>) {
        let Err(error) = result else { return };
        let errors = self.write_errors.fetch_add(1, Ordering::Relaxed) + 1;
        if self.error_reports.is_due(Instant::now()) {
            stderr::report(format_args!("{} {error} (failures so far: {errors})", self.name));
        }
    }

    /// Reports newly dropped lines, at most once a minute.
    fn report_dropped(&self) {
        let dropped = self.dropped_lines.load(Ordering::Relaxed);
        let is_new = dropped > self.reported_lines.load(Ordering::Relaxed);
        if is_new && self.drop_reports.is_due(Instant::now()) {
            self.reported_lines.store(dropped, Ordering::Relaxed);
            stderr::report(format_args!("{} is too slow: lines dropped so far: {dropped}", self.name));
        }
    }
}
