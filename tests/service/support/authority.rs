//! A certificate authority of the test's own, the files in which a service finds what it signs, and clients that trust it.

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

/// Where everything listens.
const HOST: &str = "127.0.0.1";

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its chain, and its key, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of a test's own");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A new certificate for this machine.
    pub fn pair(&self) -> Pair {
        self.pair_for(HOST, 90)
    }

    /// One for a host, that is good for so many days.
    pub fn pair_for(&self, host: &str, days: i64) -> Pair {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        // Half a day more, so that the days left are still as many when somebody counts them.
        params.not_after = now() + Duration::days(days) + Duration::hours(12);
        self.signed(&params)
    }

    /// One for this machine that is not good yet.
    pub fn pair_from_tomorrow(&self) -> Pair {
        let mut params = CertificateParams::new([HOST.to_owned()]).expect("a name");
        params.not_before = now() + Duration::days(1);
        self.signed(&params)
    }

    fn signed(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { certificate: certificate.pem() + &self.0.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts it, and nobody else.
    pub fn client(&self) -> Client {
        let root = reqwest::Certificate::from_der(self.0.der()).expect("a certificate");
        Client::builder().tls_certs_only([root]).no_proxy().build().expect("a client")
    }

    /// A connection by one that does.
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

/// Where an app that speaks HTTPS listens.
pub fn address_of(app: &TestApp) -> &str {
    app.url.strip_prefix("https://").expect("it speaks HTTPS")
}

/// The first certificate that was shown.
pub fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// The two files.
pub struct Files(TempDir);

impl Files {
    pub fn of(pair: &Pair) -> Self {
        let files = Self(TempDir::new().expect("a directory"));
        files.write(pair);
        files
    }

    pub fn write(&self, pair: &Pair) {
        self.write_certificate(pair);
        self.write_key(pair);
    }

    pub fn write_certificate(&self, pair: &Pair) {
        fs::write(self.certificate(), &pair.certificate).expect("written");
    }

    pub fn write_key(&self, pair: &Pair) {
        fs::write(self.key(), &pair.key).expect("written");
    }

    /// Replaces both by links to others, as whoever renews for a cluster does.
    pub fn link_to(&self, other: &Self) {
        for (from, to) in [(self.certificate(), other.certificate()), (self.key(), other.key())] {
            let link = from.with_extension("link");
            std::os::unix::fs::symlink(to, &link).expect("a link");
            fs::rename(link, from).expect("it is there at once");
        }
    }

    /// Has the certificate's file say nothing, once somebody has begun to read it, for as long as this is held.
    pub async fn hang(&self) -> tokio::fs::File {
        let pipe = self.certificate().with_extension("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        fs::rename(pipe, self.certificate()).expect("it is there at once");
        // This waits for a reader.
        tokio::fs::File::options().write(true).open(self.certificate()).await.expect("it is read")
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("fullchain.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.0.path().join("privkey.pem")
    }
}
