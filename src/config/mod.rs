//! The configuration: one struct for each concern, every field named by its environment variable.
//!
//! What the command line takes is text, and is read here rather than by the parser, so that a bad value is told in one
//! sentence that names its variable and never shows what may be a secret.

mod logs;
mod retention;
mod secret;
mod stripe;
mod tls;
mod tokens;
mod web;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use crate::domain::address::AppUrl;
use crate::domain::database_url::DatabaseUrl;
use crate::domain::ids::{DeploymentId, InvalidId, TenantId};
use crate::domain::plan::Catalog;
use crate::domain::trusted_proxies::TrustedProxies;
use crate::domain::webhook_url::WebhookUrl;

use secret::SecretVariable;

pub use logs::{LogArgs, LogDirArgs};
pub use retention::RetentionArgs;
pub use stripe::{StripeArgs, StripeConfig};
pub use tls::{CERTIFICATE_FILE, KEY_FILE, TlsArgs, TlsConfig};
pub use tokens::{KeySource, TokenArgs, TokenConfig};
pub use web::{WebArgs, WebConfig};

/// A value that cannot be used: which, and why. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: String,
}

impl ConfigError {
    /// A problem of a variable: how the sentence goes on that begins with its name.
    pub fn new(variable: &'static str, problem: impl fmt::Display) -> Self {
        Self { variable, problem: problem.to_string() }
    }
}

/// What holds where nothing is set.
mod default {
    pub(super) const DATABASE_URL: &str = "sqlite://billhook.db";
    pub(super) const PAST_DUE_GRANTS: &str = "true";
    pub(super) const TRUST_CLIENT_REFERENCE: &str = "false";
    pub(super) const JOURNEY_WINDOW_HOURS: &str = "72";
    pub(super) const THROTTLE_PER_MINUTE: &str = "20";
    pub(super) const LISTEN: &str = "127.0.0.1:8080";
    /// What Kubernetes takes to tell all of a cluster that a pod goes. For whoever asks `/readyz` now and then it is to be
    /// longer than its interval times its threshold.
    pub(super) const STOP_DELAY_SECONDS: &str = "5";
}

/// Where the database is.
#[derive(Clone, Args)]
pub struct DatabaseArgs {
    /// `sqlite://path/to/file.db` for one replica, `postgres://user:password@host/database` for several [default:
    /// sqlite://billhook.db]
    #[arg(long, env = DATABASE_URL.variable, hide_env_values = true)]
    database_url: Option<SecretString>,

    /// A file that holds it
    #[arg(long, env = DATABASE_URL.file_variable, value_name = "FILE")]
    database_url_file: Option<PathBuf>,
}

const DATABASE_URL: SecretVariable =
    SecretVariable { variable: "DATABASE_URL", file_variable: "DATABASE_URL_FILE" };

impl DatabaseArgs {
    /// Reads `DATABASE_URL` or `DATABASE_URL_FILE`.
    pub fn read(&self) -> Result<DatabaseUrl, ConfigError> {
        let given = DATABASE_URL.read(self.database_url.as_ref(), self.database_url_file.as_deref())?;
        let url = given.as_ref().map_or(default::DATABASE_URL, |given| given.text());
        let url = DatabaseUrl::parse(url);
        url.map_err(|error| {
            ConfigError::new(given.map_or(DATABASE_URL.variable, |given| given.variable), error)
        })
    }
}

/// Which prices mean which plan, and when they grant it.
#[derive(Clone, Args)]
pub struct PlanArgs {
    /// The plans and their prices, by id or lookup key, the best plan last: `pro=price_a,price_b;team=price_c`. A
    /// checkout sells a plan's first price. Without it checkout answers 503 and every price means `free`
    #[arg(long, env = "BILLHOOK_PLANS")]
    plans: Option<String>,

    /// Whether a subscription whose payment failed keeps its plan while Stripe tries again
    #[arg(long, env = "BILLHOOK_PAST_DUE_GRANTS", default_value = default::PAST_DUE_GRANTS, value_name = "true|false")]
    past_due_grants: String,
}

impl PlanArgs {
    /// Reads `BILLHOOK_PLANS` and `BILLHOOK_PAST_DUE_GRANTS`.
    pub fn read(&self) -> Result<Catalog, ConfigError> {
        let past_due_grants = or(&self.past_due_grants, default::PAST_DUE_GRANTS);
        let past_due_grants = read::<bool>("BILLHOOK_PAST_DUE_GRANTS", past_due_grants, "`true` or `false`")?;
        match set(self.plans.as_ref()) {
            Some(plans) => Catalog::parse(plans, past_due_grants)
                .map_err(|error| ConfigError::new("BILLHOOK_PLANS", error)),
            None => Ok(Catalog::empty(past_due_grants)),
        }
    }
}

