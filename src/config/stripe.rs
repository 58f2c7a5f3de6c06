//! Access to Stripe's API, and the secrets that verify its webhooks.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::ConfigError;
use super::secret::SecretVariable;
use super::setting::{Setting, id, parsed_by, path, read_optional};
use crate::domain::api_base::ApiBase;
use crate::domain::ids::{AccountId, PortalConfigurationId};
use crate::domain::mode::Mode;
use crate::domain::secret_key::SecretKey;
use crate::domain::webhook_secret::WebhookSecrets;

const SECRET_KEY: SecretVariable =
    SecretVariable { variable: "STRIPE_SECRET_KEY", file_variable: "STRIPE_SECRET_KEY_FILE" };

const WEBHOOK_SECRET: SecretVariable =
    SecretVariable { variable: "STRIPE_WEBHOOK_SECRET", file_variable: "STRIPE_WEBHOOK_SECRET_FILE" };

#[derive(Clone, Args)]
#[command(next_help_heading = "Stripe")]
#[expect(clippy::struct_field_names, reason = "the fields are the names of options")]
pub struct StripeApiArgs {
    /// Stripe's secret key (`sk_...`) or a restricted key (`rk_...`), which also sets test or live
    /// mode. Without it, checkout and portal return 503
    #[arg(long, env = SECRET_KEY.variable, hide_env_values = true)]
    stripe_secret_key: Option<SecretString>,

    /// A file that contains the key
    #[arg(long, env = SECRET_KEY.file_variable, value_name = "FILE", value_parser = parsed_by(path))]
    stripe_secret_key_file: Option<Setting<PathBuf>>,

    /// The URL of Stripe's API; plain http is allowed for loopback only
    #[arg(long, env = "STRIPE_API_BASE", default_value = "https://api.stripe.com", value_parser = parsed_by(ApiBase::parse))]
    stripe_api_base: Setting<ApiBase>,
}

#[derive(Debug, Clone)]
pub struct StripeApiConfig {
    pub secret_key: Option<SecretKey>,
    pub base: ApiBase,
}

impl StripeApiArgs {
    pub fn read(&self) -> Result<StripeApiConfig, ConfigError> {
        let key = SECRET_KEY.read(self.stripe_secret_key.as_ref(), self.stripe_secret_key_file.as_ref())?;
        let key = key.map(|loaded| {
            SecretKey::parse(loaded.text()).map_err(|error| ConfigError::new(loaded.variable, error))
        });
        Ok(StripeApiConfig { secret_key: key.transpose()?, base: self.stripe_api_base.read()? })
    }
}

impl StripeApiConfig {
    pub fn mode(&self) -> Option<Mode> {
        self.secret_key.as_ref().map(SecretKey::mode)
    }
}

#[derive(Clone, Args)]
#[command(next_help_heading = "Stripe")]
pub struct StripeAccountArgs {
    /// The account of the key (`acct_...`), needed if the key has no permission to read it from
    /// Stripe. Events of another account are quarantined. While the account is unknown, all events
    /// that name an account are quarantined
    #[arg(long, env = "STRIPE_ACCOUNT", value_name = "ACCOUNT", value_parser = parsed_by(id::<AccountId>))]
    stripe_account: Option<Setting<AccountId>>,
}

impl StripeAccountArgs {
    pub fn read(&self) -> Result<Option<AccountId>, ConfigError> {
        read_optional(self.stripe_account.as_ref())
    }
}

#[derive(Clone, Args)]
#[command(next_help_heading = "Stripe")]
pub struct StripeArgs {
    #[command(flatten)]
    api: StripeApiArgs,

    #[command(flatten)]
    account: StripeAccountArgs,

    /// The webhook endpoint's secret (`whsec_...`). During a rotation set both, separated by a
    /// comma, best with names that logs and metrics show: `new=whsec_...,old=whsec_...`. Without
    /// it, webhooks get 503, so that Stripe retries
    #[arg(long, env = WEBHOOK_SECRET.variable, hide_env_values = true)]
    stripe_webhook_secret: Option<SecretString>,

    /// A file that contains the secret or secrets; read again on SIGHUP
    #[arg(long, env = WEBHOOK_SECRET.file_variable, value_name = "FILE", value_parser = parsed_by(path))]
    stripe_webhook_secret_file: Option<Setting<PathBuf>>,

    /// The configuration of the Customer Portal (`bpc_...`) for all portal sessions. Without it,
    /// Stripe uses the default settings of the Dashboard
    #[arg(long, env = "BILLHOOK_PORTAL_CONFIGURATION", value_name = "CONFIGURATION", value_parser = parsed_by(id::<PortalConfigurationId>))]
    portal_configuration: Option<Setting<PortalConfigurationId>>,
}

#[derive(Debug, Clone)]
pub struct StripeConfig {
    pub api: StripeApiConfig,
    pub account: Option<AccountId>,
    pub webhook_secrets: WebhookSecrets,
    pub portal_configuration: Option<PortalConfigurationId>,
}

impl StripeArgs {
    pub fn read(&self) -> Result<StripeConfig, ConfigError> {
        Ok(StripeConfig {
            api: self.api.read()?,
            webhook_secrets: self.webhook_secrets()?,
            account: self.account.read()?,
            portal_configuration: read_optional(self.portal_configuration.as_ref())?,
        })
    }

    /// Reads the webhook secrets from their variable, or from the current content of their file.
    pub fn webhook_secrets(&self) -> Result<WebhookSecrets, ConfigError> {
        let file = self.stripe_webhook_secret_file.as_ref();
        match WEBHOOK_SECRET.read(self.stripe_webhook_secret.as_ref(), file)? {
            Some(loaded) => {
                WebhookSecrets::parse(loaded.text()).map_err(|error| ConfigError::new(loaded.variable, error))
            }
            None => Ok(WebhookSecrets::none()),
        }
    }
}
