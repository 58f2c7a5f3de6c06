//! The certificate, where the service speaks HTTPS by itself.

use std::path::PathBuf;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, by, given, path};

/// The variable that names the certificate's file.
pub(crate) const CERTIFICATE_FILE: &str = "BILLHOOK_TLS_CERTIFICATE_FILE";
/// The variable that names the key's file.
pub(crate) const KEY_FILE: &str = "BILLHOOK_TLS_KEY_FILE";

/// The certificate, where the service speaks HTTPS by itself.
#[derive(Clone, Args)]
#[command(next_help_heading = "HTTPS")]
pub struct TlsArgs {
    /// The file of a certificate and, after it, of those that lead to its authority, as PEM: the service then speaks HTTPS
    /// and no HTTP. A new one is taken when it is there
    #[arg(long, env = CERTIFICATE_FILE, value_name = "FILE", value_parser = by(path))]
    tls_certificate_file: Option<Setting<PathBuf>>,

    /// The file of the certificate's key, as PEM and not encrypted
    #[arg(long, env = KEY_FILE, value_name = "FILE", value_parser = by(path))]
    tls_key_file: Option<Setting<PathBuf>>,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// `BILLHOOK_TLS_CERTIFICATE_FILE`
    pub certificate_file: PathBuf,
    /// `BILLHOOK_TLS_KEY_FILE`
    pub key_file: PathBuf,
}

impl TlsArgs {
    /// Reads `BILLHOOK_TLS_CERTIFICATE_FILE` and `BILLHOOK_TLS_KEY_FILE`.
    pub fn read(&self) -> Result<Option<TlsConfig>, ConfigError> {
        match (given(self.tls_certificate_file.as_ref())?, given(self.tls_key_file.as_ref())?) {
            (None, None) => Ok(None),
            (Some(certificate_file), Some(key_file)) => Ok(Some(TlsConfig { certificate_file, key_file })),
            (Some(_), None) => Err(ConfigError::new(KEY_FILE, needed_by(CERTIFICATE_FILE))),
            (None, Some(_)) => Err(ConfigError::new(CERTIFICATE_FILE, needed_by(KEY_FILE))),
        }
    }
}

fn needed_by(other: &str) -> String {
    format!("is not set, and {other} is: HTTPS takes both")
}
