//! One value of the configuration.
//!
//! A value is declared once, by the attribute of its field: flag, variable, default, reader and help. clap does not reject a bad
//! value: [`by`] keeps the error in the field, and the `read` of the `...Args` returns it. There are two reasons. The error is one
//! sentence that begins with the variable's name, also if the value came by the flag, and never shows what may be a secret.
//! And `billhook doctor` goes on to the next concern. An empty text means the default, or not set. Secrets and
//! `BILLHOOK_PLANS` are read without this type.

use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::{Arg, Command};

use super::ConfigError;
use crate::domain::ids::InvalidId;

/// A value as it was given.
#[derive(Debug, Clone)]
pub(super) enum Setting<T> {
    /// Set to nothing, which is how compose files and shells pass what they do not have.
    Empty,
    Read(T),
    Invalid(ConfigError),
}

impl<T: Clone> Setting<T> {
    /// The value of a setting that has a default.
    pub(super) fn read(&self) -> Result<T, ConfigError> {
        match self {
            Self::Read(value) => Ok(value.clone()),
            Self::Invalid(error) => Err(error.clone()),
            Self::Empty => unreachable!("an empty setting with a default is read as the default"),
        }
    }
}

/// Whether a setting is set, to whatever.
pub(super) fn is_set<T>(setting: Option<&Setting<T>>) -> bool {
    matches!(setting, Some(Setting::Read(_) | Setting::Invalid(_)))
}

/// The value of a setting that has no default, if it is set.
pub(super) fn given<T: Clone>(setting: Option<&Setting<T>>) -> Result<Option<T>, ConfigError> {
    match setting {
        None | Some(Setting::Empty) => Ok(None),
        Some(setting) => setting.read().map(Some),
    }
}

/// Reads a setting with a function. Its error ends a sentence that begins with the variable's name, such as "is not a URL".
pub(super) fn by<T, E>(read: fn(&str) -> Result<T, E>) -> SettingReader<T, E> {
    SettingReader(read)
}

#[derive(Debug)]
pub(super) struct SettingReader<T, E>(fn(&str) -> Result<T, E>);

impl<T, E> Clone for SettingReader<T, E> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<T, E> TypedValueParser for SettingReader<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Display + 'static,
{
    type Value = Setting<T>;

    fn parse_ref(&self, _: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Setting<T>, clap::Error> {
        let variable = arg.and_then(Arg::get_env).unwrap_or_default().to_string_lossy().into_owned();
        let default = arg.and_then(|arg| arg.get_default_values().first());
        let value =
            if value.is_empty() { default.map_or(value, |default| default.as_os_str()) } else { value };
        Ok(match value.to_str() {
            Some("") => Setting::Empty,
            Some(text) => (self.0)(text)
                .map_or_else(|problem| Setting::Invalid(ConfigError::new(variable, problem)), Setting::Read),
            None => Setting::Invalid(ConfigError::new(variable, "is not text")),
        })
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    text.parse().map_err(|_| "is not `true` or `false`")
}

/// A whole number with bounds.
pub(super) fn number<const MIN: u32, const MAX: u32>(text: &str) -> Result<u32, String> {
    let range: RangeInclusive<u32> = MIN..=MAX;
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("is not a whole number from {MIN} to {MAX}"))
}

pub(super) fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("is {error}"))
}

#[expect(clippy::unnecessary_wraps, reason = "it reads like those that can fail")]
pub(super) fn text(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "it reads like those that can fail")]
pub(super) fn path(text: &str) -> Result<PathBuf, &'static str> {
    Ok(PathBuf::from(text))
}