/// What is sold, and to where a buyer comes back.
#[derive(Clone, Args)]
pub struct BillingArgs {
    /// Where the app is: return addresses are paths that are joined to it. Without it checkout and portal answer 503
    #[arg(long, env = "BILLHOOK_APP_URL")]
    app_url: Option<String>,

    #[command(flatten)]
    plans: PlanArgs,

    /// Which deployment this is, where several share a Stripe account: 1 to 64 of letters, digits, `_`, `-` and `.`. Without it
    /// one is generated and kept in the database
    #[arg(long, env = "BILLHOOK_DEPLOYMENT_ID", value_name = "ID")]
    deployment_id: Option<String>,

    /// Whether `client_reference_id` links a customer on sessions that Billhook did not make. On a Payment Link anyone
    /// can write it into the URL
    #[arg(long, env = "BILLHOOK_TRUST_CLIENT_REFERENCE", default_value = default::TRUST_CLIENT_REFERENCE, value_name = "true|false")]
    trust_client_reference: String,

    /// For how many hours after a checkout its trace shows what followed from it
    #[arg(long, env = "BILLHOOK_JOURNEY_WINDOW_HOURS", default_value = default::JOURNEY_WINDOW_HOURS, value_name = "HOURS")]
    journey_window_hours: String,

    /// Checkout, refresh and portal requests that a tenant may make in a minute
    #[arg(long, env = "BILLHOOK_THROTTLE_PER_MINUTE", default_value = default::THROTTLE_PER_MINUTE, value_name = "REQUESTS")]
    throttle_per_minute: String,
}

/// What is sold and what it grants.
#[derive(Debug, Clone)]
pub struct BillingConfig {
    /// `BILLHOOK_APP_URL`
    pub app_url: Option<AppUrl>,
    /// `BILLHOOK_PLANS` and `BILLHOOK_PAST_DUE_GRANTS`
    pub catalog: Catalog,
    /// `BILLHOOK_DEPLOYMENT_ID`
    pub deployment: Option<DeploymentId>,
    /// `BILLHOOK_TRUST_CLIENT_REFERENCE`
    pub trust_client_reference: bool,
    /// `BILLHOOK_JOURNEY_WINDOW_HOURS`
    pub journey_window_hours: u32,
    /// `BILLHOOK_THROTTLE_PER_MINUTE`
    pub throttle_per_minute: u32,
}

impl BillingArgs {
    /// Reads what is sold and what it grants.
    pub fn read(&self) -> Result<BillingConfig, ConfigError> {
        let app_url = set(self.app_url.as_ref()).map(AppUrl::parse).transpose();
        let deployment = set(self.deployment_id.as_ref()).map(DeploymentId::parse).transpose();
        Ok(BillingConfig {
            app_url: app_url.map_err(|error| ConfigError::new("BILLHOOK_APP_URL", error))?,
            deployment: deployment
                .map_err(|error| ConfigError::new("BILLHOOK_DEPLOYMENT_ID", format_args!("is {error}")))?,
            catalog: self.plans.read()?,
            trust_client_reference: read(
                "BILLHOOK_TRUST_CLIENT_REFERENCE",
                or(&self.trust_client_reference, default::TRUST_CLIENT_REFERENCE),
                "`true` or `false`",
            )?,
            journey_window_hours: number(
                "BILLHOOK_JOURNEY_WINDOW_HOURS",
                or(&self.journey_window_hours, default::JOURNEY_WINDOW_HOURS),
                1..=MOST_JOURNEY_HOURS,
            )?,
            throttle_per_minute: number(
                "BILLHOOK_THROTTLE_PER_MINUTE",
                or(&self.throttle_per_minute, default::THROTTLE_PER_MINUTE),
                1..=MOST_PER_MINUTE,
            )?,
        })
    }
}

/// A year: no tracing back end keeps a trace for longer.
const MOST_JOURNEY_HOURS: u32 = 8760;

/// More than Stripe itself takes from one account in a minute (100 a second).
const MOST_PER_MINUTE: u32 = 6000;

/// Five minutes: more than the slowest load balancers take to notice.
const LONGEST_STOP_DELAY: u32 = 300;

/// Where the service listens, and for how long when it is to stop.
#[derive(Clone, Args)]
pub struct ListenArgs {
    /// The address and port to listen on
    #[arg(long, env = "BILLHOOK_LISTEN", default_value = default::LISTEN, value_name = "ADDRESS:PORT")]
    listen: String,

