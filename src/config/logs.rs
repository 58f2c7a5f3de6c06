//! The topic log files: where they go, and how much disk they may take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, by, number, path};
use crate::domain::log_settings::{LogConfig, LogSink, Rotation};

/// 4 GB in one file: above that even a search takes a while.
const MAX_MB: u32 = 4096;

/// A year.
const MAX_AGE_HOURS: u32 = 8760;

/// A year of days. Every rotation renames all of them.
const MAX_KEPT_FILES: u32 = 365;

const BYTES_PER_MB: u64 = 1_000_000;

/// Where a command's topic lines go: to files always, for stdout is for its answer.
#[derive(Clone, Args)]
#[command(next_help_heading = "Topic logs")]
pub struct LogDirArgs {
    /// The directory of the topic log files
    #[arg(long, env = "BILLHOOK_LOG_DIR", default_value = "logs", value_name = "DIRECTORY", value_parser = by(path))]
    log_dir: Setting<PathBuf>,
}

// The defaults are two weeks of days, and 3 GB of disk at the most.
/// Where the service's topic lines go.
#[derive(Clone, Args)]
#[command(next_help_heading = "Topic logs")]
#[expect(clippy::struct_field_names, reason = "the fields are the names of options")]
pub struct LogArgs {
    /// Where the topic lines go: to the topic log files, to stdout, or to both. With `stdout` no file is made
    #[arg(long, env = "BILLHOOK_LOG_SINK", default_value = "file", value_name = "file|stdout|both", value_parser = by(sink))]
    log_sink: Setting<LogSink>,

    #[command(flatten)]
    log_dir: LogDirArgs,

    /// The size, in MB, beyond which a topic log file does not grow but is rotated. 0: whatever its size, for whoever
    /// rotates with logrotate
    #[arg(long, env = "BILLHOOK_LOG_MAX_MB", default_value = "64", value_name = "MB", value_parser = by(number::<0, MAX_MB>))]
    log_max_mb: Setting<u32>,

    /// The age of its first line, in hours, at which a topic log file is rotated. 0: whatever its age
    #[arg(long, env = "BILLHOOK_LOG_MAX_AGE_HOURS", default_value = "24", value_name = "HOURS", value_parser = by(number::<0, MAX_AGE_HOURS>))]
    log_max_age_hours: Setting<u32>,

    /// How many rotated files of each topic are kept, beside the one that is written to
    #[arg(long, env = "BILLHOOK_LOG_KEEP", default_value = "14", value_name = "FILES", value_parser = by(number::<1, MAX_KEPT_FILES>))]
    log_keep: Setting<u32>,
}

impl LogDirArgs {
    /// Reads the directory. A command rotates nothing: it may not know how many files the service is told to keep.
    pub fn read(&self) -> Result<LogConfig, ConfigError> {
        Ok(LogConfig { sink: LogSink::File, dir: self.log_dir.read()?, rotation: Rotation::NEVER })
    }
}

impl LogArgs {
    /// Reads where the topic lines go.
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

    fn given(words: &[&str]) -> Result<LogConfig, ConfigError> {
        CommandLine::parse_from(std::iter::once(&"billhook").chain(words)).logs.read()
    }

    #[test]
    fn what_is_not_set_is_files_of_64_mb_and_a_day_of_which_14_stay() {
        let logs = given(&[]).expect("the defaults are good");
        assert_eq!((logs.sink, logs.dir), (LogSink::File, PathBuf::from("logs")));
        assert_eq!(logs.rotation, LogConfig::in_dir("logs".as_ref()).rotation);
    }

    #[test]
    fn nought_turns_rotation_by_size_or_age_off() {
        let logs = given(&["--log-max-mb=0", "--log-max-age-hours=0", "--log-keep=1"]).expect("good");
        assert_eq!(logs.rotation, Rotation { max_bytes: None, max_age: None, keep: 1 });
    }

    #[test]
    fn a_value_beyond_its_bounds_is_told_with_them() {
        for (word, told) in [
            ("--log-sink=files", "BILLHOOK_LOG_SINK is not `file`, `stdout` or `both`"),
            ("--log-max-mb=4097", "BILLHOOK_LOG_MAX_MB is not a whole number from 0 to 4096"),
            ("--log-max-age-hours=8761", "BILLHOOK_LOG_MAX_AGE_HOURS is not a whole number from 0 to 8760"),
            ("--log-keep=0", "BILLHOOK_LOG_KEEP is not a whole number from 1 to 365"),
            ("--log-keep=366", "BILLHOOK_LOG_KEEP is not a whole number from 1 to 365"),
        ] {
            assert_eq!(given(&[word]).map(|_| ()).map_err(|error| error.to_string()), Err(told.to_owned()));
        }
    }
}
