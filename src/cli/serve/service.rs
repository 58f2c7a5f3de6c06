//! The service: how it is put together, and how it stops.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};

use super::ServeConfig;
use super::parts::Parts;
use crate::billing::{self, Billing, CatchingUp, Streams};
use crate::cli::configured_files::ConfiguredCertificate;
use crate::cli::{CommandError, guarded_account, guarded_deployment, guarded_mode, no_http_client, stripe};
use crate::clock::Clock;
use crate::config::KeySource;
use crate::domain::ids::AccountId;
use crate::domain::mode::Mode;
use crate::domain::unit_of_work::Policy;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::http::auth::TokenVerifier;
use crate::http::{self, App, PeriodicCleanup, StaticFiles};
use crate::ingest::{Ingest, Reporter};
use crate::server::{
    self, CertificateKeeper, ConnectionSlots, Lifecycle, LifecycleWatch, Listener, supervised,
};
use crate::store::{self, Store};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;

/// How long requests in progress may take to finish once the service is stopping. The drain, which takes the stop delay, comes
/// before.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(15);

/// How long everything may take to end: the requests, and after them the events that they brought.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The service, running.
pub struct Service {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    stop_delay: Duration,
    lifecycle: watch::Sender<Lifecycle>,
    webhook_secrets: watch::Sender<WebhookSecrets>,
    certificate_wanted: Option<Arc<Notify>>,
    cleanup: PeriodicCleanup,
    parts: Parts,
}

impl Service {
    /// Opens the database, brings it up to date, listens, and starts the parts.
    pub async fn start(
        config: ServeConfig,
        topics: TopicLogs,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CommandError> {
        let not_configured = config.not_configured();
        warn_about(&config, &not_configured);
        let billing = Arc::new(open(&config, topics, metrics.clone(), clock.clone()).await?);
        let tokens = TokenVerifier::new(config.tokens, clock.clone(), metrics.clone());
        let tokens = Arc::new(tokens.map_err(|error| no_http_client(&error))?);
        let certificate = config.certificate.map(|ConfiguredCertificate { files, certificate }| {
            CertificateKeeper::new(files, certificate, clock, metrics.clone())
        });
        let (lifecycle, watch) = LifecycleWatch::start();
        let (webhook_secrets, current_webhook_secrets) = watch::channel(config.stripe.webhook_secrets);

        let (ingest, writers) = start_ingest(&billing)?;
        let slots = ConnectionSlots::for_public(metrics.clone());
        let listener = listen("BILLHOOK_LISTEN", config.listen.public, slots)?;
        let listen_for_metrics = |address| {
            listen("BILLHOOK_METRICS_LISTEN", address, ConnectionSlots::for_operators(metrics.clone()))
        };
        let metrics_listener = config.listen.metrics.map(listen_for_metrics).transpose()?;
        let (routes, cleanup) = http::routes(App {
            billing: billing.clone(),
            ingest: ingest.clone(),
            webhook_secrets: current_webhook_secrets,
            trusted_proxies: config.listen.trusted_proxies,
            tokens: tokens.clone(),
            throttle_per_minute: NonZeroU32::new(config.billing.throttle_per_minute)
                .unwrap_or(NonZeroU32::MIN),
            static_files: config.static_files,
            cors_origins: config.cors_origins,
            not_configured,
            lifecycle: watch.clone(),
        });

        let mut service = Self {
            address: listener.address(),
            metrics_address: metrics_listener.as_ref().map(Listener::address),
            stop_delay: config.listen.stop_delay,
            lifecycle,
            webhook_secrets,
            certificate_wanted: certificate.as_ref().map(CertificateKeeper::wanted),
            cleanup: cleanup.clone(),
            parts: Parts::default(),
        };
        let parts = &mut service.parts;
        let tls = certificate.as_ref().map(CertificateKeeper::tls);
        parts.start("the ingest", writers);
        parts.start_fallible("the background work", run_jobs(billing.clone(), ingest, watch.clone()));
        parts.start("the server", server::serve(listener, tls, routes, watch.clone(), REQUESTS_TIMEOUT));
        if let Some(listener) = metrics_listener {
            let routes = http::metrics_routes(billing);
            parts.start(
                "the metrics' server",
                server::serve(listener, None, routes, watch.clone(), REQUESTS_TIMEOUT),
            );
        }
        if let Some(keeper) = certificate {
            parts.start("the keeper of the certificate", keep_certificate(keeper, watch.clone()));
        }
        parts.start("the keeper of the token keys", keep_token_keys(tokens, watch.clone()));
        parts.start("the periodic cleanup", clean_up(cleanup, watch));
        Ok(service)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is asked: `https`, where it speaks TLS itself, or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.certificate_wanted.is_some() { "https" } else { "http" }
    }

    /// Where it serves its metrics, if anywhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Accepts webhooks that these secrets sign from now on, and no others.
    pub fn replace_webhook_secrets(&self, secrets: WebhookSecrets) {
        self.webhook_secrets.send_replace(secrets);
    }

    /// Reads the files of the certificate now, if it has one, instead of at the next time that it would by itself.
    pub fn reload_certificate(&self) {
        if let Some(wanted) = &self.certificate_wanted {
            wanted.notify_one();
        }
    }

    /// Waits until a part of the service ends by itself, which none of them should.
    pub(super) async fn first_failure(&mut self) -> CommandError {
        self.parts.first_failure().await
    }

    /// Reports that it is not ready any more, and keeps serving for as long as a load balancer takes to notice.
    pub(super) async fn drain(&mut self) -> Result<(), CommandError> {
        self.lifecycle.send_replace(Lifecycle::Draining);
        tokio::select! {
            () = tokio::time::sleep(self.stop_delay) => Ok(()),
            failure = self.parts.first_failure() => Err(failure),
        }
    }

    /// Stops accepting connections, answers the requests in progress, and commits the events that are queued. The ingest ends
    /// last: when the routes, the webhooks in progress and the backfill have dropped their [`Ingest`].
    pub async fn stop(mut self) -> Result<(), CommandError> {
        self.lifecycle.send_replace(Lifecycle::Stopping);
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.parts.all_ended()).await;
        // Once more, for what the last requests left.
        self.cleanup.sweep();
        let late = |_| CommandError::Failed("stopped, with requests or events still in work".into());
        ended.map_err(late)?
    }
}

