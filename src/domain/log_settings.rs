//! Where the topic lines go, and how much disk they may take.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where the topic lines go, and how much disk they may take.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `BILLHOOK_LOG_SINK`
    pub sink: LogSink,
    /// `BILLHOOK_LOG_DIR`
    pub dir: PathBuf,
    /// `BILLHOOK_LOG_MAX_MB`, `BILLHOOK_LOG_MAX_AGE_HOURS` and `BILLHOOK_LOG_KEEP`
    pub rotation: Rotation,
}

/// Where the topic lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSink {
    /// To the topic log files.
    File,
    /// To stdout, and no file is made.
    Stdout,
    /// To the files and to stdout.
    Both,
}

/// When a topic log file makes room for a new one, and how many stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// `BILLHOOK_LOG_MAX_MB`, in bytes. None: never by size.
    pub max_bytes: Option<u64>,
    /// `BILLHOOK_LOG_MAX_AGE_HOURS`. None: never by age.
    pub max_age: Option<Duration>,
    /// `BILLHOOK_LOG_KEEP`: how many rotated files of a topic stay beside the one that is written to.
    pub keep: u32,
}

impl Rotation {
    /// Somebody else's task.
    pub const NEVER: Self = Self { max_bytes: None, max_age: None, keep: u32::MAX };
}

impl FromStr for LogSink {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "file" => Ok(Self::File),
            "stdout" => Ok(Self::Stdout),
            "both" => Ok(Self::Both),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
impl LogConfig {
    /// What holds where only the directory is set.
    pub(crate) fn in_dir(dir: &std::path::Path) -> Self {
        let rotation =
            Rotation { max_bytes: Some(64_000_000), max_age: Some(Duration::from_hours(24)), keep: 14 };
        Self { sink: LogSink::File, dir: dir.to_owned(), rotation }
    }
}
