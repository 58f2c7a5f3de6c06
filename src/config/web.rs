//! What browsers get.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigError, set};
use crate::domain::address::{InvalidOrigin, Origin};

/// What browsers get: the page that the service brings, and other pages that may ask it.
#[derive(Clone, Args)]
pub struct WebArgs {
    /// The directory of a built page, with its `index.html`, which the service then serves beside the API. It is read
    /// once, at the start
    #[arg(long, env = "BILLHOOK_STATIC_DIR", value_name = "DIRECTORY")]
    static_dir: Option<String>,

    /// The origins of pages hosted elsewhere that may ask the API, with commas: `https://host[:port]`, or plain http to
    /// this machine. Without it there are none
    #[arg(long, env = "BILLHOOK_CORS_ORIGINS", value_name = "ORIGIN,..")]
    cors_origins: Option<String>,
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
    /// Reads `BILLHOOK_STATIC_DIR` and `BILLHOOK_CORS_ORIGINS`.
    pub fn read(&self) -> Result<WebConfig, ConfigError> {
        let origins = set(self.cors_origins.as_ref()).map_or(Ok(Vec::new()), origins);
        Ok(WebConfig {
            static_dir: set(self.static_dir.as_ref()).map(PathBuf::from),
            cors_origins: origins.map_err(|error| ConfigError::new("BILLHOOK_CORS_ORIGINS", error))?,
        })
    }
}

fn origins(text: &str) -> Result<Vec<Origin>, InvalidOrigin> {
    text.split(',').map(|origin| Origin::parse(origin.trim())).collect()
}
