//! What browsers get.

use std::path::PathBuf;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, by, given, path};
use crate::domain::address::{InvalidOrigin, Origin};

/// What browsers get: the page that the service brings, and other pages that may ask it.
#[derive(Clone, Args)]
#[command(next_help_heading = "Browsers")]
pub struct WebArgs {
    /// The directory of a built page, with its `index.html`, which the service then serves beside the API. It is read
    /// once, at the start
    #[arg(long, env = "BILLHOOK_STATIC_DIR", value_name = "DIRECTORY", value_parser = by(path))]
    static_dir: Option<Setting<PathBuf>>,

    /// The origins of pages hosted elsewhere that may ask the API, with commas: `https://host[:port]`, or plain http to
    /// this machine. Without it there are none
    #[arg(long, env = "BILLHOOK_CORS_ORIGINS", value_name = "ORIGIN,..", value_parser = by(origins))]
    cors_origins: Option<Setting<Vec<Origin>>>,
}

/// What browsers get.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// `BILLHOOK_STATIC_DIR`
    pub static_dir: Option<PathBuf>,
    /// `BILLHOOK_CORS_ORIGINS`
    pub cors_origins: Vec<Origin>,
}

impl WebArgs {
    /// Reads what browsers get.
    pub fn read(&self) -> Result<WebConfig, ConfigError> {
        Ok(WebConfig {
            static_dir: given(self.static_dir.as_ref())?,
            cors_origins: given(self.cors_origins.as_ref())?.unwrap_or_default(),
        })
    }
}

fn origins(text: &str) -> Result<Vec<Origin>, InvalidOrigin> {
    text.split(',').map(|origin| Origin::parse(origin.trim())).collect()
}
