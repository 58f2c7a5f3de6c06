//! The checks that do not call Stripe.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::DoctorArgs;
use super::report::Report;
use crate::billing::TRUSTED_AFTER_VERIFIED_MS;
use crate::cli::configured_files::{ConfiguredCertificate, read_certificate, read_static_files};
use crate::cli::text::time;
use crate::cli::unknown_variables;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, BillingConfig, ConfigError, StripeConfig};
use crate::domain::database_url::DatabaseUrl;
use crate::domain::log_config::{LogConfig, LogSink};
use crate::domain::mode::Mode;
use crate::domain::signature::RejectionReason;
use crate::domain::webhook_url::WebhookUrl;
use crate::store::{RejectedWebhooks, Store, StoreError, VerifiedWebhooks};
use crate::telemetry;

const COLLECTOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Certificates are usually renewed weeks before they expire. With fewer days left, the renewal has
/// probably failed.
const MIN_CERTIFICATE_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The reasons for which a genuine webhook of Stripe may be rejected.
const SECRET_OR_CLOCK_REASONS: [&str; 2] =
    [RejectionReason::NoMatch.as_str(), RejectionReason::TooOld.as_str()];

/// The parts of the configuration; `None` if a part cannot be read.
pub(super) struct Setup {
    pub(super) database: Option<DatabaseUrl>,
    pub(super) stripe: Option<StripeConfig>,
    pub(super) billing: Option<BillingConfig>,
    pub(super) webhook_url: Option<WebhookUrl>,
    certificate: Option<ConfiguredCertificate>,
    logs: Option<LogConfig>,
}

/// Reads each part separately, so that one error does not hide the next.
pub(super) fn configuration(args: &DoctorArgs, report: &mut Report) -> Setup {
    let serve = &args.serve;
    let mut errors: Vec<ConfigError> = Vec::new();
    let webhook_url =
        args.webhook_url.as_deref().filter(|url| !url.is_empty()).map(config::parse_webhook_url);
    let tokens = ok_or_push(serve.tokens.read(), &mut errors);
    ok_or_push(serve.listen.read(), &mut errors);
    let web = ok_or_push(serve.web.read(), &mut errors);
    if let Some(directory) = web.and_then(|web| web.static_dir) {
        ok_or_push(read_static_files(&directory), &mut errors);
    }
    ok_or_push(serve.retention.read(), &mut errors);
    let setup = Setup {
        database: ok_or_push(serve.database.read(), &mut errors),
        stripe: ok_or_push(serve.stripe.read(), &mut errors),
        billing: ok_or_push(serve.billing.read(), &mut errors),
        webhook_url: ok_or_push(webhook_url.transpose(), &mut errors).flatten(),
        certificate: ok_or_push(
            serve.tls.read().and_then(|tls| tls.map(read_certificate).transpose()),
            &mut errors,
        )
        .flatten(),
        logs: ok_or_push(serve.logs.read(), &mut errors),
    };
    for error in &errors {
        report.red("configuration", error, "see `billhook serve --help`");
    }
    let missing = config::missing_variables(setup.stripe.as_ref(), tokens.as_ref(), setup.billing.as_ref());
    for name in &missing {
        report.red(
            "configuration",
            format_args!("{name} is not set: {}", config::effect_of_missing(name)),
            "set it",
        );
    }
    let unknown = unknown_variables::find();
    for name in &unknown {
        let text = format_args!("{name} is set, but no command reads it");
        report.yellow("configuration", text, "check its spelling, or remove it");
    }
    if errors.is_empty() && missing.is_empty() && unknown.is_empty() {
        report.green("configuration", "all variables can be read, and none is missing");
    }
    setup
}

fn ok_or_push<T>(read: Result<T, ConfigError>, errors: &mut Vec<ConfigError>) -> Option<T> {
    read.map_err(|error| errors.push(error)).ok()
}

