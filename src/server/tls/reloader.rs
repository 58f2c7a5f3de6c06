//! Reloads the certificate when its files change. Renewal tools (certbot, Kubernetes) replace the
//! files or a link to them and notify no process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::ServerConfig;

use super::certificate::{PemFiles, ValidityError};
use super::{Certificate, CertificateFiles, InvalidCertificate, Tls};
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

/// How often the two small files are read. An operator who replaces them by hand does not wait
/// long.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Serves the certificate that is in the files.
pub struct CertificateReloader {
    files: CertificateFiles,
    /// The last contents that were loaded or rejected.
    checked: ReadResult,
    /// Set if the checked certificate was rejected because it is not valid yet: when it will be, in
    /// Unix seconds.
    valid_from: Option<i64>,
    config: watch::Sender<Arc<ServerConfig>>,
    reload_request: Arc<Notify>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

type ReadResult = Result<PemFiles, InvalidCertificate>;

impl CertificateReloader {
    /// Starts with a certificate that was read from the files. It is served even outside its
    /// validity period.
    pub fn new(
        files: CertificateFiles,
        certificate: Certificate,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        if let Err(error) = certificate.check_validity(clock.now_seconds()) {
            tracing::error!("the certificate {error}; clients reject it until its files are replaced");
        }
        metrics.set_certificate_expiry(certificate.expires_at());
        let checked = Ok(certificate.pem);
        let config = watch::Sender::new(certificate.config);
        Self { files, checked, valid_from: None, config, reload_request: Arc::default(), clock, metrics }
    }

    pub fn tls(&self) -> Tls {
        Tls(self.config.subscribe())
    }

    /// Notify this to load the files at once.
    pub fn reload_request(&self) -> Arc<Notify> {
        self.reload_request.clone()
    }

    /// Checks the files until `stopping` completes. New contents are loaded once two reads in a row
    /// find them, since a tool may still be writing at the first. A reload request loads them at
    /// once. An error is logged once. A certificate that is not valid yet is loaded when it becomes
    /// valid.
    pub async fn run(&mut self, stopping: impl Future<Output = ()>) {
        let mut stopping = pin!(stopping);
        let mut last = self.checked.clone();
        loop {
            let is_requested = tokio::select! {
                () = &mut stopping => return,
                () = self.reload_request.notified() => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
            };
            // On a hanging mount the read never returns, and must not delay the shutdown.
            let read = tokio::select! {
                () = &mut stopping => return,
                read = self.read_files() => read,
            };
            if is_requested || (read == last && (read != self.checked || self.is_now_valid())) {
                self.load(read.clone());
            }
            last = read;
        }
    }

    async fn read_files(&self) -> ReadResult {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read_pem()).await;
        read.unwrap_or_else(|_| Err(InvalidCertificate::Certificate("was not read".into())))
    }

    fn is_now_valid(&self) -> bool {
        self.valid_from.is_some_and(|valid_from| valid_from <= self.clock.now_seconds())
    }

    fn load(&mut self, read: ReadResult) {
        self.checked.clone_from(&read);
        self.valid_from = None;
        let certificate = match read.and_then(Certificate::parse) {
            Ok(certificate) => certificate,
            Err(error) => {
                self.metrics.certificate_reloaded("refused");
                return tracing::error!(%error, "could not load the certificate; keeping the old one");
            }
        };
        if let Err(error) = certificate.check_validity(self.clock.now_seconds()) {
            self.valid_from = (error == ValidityError::NotYetValid).then(|| certificate.valid_from());
            self.metrics.certificate_reloaded("refused");
            return tracing::error!("the new certificate {error}; keeping the old one");
        }
        self.metrics.certificate_reloaded("taken");
        self.metrics.set_certificate_expiry(certificate.expires_at());
        self.config.send_replace(certificate.config);
        tracing::info!("loaded the new certificate");
    }
}
