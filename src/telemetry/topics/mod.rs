//! The topic logs `billing`, `webhook_signatures` and `subscription_state`: JSON lines, in a file
//! per topic or on stdout.
//!
//! tracing-appender is not used because it rotates by time only and does not bound a file's size.
//! The lines do not go through `tracing`, so that `RUST_LOG` cannot mute them.
//!
//! The service has a writer thread per topic and output, so that a hanging disk or reader blocks no
//! request. Commands write directly. SIGKILL loses queued lines but no written line. The journal in
//! the database is complete.
//!
//! Start reading at [`TopicLogs`]. `line` is the allow-list of fields; `file` and `rotation` write
//! and rotate a file.

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
use crate::domain::log_config::{LogConfig, LogSink};

pub(crate) use self::line::rfc3339;
pub use self::line::{Level, Line};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Checkout and portal requests.
    Billing,
    /// Accepted and rejected webhook signatures.
    WebhookSignatures,
    /// Event outcomes and subscription transitions.
    SubscriptionState,
}

impl Topic {
    pub const ALL: [Self; 3] = [Self::Billing, Self::WebhookSignatures, Self::SubscriptionState];

    /// Its name in lines, metrics and file names.
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

/// Clones share the outputs.
#[derive(Debug, Clone, Default)]
pub struct TopicLogs(Arc<[Vec<Route>; Topic::ALL.len()]>);

impl TopicLogs {
    /// For a command: `append` returns after its lines are written. Creates the directory if it is
    /// missing. An unwritable directory is reported on stderr, and each later line tries again.
    pub fn open(config: &LogConfig) -> Self {
        let logs = Self(Arc::new(
            Topic::ALL.map(|topic| outputs(config, topic).into_iter().map(Route::direct).collect()),
        ));
        logs.reopen();
        logs
    }

    /// For the service: a thread per output writes, and `append` never waits.
    pub fn start(config: &LogConfig) -> io::Result<Self> {
        let mut topics = <[Vec<Route>; Topic::ALL.len()]>::default();
        for topic in Topic::ALL {
            let outputs = outputs(config, topic).into_iter();
            topics[topic as usize] =
                outputs.map(|output| Route::queued(topic, output)).collect::<io::Result<_>>()?;
        }
        Ok(Self(Arc::new(topics)))
    }

    /// For a command that writes no line.
    pub fn none() -> Self {
        Self::default()
    }

    /// Failures are counted and reported on stderr, and not returned.
    pub fn append(&self, lines: &[Line]) {
        for topic in Topic::ALL {
            let text = line::json_lines(lines.iter().filter(|line| line.topic == topic));
            if !text.is_empty() {
                self.routes(topic).iter().for_each(|route| route.append(&text));
            }
        }
    }

    /// Reopens the files after another program moved them (SIGHUP). In the service the threads do
    /// it within a second.
    pub fn reopen(&self) {
        self.0.iter().flatten().for_each(Route::reopen);
    }

    /// Waits until all earlier lines are written. Reports on stderr how many are unwritten at the
    /// deadline.
    pub fn flush(&self, deadline: Instant) {
        self.0.iter().flatten().for_each(|route| route.flush(deadline));
    }

    /// Failures since the start to write lines, or to open or rotate the file.
    pub fn write_errors(&self, topic: Topic) -> u64 {
        self.routes(topic).iter().map(Route::write_errors).sum()
    }

    /// Lines dropped since the start because the queue was full.
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
