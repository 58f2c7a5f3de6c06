//! Where topic log lines go, and how much disk space the files may use.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, number, parsed_by, path};
use crate::domain::log_config::{LogConfig, LogSink, Rotation};

/// 4 GB in one file. A search in a larger file takes too long.
const MAX_MB: u32 = 4096;

const MAX_AGE_HOURS: u32 = 8760;

/// A year of daily files. Each rotation renames all of them.
const MAX_KEPT_FILES: u32 = 365;

const BYTES_PER_MB: u64 = 1_000_000;

/// Commands write topic log lines to files only, since stdout is for their output.
#[derive(Clone, Args)]
#[command(next_help_heading = "Topic logs")]
pub struct LogDirArgs {
    /// The directory of the topic log files
    #[arg(long, env = "BILLHOOK_LOG_DIR", default_value = "logs", value_name = "DIRECTORY", value_parser = parsed_by(path))]
    log_dir: Setting<PathBuf>,
}

// The defaults keep two weeks of daily files and at most 3 GB.
#[derive(Clone, Args)]
#[command(next_help_heading = "Topic logs")]
#[expect(clippy::struct_field_names, reason = "the fields are the names of options")]
pub struct LogArgs {
    /// Where topic log lines go: to the topic log files, to stdout, or to both
    #[arg(long, env = "BILLHOOK_LOG_SINK", default_value = "file", value_name = "file|stdout|both", value_parser = parsed_by(sink))]
    log_sink: Setting<LogSink>,

    #[command(flatten)]
    log_dir: LogDirArgs,

    /// The size in MB at which a topic log file is rotated. 0 for no limit, for example if you use
    /// logrotate
    #[arg(long, env = "BILLHOOK_LOG_MAX_MB", default_value = "64", value_name = "MB", value_parser = parsed_by(number::<0, MAX_MB>))]
    log_max_mb: Setting<u32>,

    /// The age in hours of its first line at which a topic log file is rotated. 0 for no limit
    #[arg(long, env = "BILLHOOK_LOG_MAX_AGE_HOURS", default_value = "24", value_name = "HOURS", value_parser = parsed_by(number::<0, MAX_AGE_HOURS>))]
    log_max_age_hours: Setting<u32>,

    /// How many rotated files of each topic are kept, besides the current one
    #[arg(long, env = "BILLHOOK_LOG_KEEP", default_value = "14", value_name = "FILES", value_parser = parsed_by(number::<1, MAX_KEPT_FILES>))]
    log_keep: Setting<u32>,
}

impl LogDirArgs {
    /// A command rotates no files, because it may not have the service's limits.
    pub fn read(&self) -> Result<LogConfig, ConfigError> {
        Ok(LogConfig { sink: LogSink::File, dir: self.log_dir.read()?, rotation: Rotation::NEVER })
    }
}

impl LogArgs {
    pub fn read(&self) -> Result<LogConfig, ConfigError> {
        let (max_mb, max_age_hours) = (self.log_max_mb.read()?, self.log_max_age_hours.read()?);
        let rotation = Rotation {
            max_bytes: (max_mb > 0).then(|| u64::from(max_mb) * BYTES_PER_MB),
            max_age: (max_age_hours > 0).then(|| Duration::from_hours(max_age_hours.into())),
            keep: self.log_keep.read()?,
        };
        Ok(LogConfig { sink: self.log_sink.read()?, rotation, ..self.log_dir.read()? })
    }
}

fn sink(text: &str) -> Result<LogSink, &'static str> {
    text.parse().map_err(|()| "is not `file`, `stdout` or `both`")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        logs: LogArgs,
    }

    fn read(words: &[&str]) -> Result<LogConfig, ConfigError> {
        CommandLine::parse_from(std::iter::once(&"billhook").chain(words)).logs.read()
    }

    #[test]
    fn default_rotation_is_64_mb_or_a_day_with_14_files() {
        let logs = read(&[]).expect("valid defaults");
        assert_eq!((logs.sink, logs.dir), (LogSink::File, PathBuf::from("logs")));
        assert_eq!(logs.rotation, LogConfig::in_dir("logs".as_ref()).rotation);
    }

    #[test]
    fn zero_disables_rotation_by_size_or_age() {
        let logs = read(&["--log-max-mb=0", "--log-max-age-hours=0", "--log-keep=1"]).expect("valid values");
        assert_eq!(logs.rotation, Rotation { max_bytes: None, max_age: None, keep: 1 });
    }

    #[test]
    fn value_out_of_range_is_refused_with_the_range() {
        for (word, message) in [
            ("--log-sink=files", "BILLHOOK_LOG_SINK is not `file`, `stdout` or `both`"),
            ("--log-max-mb=4097", "BILLHOOK_LOG_MAX_MB is not a whole number from 0 to 4096"),
            ("--log-max-age-hours=8761", "BILLHOOK_LOG_MAX_AGE_HOURS is not a whole number from 0 to 8760"),
            ("--log-keep=0", "BILLHOOK_LOG_KEEP is not a whole number from 1 to 365"),
            ("--log-keep=366", "BILLHOOK_LOG_KEEP is not a whole number from 1 to 365"),
        ] {
            assert_eq!(read(&[word]).map(|_| ()).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }
}
