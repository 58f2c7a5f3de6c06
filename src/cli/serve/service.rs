//! Starts the service from its configuration, and stops it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};

use super::ServeConfig;
use super::tasks::ServiceTasks;
use crate::billing::{self, Billing, CatchUp, Streams};
use crate::cli::configured_files::ConfiguredCertificate;
use crate::cli::{
    CommandError, http_client_error, resolve_account, resolve_deployment, resolve_mode, stripe_client,
};
use crate::clock::Clock;
use crate::config::{self, KeySource};
use crate::domain::batch::Policy;
use crate::domain::ids::AccountId;
use crate::domain::mode::Mode;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::http::auth::TokenVerifier;
use crate::http::{self, App, PeriodicCleanup, StaticFiles};
use crate::ingest::{Ingest, Reporter};
use crate::server::{
    self, CertificateReloader, ConnectionSlots, Lifecycle, LifecycleWatch, Listener, supervised,
};
use crate::store::{self, Store};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;

/// How long requests in progress may take to finish after the drain, which takes the stop delay.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(15);

/// How long all tasks may take to end: the requests, and after them the events that the requests
/// queued.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Service {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    stop_delay: Duration,
    lifecycle: watch::Sender<Lifecycle>,
    webhook_secrets: watch::Sender<WebhookSecrets>,
    certificate_reload: Option<Arc<Notify>>,
    cleanup: PeriodicCleanup,
    tasks: ServiceTasks,
}

impl Service {
    /// Opens and migrates the database, listens, and starts the tasks.
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
        let tokens = Arc::new(tokens.map_err(|error| http_client_error(&error))?);
        let certificate = config.certificate.map(|ConfiguredCertificate { files, certificate }| {
            CertificateReloader::new(files, certificate, clock, metrics.clone())
        });
        let (lifecycle, watch) = LifecycleWatch::start();
        let (webhook_secrets, current_webhook_secrets) = watch::channel(config.stripe.webhook_secrets);