fn warn_about(config: &ServeConfig, not_configured: &[&str]) {
    for name in not_configured {
        tracing::warn!("{name} is not set: what needs it will refuse to work");
    }
    if matches!(config.tokens.keys, Some(KeySource::Jwks(..))) && config.tokens.rules.audience.is_none() {
        tracing::warn!("BILLHOOK_JWT_AUDIENCE is not set: what the issuer signs for others is taken, too");
    }
    for skipped in config.static_files.iter().flat_map(StaticFiles::skipped) {
        tracing::warn!("a file of BILLHOOK_STATIC_DIR is not served: {skipped}");
    }
}

/// Opens the database and brings it up to date. Fails if it belongs to another mode, account or deployment.
async fn open(
    config: &ServeConfig,
    topics: TopicLogs,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
) -> Result<Billing, CommandError> {
    let store = Store::connect(&config.database).await?;
    store.migrate().await?;
    store.begin_watermark(clock.now_seconds(), billing::LISTED_SECONDS).await?;
    let watermark = store.watermark().await?;
    let catching_up = watermark.map(|mark| CatchingUp::from(mark.at, clock.now_seconds()));
    let policy = Policy {
        mode: guarded_mode(&store, config.stripe.api.mode()).await?,
        account: guarded_account(&store, config.stripe.account.clone()).await?,
        deployment: guarded_deployment(&store, config.billing.events.deployment.as_ref()).await?,
        trust_client_reference: config.billing.events.trust_client_reference,
        catalog: config.billing.events.catalog.clone(),
    };
    log_start(config, &policy);
    let journey_window_hours = config.billing.journey_window_hours;
    Ok(Billing {
        store,
        stripe: stripe(&config.stripe.api, &metrics)?,
        app_url: config.billing.app_url.clone(),
        portal_configuration: config.stripe.portal_configuration.clone(),
        policy,
        retention: config.retention,
        reporter: Reporter::new(topics.clone(), metrics.clone(), clock.clone(), journey_window_hours),
        topics,
        metrics,
        catching_up: catching_up.unwrap_or_default(),
        streams: Streams::default(),
        missing_prices: Arc::default(),
        webhook_record: Arc::default(),
        clock,
    })
}

