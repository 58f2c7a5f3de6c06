//! `billhook serve`: the service from its configuration to its last request.
//!
//! Start reading at `service`, which starts and stops the service. `tasks` holds its tasks, and
//! `signals` receives what an operator or a supervisor sends. This file has the configuration and
//! the loop that waits for a signal.

mod service;
mod signals;
mod tasks;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;

use super::configured_files::{ConfiguredCertificate, read_certificate, read_static_files};
use super::{CommandError, unknown_variables};
use crate::clock::SystemClock;
use crate::config::{
    self, BillingArgs, BillingConfig, ConfigError, DatabaseArgs, ListenArgs, ListenConfig, LogArgs,
    RetentionArgs, StripeArgs, StripeConfig, TlsArgs, TokenArgs, TokenConfig, WebArgs, WebConfig,
};
use crate::domain::app_url::Origin;
use crate::domain::database_url::DatabaseUrl;
use crate::domain::log_config::LogConfig;
use crate::domain::retention::Retention;
use crate::http::StaticFiles;
use crate::server;
use crate::telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;
pub use service::Service;
use signals::{SignalAction, Signals};

/// How long buffered log lines and spans may take to be written and sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Lists the variables that are not flags, because a library reads them.
pub(super) const AFTER_HELP: &str = "\
Also read from the environment:
  RUST_LOG  Which log lines go to stderr, such as `info` or `billhook=debug`.
            Does not affect the topic logs.
  OTEL_*    OpenTelemetry's variables. Traces are exported if
            OTEL_EXPORTER_OTLP_ENDPOINT is set, over gRPC or, with
            OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, over HTTP. Also
            OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME,
            OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
            OTEL_BSP_MAX_QUEUE_SIZE and OTEL_SDK_DISABLED.

A variable that is set to an empty text counts as not set.";

/// The configuration of the service, from the command line and the environment
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
    pub fn logs(&self) -> &LogConfig {
        &self.logs
    }

    /// The variables that are not set although a part of the service needs them.
    fn not_configured(&self) -> Vec<&'static str> {
        config::missing_variables(Some(&self.stripe), Some(&self.tokens), Some(&self.billing))
    }
}

pub(super) async fn run(args: &ServeArgs) -> Result<(), CommandError> {
    let config = args.read()?;
    let telemetry = telemetry::init(&config.logs)?;
    for variable in unknown_variables::find() {
        tracing::warn!(variable, "ignored unknown variable; check its spelling");
    }
    server::raise_file_limit();
    // After a panic, too, the telemetry is flushed, so that the report of the panic reaches stderr.
    let serving = serve_until_stopped(args, config, telemetry.topics(), telemetry.metrics());
    let result = AssertUnwindSafe(serving).catch_unwind().await;
    telemetry.shutdown(FLUSH_TIMEOUT).await;
    result.unwrap_or_else(|_| Err(CommandError::Failed("a defect: the service panicked".into())))
}

async fn serve_until_stopped(
    args: &ServeArgs,
    config: ServeConfig,
    topics: TopicLogs,
    metrics: Metrics,
) -> Result<(), CommandError> {
    // Before anything else, since the default action of these signals kills the process at once.
    let mut signals = Signals::listen()?;
    let mut service = Service::start(config, topics.clone(), metrics, Arc::new(SystemClock)).await?;
    tracing::info!("listening on {}://{}", service.scheme(), service.address());
    if let Some(address) = service.metrics_address() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    let drains = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                SignalAction::Drain => break true,
                SignalAction::Stop => break false,
                SignalAction::Reload => reload(args, &service, &topics),
            },
            failure = service.first_failure() => return Err(failure),
        }
    };
    tracing::info!("stopping; a second signal stops at once");
    let stopping = async {
        if drains {
            service.drain().await?;
        }
        service.stop().await
    };
    tokio::select! {
        stopped = stopping => stopped.inspect(|()| tracing::info!("stopped")),
        () = signals.stop() => Err(CommandError::Failed("stopped at once".into())),
    }
}

/// Opens the topic log files again, since a log rotator may have moved them, and reads the webhook
/// secrets. The certificate reloader reads the certificate soon after. If a secret or certificate
/// cannot be read, the service keeps the one it has.
fn reload(args: &ServeArgs, service: &Service, topics: &TopicLogs) {
    topics.reopen();
    service.reload_certificate();
    match args.stripe.webhook_secrets() {
        Ok(secrets) => {
            tracing::info!(?secrets, "reloaded the webhook secrets");
            service.replace_webhook_secrets(secrets);
        }
        Err(error) => {
            tracing::error!(%error, "could not reload the webhook secrets; keeping the current ones");
        }
    }
}
