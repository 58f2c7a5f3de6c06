//! The topic lines: `billing`, `webhook_signatures` and `subscription_state`, one JSON object a line, in a file each or
//! on stdout.
//!
//! Written here and not by tracing-appender, whose files rotate by time alone and have no bound on their size. Start reading at
//! [`TopicLogs`]; `line` is the allow-list of fields, `file` and `rotation` are a file's life.
//!
//! They are written by name and not through `tracing`, so that no `RUST_LOG` can mute them. The service writes them by
//! a thread for each topic, so that a disk or a reader that hangs blocks no request; a command writes them itself. A
//! kill loses no line that is written; those that wait for the thread it loses. The journal is the authority.

mod file;
mod line;
mod output;
mod rotation;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use serde::{Serialize, Serializer};

use self::output::{Output, Route};
use crate::domain::log_settings::{LogConfig, LogSink};

pub(crate) use self::line::rfc3339;
pub use self::line::{Level, Line};

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
#[derive(Debug, Clone, Default)]
pub struct TopicLogs(Arc<[Vec<Route>; Topic::ALL.len()]>);

impl TopicLogs {
    /// For a command: opens the outputs, making the directory if need be, and writes each line before `append` returns.
    /// A directory that cannot be written is reported on stderr and tried again with every line.
    pub fn open(config: &LogConfig) -> Self {
        let logs = Self(Arc::new(
            Topic::ALL.map(|topic| outputs(config, topic).into_iter().map(Route::direct).collect()),
        ));
        logs.reopen();
        logs
    }

    /// For the service: the same, by a thread for each output. `append` never waits.
    pub fn start(config: &LogConfig) -> io::Result<Self> {
        let mut topics = <[Vec<Route>; Topic::ALL.len()]>::default();
        for topic in Topic::ALL {
            let outputs = outputs(config, topic).into_iter();
            topics[topic as usize] =
                outputs.map(|output| Route::queued(topic, output)).collect::<io::Result<_>>()?;
        }
        Ok(Self(Arc::new(topics)))
    }

    /// Nowhere, for a command that writes no line.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the lines. A failure is counted and reported on stderr; it is never the caller's.
    pub fn append(&self, lines: &[Line]) {
        for topic in Topic::ALL {
            let text = line::json_lines(lines.iter().filter(|line| line.topic == topic));
            if !text.is_empty() {
                self.routes(topic).iter().for_each(|route| route.append(&text));
            }
        }
    }

    /// Opens the files again, after another program has moved them away (SIGHUP). In the service the threads do it
    /// within a second.
    pub fn reopen(&self) {
        self.0.iter().flatten().for_each(Route::reopen);
    }

    /// Waits until the lines that were appended before are written. Reports on stderr how many are not at the deadline.
    pub fn flush(&self, deadline: Instant) {
        self.0.iter().flatten().for_each(|route| route.flush(deadline));
    }

    /// How often, since the start, lines of the topic could not be written, or its file not be opened or rotated.
    pub fn write_errors(&self, topic: Topic) -> u64 {
        self.routes(topic).iter().map(Route::write_errors).sum()
    }

    /// How many lines of the topic, since the start, were dropped because too many waited to be written.
    pub fn dropped_lines(&self, topic: Topic) -> u64 {
        self.routes(topic).iter().map(Route::dropped_lines).sum()
    }

    fn routes(&self, topic: Topic) -> &[Route] {
        &self.0[topic as usize]
    }
}

fn outputs(config: &LogConfig, topic: Topic) -> Vec<Output> {
    let file = || Output::file(config, topic);
    match config.sink {
        LogSink::File => vec![file()],
        LogSink::Stdout => vec![Output::stdout()],
        LogSink::Both => vec![file(), Output::stdout()],
    }
}
