//! The certificate and the built page, read at the start from where the configuration says that they are.

use std::path::Path;

use crate::config::{CERTIFICATE_FILE, ConfigError, KEY_FILE, TlsConfig};
use crate::http::StaticFiles;
use crate::server::{Certificate, CertificateFiles, InvalidCertificate};

/// A certificate, and the files that it was read from.
#[derive(Clone)]
pub(super) struct ConfiguredCertificate {
    pub(super) files: CertificateFiles,
    pub(super) certificate: Certificate,
}

/// Reads the certificate and its key.
pub(super) fn read_certificate(config: TlsConfig) -> Result<ConfiguredCertificate, ConfigError> {
    let files = CertificateFiles { certificate: config.certificate_file, key: config.key_file };
    let certificate = files.read().map_err(|error| match error {
        InvalidCertificate::Certificate(problem) => names_a_file_that(CERTIFICATE_FILE, &problem),
        InvalidCertificate::Key(problem) => names_a_file_that(KEY_FILE, &problem),
    })?;
    Ok(ConfiguredCertificate { files, certificate })
}

fn names_a_file_that(variable: &'static str, problem: &str) -> ConfigError {
    ConfigError::new(variable, format_args!("names a file that {problem}"))
}

/// Reads the files of the built page.
pub(super) fn read_static_files(directory: &Path) -> Result<StaticFiles, ConfigError> {
    StaticFiles::read(directory).map_err(|error| ConfigError::new("BILLHOOK_STATIC_DIR", error))
}
