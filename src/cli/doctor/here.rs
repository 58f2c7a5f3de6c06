//! What can be looked at without asking Stripe.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::DoctorArgs;
use super::report::Report;
use crate::billing::TRUSTED_AFTER_VERIFIED_MS;
use crate::cli::configured_files::{ConfiguredCertificate, read_certificate, read_static_files};
use crate::cli::unknown_variables;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, BillingConfig, ConfigError, StripeConfig};
use crate::domain::database_url::DatabaseUrl;
use crate::domain::log_settings::{LogConfig, LogSink};
use crate::domain::mode::Mode;
use crate::domain::signature::RefusalReason;
use crate::domain::webhook_url::WebhookUrl;
use crate::store::{RefusedWebhooks, Store, StoreError, VerifiedWebhooks};
use crate::telemetry;
use crate::telemetry::topics::rfc3339;

/// How long the collector may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// For how long a certificate should still be good. Whatever renews it does so weeks before: with less left, it has not.
const GOOD_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The reasons to refuse a webhook that may be Stripe's own.
const FOR_SECRET_OR_CLOCK: [&str; 2] = [RefusalReason::NoMatch.as_str(), RefusalReason::TooOld.as_str()];

/// What of the configuration can be read.
pub(super) struct Setup {
    pub(super) database: Option<DatabaseUrl>,
    pub(super) stripe: Option<StripeConfig>,
    pub(super) billing: Option<BillingConfig>,
    pub(super) webhook_url: Option<WebhookUrl>,
    certificate: Option<ConfiguredCertificate>,
    logs: Option<LogConfig>,
}

/// Reads each part for itself, so that one mistake does not hide the next.
pub(super) fn configuration(args: &DoctorArgs, report: &mut Report) -> Setup {
    let serve = &args.serve;
    let mut wrong: Vec<ConfigError> = Vec::new();
    let webhook_url = args.webhook_url.as_deref().filter(|url| !url.is_empty()).map(config::webhook_url);
    let tokens = good(serve.tokens.read(), &mut wrong);
    good(serve.listen.read(), &mut wrong);
    let web = good(serve.web.read(), &mut wrong);
    if let Some(directory) = web.and_then(|web| web.static_dir) {
        good(read_static_files(&directory), &mut wrong);
    }
    good(serve.retention.read(), &mut wrong);
    let setup = Setup {
        database: good(serve.database.read(), &mut wrong),
        stripe: good(serve.stripe.read(), &mut wrong),
        billing: good(serve.billing.read(), &mut wrong),
        webhook_url: good(webhook_url.transpose(), &mut wrong).flatten(),
        certificate: good(serve.tls.read().and_then(|tls| tls.map(read_certificate).transpose()), &mut wrong)
            .flatten(),
        logs: good(serve.logs.read(), &mut wrong),
    };
    for error in &wrong {
        report.red("configuration", error, "`billhook serve --help` says what it takes");
    }
    let missing = config::needed_but_not_set(setup.stripe.as_ref(), tokens.as_ref(), setup.billing.as_ref());
    for name in &missing {
        report.red(
            "configuration",
            format_args!("{name} is not set"),
            "set it: what needs it refuses to work",
        );
    }
    let unknown = unknown_variables::find();
    for name in &unknown {
        let says = format_args!("{name} is set, and no such variable is read");
        report.yellow("configuration", says, "check its spelling, or remove it");
    }
    if wrong.is_empty() && missing.is_empty() && unknown.is_empty() {
        report.green("configuration", "every variable can be read, and none is missing");
    }
    setup
}

fn good<T>(read: Result<T, ConfigError>, wrong: &mut Vec<ConfigError>) -> Option<T> {
    read.map_err(|error| wrong.push(error)).ok()
}

