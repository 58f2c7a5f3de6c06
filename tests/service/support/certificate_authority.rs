//! A certificate authority, the files of the certificates it issues, and clients that trust it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use billhook::clock::{Clock, SystemClock};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::Client;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support::app::TestApp;

const HOST: &str = "127.0.0.1";

pub struct CertificateAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its chain, and its private key, as PEM.
pub struct CertificateAndKey {
    pub certificate: String,
    pub key: String,
}

impl CertificateAuthority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Billhook test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA certificate"))
    }

    /// A new certificate for [`HOST`], valid for 90 days.
    pub fn issue(&self) -> CertificateAndKey {
        self.issue_for(HOST, 90)
    }

    pub fn issue_for(&self, host: &str, days: i64) -> CertificateAndKey {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        // Half a day more, so that a later calculation still gives this number of days.
        params.not_after = now() + Duration::days(days) + Duration::hours(12);
        self.signed(&params)
    }

    pub fn issue_valid_from_tomorrow(&self) -> CertificateAndKey {
        let mut params = CertificateParams::new([HOST.to_owned()]).expect("a name");
        params.not_before = now() + Duration::days(1);
        self.signed(&params)
    }

    fn signed(&self, params: &CertificateParams) -> CertificateAndKey {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        CertificateAndKey { certificate: certificate.pem() + &self.0.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts only this authority.
    pub fn client(&self) -> Client {
        let root = reqwest::Certificate::from_der(self.0.der()).expect("a certificate");
        Client::builder().tls_certs_only([root]).no_proxy().build().expect("a client")
    }

    /// A TLS connection that trusts only this authority.
    pub async fn connect(
        &self,
        app: &TestApp,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&[u8]],
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_protocol_versions(versions).expect("versions of TLS");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(address_of(app)).await.expect("a connection");
        let host = ServerName::try_from(HOST).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(host, stream).await.expect("TLS")
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(SystemClock.now_seconds()).expect("a time")
}

/// Host and port of a service that serves HTTPS.
pub fn address_of(app: &TestApp) -> &str {
    app.url.strip_prefix("https://").expect("an HTTPS URL")
}

pub fn server_certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// The certificate file and the key file.
pub struct CertificateFiles(TempDir);

impl CertificateFiles {
    pub fn new(pair: &CertificateAndKey) -> Self {
        let files = Self(TempDir::new().expect("a directory"));
        files.write(pair);
        files
    }

    pub fn write(&self, pair: &CertificateAndKey) {
        self.write_certificate(pair);
        self.write_key(pair);
    }

    pub fn write_certificate(&self, pair: &CertificateAndKey) {
        fs::write(self.certificate(), &pair.certificate).expect("the file is written");
    }

    pub fn write_key(&self, pair: &CertificateAndKey) {
        fs::write(self.key(), &pair.key).expect("the file is written");
    }

    /// Replaces both files with symbolic links to another pair, as certificate renewal in a cluster
    /// does.
    pub fn replace_with_links_to(&self, other: &Self) {
        for (from, to) in [(self.certificate(), other.certificate()), (self.key(), other.key())] {
            let link = from.with_extension("link");
            std::os::unix::fs::symlink(to, &link).expect("a link");
            fs::rename(link, from).expect("the file is replaced");
        }
    }

    /// Replaces the certificate file with a pipe and waits until the service reads it. The read
    /// blocks until the returned file is dropped.
    pub async fn block_reads(&self) -> tokio::fs::File {
        let pipe = self.certificate().with_extension("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        fs::rename(pipe, self.certificate()).expect("the file is replaced");
        // Opening waits for a reader.
        tokio::fs::File::options().write(true).open(self.certificate()).await.expect("the pipe is opened")
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("fullchain.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.0.path().join("privkey.pem")
    }
}
