//! How Stripe is reached, and how its webhooks are known.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::ConfigError;
use super::secret::SecretVariable;
use super::setting::{Setting, by, given, id};
use crate::domain::api_base::ApiBase;
use crate::domain::ids::{AccountId, PortalConfigurationId};
use crate::domain::mode::Mode;
use crate::domain::secret_key::SecretKey;
use crate::domain::webhook_secret::WebhookSecrets;

const SECRET_KEY: SecretVariable =
    SecretVariable { variable: "STRIPE_SECRET_KEY", file_variable: "STRIPE_SECRET_KEY_FILE" };

const WEBHOOK_SECRET: SecretVariable =
    SecretVariable { variable: "STRIPE_WEBHOOK_SECRET", file_variable: "STRIPE_WEBHOOK_SECRET_FILE" };

/// How Stripe's API is reached.
#[derive(Clone, Args)]
#[command(next_help_heading = "Stripe")]
#[expect(clippy::struct_field_names, reason = "the fields are the names of options")]
pub struct StripeApiArgs {
    /// Stripe's secret key (`sk_...`) or a restricted one (`rk_...`); test or live mode is read from it. Without it
    /// checkout and portal answer 503
    #[arg(long, env = SECRET_KEY.variable, hide_env_values = true)]
    stripe_secret_key: Option<SecretString>,

    /// A file that holds it
    #[arg(long, env = SECRET_KEY.file_variable, value_name = "FILE")]
    stripe_secret_key_file: Option<PathBuf>,

    /// Where Stripe's API is; plain http only to loopback
    #[arg(long, env = "STRIPE_API_BASE", default_value = "https://api.stripe.com", value_parser = by(ApiBase::parse))]
    stripe_api_base: Setting<ApiBase>,
}

/// How Stripe's API is reached.
#[derive(Debug, Clone)]
pub struct StripeApiConfig {
    /// The key to it.
    pub secret_key: Option<SecretKey>,
    /// Where it is.
    pub base: ApiBase,
}

impl StripeApiArgs {
    /// Reads how Stripe's API is reached.
    pub fn read(&self) -> Result<StripeApiConfig, ConfigError> {
        let key = SECRET_KEY.read(self.stripe_secret_key.as_ref(), self.stripe_secret_key_file.as_deref())?;
        let key = key.map(|given| {
            SecretKey::parse(given.text()).map_err(|error| ConfigError::new(given.variable, error))
        });
        Ok(StripeApiConfig { secret_key: key.transpose()?, base: self.stripe_api_base.read()? })
    }
}

impl StripeApiConfig {
    /// The key's mode.
    pub fn mode(&self) -> Option<Mode> {
        self.secret_key.as_ref().map(SecretKey::mode)
    }
}

/// Which account the key is of.
#[derive(Clone, Args)]
#[command(next_help_heading = "Stripe")]
pub struct StripeAccountArgs {
    /// The account that the key is of (`acct_...`), where the key may not ask Stripe itself. Events that name another account
    /// are quarantined; while the account is not known, so are all that name any
    #[arg(long, env = "STRIPE_ACCOUNT", value_name = "ACCOUNT", value_parser = by(id::<AccountId>))]
    stripe_account: Option<Setting<AccountId>>,
}

impl StripeAccountArgs {
    /// Reads the account.
    pub fn read(&self) -> Result<Option<AccountId>, ConfigError> {
        given(self.stripe_account.as_ref())
    }
}

/// How Stripe is reached, and how its webhooks are known.
#[derive(Clone, Args)]
#[command(next_help_heading = "Stripe")]
pub struct StripeArgs {
    #[command(flatten)]
    api: StripeApiArgs,

    #[command(flatten)]
    account: StripeAccountArgs,

    /// The webhook endpoint's secret (`whsec_...`); while it is rolled both, separated by a comma, best with names that
    /// logs and metrics tell: `new=whsec_...,old=whsec_...`. Without it webhooks are answered 503, so that Stripe keeps
    /// trying
    #[arg(long, env = WEBHOOK_SECRET.variable, hide_env_values = true)]
    stripe_webhook_secret: Option<SecretString>,

    /// A file that holds it, and is read again on SIGHUP
    #[arg(long, env = WEBHOOK_SECRET.file_variable, value_name = "FILE")]
    stripe_webhook_secret_file: Option<PathBuf>,

    /// The configuration of the Customer Portal (`bpc_...`) that each portal session uses. Without it Stripe uses the default
    /// one, whose settings are saved in the Dashboard
    #[arg(long, env = "BILLHOOK_PORTAL_CONFIGURATION", value_name = "CONFIGURATION", value_parser = by(id::<PortalConfigurationId>))]
    portal_configuration: Option<Setting<PortalConfigurationId>>,
}

/// How Stripe is reached, and how its webhooks are known.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// How its API is reached.
    pub api: StripeApiConfig,
    /// The account of the key.
    pub account: Option<AccountId>,
    /// The secrets of the webhook endpoint.
    pub webhook_secrets: WebhookSecrets,
    /// The configuration that portal sessions use.
    pub portal_configuration: Option<PortalConfigurationId>,
}

impl StripeArgs {
    /// Reads how Stripe is reached, and how its webhooks are known.
    pub fn read(&self) -> Result<StripeConfig, ConfigError> {
        Ok(StripeConfig {
            api: self.api.read()?,
            webhook_secrets: self.webhook_secrets()?,
            account: self.account.read()?,
            portal_configuration: given(self.portal_configuration.as_ref())?,
        })
    }

    /// Reads the webhook secrets from their variable or, as it is now, from their file.
    pub fn webhook_secrets(&self) -> Result<WebhookSecrets, ConfigError> {
        let file = self.stripe_webhook_secret_file.as_deref();
        match WEBHOOK_SECRET.read(self.stripe_webhook_secret.as_ref(), file)? {
            Some(given) => {
                WebhookSecrets::parse(given.text()).map_err(|error| ConfigError::new(given.variable, error))
            }
            None => Ok(WebhookSecrets::none()),
        }
    }
}
