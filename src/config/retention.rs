//! How long the payloads of events are kept.

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, parsed_by};
use crate::domain::retention::Retention;

#[derive(Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    // The default is a quarter of a year: long enough for an operator to look up what Stripe sent.
    /// For how many days the payloads of events are kept: 31 to 3650, or 0 to keep them forever.
    /// Event ids and outcomes are always kept
    #[arg(long, env = "BILLHOOK_KEEP_PAYLOADS_DAYS", default_value = "90", value_name = "DAYS", value_parser = parsed_by(retention))]
    keep_payloads_days: Setting<Option<Retention>>,
}

impl RetentionArgs {
    /// `None` means forever.
    pub fn read(&self) -> Result<Option<Retention>, ConfigError> {
        self.keep_payloads_days.read()
    }
}

fn retention(text: &str) -> Result<Option<Retention>, String> {
    if text == "0" {
        return Ok(None);
    }
    let (min, max) = (Retention::ALLOWED_DAYS.start(), Retention::ALLOWED_DAYS.end());
    let days = text.parse().ok().filter(|days| Retention::ALLOWED_DAYS.contains(days));
    days.map(Retention::from_days).ok_or_else(|| format!("is not `0`, or a whole number from {min} to {max}"))
}