/// Whether the database is there and up to date, and of the key's mode. Returns it if it can be read.
pub(super) async fn database(setup: &Setup, report: &mut Report) -> Option<Store> {
    let Some(url) = &setup.database else {
        report.skip(&["database", "migrations", "mode", "deliveries"], "DATABASE_URL cannot be read");
        return None;
    };
    let store = match Store::connect_existing(url).await {
        Ok(store) => store,
        Err(error) => {
            let mend = "start the database, set DATABASE_URL, or make a new one with `billhook migrate`";
            report.red("database", format_args!("cannot be opened, {error}"), mend);
            report.skip(&["migrations", "mode", "deliveries"], "the database cannot be opened");
            return None;
        }
    };
    report.green("database", "answers");
    match store.is_migrated().await {
        Ok(true) => report.green("migrations", "every migration has run"),
        Ok(false) => {
            let mend = "run `billhook migrate`, or start the service";
            report.red("migrations", "not all of them have run", mend);
            report.skip(&["mode", "deliveries"], "the database is not migrated");
            return None;
        }
        Err(error) => {
            report.red("migrations", error, "look at the database's own log");
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

/// How many tenants with another customer are listed.
const MAX_LISTED_CUSTOMERS: u64 = 10;

/// Purchases that wait for the operator: their customer names a tenant that has another one.
async fn other_customers(store: &Store, report: &mut Report) {
    match store.other_customers(MAX_LISTED_CUSTOMERS).await {
        Ok(others) => {
            for (tenant, customer) in others {
                report.yellow(
                    "customers",
                    format_args!("{customer} names tenant {tenant}, which has another customer"),
                    format_args!(
                        "`billhook tenant link {tenant} {customer} --replace`, or cancel what it bought"
                    ),
                );
            }
        }
        Err(error) => report.red("customers", error, "look at the database's own log"),
    }
}

/// Whether Stripe's webhooks are verified. A wrong secret shows here, and nowhere else in the setup.
async fn deliveries(store: &Store, report: &mut Report) {
    let (verified, refused) = match (store.verified_webhooks().await, store.refused_webhooks().await) {
        (Ok(verified), Ok(refused)) => (verified, refused),
        (Err(error), _) | (_, Err(error)) => {
            return report.red("deliveries", error, "look at the database's own log");
        }
    };
    let verified = verified.into_iter().next();
    // What has no signature at all is not Stripe's.
    let refused = refused.into_iter().find(|refused| FOR_SECRET_OR_CLOCK.contains(&refused.reason.as_str()));
    let last_refused = |RefusedWebhooks { reason, last_at_ms }: &RefusedWebhooks| {
        format!("the last was refused at {}, {reason}", rfc3339(*last_at_ms))
    };
    let last_verified = |VerifiedWebhooks { secret_name, last_at_ms, .. }: &VerifiedWebhooks| {
        format!("the last webhook was verified at {}, by `{secret_name}`", rfc3339(*last_at_ms))
    };
    let mend = "compare STRIPE_WEBHOOK_SECRET with the endpoint's signing secret, and this machine's clock";
    match (verified, refused) {
        (None, None) => report.skip(&["deliveries"], "no webhook has come yet"),
        (None, Some(refused)) => {
            let says = format!("no webhook was ever verified; {}", last_refused(&refused));
            report.red("deliveries", says, mend);
        }
        (Some(verified), None) => report.green("deliveries", last_verified(&verified)),
        (Some(verified), Some(refused)) => {
            let says = format!("{}; {}", last_verified(&verified), last_refused(&refused));
            if refused.last_at_ms >= verified.last_at_ms + TRUSTED_AFTER_VERIFIED_MS {
                report.yellow("deliveries", says, mend);
            } else {
                report.green("deliveries", says);
            }
        }
    }
}

fn mode(remembered: Result<Option<Mode>, StoreError>, key: Option<Mode>, report: &mut Report) {
    match (remembered, key) {
        (Err(error), _) => report.red("mode", error, "look at the database's own log"),
        (Ok(Some(remembered)), Some(key)) if remembered != key => report.red(
            "mode",
            format_args!("the key is of {key} mode, the database holds {remembered} data"),
            "use the key of the other mode, or a database of its own",
        ),
        (Ok(Some(remembered)), _) => {
            report.green("mode", format_args!("the database holds {remembered} data"));
        }
        (Ok(None), Some(key)) => {
            report.green("mode", format_args!("{key}, from the service's first start on"));
        }
        (Ok(None), None) => report.skip(&["mode"], "STRIPE_SECRET_KEY is not set"),
    }
}

/// Whether clients trust the certificate, and for how long, where the service has one.
pub(super) fn certificate(setup: &Setup, report: &mut Report) {
    let Some(ConfiguredCertificate { certificate, .. }) = &setup.certificate else {
        return report.skip(&["certificate"], "BILLHOOK_TLS_CERTIFICATE_FILE is not set or cannot be read");
    };
    let now = SystemClock.now_seconds();
    let days = (certificate.expires_at() - now) / DAY_SECONDS;
    let renew = "renew it; the service takes the new one as soon as it is in the files";
    match certificate.is_timely(now) {
        Err(untimely) => {
            report.red("certificate", format_args!("{untimely}, and no client trusts it"), renew);
        }
        Ok(()) if days < GOOD_DAYS => {
            report.yellow("certificate", format_args!("is good for {days} more days"), renew);
        }
        Ok(()) => report.green("certificate", format_args!("is good for {days} more days")),
    }
    let host = setup.webhook_url.as_ref().map(WebhookUrl::host);
    if let Some(host) = host.filter(|host| !certificate.is_for(host)) {
        let mend =
            "have one made for the host that Stripe posts to, unless another is shown there, by a proxy";
        report.yellow("certificate", format_args!("is not for {host}"), mend);
    }
    if certificate.is_alone() {
        let mend = "name the file that has them too, often called `fullchain.pem`";
        report.yellow("certificate", "comes without those that lead to its authority", mend);
    }
}

/// Whether topic lines can be written.
pub(super) fn log_directory(setup: &Setup, report: &mut Report) {
    match &setup.logs {
        None => report.skip(&["logs"], "their configuration cannot be read"),
        Some(logs) if logs.sink == LogSink::Stdout => {
            report.green("logs", "topic lines go to stdout, and to no file");
        }
        Some(logs) => match is_writable(&logs.dir) {
            Ok(()) => report.green("logs", format_args!("{} can be written", logs.dir.display())),
            Err(error) => report.red(
                "logs",
                format_args!("{} cannot be written, {error}", logs.dir.display()),
                "make it, give it to the service's user, or set BILLHOOK_LOG_DIR",
            ),
        },
    }
}

/// Writes where the files are, or where the service would make their directory, and leaves nothing behind.
fn is_writable(dir: &Path) -> io::Result<()> {
    let dir = Path::new(".").join(dir);
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&dir);
    let probe = there.join(".billhook-doctor");
    OpenOptions::new().write(true).create(true).truncate(true).open(&probe)?;
    fs::remove_file(probe)
}

/// Whether somebody listens where spans are sent.
pub(super) async fn collector(report: &mut Report) {
    let collector = match telemetry::collector() {
        Ok(collector) => collector,
        Err(error) => {
            return report.red("collector", error, "the service does not start with it: correct it");
        }
    };
    let Some(collector) = collector else {
        let why = "no traces are exported: OTEL_EXPORTER_OTLP_ENDPOINT is not set";
        return report.skip(&["collector"], why);
    };
    match collector.connect(PATIENCE).await {
        Ok(()) => report.green("collector", "is reached"),
        // Requests are served all the same.
        Err(error) => report.yellow(
            "collector",
            format_args!("cannot be reached, {error}"),
            "start it, or set OTEL_EXPORTER_OTLP_ENDPOINT; until then spans are dropped",
        ),
    }
}
