//! The configuration: one file and one struct for each concern.
//!
//! Start reading at `setting`, which says how one value is declared. The `...Args` are what the command line and the
//! environment give; their `read` returns the `...Config` that the rest of the program works with. Files with secrets and keys
//! are read here; the certificate and the built page by [`crate::cli`].

mod billing;
mod database;
mod listen;
mod logs;
mod retention;
mod secret;
mod setting;
mod stripe;
mod tls;
mod tokens;
mod web;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::domain::database_url::DatabaseUrl;
use crate::domain::ids::{InvalidId, TenantId};
use crate::domain::webhook_url::WebhookUrl;

pub use billing::{BillingArgs, BillingConfig, EventPolicyArgs, EventPolicyConfig, PlanArgs};
pub use database::DatabaseArgs;
pub use listen::{ListenArgs, ListenConfig};
pub use logs::{LogArgs, LogDirArgs};
pub use retention::RetentionArgs;
pub use stripe::{StripeAccountArgs, StripeApiArgs, StripeApiConfig, StripeArgs, StripeConfig};
pub(crate) use tls::{CERTIFICATE_FILE, KEY_FILE};
pub use tls::{TlsArgs, TlsConfig};
pub use tokens::{KeySource, TokenArgs, TokenConfig};
pub use web::{WebArgs, WebConfig};

/// A value that cannot be used: which, and why. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    variable: Cow<'static, str>,
    problem: String,
}

impl ConfigError {
    /// A problem of a variable: how the sentence goes on that begins with its name.
    pub(crate) fn new(variable: impl Into<Cow<'static, str>>, problem: impl fmt::Display) -> Self {
        Self { variable: variable.into(), problem: problem.to_string() }
    }
}

/// The variables that are not set, and without which a part of the service refuses to work. A part of the configuration that
/// cannot be read is passed over: it has a problem of its own.
pub(crate) fn needed_but_not_set(
    stripe: Option<&StripeConfig>,
    tokens: Option<&TokenConfig>,
    billing: Option<&BillingConfig>,
) -> Vec<&'static str> {
    let needed = [
        ("STRIPE_SECRET_KEY", stripe.is_some_and(|stripe| stripe.api.secret_key.is_none())),
        ("STRIPE_WEBHOOK_SECRET", stripe.is_some_and(|stripe| stripe.webhook_secrets.is_empty())),
        ("BILLHOOK_JWT_SECRET", tokens.is_some_and(|tokens| tokens.keys.is_none())),
        ("BILLHOOK_APP_URL", billing.is_some_and(|billing| billing.app_url.is_none())),
        ("BILLHOOK_PLANS", billing.is_some_and(|billing| billing.events.catalog.default_plan().is_none())),
    ];
    needed.into_iter().filter(|(_, is_missing)| *is_missing).map(|(variable, _)| variable).collect()
}

/// An error from one sentence, whose first word is the variable or the flag.
pub fn missing(sentence: &'static str) -> ConfigError {
    let (variable, problem) = sentence.split_once(' ').unwrap_or((sentence, "is missing"));
    ConfigError::new(variable, problem)
}

/// Reads `BILLHOOK_WEBHOOK_URL`, which only commands need.
pub fn webhook_url(text: &str) -> Result<WebhookUrl, ConfigError> {
    WebhookUrl::parse(text).map_err(|error| ConfigError::new("BILLHOOK_WEBHOOK_URL", error))
}

/// Reads the tenant of a command that only reads or changes what is stored. It also accepts a stored name that
/// [`TenantId::parse`] rejects now.
pub fn stored_tenant(name: &'static str, text: &str) -> Result<TenantId, ConfigError> {
    TenantId::parse_stored(text).map_err(|error| ConfigError::new(name, format_args!("is {error}")))
}

/// Reads the URL of a database other than that of `DATABASE_URL`. The error calls it `name`.
pub fn database(name: &'static str, url: &str) -> Result<DatabaseUrl, ConfigError> {
    DatabaseUrl::parse(url).map_err(|error| ConfigError::new(name, error))
}

/// Reads an argument that is an identifier. The error calls it `name`.
pub fn argument<T: FromStr<Err = InvalidId>>(name: &'static str, text: &str) -> Result<T, ConfigError> {
    setting::id(text).map_err(|problem| ConfigError::new(name, problem))
}
