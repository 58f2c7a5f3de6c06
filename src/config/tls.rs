//! The certificate, if the service terminates TLS itself.

use std::path::PathBuf;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, parsed_by, path, read_optional};

pub(crate) const CERTIFICATE_FILE: &str = "BILLHOOK_TLS_CERTIFICATE_FILE";
pub(crate) const KEY_FILE: &str = "BILLHOOK_TLS_KEY_FILE";

#[derive(Clone, Args)]
#[command(next_help_heading = "HTTPS")]
pub struct TlsArgs {
    /// A PEM file with the certificate, followed by its intermediate certificates. The service then
    /// serves HTTPS instead of HTTP, and reloads the file when it changes
    #[arg(long, env = CERTIFICATE_FILE, value_name = "FILE", value_parser = parsed_by(path))]
    tls_certificate_file: Option<Setting<PathBuf>>,

    /// A PEM file with the certificate's private key, not encrypted
    #[arg(long, env = KEY_FILE, value_name = "FILE", value_parser = parsed_by(path))]
    tls_key_file: Option<Setting<PathBuf>>,
}

#[derive(Debug, Clone)]
pub struct TlsConfig {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl TlsArgs {
    /// `None` if neither file is set.
    pub fn read(&self) -> Result<Option<TlsConfig>, ConfigError> {
        match (read_optional(self.tls_certificate_file.as_ref())?, read_optional(self.tls_key_file.as_ref())?)
        {
            (None, None) => Ok(None),
            (Some(certificate_file), Some(key_file)) => Ok(Some(TlsConfig { certificate_file, key_file })),
            (Some(_), None) => Err(ConfigError::new(KEY_FILE, needed_by(CERTIFICATE_FILE))),
            (None, Some(_)) => Err(ConfigError::new(CERTIFICATE_FILE, needed_by(KEY_FILE))),
        }
    }
}

fn needed_by(other: &str) -> String {
    format!("is not set, but {other} is: HTTPS needs both")
}