/// Checks the database, its migrations and its mode. Returns the store if it can be read.
pub(super) async fn database(setup: &Setup, report: &mut Report) -> Option<Store> {
    let Some(url) = &setup.database else {
        report.skip(&["database", "migrations", "mode", "deliveries"], "DATABASE_URL cannot be read");
        return None;
    };
    let store = match Store::connect_existing(url).await {
        Ok(store) => store,
        Err(error) => {
            let fix = "start the database, set DATABASE_URL, or create a database with `billhook migrate`";
            report.red("database", format_args!("cannot be opened: {error}"), fix);
            report.skip(&["migrations", "mode", "deliveries"], "the database cannot be opened");
            return None;
        }
    };
    report.green("database", "answers");
    match store.is_migrated().await {
        Ok(true) => report.green("migrations", "all migrations have run"),
        Ok(false) => {
            let fix = "run `billhook migrate`, or start the service";
            report.red("migrations", "not all migrations have run", fix);
            report.skip(&["mode", "deliveries"], "the database is not migrated");
            return None;
        }
        Err(error) => {
            report.database_error("migrations", &error);
            report.skip(&["mode", "deliveries"], "the database cannot be read");
            return None;
        }
    }
    let key = setup.stripe.as_ref().and_then(|stripe| stripe.api.mode());
    mode(store.mode().await, key, report);
    deliveries(&store, report).await;
    other_customers(&store, report).await;
    Some(store)
}

const MAX_LISTED_CUSTOMERS: u64 = 10;

/// Lists purchases that wait for the operator: the metadata of the customer names a tenant that is
/// linked to another customer.
async fn other_customers(store: &Store, report: &mut Report) {
    match store.other_customers(MAX_LISTED_CUSTOMERS).await {
        Ok(others) => {
            for (tenant, customer) in others {
                report.yellow(
                    "customers",
                    format_args!("{customer} names tenant {tenant}, which is linked to another customer"),
                    format_args!(
                        "run `billhook tenant link {tenant} {customer} --replace`, or cancel its subscription"
                    ),
                );
            }
        }
        Err(error) => report.database_error("customers", &error),
    }
}

/// Checks that Stripe's webhooks are verified. No other check finds a wrong secret.
async fn deliveries(store: &Store, report: &mut Report) {
    let (verified, rejected) = match (store.verified_webhooks().await, store.rejected_webhooks().await) {
        (Ok(verified), Ok(rejected)) => (verified, rejected),
        (Err(error), _) | (_, Err(error)) => return report.database_error("deliveries", &error),
    };
    let verified = verified.into_iter().next();
    // A request without a signature is not from Stripe.
    let rejected =
        rejected.into_iter().find(|rejected| SECRET_OR_CLOCK_REASONS.contains(&rejected.reason.as_str()));
    let last_rejected = |RejectedWebhooks { reason, last_at_ms }: &RejectedWebhooks| {
        format!("the last rejection was at {}, {reason}", time(*last_at_ms))
    };
    let last_verified = |VerifiedWebhooks { secret_name, last_at_ms, .. }: &VerifiedWebhooks| {
        // A secret without a name is named after its position.
        let secret = if secret_name.bytes().all(|b| b.is_ascii_digit()) {
            format!("the secret at position {secret_name}")
        } else {
            format!("the secret `{secret_name}`")
        };
        format!("the last webhook was verified at {}, with {secret}", time(*last_at_ms))
    };
    let fix = "compare STRIPE_WEBHOOK_SECRET with the endpoint's signing secret, and this machine's clock";
    match (verified, rejected) {
        (None, None) => report.skip(&["deliveries"], "no webhook has arrived yet"),
        (None, Some(rejected)) => {
            let text = format!("no webhook was verified yet; {}", last_rejected(&rejected));
            report.red("deliveries", text, fix);
        }
        (Some(verified), None) => report.green("deliveries", last_verified(&verified)),
        (Some(verified), Some(rejected)) => {
            let text = format!("{}; {}", last_verified(&verified), last_rejected(&rejected));
            if rejected.last_at_ms >= verified.last_at_ms + TRUSTED_AFTER_VERIFIED_MS {
                report.yellow("deliveries", text, fix);
            } else {
                report.green("deliveries", text);
            }
        }
    }
}

