//! Reads the certificate and the built page at start-up, from the paths of the configuration.

use std::path::Path;

use crate::config::{CERTIFICATE_FILE, ConfigError, KEY_FILE, TlsConfig};
use crate::http::StaticFiles;
use crate::server::{Certificate, CertificateFiles, InvalidCertificate};

/// A certificate and the files it was read from.
#[derive(Clone)]
pub(super) struct ConfiguredCertificate {
    pub(super) files: CertificateFiles,
    pub(super) certificate: Certificate,
}

pub(super) fn read_certificate(config: TlsConfig) -> Result<ConfiguredCertificate, ConfigError> {
    let files = CertificateFiles { certificate: config.certificate_file, key: config.key_file };
    let certificate = files.read().map_err(|error| {
        let (variable, problem) = match error {
            InvalidCertificate::Certificate(problem) => (CERTIFICATE_FILE, problem),
            InvalidCertificate::Key(problem) => (KEY_FILE, problem),
        };
        ConfigError::new(variable, format_args!("names a file that {problem}"))
    })?;
    Ok(ConfiguredCertificate { files, certificate })
}

pub(super) fn read_static_files(directory: &Path) -> Result<StaticFiles, ConfigError> {
    StaticFiles::read(directory).map_err(|error| ConfigError::new("BILLHOOK_STATIC_DIR", error))
}
