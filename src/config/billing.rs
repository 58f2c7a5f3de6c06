//! What is sold, what it grants, and how events are judged.

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, boolean, by, given, id, number};
use crate::domain::address::AppUrl;
use crate::domain::ids::DeploymentId;
use crate::domain::plan::Catalog;

/// A year: no tracing back end keeps a trace for longer.
const MAX_JOURNEY_HOURS: u32 = 8760;

/// More than Stripe itself takes from one account in a minute (100 a second).
const MAX_REQUESTS_PER_MINUTE: u32 = 6000;

/// Which prices mean which plan, and when they grant it.
#[derive(Clone, Args)]
#[command(next_help_heading = "Plans")]
pub struct PlanArgs {
    /// The plans and their prices, by id or lookup key, the best plan last: `pro=price_a,price_b;team=price_c`. A
    /// checkout sells a plan's first price. Without it checkout answers 503 and every price means `free`
    // Whether a failed payment grants a plan is a part of the catalog, so that the text is read with it.
    #[arg(long, env = PLANS)]
    plans: Option<String>,

    /// Whether a subscription whose payment failed keeps its plan while Stripe tries again
    #[arg(long, env = "BILLHOOK_PAST_DUE_GRANTS", default_value = "true", value_name = "true|false", value_parser = by(boolean))]
    past_due_grants: Setting<bool>,
}

const PLANS: &str = "BILLHOOK_PLANS";

impl PlanArgs {
    /// Reads the catalog; it is empty where no plans are set.
    pub fn read(&self) -> Result<Catalog, ConfigError> {
        let past_due_grants = self.past_due_grants.read()?;
        match self.plans.as_deref().unwrap_or_default() {
            "" => Ok(Catalog::empty(past_due_grants)),
            plans => Catalog::parse(plans, past_due_grants).map_err(|error| ConfigError::new(PLANS, error)),
        }
    }
}

/// How events are judged: by the service, and by the commands that apply what is stored.
#[derive(Clone, Args)]
pub struct EventPolicyArgs {
    #[command(flatten)]
    plans: PlanArgs,

    /// Which deployment this is, where several share a Stripe account: 1 to 64 of letters, digits, `_`, `-` and `.`. Without it
    /// one is generated and kept in the database
    #[arg(long, env = "BILLHOOK_DEPLOYMENT_ID", value_name = "ID", value_parser = by(id::<DeploymentId>), help_heading = "Tenants")]
    deployment_id: Option<Setting<DeploymentId>>,

    /// Whether `client_reference_id` links a customer on sessions that Billhook did not make. On a Payment Link anyone
    /// can write it into the URL
    #[arg(long, env = "BILLHOOK_TRUST_CLIENT_REFERENCE", default_value = "false", value_name = "true|false", value_parser = by(boolean), help_heading = "Tenants")]
    trust_client_reference: Setting<bool>,
}

/// How events are judged.
#[derive(Debug, Clone)]
pub struct EventPolicyConfig {
    /// The plans and what they grant.
    pub catalog: Catalog,
    /// The deployment, unless the database's own one holds.
    pub deployment: Option<DeploymentId>,
    /// Whether `client_reference_id` links a customer on a session that is not ours.
    pub trust_client_reference: bool,
}

impl EventPolicyArgs {
    /// Reads how events are judged.
    pub fn read(&self) -> Result<EventPolicyConfig, ConfigError> {
        Ok(EventPolicyConfig {
            deployment: given(self.deployment_id.as_ref())?,
            catalog: self.plans.read()?,
            trust_client_reference: self.trust_client_reference.read()?,
        })
    }
}

/// What is sold, and to where a buyer comes back.
#[derive(Clone, Args)]
#[command(next_help_heading = "Checkout and portal")]
pub struct BillingArgs {
    /// Where the app is: return addresses are paths that are joined to it. Without it checkout and portal answer 503
    #[arg(long, env = "BILLHOOK_APP_URL", value_parser = by(AppUrl::parse))]
    app_url: Option<Setting<AppUrl>>,

    /// For how many hours after a checkout its trace shows what followed from it
    #[arg(long, env = "BILLHOOK_JOURNEY_WINDOW_HOURS", default_value = "72", value_name = "HOURS", value_parser = by(number::<1, MAX_JOURNEY_HOURS>))]
    journey_window_hours: Setting<u32>,

    /// Checkout, refresh and portal requests that a tenant may make in a minute
    #[arg(long, env = "BILLHOOK_THROTTLE_PER_MINUTE", default_value = "20", value_name = "REQUESTS", value_parser = by(number::<1, MAX_REQUESTS_PER_MINUTE>))]
    throttle_per_minute: Setting<u32>,

    #[command(flatten)]
    events: EventPolicyArgs,
}

/// What is sold, and to where a buyer comes back.
#[derive(Debug, Clone)]
pub struct BillingConfig {
    /// Where the app is.
    pub app_url: Option<AppUrl>,
    /// For how many hours after a checkout its trace shows what followed from it.
    pub journey_window_hours: u32,
    /// Checkout, refresh and portal requests that a tenant may make in a minute.
    pub throttle_per_minute: u32,
    /// How events are judged.
    pub events: EventPolicyConfig,
}

impl BillingArgs {
    /// Reads what is sold, and to where a buyer comes back.
    pub fn read(&self) -> Result<BillingConfig, ConfigError> {
        Ok(BillingConfig {
            app_url: given(self.app_url.as_ref())?,
            events: self.events.read()?,
            journey_window_hours: self.journey_window_hours.read()?,
            throttle_per_minute: self.throttle_per_minute.read()?,
        })
    }
}