fn mode(stored: Result<Option<Mode>, StoreError>, key: Option<Mode>, report: &mut Report) {
    match (stored, key) {
        (Err(error), _) => report.database_error("mode", &error),
        (Ok(Some(stored)), Some(key)) if stored != key => report.red(
            "mode",
            format_args!("the key is of {key} mode, but the database has {stored} data"),
            "use a key of the other mode, or another database",
        ),
        (Ok(Some(stored)), _) => {
            report.green("mode", format_args!("the database has {stored} data"));
        }
        (Ok(None), Some(key)) => {
            report.green("mode", format_args!("{key}, set at the first start of the service"));
        }
        (Ok(None), None) => report.skip(&["mode"], "STRIPE_SECRET_KEY is not set"),
    }
}

/// Checks the validity, host name and chain of the certificate.
pub(super) fn certificate(setup: &Setup, report: &mut Report) {
    let Some(ConfiguredCertificate { certificate, .. }) = &setup.certificate else {
        return report.skip(&["certificate"], "BILLHOOK_TLS_CERTIFICATE_FILE is not set or cannot be read");
    };
    let now = SystemClock.now_seconds();
    let days = (certificate.expires_at() - now) / DAY_SECONDS;
    let renew = "renew it; the service reloads the files by itself";
    match certificate.check_validity(now) {
        Err(error) => {
            report.red("certificate", format_args!("{error}, so clients reject it"), renew);
        }
        Ok(()) if days < MIN_CERTIFICATE_DAYS => {
            report.yellow("certificate", format_args!("is valid for {days} more days"), renew);
        }
        Ok(()) => report.green("certificate", format_args!("is valid for {days} more days")),
    }
    let host = setup.webhook_url.as_ref().map(WebhookUrl::host);
    if let Some(host) = host.filter(|host| !certificate.is_valid_for(host)) {
        let fix = "get a certificate for the host that Stripe posts to, unless a proxy there has another one";
        report.yellow("certificate", format_args!("is not valid for {host}"), fix);
    }
    if certificate.lacks_intermediates() {
        let fix = "use the file that contains them, often called `fullchain.pem`";
        report.yellow("certificate", "comes without the intermediate certificates of its authority", fix);
    }
}

/// Checks that topic log lines can be written.
pub(super) fn log_directory(setup: &Setup, report: &mut Report) {
    match &setup.logs {
        None => report.skip(&["logs"], "the configuration of the logs cannot be read"),
        Some(logs) if logs.sink == LogSink::Stdout => {
            report.green("logs", "topic log lines go to stdout only");
        }
        Some(logs) => match is_writable(&logs.dir) {
            Ok(()) => report.green("logs", format_args!("the directory {} is writable", logs.dir.display())),
            Err(error) => report.red(
                "logs",
                format_args!("the directory {} cannot be written: {error}", logs.dir.display()),
                "create it, make it writable for the service's user, or set BILLHOOK_LOG_DIR",
            ),
        },
    }
}

/// Creates and deletes a file in the log directory, or in the directory in which the service would
/// create it.
fn is_writable(dir: &Path) -> io::Result<()> {
    let dir = Path::new(".").join(dir);
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&dir);
    let probe = existing.join(".billhook-doctor");
    OpenOptions::new().write(true).create(true).truncate(true).open(&probe)?;
    fs::remove_file(probe)
}

/// Checks that the trace collector accepts connections.
pub(super) async fn collector(report: &mut Report) {
    let collector = match telemetry::collector() {
        Ok(collector) => collector,
        Err(error) => {
            return report.red("collector", error, "correct it: the service does not start with this value");
        }
    };
    let Some(collector) = collector else {
        let why = "OTEL_EXPORTER_OTLP_ENDPOINT is not set, so no traces are exported";
        return report.skip(&["collector"], why);
    };
    match collector.connect(COLLECTOR_CONNECT_TIMEOUT).await {
        Ok(()) => report.green("collector", "accepts connections"),
        // The service works without it.
        Err(error) => report.yellow(
            "collector",
            format_args!("cannot be reached: {error}"),
            "start it, or set OTEL_EXPORTER_OTLP_ENDPOINT; until then spans are dropped",
        ),
    }
}
