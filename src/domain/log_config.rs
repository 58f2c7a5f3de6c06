use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The destination of topic log lines, and the disk space that they may use.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `BILLHOOK_LOG_SINK`
    pub sink: LogSink,
    /// `BILLHOOK_LOG_DIR`
    pub dir: PathBuf,
    /// `BILLHOOK_LOG_MAX_MB`, `BILLHOOK_LOG_MAX_AGE_HOURS` and `BILLHOOK_LOG_KEEP`
    pub rotation: Rotation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSink {
    /// One file per topic.
    File,
    /// Creates no files.
    Stdout,
    Both,
}

/// When a topic log file is rotated, and how many rotated files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// `BILLHOOK_LOG_MAX_MB`, in bytes. `None`: not by size.
    pub max_bytes: Option<u64>,
    /// `BILLHOOK_LOG_MAX_AGE_HOURS`. `None`: not by age.
    pub max_age: Option<Duration>,
    /// `BILLHOOK_LOG_KEEP`: rotated files per topic, not counting the current one.
    pub keep: u32,
}

impl Rotation {
    /// For logs that another program rotates.
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
    /// The default configuration, with this directory.
    pub(crate) fn in_dir(dir: &std::path::Path) -> Self {
        let rotation =
            Rotation { max_bytes: Some(64_000_000), max_age: Some(Duration::from_hours(24)), keep: 14 };
        Self { sink: LogSink::File, dir: dir.to_owned(), rotation }
    }
}
