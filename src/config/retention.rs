//! How long what Stripe sent is kept.

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, by};
use crate::domain::retention::Retention;

/// How long what Stripe sent is kept.
#[derive(Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    // The default is a quarter of a year: as long as an operator may want to know what exactly Stripe sent.
    /// For how many days the payloads of events are kept; their ids and outcomes are kept for good. 0: for good too
    #[arg(long, env = "BILLHOOK_KEEP_PAYLOADS_DAYS", default_value = "90", value_name = "DAYS", value_parser = by(retention))]
    keep_payloads_days: Setting<Option<Retention>>,
}

impl RetentionArgs {
    /// Reads for how long payloads are kept; `None` is forever.
    pub fn read(&self) -> Result<Option<Retention>, ConfigError> {
        self.keep_payloads_days.read()
    }
}

fn retention(text: &str) -> Result<Option<Retention>, String> {
    if text == "0" {
        return Ok(None);
    }
    let (min, max) = (Retention::DAYS.start(), Retention::DAYS.end());
    let days = text.parse().ok().filter(|days| Retention::DAYS.contains(days));
    days.map(Retention::of_days).ok_or_else(|| format!("is not a whole number from {min} to {max}"))
}
