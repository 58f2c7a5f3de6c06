//! The configuration: one file and one struct for each concern.
//!
//! Start reading at `setting`, which describes how one value is declared. The `...Args` hold the
//! values of the command line and the environment. Their `read` returns the `...Config` that the
//! rest of the program uses. Files with secrets and keys are read here; the certificate and the
//! built page are read by [`crate::cli`].

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

/// A variable or flag and why its value cannot be used. Never shows the value, which may be a
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    variable: Cow<'static, str>,
    problem: String,
}

impl ConfigError {
    /// `problem` continues a sentence that starts with the variable's name, such as "is not a URL".
    pub(crate) fn new(variable: impl Into<Cow<'static, str>>, problem: impl fmt::Display) -> Self {
        Self { variable: variable.into(), problem: problem.to_string() }
    }
}

/// The variables that are not set although a part of the service needs them. `None` stands for a
/// part of the configuration that could not be read, which is reported separately.
pub(crate) fn missing_variables(
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

/// What the service does without one of the [`missing_variables`].
pub(crate) fn effect_of_missing(variable: &str) -> &'static str {
    match variable {
        "STRIPE_WEBHOOK_SECRET" => "webhooks are answered 503",
        "BILLHOOK_JWT_SECRET" => "all tokens are rejected",
        "BILLHOOK_PLANS" => "checkout is answered 503, and every price means the plan `free`",
        _ => "checkout and portal are answered 503",
    }
}

/// Reads `BILLHOOK_WEBHOOK_URL`, which only commands use.
pub fn parse_webhook_url(text: &str) -> Result<WebhookUrl, ConfigError> {
    WebhookUrl::parse(text).map_err(|error| ConfigError::new("BILLHOOK_WEBHOOK_URL", error))
}

/// Reads the tenant of a command that only reads or changes stored data. Also accepts stored names
/// that [`TenantId::parse`] now rejects. `name` is the argument's name in the error.
pub fn parse_stored_tenant(name: &'static str, text: &str) -> Result<TenantId, ConfigError> {
    TenantId::parse_stored(text).map_err(|error| ConfigError::new(name, format_args!("is {error}")))
}

/// Reads a database URL other than `DATABASE_URL`. `name` is the flag's name in the error.
pub fn parse_database_url(name: &'static str, url: &str) -> Result<DatabaseUrl, ConfigError> {
    DatabaseUrl::parse(url).map_err(|error| ConfigError::new(name, error))
}

/// Reads an identifier. `name` is the argument's name in the error.
pub fn parse_id<T: FromStr<Err = InvalidId>>(name: &'static str, text: &str) -> Result<T, ConfigError> {
    setting::id(text).map_err(|problem| ConfigError::new(name, problem))
}
