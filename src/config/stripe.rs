//! How Stripe is reached, and how its webhooks are known.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::secret::SecretVariable;
use super::{ConfigError, or, set};
use crate::domain::api_base::ApiBase;
use crate::domain::ids::{AccountId, PortalConfigurationId};
use crate::domain::mode::Mode;
use crate::domain::secret_key::SecretKey;
use crate::domain::webhook_secret::WebhookSecrets;

const SECRET_KEY: SecretVariable =
    SecretVariable { variable: "STRIPE_SECRET_KEY", file_variable: "STRIPE_SECRET_KEY_FILE" };

const WEBHOOK_SECRET: SecretVariable =
    SecretVariable { variable: "STRIPE_WEBHOOK_SECRET", file_variable: "STRIPE_WEBHOOK_SECRET_FILE" };

const DEFAULT_API_BASE: &str = "https://api.stripe.com";

/// How Stripe is reached, and how its webhooks are known.
#[derive(Clone, Args)]
pub struct StripeArgs {
    /// Stripe's secret key (`sk_...`) or a restricted one (`rk_...`); test or live mode is read from it. Without it
    /// checkout and portal answer 503
    #[arg(long, env = SECRET_KEY.variable, hide_env_values = true)]
    stripe_secret_key: Option<SecretString>,

    /// A file that holds it
    #[arg(long, env = SECRET_KEY.file_variable, value_name = "FILE")]
    stripe_secret_key_file: Option<PathBuf>,

    /// The webhook endpoint's secret (`whsec_...`); while it is rolled both, separated by a comma, best with names that
    /// logs and metrics tell: `new=whsec_...,old=whsec_...`. Without it webhooks are answered 503, so that Stripe keeps
    /// trying
    #[arg(long, env = WEBHOOK_SECRET.variable, hide_env_values = true)]
    stripe_webhook_secret: Option<SecretString>,

    /// A file that holds it, and is read again on SIGHUP
    #[arg(long, env = WEBHOOK_SECRET.file_variable, value_name = "FILE")]
    stripe_webhook_secret_file: Option<PathBuf>,

    /// The account that the key is of (`acct_...`), where the key may not ask Stripe itself. Events that name another account
    /// are quarantined; while the account is not known, so are all that name any
    #[arg(long, env = "STRIPE_ACCOUNT", value_name = "ACCOUNT")]
    stripe_account: Option<String>,

    /// The configuration of the Customer Portal (`bpc_...`) that each portal session uses. Without it Stripe uses the default
    /// one, whose settings are saved in the Dashboard
    #[arg(long, env = "BILLHOOK_PORTAL_CONFIGURATION", value_name = "CONFIGURATION")]
    portal_configuration: Option<String>,

    /// Where Stripe's API is; plain http only to loopback
    #[arg(long, env = "STRIPE_API_BASE", default_value = DEFAULT_API_BASE)]
    stripe_api_base: String,
}

/// How Stripe is reached, and how its webhooks are known.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// `STRIPE_SECRET_KEY`
    pub secret_key: Option<SecretKey>,
    /// `STRIPE_WEBHOOK_SECRET`
    pub webhook_secrets: WebhookSecrets,
    /// `STRIPE_ACCOUNT`
    pub account: Option<AccountId>,
    /// `BILLHOOK_PORTAL_CONFIGURATION`
    pub portal_configuration: Option<PortalConfigurationId>,
    /// `STRIPE_API_BASE`
    pub api_base: ApiBase,
}

impl StripeArgs {
    /// Reads the variables that begin with `STRIPE_`, and `BILLHOOK_PORTAL_CONFIGURATION`.
    pub fn read(&self) -> Result<StripeConfig, ConfigError> {
        let key = SECRET_KEY.read(self.stripe_secret_key.as_ref(), self.stripe_secret_key_file.as_deref())?;
        let key = key.map(|given| {
            SecretKey::parse(given.text()).map_err(|error| ConfigError::new(given.variable, error))
        });
        let account = set(self.stripe_account.as_ref()).map(AccountId::parse).transpose();
        let configuration = set(self.portal_configuration.as_ref()).map(PortalConfigurationId::parse);
        let base = ApiBase::parse(or(&self.stripe_api_base, DEFAULT_API_BASE));
        Ok(StripeConfig {
            secret_key: key.transpose()?,
            webhook_secrets: self.webhook_secrets()?,
            account: account
                .map_err(|error| ConfigError::new("STRIPE_ACCOUNT", format_args!("is {error}")))?,
            portal_configuration: configuration.transpose().map_err(|error| {
                ConfigError::new("BILLHOOK_PORTAL_CONFIGURATION", format_args!("is {error}"))
            })?,
            api_base: base.map_err(|error| ConfigError::new("STRIPE_API_BASE", error))?,
        })
    }

    /// Reads `STRIPE_WEBHOOK_SECRET` or, as it is now, the file that `STRIPE_WEBHOOK_SECRET_FILE` names.
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

impl StripeConfig {
    /// The key's mode.
    pub fn mode(&self) -> Option<Mode> {
        self.secret_key.as_ref().map(SecretKey::mode)
    }
}