        let (ingest, writers) = start_ingest(&billing)?;
        let slots = ConnectionSlots::for_public(metrics.clone());
        let listener = listen("--listen", "BILLHOOK_LISTEN", config.listen.public, slots)?;
        let listen_for_metrics = |address| {
            let slots = ConnectionSlots::for_operators(metrics.clone());
            listen("--metrics-listen", "BILLHOOK_METRICS_LISTEN", address, slots)
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
            certificate_reload: certificate.as_ref().map(CertificateReloader::reload_request),
            cleanup: cleanup.clone(),
            tasks: ServiceTasks::default(),
        };
        let tasks = &mut service.tasks;
        let tls = certificate.as_ref().map(CertificateReloader::tls);
        tasks.start("the ingest", writers);
        tasks.start_fallible("the background jobs", run_jobs(billing.clone(), ingest, watch.clone()));
        tasks.start(
            "the public server",
            server::serve(listener, tls, routes, watch.clone(), REQUESTS_TIMEOUT),
        );
        if let Some(listener) = metrics_listener {
            let routes = http::metrics_routes(billing);
            tasks.start(
                "the metrics server",
                server::serve(listener, None, routes, watch.clone(), REQUESTS_TIMEOUT),
            );
        }
        if let Some(reloader) = certificate {
            tasks.start("the certificate reloader", reload_certificate(reloader, watch.clone()));
        }
        tasks.start("the refresh of the token keys", refresh_token_keys(tokens, watch.clone()));
        tasks.start("the periodic cleanup", clean_up(cleanup, watch));
        Ok(service)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https` if the service terminates TLS itself, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.certificate_reload.is_some() { "https" } else { "http" }
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// From now on, accepts only webhooks that one of these secrets signed.
    pub fn replace_webhook_secrets(&self, secrets: WebhookSecrets) {
        self.webhook_secrets.send_replace(secrets);
    }

    /// Reads the certificate files now instead of at the next interval. Does nothing without a
    /// certificate.
    pub fn reload_certificate(&self) {
        if let Some(reload) = &self.certificate_reload {
            reload.notify_one();
        }
    }

    /// Waits until a task of the service ends, which none should do before the service stops.
    pub(super) async fn first_failure(&mut self) -> CommandError {
        self.tasks.first_failure().await
    }

    /// Makes `/readyz` return 503, and serves requests until load balancers have noticed.
    pub(super) async fn drain(&mut self) -> Result<(), CommandError> {
        self.lifecycle.send_replace(Lifecycle::Draining);
        tokio::select! {
            () = tokio::time::sleep(self.stop_delay) => Ok(()),
            failure = self.tasks.first_failure() => Err(failure),
        }
    }

    /// Stops accepting connections, finishes the requests in progress, and commits the queued
    /// events. The ingest ends last: when the routes, the webhooks in progress and the backfill
    /// have dropped their [`Ingest`].
    pub async fn stop(mut self) -> Result<(), CommandError> {
        self.lifecycle.send_replace(Lifecycle::Stopping);
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.tasks.all_ended()).await;
        // Once more, for the last requests.
        self.cleanup.sweep();
        let late = |_| CommandError::Failed("stopped before all requests and events were finished".into());
        ended.map_err(late)?
    }
}

fn warn_about(config: &ServeConfig, not_configured: &[&str]) {
    for name in not_configured {
        tracing::warn!("{name} is not set: {}", config::effect_of_missing(name));
    }
    if matches!(config.tokens.keys, Some(KeySource::Jwks(..))) && config.tokens.rules.audience.is_none() {
        tracing::warn!("BILLHOOK_JWT_AUDIENCE is not set; tokens issued for other audiences are accepted");
    }
    for skipped in config.static_files.iter().flat_map(StaticFiles::skipped) {
        tracing::warn!("skipped a file of BILLHOOK_STATIC_DIR: {skipped}");
    }
}

/// Opens and migrates the database. Fails if it belongs to another mode, account or deployment.
async fn open(
    config: &ServeConfig,
    topics: TopicLogs,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
) -> Result<Billing, CommandError> {
    let store = Store::connect(&config.database).await?;
    store.migrate().await?;
    store.init_watermark(clock.now_seconds(), billing::EVENT_LIST_SECONDS).await?;
    let watermark = store.watermark().await?;
    let catch_up = watermark.map(|mark| CatchUp::from(mark.at, clock.now_seconds()));
    let policy = Policy {
        mode: resolve_mode(&store, config.stripe.api.mode()).await?,
        account: resolve_account(&store, config.stripe.account.clone()).await?,
        deployment: resolve_deployment(&store, config.billing.events.deployment.as_ref()).await?,
        trust_client_reference: config.billing.events.trust_client_reference,
        catalog: config.billing.events.catalog.clone(),
    };
    log_start(config, &policy);
    let journey_window_hours = config.billing.journey_window_hours;
    Ok(Billing {
        store,
        stripe: stripe_client(&config.stripe.api, &metrics)?,
        app_url: config.billing.app_url.clone(),
        portal_configuration: config.stripe.portal_configuration.clone(),
        policy,
        retention: config.retention,
        reporter: Reporter::new(topics.clone(), metrics.clone(), clock.clone(), journey_window_hours),
        topics,
        metrics,
        catch_up: catch_up.unwrap_or_default(),
        streams: Streams::default(),
        missing_prices: Arc::default(),
        webhook_record: Arc::default(),
        clock,
    })
}

fn log_start(config: &ServeConfig, policy: &Policy) {
    // Stripe is asked after the start, which never waits for it.
    let unknown_account = if config.stripe.api.secret_key.is_some() { "not asked yet" } else { "unknown" };
    let plans: Vec<&str> = policy.catalog.plans().iter().map(|plan| plan.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        database = store::describe(&config.database),
        mode = policy.mode.map_or("unknown", Mode::as_str),
        account = policy.account.get().map_or(unknown_account, AccountId::as_str),
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
        .map_err(|error| CommandError::Failed(format!("could not start the ingest thread: {error}")))
}

fn listen(
    flag: &str,
    variable: &str,
    address: SocketAddr,
    slots: ConnectionSlots,
) -> Result<Listener, CommandError> {
    Listener::bind(address, slots).map_err(|error| {
        CommandError::Failed(format!(
            "cannot listen on {address}: {error}. Choose another address with {flag} or {variable}"
        ))
    })
}

async fn run_jobs(
    billing: Arc<Billing>,
    ingest: Ingest,
    lifecycle: LifecycleWatch,
) -> Result<(), CommandError> {
    Ok(Box::pin(billing::run_jobs(billing, ingest, lifecycle.stopping())).await?)
}

async fn reload_certificate(reloader: CertificateReloader, lifecycle: LifecycleWatch) {
    let reloader = Mutex::new(reloader);
    let run = || async { reloader.lock().await.run(lifecycle.clone().stopping()).await };
    supervised("certificate", run).await;
}

async fn refresh_token_keys(tokens: Arc<TokenVerifier>, lifecycle: LifecycleWatch) {
    supervised("token keys", || tokens.clone().refresh_keys(lifecycle.clone().stopping())).await;
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
    async fn task_that_ends_during_the_drain_is_reported_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = format!("sqlite://{}", dir.path().join("billhook.db").display());
        let line =
            ["billhook", "--listen=127.0.0.1:0", "--stop-delay-seconds=300", "--database-url", &database];
        let config = CommandLine::parse_from(line).serve.read().expect("a valid configuration");
        let metrics = Metrics::new(TopicLogs::none(), Arc::default());
        let service = Service::start(config, TopicLogs::none(), metrics, Arc::new(SystemClock)).await;
        let mut service = service.expect("the service starts");
        service.tasks.start("the periodic cleanup", async {});
        let drained = tokio::time::timeout(Duration::from_mins(1), service.drain()).await;
        let failure = drained.expect("the drain ends early").expect_err("a failure");
        assert!(failure.to_string().contains("the periodic cleanup ended"));
    }
}
