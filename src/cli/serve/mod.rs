//! `billhook serve`: the service from its configuration to its last request.

mod signals;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;

use super::configured_files::{ConfiguredCertificate, read_certificate, read_static_files};
use super::{
    CommandError, guarded_account, guarded_deployment, guarded_mode, no_http_client, stripe,
    unknown_variables,
};
use crate::billing::{self, Billing, CatchingUp, Streams};
use crate::clock::{Clock, SystemClock};
use crate::config::{
    BillingArgs, BillingConfig, ConfigError, DatabaseArgs, KeySource, ListenArgs, ListenConfig, LogArgs,
    RetentionArgs, StripeArgs, StripeConfig, TlsArgs, TokenArgs, TokenConfig, WebArgs, WebConfig,
};
use crate::domain::address::Origin;
use crate::domain::database_url::DatabaseUrl;
use crate::domain::ids::{AccountId, DeploymentId};
use crate::domain::log_settings::LogConfig;
use crate::domain::mode::Mode;
use crate::domain::retention::Retention;
use crate::domain::unit_of_work::{OwnAccount, Policy};
use crate::domain::webhook_secret::WebhookSecrets;
use crate::http::auth::TokenVerifier;
use crate::http::{self, App, PeriodicCleanup, StaticFiles};
use crate::ingest::{Ingest, IngestTask, Reporter};
use crate::server::supervised;
use crate::server::{self, CertificateKeeper, ConnectionSlots, Lifecycle, LifecycleWatch, Listener};
use crate::store::{self, AccountConflict, Store};
use crate::telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;
use signals::{Signals, Told};

/// How long requests that are being answered may take to end once we are told to stop.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the lines and spans that wait may take to be written and sent.
const FLUSH: Duration = Duration::from_secs(5);

/// What other standards name, and the libraries read by themselves.
pub(super) const MORE_VARIABLES: &str = "\
Also read from the environment:
  RUST_LOG       what goes to stderr, such as `info` or `billhook=debug`; it does not touch the topic log files
  OTEL_*         OpenTelemetry's own: traces are exported once OTEL_EXPORTER_OTLP_ENDPOINT is set, over gRPC or, with
                 OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, over HTTP; OTEL_EXPORTER_OTLP_CERTIFICATE,
                 OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_MAX_QUEUE_SIZE,
                 OTEL_SDK_DISABLED

A variable that is set to nothing counts as not set.";

/// The configuration of the service, as the command line and the environment give it
#[derive(Clone, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) database: DatabaseArgs,
    #[command(flatten)]
    pub(super) stripe: StripeArgs,
    #[command(flatten)]
    pub(super) billing: BillingArgs,
    #[command(flatten)]
    pub(super) tokens: TokenArgs,
    #[command(flatten)]
    pub(super) web: WebArgs,
    #[command(flatten)]
    pub(super) retention: RetentionArgs,
    #[command(flatten)]
    pub(super) logs: LogArgs,
}

/// The configuration of the service, read.
#[derive(Clone)]
pub struct ServeConfig {
    listen: ListenConfig,
    certificate: Option<ConfiguredCertificate>,
    database: DatabaseUrl,
    stripe: StripeConfig,
    billing: BillingConfig,
    tokens: TokenConfig,
    logs: LogConfig,
    static_files: Option<StaticFiles>,
    cors_origins: Vec<Origin>,
    retention: Option<Retention>,
}

impl ServeArgs {
    /// Reads the configuration.
    pub fn read(&self) -> Result<ServeConfig, ConfigError> {
        let WebConfig { static_dir, cors_origins } = self.web.read()?;
        Ok(ServeConfig {
            listen: self.listen.read()?,
            certificate: self.tls.read()?.map(read_certificate).transpose()?,
            database: self.database.read()?,
            stripe: self.stripe.read()?,
            billing: self.billing.read()?,
            tokens: self.tokens.read()?,
            logs: self.logs.read()?,
            static_files: static_dir.as_deref().map(read_static_files).transpose()?,
            cors_origins,
            retention: self.retention.read()?,
        })
    }
}

impl ServeConfig {
    /// Where the topic lines go.
    pub fn logs(&self) -> &LogConfig {
        &self.logs
    }

    /// What is not set, and makes a part of the service refuse to work.
    fn not_configured(&self) -> Vec<&'static str> {
        let missing = [
            ("STRIPE_SECRET_KEY", self.stripe.secret_key.is_none()),
            ("STRIPE_WEBHOOK_SECRET", self.stripe.webhook_secrets.is_empty()),
            ("BILLHOOK_JWT_SECRET", self.tokens.keys.is_none()),
            ("BILLHOOK_APP_URL", self.billing.app_url.is_none()),
            ("BILLHOOK_PLANS", self.billing.catalog.default_plan().is_none()),
        ];
        missing.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect()
    }
}

