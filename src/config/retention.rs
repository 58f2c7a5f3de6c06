//! How long what Stripe sent is kept.

use clap::Args;

use super::{ConfigError, number, or};
use crate::domain::retention::Retention;

/// A quarter of a year: as long as somebody may ask what exactly Stripe said.
const DEFAULT_DAYS: &str = "90";

/// How long what Stripe sent is kept.
#[derive(Clone, Args)]
pub struct RetentionArgs {
    /// For how many days the payloads of events are kept; their ids and outcomes are kept for good. 0: for good too
    #[arg(long, env = "BILLHOOK_KEEP_PAYLOADS_DAYS", default_value = DEFAULT_DAYS, value_name = "DAYS")]
    keep_payloads_days: String,
}

impl RetentionArgs {
    /// Reads `BILLHOOK_KEEP_PAYLOADS_DAYS`; none is for good.
    pub fn read(&self) -> Result<Option<Retention>, ConfigError> {
        let text = or(&self.keep_payloads_days, DEFAULT_DAYS);
        if text == "0" {
            return Ok(None);
        }
        let days = number("BILLHOOK_KEEP_PAYLOADS_DAYS", text, Retention::DAYS)?;
        Ok(Retention::of_days(days))
    }
}
