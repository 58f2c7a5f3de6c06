//! The topic lines: `billing`, `webhook_signatures` and `subscription_state`, one JSON object a line, in a file each or
//! on stdout.
//!
//! They are written by name and not through `tracing`, so that no `RUST_LOG` can mute them. A line is the kernel's when
//! [`TopicLogs::append`] returns, so that a kill loses none.

mod file;
mod line;
mod rotation;
mod settings;
mod stdout;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Serialize, Serializer};

use self::file::TopicFile;
use self::stdout::{LineReader, is_writable};
use super::Seldom;

pub(crate) use self::line::rfc3339;
pub use self::line::{Level, Line};
pub(super) use self::line::{token, user_name};
pub use self::settings::{LogConfig, LogSink, Rotation};

/// Which file a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Checkout and portal: what the tenants' people did.
    Billing,
    /// Every webhook's signature, accepted or rejected.
    WebhookSignatures,
    /// What became of the events, and every transition.
    SubscriptionState,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Billing, Self::WebhookSignatures, Self::SubscriptionState];

    /// The word in lines, in metrics and in the file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::WebhookSignatures => "webhook_signatures",
            Self::SubscriptionState => "subscription_state",
        }
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Where the lines of the topics go. Clones share it.
#[derive(Debug, Clone)]
pub struct TopicLogs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Option<Files>,
    stdout: Option<Stdout>,
    write_errors: [AtomicU64; Topic::ALL.len()],
}

#[derive(Debug)]
struct Files {
    files: [Mutex<TopicFile>; Topic::ALL.len()],
    told: Seldom,
}

#[derive(Debug, Default)]
struct Stdout {
    reader: Mutex<LineReader>,
    told: Seldom,
}

impl TopicLogs {
    /// Opens what the lines go to, making the directory if need be. A directory that cannot be written never stops the
    /// service: it is told on stderr and tried again with every line.
    pub fn open(config: &LogConfig) -> Self {
        let (files, stdout) = match config.sink {
            LogSink::File => (Some(Files::new(config)), None),
            LogSink::Stdout => (None, Some(Stdout::default())),
            LogSink::Both => (Some(Files::new(config)), Some(Stdout::default())),
        };
        let logs = Self(Arc::new(Shared { files, stdout, write_errors: Default::default() }));
        logs.reopen();
        logs
    }

    /// Nowhere, for a command that writes no line.
    pub fn none() -> Self {
        Self(Arc::new(Shared { files: None, stdout: None, write_errors: Default::default() }))
    }

    /// Adds the lines, those of one topic in a single write to its file. When this returns they are the kernel's: a
    /// kill loses none of them. A failure is counted and told on stderr, and is never the caller's.
    pub fn append(&self, lines: &[Line]) {
        for topic in Topic::ALL {
            let of_topic = || lines.iter().filter(|line| line.topic == topic);
            let Some(first) = of_topic().next() else { continue };
            let text = line::json_lines(of_topic());
            if let Some(files) = &self.0.files {
                let mut file = files.of(topic);
                let written = file.append(&text, first.at_milliseconds);
                self.account_for(topic, written, file.path().display(), &files.told);
            }
            if let Some(stdout) = &self.0.stdout {
                let written = stdout.write(&text);
                self.account_for(topic, written, "stdout", &stdout.told);
            }
        }
    }

    /// Opens the files anew, after somebody has moved them away (SIGHUP).
    pub fn reopen(&self) {
        let Some(files) = &self.0.files else { return };
        for topic in Topic::ALL {
            let mut file = files.of(topic);
            let opened = file.reopen();
            self.account_for(topic, opened, file.path().display(), &files.told);
        }
    }

    /// How often, since the start, lines of the topic could not be written, or its file not be opened or rotated.
    pub fn write_errors(&self, topic: Topic) -> u64 {
        self.0.write_errors[topic as usize].load(Ordering::Relaxed)
    }

    fn account_for<E: fmt::Display>(
        &self,
        topic: Topic,
        result: Result<(), E>,
        place: impl fmt::Display,
        told: &Seldom,
    ) {
        let Err(error) = result else { return };
        let errors = self.0.write_errors[topic as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if told.is_due(Instant::now()) {
            tell(format_args!("billhook: {place} {error} (failures so far: {errors})"));
        }
    }
}

impl Files {
    fn new(config: &LogConfig) -> Self {
        let file = |topic: Topic| {
            let path = config.dir.join(format!("{}.log", topic.as_str()));
            Mutex::new(TopicFile::new(path, config.rotation))
        };
        Self { files: Topic::ALL.map(file), told: Seldom::default() }
    }

    fn of(&self, topic: Topic) -> MutexGuard<'_, TopicFile> {
        self.files[topic as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stdout {
    /// Past the buffer of the standard library, which a kill would lose.
    fn write(&self, lines: &[u8]) -> Result<(), StdoutError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.write(io::stdout(), lines).map_err(StdoutError)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot be written, lines are lost: {0}")]
struct StdoutError(#[source] io::Error);

/// Not by `tracing`, which can be muted; not by `eprintln!`, which panics when nobody reads stderr; and not at all
/// while its reader has stalled, who may be stdout's too.
fn tell(sentence: fmt::Arguments<'_>) {
    if is_writable(io::stderr(), Instant::now()).unwrap_or(false) {
        let _ = io::stderr().write_all(format!("{sentence}\n").as_bytes());
    }
}