/// The service, running.
pub struct Service {
    address: SocketAddr,
    certificate_wanted: Option<Arc<Notify>>,
    metrics_address: Option<SocketAddr>,
    lifecycle: watch::Sender<Lifecycle>,
    stop_delay: Duration,
    webhook_secrets: watch::Sender<WebhookSecrets>,
    server: JoinHandle<()>,
    certificate: JoinHandle<()>,
    metrics_server: JoinHandle<()>,
    ingest: IngestTask,
    background: JoinHandle<Option<AccountConflict>>,
    sweeper: JoinHandle<()>,
    token_keys: JoinHandle<()>,
    upkeep: PeriodicCleanup,
}

impl Service {
    /// Opens the database, brings it up to date, guards its mode, and listens.
    pub async fn start(
        config: ServeConfig,
        topics: TopicLogs,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CommandError> {
        let not_configured = config.not_configured();
        for name in &not_configured {
            tracing::warn!("{name} is not set: what needs it will refuse to work");
        }
        if matches!(config.tokens.keys, Some(KeySource::Jwks(..))) && config.tokens.rules.audience.is_none() {
            tracing::warn!(
                "BILLHOOK_JWT_AUDIENCE is not set: what the issuer signs for others is taken, too"
            );
        }
        for skipped in config.static_files.iter().flat_map(StaticFiles::skipped) {
            tracing::warn!("a file of BILLHOOK_STATIC_DIR is not served: {skipped}");
        }
        let store = Store::connect(&config.database).await?;
        store.migrate().await?;
        store.begin_watermark(clock.now_seconds(), billing::LISTED_SECONDS).await?;
        let watermark = store.watermark().await?;
        let catching_up = watermark.map(|mark| CatchingUp::from(mark.at, clock.now_seconds()));
        let catching_up = catching_up.unwrap_or_default();
        let mode = guarded_mode(&store, config.stripe.mode()).await?;
        let account = guarded_account(&store, config.stripe.account.clone()).await?;
        let deployment = guarded_deployment(&store, config.billing.deployment.as_ref()).await?;
        log_start(&config, mode, &account, &deployment);

        let window = config.billing.journey_window_hours;
        let reporter = Reporter::new(topics.clone(), metrics.clone(), clock.clone(), window);
        let billing = Arc::new(Billing {
            store,
            stripe: stripe(&config.stripe, &metrics)?,
            app_url: config.billing.app_url,
            portal_configuration: config.stripe.portal_configuration,
            policy: Policy {
                mode,
                account,
                deployment,
                trust_client_reference: config.billing.trust_client_reference,
                catalog: config.billing.catalog,
            },
            retention: config.retention,
            topics,
            metrics,
            reporter,
            catching_up,
            streams: Streams::default(),
            missing_prices: Arc::default(),
            webhook_record: Arc::default(),
            clock,
        });
        let tokens = TokenVerifier::new(config.tokens, billing.clock.clone(), billing.metrics.clone());
        let tokens = Arc::new(tokens.map_err(|error| no_http_client(&error))?);
        let (lifecycle, lifecycle_watch) = LifecycleWatch::start();
        let (webhook_secrets, secrets_of_webhooks) = watch::channel(config.stripe.webhook_secrets);
        let Billing { store, policy, reporter, .. } = &*billing;
        let (ingest, ingest_task) = Ingest::start(store.clone(), policy.clone(), reporter.clone())
            .map_err(|error| CommandError::Failed(format!("no thread for the ingest: {error}")))?;
        let background =
            billing::start_jobs(billing.clone(), ingest.clone(), lifecycle_watch.clone().stopping());
        let ListenConfig { public, metrics, trusted_proxies, stop_delay } = config.listen;
        let certificate = config.certificate.map(|ConfiguredCertificate { files, certificate }| {
            CertificateKeeper::new(files, certificate, billing.clock.clone(), billing.metrics.clone())
        });
        let tls = certificate.as_ref().map(CertificateKeeper::tls);
        let slots = ConnectionSlots::for_public(billing.metrics.clone());
        let listener = listen("BILLHOOK_LISTEN", public, slots)?;
        let listen_for_metrics = |address| {
            let slots = ConnectionSlots::for_operators(billing.metrics.clone());
            listen("BILLHOOK_METRICS_LISTEN", address, slots)
        };
        let metrics_listener = metrics.map(listen_for_metrics).transpose()?;
        let (routes, upkeep) = http::routes(App {
            billing: billing.clone(),
            ingest,
            webhook_secrets: secrets_of_webhooks,
            trusted_proxies,
            tokens: tokens.clone(),
            throttle_per_minute: NonZeroU32::new(config.billing.throttle_per_minute)
                .unwrap_or(NonZeroU32::MIN),
            static_files: config.static_files,
            cors_origins: config.cors_origins,
            not_configured,
            lifecycle: lifecycle_watch.clone(),
        });

        Ok(Self {
            address: listener.address(),
            certificate_wanted: certificate.as_ref().map(CertificateKeeper::wanted),
            metrics_address: metrics_listener.as_ref().map(Listener::address),
            lifecycle,
            stop_delay,
            webhook_secrets,
            server: tokio::spawn(server::serve(listener, tls, routes, lifecycle_watch.clone(), DRAIN)),
            certificate: tokio::spawn(keep_certificate(certificate, lifecycle_watch.clone())),
            metrics_server: tokio::spawn(serve_metrics(metrics_listener, billing, lifecycle_watch.clone())),
            ingest: ingest_task,
            background,
            token_keys: tokio::spawn(keep_keys(tokens, lifecycle_watch.clone())),
            sweeper: tokio::spawn(sweep(upkeep.clone(), lifecycle_watch)),
            upkeep,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is asked: `https`, where it speaks TLS itself, or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.certificate_wanted.is_some() { "https" } else { "http" }
    }

    /// Where it tells its metrics, if anywhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Takes webhooks that these secrets sign from now on, and no others.
    pub fn replace_webhook_secrets(&self, secrets: WebhookSecrets) {
        self.webhook_secrets.send_replace(secrets);
    }

    /// Looks at the files of the certificate now, if it has one, instead of at the next time that it would by itself.
    pub fn want_certificate(&self) {
        if let Some(wanted) = &self.certificate_wanted {
            wanted.notify_one();
        }
    }

    /// Waits until a part of the service ends by itself, which none of them should.
    async fn failed(&mut self) -> CommandError {
        let what = tokio::select! {
            ended = &mut self.server => format!("the server ended: {ended:?}"),
            ended = &mut self.certificate => format!("the keeper of the certificate ended: {ended:?}"),
            ended = &mut self.metrics_server => format!("the metrics' server ended: {ended:?}"),
            ended = &mut self.ingest => format!("the ingest task ended: {ended:?}"),
            ended = &mut self.background => match ended {
                Ok(Some(conflict)) => return conflict.into(),
                ended => format!("the background work ended: {ended:?}"),
            },
            ended = &mut self.sweeper => format!("the sweeper ended: {ended:?}"),
            ended = &mut self.token_keys => format!("the keeper of the token keys ended: {ended:?}"),
        };
        CommandError::Failed(what)
    }

    /// Says that it is not ready any more, and gives whoever sends requests the time to hear it. Until then it serves on,
    /// or fails, as ever.
    async fn leave(&mut self) -> Result<(), CommandError> {
        self.lifecycle.send_replace(Lifecycle::Draining);
        tokio::select! {
            () = tokio::time::sleep(self.stop_delay) => Ok(()),
            failed = self.failed() => Err(failed),
        }
    }

    /// Stops taking connections, answers what has been asked, and finishes the events that were handed in.
    pub async fn stop(self) -> Result<(), CommandError> {
        self.lifecycle.send_replace(Lifecycle::Stopping);
        let ended = async {
            tokio::try_join!(
                self.server,
                self.certificate,
                self.metrics_server,
                self.ingest,
                self.background,
                self.sweeper,
                self.token_keys
            )
        };
        let late = |_| CommandError::Failed("stopped, with requests or events still in work".into());
        let ended = tokio::time::timeout(DRAIN + DRAIN, ended).await;
        // Once more, for what the last requests left.
        self.upkeep.sweep();
        let ended = ended.map_err(late)?;
        ended.map(|_| ()).map_err(|error| CommandError::Failed(error.to_string()))
    }
}

fn log_start(config: &ServeConfig, mode: Option<Mode>, account: &OwnAccount, deployment: &DeploymentId) {
    let plans: Vec<&str> = config.billing.catalog.plans().iter().map(|plan| plan.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        database = store::describe(&config.database),
        mode = mode.map_or("unknown", Mode::as_str),
        account = account.get().map_or("unknown", AccountId::as_str),
        %deployment,
        plans = plans.join(", "),
        "starting"
    );
}

fn listen(variable: &str, address: SocketAddr, slots: ConnectionSlots) -> Result<Listener, CommandError> {
    Listener::bind(address, slots)
        .map_err(|error| CommandError::Failed(format!("{variable}: cannot listen on {address}: {error}")))
}

async fn serve_metrics(listener: Option<Listener>, billing: Arc<Billing>, lifecycle: LifecycleWatch) {
    match listener {
        Some(listener) => {
            server::serve(listener, None, http::metrics_routes(billing), lifecycle, DRAIN).await;
        }
        None => lifecycle.stopping().await,
    }
}

async fn keep_certificate(keeper: Option<CertificateKeeper>, lifecycle: LifecycleWatch) {
    match keeper {
        Some(keeper) => {
            let keeper = Mutex::new(keeper);
            let keep = || async { keeper.lock().await.keep(lifecycle.clone().stopping()).await };
            supervised("certificate", keep).await;
        }
        None => lifecycle.stopping().await,
    }
}

async fn keep_keys(tokens: Arc<TokenVerifier>, lifecycle: LifecycleWatch) {
    supervised("token keys", || tokens.clone().keep_keys(lifecycle.clone().stopping())).await;
}

pub(super) async fn run(args: &ServeArgs) -> Result<(), CommandError> {
    let config = args.read()?;
    let telemetry = telemetry::init(&config.logs)?;
    for variable in unknown_variables::find() {
        tracing::warn!(variable, "no such variable is read: check its spelling");
    }
    server::raise_file_limit();
    // A panic ends the process by this way, too, so that its report reaches stderr.
    let serving = serve_until_told(args, config, telemetry.topics(), telemetry.metrics());
    let result = AssertUnwindSafe(serving).catch_unwind().await;
    telemetry.shutdown(FLUSH).await;
    result.unwrap_or_else(|_| Err(CommandError::Failed("a defect: the service panicked".into())))
}

async fn serve_until_told(
    args: &ServeArgs,
    config: ServeConfig,
    topics: TopicLogs,
    metrics: Metrics,
) -> Result<(), CommandError> {
    // Before anything else, so that no signal meets its default, which is to kill us on the spot.
    let mut signals = Signals::listen()?;
    let mut service = Service::start(config, topics.clone(), metrics, Arc::new(SystemClock)).await?;
    tracing::info!("listening on {}://{}", service.scheme(), service.address());
    if let Some(address) = service.metrics_address() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    let is_awaited = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Told::Leave => break true,
                Told::Stop => break false,
                Told::ReadAnew => read_anew(args, &service, &topics),
            },
            failed = service.failed() => return Err(failed),
        }
    };
    tracing::info!("stopping; a second signal stops at once");
    let stopping = async {
        if is_awaited {
            service.leave().await?;
        }
        service.stop().await
    };
    tokio::select! {
        stopped = stopping => stopped,
        () = signals.told_to_stop() => Err(CommandError::Failed("stopped at once".into())),
    }
}