    /// The address and port on which Prometheus reads the metrics, which ask nobody who is there: not the public one.
    /// Without it there are none to read
    #[arg(long, env = "BILLHOOK_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    metrics_listen: Option<String>,

    /// The addresses and networks of proxies, with commas, whose `X-Forwarded-For` tells who sends a webhook. Without it
    /// the field is ignored, and whoever connects is who sends
    #[arg(long, env = "BILLHOOK_TRUSTED_PROXIES", value_name = "NETWORK,..")]
    trusted_proxies: Option<String>,

    /// For how many seconds after SIGTERM it still takes whoever comes, while `/readyz` says that it stops: as long as a
    /// load balancer takes to hear it. SIGINT does not wait
    #[arg(long, env = "BILLHOOK_STOP_DELAY_SECONDS", default_value = default::STOP_DELAY_SECONDS, value_name = "SECONDS")]
    stop_delay_seconds: String,
}

/// Where the service listens, and for how long when it is to stop.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// `BILLHOOK_LISTEN`
    pub public: SocketAddr,
    /// `BILLHOOK_METRICS_LISTEN`
    pub metrics: Option<SocketAddr>,
    /// `BILLHOOK_TRUSTED_PROXIES`
    pub trusted_proxies: TrustedProxies,
    /// `BILLHOOK_STOP_DELAY_SECONDS`
    pub stop_delay: Duration,
}

impl ListenArgs {
    /// Reads `BILLHOOK_LISTEN`, `BILLHOOK_METRICS_LISTEN`, `BILLHOOK_TRUSTED_PROXIES` and `BILLHOOK_STOP_DELAY_SECONDS`.
    pub fn read(&self) -> Result<ListenConfig, ConfigError> {
        let address =
            |variable, text: &str| read(variable, text, "an address and a port, such as `127.0.0.1:8080`");
        let metrics = set(self.metrics_listen.as_ref());
        let proxies =
            set(self.trusted_proxies.as_ref()).map_or(Ok(TrustedProxies::default()), TrustedProxies::parse);
        Ok(ListenConfig {
            public: address("BILLHOOK_LISTEN", or(&self.listen, default::LISTEN))?,
            metrics: metrics.map(|text| address("BILLHOOK_METRICS_LISTEN", text)).transpose()?,
            trusted_proxies: proxies.map_err(|error| ConfigError::new("BILLHOOK_TRUSTED_PROXIES", error))?,
            stop_delay: Duration::from_secs(u64::from(number(
                "BILLHOOK_STOP_DELAY_SECONDS",
                or(&self.stop_delay_seconds, default::STOP_DELAY_SECONDS),
                0..=LONGEST_STOP_DELAY,
            )?)),
        })
    }
}

/// A variable that is set to nothing is not set: that is how compose files and shells pass what they do not have.
fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The same, for what has a default.
fn or<'a>(text: &'a String, default: &'static str) -> &'a str {
    set(Some(text)).unwrap_or(default)
}

fn read<T: FromStr>(variable: &'static str, text: &str, expected: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|_| ConfigError::new(variable, format_args!("is not {expected}")))
}

fn number(variable: &'static str, text: &str, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
    let (least, most) = (range.start(), range.end());
    let wrong = || ConfigError::new(variable, format_args!("is not a whole number from {least} to {most}"));
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

/// Something that a command cannot do without: one sentence that begins with its name.
pub fn missing(sentence: &'static str) -> ConfigError {
    let (variable, problem) = sentence.split_once(' ').unwrap_or((sentence, "is missing"));
    ConfigError::new(variable, problem)
}

/// Reads `BILLHOOK_WEBHOOK_URL`, which only commands need.
pub fn webhook_url(text: &str) -> Result<WebhookUrl, ConfigError> {
    WebhookUrl::parse(text).map_err(|error| ConfigError::new("BILLHOOK_WEBHOOK_URL", error))
}

/// The tenant that a command is about. What changes nothing but what is stored already also takes a name that
/// [`TenantId::parse`] no longer accepts.
pub fn stored_tenant(name: &'static str, text: &str) -> Result<TenantId, ConfigError> {
    TenantId::parse_stored(text).map_err(|error| ConfigError::new(name, format_args!("is {error}")))
}

/// Another database than that of `DATABASE_URL`.
pub fn database(name: &'static str, url: &str) -> Result<DatabaseUrl, ConfigError> {
    DatabaseUrl::parse(url).map_err(|error| ConfigError::new(name, error))
}

/// An argument that is not the identifier it was taken for.
pub fn argument<T: FromStr<Err = InvalidId>>(name: &'static str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error| ConfigError::new(name, format_args!("is {error}")))
}
