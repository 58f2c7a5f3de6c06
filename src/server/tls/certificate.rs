//! A certificate chain with its key, parsed from two PEM files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use secrecy::zeroize::Zeroizing;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{self, ServerConfig};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The largest file that is read. A certificate chain has a few kilobytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// ALPN protocols, the preferred one first (RFC 7301).
const ALPN_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The server's certificate, followed by its intermediates.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The contents of both files. No `Debug`, since they contain the key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PemFiles {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// A certificate chain and its key, ready to be served.
#[derive(Clone)]
pub struct Certificate {
    pub(super) config: Arc<ServerConfig>,
    pub(super) pem: PemFiles,
    chain: Vec<CertificateDer<'static>>,
    valid_from: i64,
    expires_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    #[error("is not valid yet")]
    NotYetValid,
    #[error("has expired")]
    Expired,
}

/// Which of the two files is invalid, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    #[error("the certificate file {0}")]
    Certificate(String),
    #[error("the key file {0}")]
    Key(String),
}

impl CertificateFiles {
    /// Fails if a file cannot be read or parsed, or the key does not belong to the certificate.
    pub fn read(&self) -> Result<Certificate, InvalidCertificate> {
        self.read_pem().and_then(Certificate::parse)
    }

    pub(super) fn read_pem(&self) -> Result<PemFiles, InvalidCertificate> {
        Ok(PemFiles {
            certificate: read_file(&self.certificate).map_err(InvalidCertificate::Certificate)?.to_vec(),
            key: read_file(&self.key).map_err(InvalidCertificate::Key)?,
        })
    }
}

fn read_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        // Allocated once: a growing buffer would leave copies of the key behind.
        bytes.reserve_exact(usize::try_from(MAX_FILE_BYTES + 1).unwrap_or(usize::MAX));
        File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(bytes)
    };
    let length = read(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(format!("has more than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

impl Certificate {
    /// The first certificate of the chain is the server's own.
    pub(super) fn parse(pem: PemFiles) -> Result<Self, InvalidCertificate> {
        let chain = CertificateDer::pem_slice_iter(&pem.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| InvalidCertificate::Certificate("is not complete PEM".into()))?;
        let first =
            chain.first().ok_or_else(|| InvalidCertificate::Certificate("contains no certificate".into()))?;
        let (valid_from, expires_at) = validity(first).ok_or_else(|| {
            InvalidCertificate::Certificate("contains a certificate that cannot be parsed".into())
        })?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .map_err(|_| InvalidCertificate::Key("contains no unencrypted private key".into()))?;
        let config = server_config(chain.clone(), key).map_err(|error| {
            InvalidCertificate::Key(match error {
                rustls::Error::InconsistentKeys(_) => "contains the key of another certificate".into(),
                error => format!("contains an unusable key: {error}"),
            })
        })?;
        Ok(Self { config: Arc::new(config), pem, chain, valid_from, expires_at })
    }

    /// `now` is in Unix seconds.
    pub fn check_validity(&self, now: i64) -> Result<(), ValidityError> {
        if now < self.valid_from {
            Err(ValidityError::NotYetValid)
        } else if self.expires_at <= now {
            Err(ValidityError::Expired)
        } else {
            Ok(())
        }
    }

    /// In Unix seconds.
    pub(super) fn valid_from(&self) -> i64 {
        self.valid_from
    }

    /// In Unix seconds.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    pub fn is_valid_for(&self, host: &str) -> bool {
        ServerName::try_from(host).is_ok_and(|name| {
            self.first().is_some_and(|first| first.verify_is_valid_for_subject_name(&name).is_ok())
        })
    }

    /// Whether the intermediates are missing, without which most clients reject the certificate.
    /// The usual mistake is to configure `cert.pem` instead of `fullchain.pem`.
    pub fn lacks_intermediates(&self) -> bool {
        let is_self_signed = |first: EndEntityCert<'_>| first.issuer() == first.subject();
        self.chain.len() == 1 && self.first().is_some_and(|first| !is_self_signed(first))
    }

    fn first(&self) -> Option<EndEntityCert<'_>> {
        self.chain.first().and_then(|first| EndEntityCert::try_from(first).ok())
    }
}

/// TLS 1.2 and 1.3.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN_PROTOCOLS.map(Vec::from).to_vec();
    Ok(config)
}

/// `notBefore` and `notAfter` in Unix seconds.
fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    // webpki rejects certificates that x509-parser accepts.
    EndEntityCert::try_from(certificate).ok()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    struct GeneratedPem {
        certificate: String,
        key: String,
    }

    fn generate(host: &str) -> GeneratedPem {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        GeneratedPem { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn parse(certificate: &str, key: &str) -> Result<Certificate, String> {
        let pem = PemFiles { certificate: certificate.into(), key: Zeroizing::new(key.as_bytes().to_vec()) };
        Certificate::parse(pem).map_err(|error| error.to_string())
    }

    #[test]
    fn certificate_is_valid_for_its_period_and_host() {
        let pem = generate("billing.example.com");
        let certificate = parse(&pem.certificate, &pem.key).expect("the key belongs to the certificate");
        let (valid_from, expires_at) = (1_577_836_800, 2_208_988_800);
        assert_eq!((certificate.valid_from(), certificate.expires_at()), (valid_from, expires_at));
        assert_eq!(certificate.check_validity(valid_from - 1), Err(ValidityError::NotYetValid));
        assert_eq!(certificate.check_validity(valid_from), Ok(()));
        assert_eq!(certificate.check_validity(expires_at - 1), Ok(()));
        assert_eq!(certificate.check_validity(expires_at), Err(ValidityError::Expired));
        assert!(certificate.is_valid_for("billing.example.com") && !certificate.is_valid_for("example.com"));
        assert!(!certificate.lacks_intermediates(), "it is self-signed");
    }

    #[test]
    fn invalid_pem_names_the_file_at_fault() {
        let (one, other) = (generate("a.example"), generate("b.example"));
        let half = &one.certificate[..one.certificate.len() / 2];
        for (certificate, key, problem) in [
            (&*one.certificate, &*other.key, "the key file contains the key of another certificate"),
            (&other.certificate, &one.key, "the key file contains the key of another certificate"),
            (half, &one.key, "the certificate file is not complete PEM"),
            ("", &one.key, "the certificate file contains no certificate"),
            (&one.key, &one.key, "the certificate file contains no certificate"),
            (&one.certificate, "", "the key file contains no unencrypted private key"),
            (&one.certificate, &one.certificate, "the key file contains no unencrypted private key"),
        ] {
            assert_eq!(parse(certificate, key).err().as_deref(), Some(problem));
        }
    }

    #[test]
    fn missing_or_huge_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        assert!(read_file(&file).expect_err("it does not exist").starts_with("cannot be read: "));
        std::fs::write(&file, vec![b' '; 256 * 1024 + 1]).expect("written");
        assert_eq!(read_file(&file), Err("has more than 262144 bytes".to_owned()));
    }
}
