//! The page that the service serves, and the origins of other pages.

use std::path::PathBuf;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, parsed_by, path, read_optional};
use crate::domain::app_url::{InvalidOrigin, Origin};

#[derive(Clone, Args)]
#[command(next_help_heading = "Browsers")]
pub struct WebArgs {
    /// The directory of a built page with an `index.html`, which the service serves besides the
    /// API. Read only at start-up
    #[arg(long, env = "BILLHOOK_STATIC_DIR", value_name = "DIRECTORY", value_parser = parsed_by(path))]
    static_dir: Option<Setting<PathBuf>>,

    /// The origins of pages on other hosts that may call the API, separated by commas:
    /// `https://host[:port]`, or plain http for this machine. Without it, no other origin is
    /// allowed
    #[arg(long, env = "BILLHOOK_CORS_ORIGINS", value_name = "ORIGIN,..", value_parser = parsed_by(origins))]
    cors_origins: Option<Setting<Vec<Origin>>>,
}

#[derive(Debug, Clone)]
pub struct WebConfig {
    pub static_dir: Option<PathBuf>,
    pub cors_origins: Vec<Origin>,
}

impl WebArgs {
    pub fn read(&self) -> Result<WebConfig, ConfigError> {
        Ok(WebConfig {
            static_dir: read_optional(self.static_dir.as_ref())?,
            cors_origins: read_optional(self.cors_origins.as_ref())?.unwrap_or_default(),
        })
    }
}

fn origins(text: &str) -> Result<Vec<Origin>, InvalidOrigin> {
    text.split(',').map(|origin| Origin::parse(origin.trim())).collect()
}
