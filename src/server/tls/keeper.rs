//! Serving the certificate that is in the files now. Whoever renews it writes new files, or turns a link to others
//! (certbot, Kubernetes), and tells nobody.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::ServerConfig;

use super::certificate::{Contents, Untimely};
use super::{Certificate, CertificateFiles, InvalidCertificate, Tls};
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

/// How often it is looked whether the files are others: two small files. A certificate is renewed weeks before it is
/// needed, and whoever renews one by hand is not kept waiting.
const EVERY: Duration = Duration::from_secs(2);

/// Sees to it that the certificate in the files is the one that is served.
pub struct CertificateKeeper {
    files: CertificateFiles,
    judged: Look,
    /// When what was judged is to be judged again, since it was not good yet.
    good_from: Option<i64>,
    served: watch::Sender<Arc<ServerConfig>>,
    wanted: Arc<Notify>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// What was found in the files.
type Look = Result<Contents, InvalidCertificate>;

impl CertificateKeeper {
    /// Begins with a certificate that was read from the files.
    pub fn new(
        files: CertificateFiles,
        certificate: Certificate,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        if let Err(untimely) = certificate.is_timely(clock.now_seconds()) {
            tracing::error!(
                "the certificate {untimely}: no client trusts it, and a new one is taken when it is there"
            );
        }
        metrics.certificate_expires(certificate.expires_at());
        let judged = Ok(certificate.contents);
        let served = watch::Sender::new(certificate.config);
        Self { files, judged, good_from: None, served, wanted: Arc::default(), clock, metrics }
    }

    /// How the service speaks TLS at the moment.
    pub fn tls(&self) -> Tls {
        Tls(self.served.subscribe())
    }

    /// What to notify when the files are to be looked at now.
    pub fn wanted(&self) -> Arc<Notify> {
        self.wanted.clone()
    }

    /// Looks at the files until told to stop. What is found twice is taken, since the first time somebody may be writing;
    /// at once, if somebody asks for it. What cannot be served is told once; what is not good yet is taken when it is.
    pub async fn keep(&mut self, stopping: impl Future<Output = ()>) {
        let mut stopping = pin!(stopping);
        let mut last = self.judged.clone();
        loop {
            let is_wanted = tokio::select! {
                () = &mut stopping => return,
                () = self.wanted.notified() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            // On a mount that hangs it takes for ever, and the stop does not.
            let look = tokio::select! {
                () = &mut stopping => return,
                look = self.look() => look,
            };
            if is_wanted || (look == last && (look != self.judged || self.is_good_by_now())) {
                self.judge(look.clone());
            }
            last = look;
        }
    }

    async fn look(&self) -> Look {
        let files = self.files.clone();
        let look = tokio::task::spawn_blocking(move || files.contents()).await;
        look.unwrap_or_else(|_| Err(InvalidCertificate::Certificate("was not looked at".into())))
    }

    fn is_good_by_now(&self) -> bool {
        self.good_from.is_some_and(|good_from| good_from <= self.clock.now_seconds())
    }

    fn judge(&mut self, look: Look) {
        self.judged.clone_from(&look);
        self.good_from = None;
        match look.and_then(Certificate::parse) {
            Ok(certificate) => self.judge_time(certificate),
            Err(error) => {
                self.metrics.certificate_read("refused");
                tracing::error!(%error, "the certificate stays as it was");
            }
        }
    }

    fn judge_time(&mut self, certificate: Certificate) {
        if let Err(untimely) = certificate.is_timely(self.clock.now_seconds()) {
            self.good_from = (untimely == Untimely::NotYet).then(|| certificate.starts_at());
            self.metrics.certificate_read("refused");
            tracing::error!("the certificate stays as it was: the one in its file {untimely}");
        } else {
            self.metrics.certificate_read("taken");
            self.metrics.certificate_expires(certificate.expires_at());
            self.served.send_replace(certificate.config);
            tracing::info!("took the certificate anew");
        }
    }
}