/// Opens the topic files anew, for whoever rotates them, and takes the webhook secrets and the certificate as they are now.
/// What cannot be read changes nothing.
fn read_anew(args: &ServeArgs, service: &Service, topics: &TopicLogs) {
    topics.reopen();
    service.want_certificate();
    match args.stripe.webhook_secrets() {
        Ok(secrets) => {
            tracing::info!(?secrets, "took the webhook secrets anew");
            service.replace_webhook_secrets(secrets);
        }
        Err(error) => tracing::error!(%error, "the webhook secrets stay as they were"),
    }
}

async fn sweep(upkeep: PeriodicCleanup, lifecycle: LifecycleWatch) {
    let sweep = || async {
        loop {
            tokio::time::sleep(PeriodicCleanup::INTERVAL).await;
            upkeep.sweep();
        }
    };
    tokio::select! {
        () = lifecycle.stopping() => {}
        () = supervised("periodic clean-up", sweep) => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        serve: ServeArgs,
    }

    #[tokio::test]
    async fn a_part_that_ends_while_others_hear_of_the_stop_is_noticed_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = format!("sqlite://{}", dir.path().join("billhook.db").display());
        let line =
            ["billhook", "--listen=127.0.0.1:0", "--stop-delay-seconds=300", "--database-url", &database];
        let config = CommandLine::parse_from(line).serve.read().expect("it is good");
        let metrics = Metrics::new(TopicLogs::none(), Arc::default());
        let service = Service::start(config, TopicLogs::none(), metrics, Arc::new(SystemClock)).await;
        let mut service = service.expect("it starts");
        service.sweeper.abort();
        let left =
            tokio::time::timeout(Duration::from_mins(1), service.leave()).await.expect("it is noticed");
        assert!(left.expect_err("it failed").to_string().contains("the sweeper ended"));
    }
}