fn log_start(config: &ServeConfig, policy: &Policy) {
    let plans: Vec<&str> = policy.catalog.plans().iter().map(|plan| plan.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        database = store::describe(&config.database),
        mode = policy.mode.map_or("unknown", Mode::as_str),
        account = policy.account.get().map_or("unknown", AccountId::as_str),
        deployment = %policy.deployment,
        plans = plans.join(", "),
        "starting"
    );
}

fn start_ingest(
    billing: &Billing,
) -> Result<(Ingest, impl Future<Output = ()> + Send + 'static), CommandError> {
    let Billing { store, policy, reporter, .. } = billing;
    Ingest::start(store.clone(), policy.clone(), reporter.clone())
        .map_err(|error| CommandError::Failed(format!("no thread for the ingest: {error}")))
}

fn listen(variable: &str, address: SocketAddr, slots: ConnectionSlots) -> Result<Listener, CommandError> {
    Listener::bind(address, slots)
        .map_err(|error| CommandError::Failed(format!("{variable}: cannot listen on {address}: {error}")))
}

async fn run_jobs(
    billing: Arc<Billing>,
    ingest: Ingest,
    lifecycle: LifecycleWatch,
) -> Result<(), CommandError> {
    Ok(Box::pin(billing::run_jobs(billing, ingest, lifecycle.stopping())).await?)
}

async fn keep_certificate(keeper: CertificateKeeper, lifecycle: LifecycleWatch) {
    let keeper = Mutex::new(keeper);
    let keep = || async { keeper.lock().await.keep(lifecycle.clone().stopping()).await };
    supervised("certificate", keep).await;
}

async fn keep_token_keys(tokens: Arc<TokenVerifier>, lifecycle: LifecycleWatch) {
    supervised("token keys", || tokens.clone().keep_keys(lifecycle.clone().stopping())).await;
}

async fn clean_up(cleanup: PeriodicCleanup, lifecycle: LifecycleWatch) {
    let sweep = || async {
        loop {
            tokio::time::sleep(PeriodicCleanup::INTERVAL).await;
            cleanup.sweep();
        }
    };
    tokio::select! {
        () = lifecycle.stopping() => {}
        () = supervised("periodic cleanup", sweep) => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::serve::ServeArgs;
    use crate::clock::SystemClock;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        serve: ServeArgs,
    }

    #[tokio::test]
    async fn part_that_ends_while_the_service_drains_is_noticed_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = format!("sqlite://{}", dir.path().join("billhook.db").display());
        let line =
            ["billhook", "--listen=127.0.0.1:0", "--stop-delay-seconds=300", "--database-url", &database];
        let config = CommandLine::parse_from(line).serve.read().expect("it is good");
        let metrics = Metrics::new(TopicLogs::none(), Arc::default());
        let service = Service::start(config, TopicLogs::none(), metrics, Arc::new(SystemClock)).await;
        let mut service = service.expect("it starts");
        service.parts.start("the periodic cleanup", async {});
        let drained =
            tokio::time::timeout(Duration::from_mins(1), service.drain()).await.expect("it is noticed");
        assert!(drained.expect_err("it failed").to_string().contains("the periodic cleanup ended"));
    }
}
