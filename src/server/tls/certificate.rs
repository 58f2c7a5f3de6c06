//! A certificate with its key, as two files of PEM hold them.

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

/// The largest file that is read: a chain of certificates takes some kilobytes.
const FILE_BYTES: u64 = 256 * 1024;

/// What may be spoken over TLS, the better first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, and after it those that lead to its authority.
    pub certificate: PathBuf,
    /// The key that it was made for.
    pub key: PathBuf,
}

/// What the files hold at one moment. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// A certificate and its key, which can be served.
#[derive(Clone)]
pub struct Certificate {
    pub(super) config: Arc<ServerConfig>,
    pub(super) contents: Contents,
    chain: Vec<CertificateDer<'static>>,
    starts_at: i64,
    expires_at: i64,
}

/// Why no client trusts a certificate, if the time is why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    /// Its time has not come.
    #[error("is not good yet")]
    NotYet,
    /// Its time has gone.
    #[error("is over")]
    Over,
}

/// Files that cannot be served, and which of them is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// The certificate's file.
    #[error("the certificate's file {0}")]
    Certificate(String),
    /// The key's file.
    #[error("the key's file {0}")]
    Key(String),
}

impl CertificateFiles {
    /// Reads what is there, and whether it fits.
    pub fn read(&self) -> Result<Certificate, InvalidCertificate> {
        self.contents().and_then(Certificate::parse)
    }

    pub(super) fn contents(&self) -> Result<Contents, InvalidCertificate> {
        Ok(Contents {
            certificate: bytes_of(&self.certificate).map_err(InvalidCertificate::Certificate)?.to_vec(),
            key: bytes_of(&self.key).map_err(InvalidCertificate::Key)?,
        })
    }
}

fn bytes_of(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        // All at once: a buffer that grew would leave copies of a key behind.
        bytes.reserve_exact(usize::try_from(FILE_BYTES + 1).unwrap_or(usize::MAX));
        File::open(file)?.take(FILE_BYTES + 1).read_to_end(bytes)
    };
    let length = read(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if length as u64 > FILE_BYTES {
        return Err(format!("has more than {FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

impl Certificate {
    /// Reads a chain of certificates, its first for us, and the key of that one.
    pub(super) fn parse(contents: Contents) -> Result<Self, InvalidCertificate> {
        let chain = CertificateDer::pem_slice_iter(&contents.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| InvalidCertificate::Certificate("is not whole PEM".into()))?;
        let first =
            chain.first().ok_or_else(|| InvalidCertificate::Certificate("holds no certificate".into()))?;
        let (starts_at, expires_at) = validity(first).ok_or_else(|| {
            InvalidCertificate::Certificate("holds a certificate that cannot be read".into())
        })?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| {
            InvalidCertificate::Key("holds no private key, or none that is in the clear".into())
        })?;
        let config = server_config(chain.clone(), key).map_err(|error| {
            InvalidCertificate::Key(match error {
                rustls::Error::InconsistentKeys(_) => "holds the key of another certificate".into(),
                error => format!("holds a key that cannot be used: {error}"),
            })
        })?;
        Ok(Self { config: Arc::new(config), contents, chain, starts_at, expires_at })
    }

    /// Whether it is good now, in Unix seconds.
    pub fn is_timely(&self, now: i64) -> Result<(), Untimely> {
        if now < self.starts_at {
            Err(Untimely::NotYet)
        } else if self.expires_at <= now {
            Err(Untimely::Over)
        } else {
            Ok(())
        }
    }

    /// From when on it is good, in Unix seconds.
    pub fn starts_at(&self) -> i64 {
        self.starts_at
    }

    /// Until when it is good, in Unix seconds.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Whether it is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        ServerName::try_from(host).is_ok_and(|name| {
            self.first().is_some_and(|first| first.verify_is_valid_for_subject_name(&name).is_ok())
        })
    }

    /// Whether those that lead to its authority are missing, without which most clients do not know it: the mistake of
    /// naming the file of the certificate alone.
    pub fn is_alone(&self) -> bool {
        let is_anothers = |first: EndEntityCert<'_>| first.issuer() != first.subject();
        self.chain.len() == 1 && self.first().is_some_and(is_anothers)
    }

    fn first(&self) -> Option<EndEntityCert<'_>> {
        self.chain.first().and_then(|first| EndEntityCert::try_from(first).ok())
    }
}

/// TLS 1.2 and 1.3, of the one crypto provider.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(Vec::from).to_vec();
    Ok(config)
}

/// From when until when a certificate is good, in Unix seconds.
fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    // TLS accepts fewer certificates than the parser of dates does.
    EndEntityCert::try_from(certificate).ok()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    struct Made {
        certificate: String,
        key: String,
    }

    fn made(host: &str) -> Made {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        Made { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn parsed(certificate: &str, key: &str) -> Result<Certificate, String> {
        let contents =
            Contents { certificate: certificate.into(), key: Zeroizing::new(key.as_bytes().to_vec()) };
        Certificate::parse(contents).map_err(|error| error.to_string())
    }

    #[test]
    fn it_says_when_and_for_whom_it_is_good() {
        let made = made("billing.example.com");
        let certificate = parsed(&made.certificate, &made.key).expect("they fit");
        let (starts_at, expires_at) = (1_577_836_800, 2_208_988_800);
        assert_eq!((certificate.starts_at(), certificate.expires_at()), (starts_at, expires_at));
        assert_eq!(certificate.is_timely(starts_at - 1), Err(Untimely::NotYet));
        assert_eq!(certificate.is_timely(starts_at), Ok(()));
        assert_eq!(certificate.is_timely(expires_at - 1), Ok(()));
        assert_eq!(certificate.is_timely(expires_at), Err(Untimely::Over));
        assert!(certificate.is_for("billing.example.com") && !certificate.is_for("example.com"));
        assert!(!certificate.is_alone(), "it is its own authority");
    }

    #[test]
    fn what_does_not_fit_is_told_by_the_file_that_is_to_blame() {
        let (one, other) = (made("a.example"), made("b.example"));
        let half = &one.certificate[..one.certificate.len() / 2];
        for (certificate, key, problem) in [
            (&*one.certificate, &*other.key, "the key's file holds the key of another certificate"),
            (&other.certificate, &one.key, "the key's file holds the key of another certificate"),
            (half, &one.key, "the certificate's file is not whole PEM"),
            ("", &one.key, "the certificate's file holds no certificate"),
            (&one.key, &one.key, "the certificate's file holds no certificate"),
            (&one.certificate, "", "the key's file holds no private key, or none that is in the clear"),
            (
                &one.certificate,
                &one.certificate,
                "the key's file holds no private key, or none that is in the clear",
            ),
        ] {
            assert_eq!(parsed(certificate, key).err().as_deref(), Some(problem));
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_huge_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        assert!(bytes_of(&file).expect_err("it is not there").starts_with("cannot be read: "));
        std::fs::write(&file, vec![b' '; 256 * 1024 + 1]).expect("written");
        assert_eq!(bytes_of(&file), Err("has more than 262144 bytes".to_owned()));
    }
}
