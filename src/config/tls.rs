//! The certificate, where the service speaks HTTPS by itself.

use clap::Args;

use super::{ConfigError, set};
use crate::server::{Certificate, CertificateFiles, InvalidCertificate};

const CERTIFICATE_FILE: &str = "BILLHOOK_TLS_CERTIFICATE_FILE";
const KEY_FILE: &str = "BILLHOOK_TLS_KEY_FILE";

/// The certificate, where the service speaks HTTPS by itself.
#[derive(Clone, Args)]
pub struct TlsArgs {
    /// The file of a certificate and, after it, of those that lead to its authority, as PEM: the service then speaks HTTPS
    /// and no HTTP. A new one is taken when it is there
    #[arg(long, env = CERTIFICATE_FILE, value_name = "FILE")]
    tls_certificate_file: Option<String>,

    /// The file of the certificate's key, as PEM and not encrypted
    #[arg(long, env = KEY_FILE, value_name = "FILE")]
    tls_key_file: Option<String>,
}

/// The certificate, and where it came from.
#[derive(Clone)]
pub struct TlsConfig {
    /// `BILLHOOK_TLS_CERTIFICATE_FILE` and `BILLHOOK_TLS_KEY_FILE`
    pub files: CertificateFiles,
    /// What is in them.
    pub certificate: Certificate,
}

impl TlsArgs {
    /// Reads `BILLHOOK_TLS_CERTIFICATE_FILE` and `BILLHOOK_TLS_KEY_FILE`, and what is there.
    pub fn read(&self) -> Result<Option<TlsConfig>, ConfigError> {
        let paths = (set(self.tls_certificate_file.as_ref()), set(self.tls_key_file.as_ref()));
        let files = match paths {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => {
                CertificateFiles { certificate: certificate.into(), key: key.into() }
            }
            (Some(_), None) => return Err(ConfigError::new(KEY_FILE, needed_by(CERTIFICATE_FILE))),
            (None, Some(_)) => return Err(ConfigError::new(CERTIFICATE_FILE, needed_by(KEY_FILE))),
        };
        let certificate = files.read().map_err(|error| match error {
            InvalidCertificate::Certificate(problem) => named(CERTIFICATE_FILE, &problem),
            InvalidCertificate::Key(problem) => named(KEY_FILE, &problem),
        })?;
        Ok(Some(TlsConfig { files, certificate }))
    }
}

fn needed_by(other: &str) -> String {
    format!("is not set, and {other} is: HTTPS takes both")
}

fn named(variable: &'static str, problem: &str) -> ConfigError {
    ConfigError::new(variable, format_args!("names a file that {problem}"))
}
