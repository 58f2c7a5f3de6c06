//! One value of the configuration.
//!
//! A value is declared once, by the attribute of its field: flag, variable, default, parser and
//! help. clap does not reject a bad value: [`parsed_by`] keeps the error in the field, and the
//! `read` of the `...Args` returns it. There are two reasons. First, the error is one sentence that
//! starts with the variable's name, even if the value came from the flag, and never shows the
//! value, which may be a secret. Second, `billhook doctor` can continue with the next concern. An
//! empty text means the default, or not set. Secrets and `BILLHOOK_PLANS` are read without this
//! type.

use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::{Arg, Command};

use super::ConfigError;
use crate::domain::ids::InvalidId;

#[derive(Debug, Clone)]
pub(super) enum Setting<T> {
    /// Set to an empty text. Compose files and shells pass missing values this way.
    Empty,
    Valid(T),
    Invalid(ConfigError),
}

impl<T: Clone> Setting<T> {
    /// The value of a setting that has a default.
    pub(super) fn read(&self) -> Result<T, ConfigError> {
        match self {
            Self::Valid(value) => Ok(value.clone()),
            Self::Invalid(error) => Err(error.clone()),
            Self::Empty => unreachable!("an empty setting with a default is parsed as the default"),
        }
    }
}

/// True for an invalid value, too.
pub(super) fn is_set<T>(setting: Option<&Setting<T>>) -> bool {
    matches!(setting, Some(Setting::Valid(_) | Setting::Invalid(_)))
}

/// The value of a setting that has no default. `None` if it is not set.
pub(super) fn read_optional<T: Clone>(setting: Option<&Setting<T>>) -> Result<Option<T>, ConfigError> {
    match setting {
        None | Some(Setting::Empty) => Ok(None),
        Some(setting) => setting.read().map(Some),
    }
}

/// Makes a clap value parser. The error of `parse` continues a sentence that starts with the
/// variable's name, such as "is not a URL".
pub(super) fn parsed_by<T, E>(parse: fn(&str) -> Result<T, E>) -> SettingParser<T, E> {
    SettingParser(parse)
}

#[derive(Debug)]
pub(super) struct SettingParser<T, E>(fn(&str) -> Result<T, E>);

impl<T, E> Clone for SettingParser<T, E> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<T, E> TypedValueParser for SettingParser<T, E>
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
                .map_or_else(|problem| Setting::Invalid(ConfigError::new(variable, problem)), Setting::Valid),
            None => Setting::Invalid(ConfigError::new(variable, "is not text")),
        })
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    text.parse().map_err(|_| "is not `true` or `false`")
}

pub(super) fn number<const MIN: u32, const MAX: u32>(text: &str) -> Result<u32, String> {
    let range: RangeInclusive<u32> = MIN..=MAX;
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("is not a whole number from {MIN} to {MAX}"))
}

pub(super) fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("is {error}"))
}

#[expect(clippy::unnecessary_wraps, reason = "parsed_by takes functions that can fail")]
pub(super) fn text(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "parsed_by takes functions that can fail")]
pub(super) fn path(text: &str) -> Result<PathBuf, &'static str> {
    Ok(PathBuf::from(text))
}
