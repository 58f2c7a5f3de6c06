//! The plans, checkout and portal, and the policy for events.

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, boolean, id, number, parsed_by, read_optional};
use crate::domain::app_url::AppUrl;
use crate::domain::ids::DeploymentId;
use crate::domain::plan::Catalog;

/// A year. No tracing back end keeps traces longer.
const MAX_JOURNEY_HOURS: u32 = 8760;

/// Stripe's limit for an account, 100 requests per second.
const MAX_REQUESTS_PER_MINUTE: u32 = 6000;

#[derive(Clone, Args)]
#[command(next_help_heading = "Plans")]
pub struct PlanArgs {
    /// The plans and their prices, by id or lookup key, the best plan last:
    /// `pro=price_a,price_b;team=price_c`. Checkout sells the first price of a plan. Without it,
    /// checkout returns 503 and every price means the plan `free`
    // Read together with `past_due_grants`, which is part of the catalog.
    #[arg(long, env = PLANS)]
    plans: Option<String>,

    /// Whether a subscription with a failed payment keeps its plan while Stripe retries the payment
    #[arg(long, env = "BILLHOOK_PAST_DUE_GRANTS", default_value = "true", value_name = "true|false", value_parser = parsed_by(boolean))]
    past_due_grants: Setting<bool>,
}

const PLANS: &str = "BILLHOOK_PLANS";

impl PlanArgs {
    /// The catalog is empty if no plans are set.
    pub fn read(&self) -> Result<Catalog, ConfigError> {
        let past_due_grants = self.past_due_grants.read()?;
        match self.plans.as_deref().unwrap_or_default() {
            "" => Ok(Catalog::empty(past_due_grants)),
            plans => Catalog::parse(plans, past_due_grants).map_err(|error| ConfigError::new(PLANS, error)),
        }
    }
}

/// For the service, and for the commands that apply stored events.
#[derive(Clone, Args)]
pub struct EventPolicyArgs {
    #[command(flatten)]
    plans: PlanArgs,

    /// The id of this deployment, needed if several share a Stripe account: 1 to 64 letters,
    /// digits, `_`, `-` and `.` [default: generated once and stored in the database]
    #[arg(long, env = "BILLHOOK_DEPLOYMENT_ID", value_name = "ID", value_parser = parsed_by(id::<DeploymentId>), help_heading = "Tenants")]
    deployment_id: Option<Setting<DeploymentId>>,

    /// Whether `client_reference_id` links a customer on checkout sessions that Billhook did not
    /// create. Anyone can add it to the URL of a Payment Link
    #[arg(long, env = "BILLHOOK_TRUST_CLIENT_REFERENCE", default_value = "false", value_name = "true|false", value_parser = parsed_by(boolean), help_heading = "Tenants")]
    trust_client_reference: Setting<bool>,
}

#[derive(Debug, Clone)]
pub struct EventPolicyConfig {
    pub catalog: Catalog,
    /// `None` means the deployment that is stored in the database.
    pub deployment: Option<DeploymentId>,
    /// Whether `client_reference_id` links a customer on a session that we did not create.
    pub trust_client_reference: bool,
}

impl EventPolicyArgs {
    pub fn read(&self) -> Result<EventPolicyConfig, ConfigError> {
        Ok(EventPolicyConfig {
            deployment: read_optional(self.deployment_id.as_ref())?,
            catalog: self.plans.read()?,
            trust_client_reference: self.trust_client_reference.read()?,
        })
    }
}

#[derive(Clone, Args)]
#[command(next_help_heading = "Checkout and portal")]
pub struct BillingArgs {
    /// The URL of your app. Stripe's pages return to paths below it. Without it, checkout and
    /// portal return 503
    #[arg(long, env = "BILLHOOK_APP_URL", value_parser = parsed_by(AppUrl::parse))]
    app_url: Option<Setting<AppUrl>>,

    /// For how many hours after a checkout later events are added to its trace
    #[arg(long, env = "BILLHOOK_JOURNEY_WINDOW_HOURS", default_value = "72", value_name = "HOURS", value_parser = parsed_by(number::<1, MAX_JOURNEY_HOURS>))]
    journey_window_hours: Setting<u32>,

    /// Checkout, refresh and portal requests that a tenant may make per minute
    #[arg(long, env = "BILLHOOK_THROTTLE_PER_MINUTE", default_value = "20", value_name = "REQUESTS", value_parser = parsed_by(number::<1, MAX_REQUESTS_PER_MINUTE>))]
    throttle_per_minute: Setting<u32>,

    #[command(flatten)]
    events: EventPolicyArgs,
}

#[derive(Debug, Clone)]
pub struct BillingConfig {
    pub app_url: Option<AppUrl>,
    /// For how many hours after a checkout later events are added to its trace.
    pub journey_window_hours: u32,
    /// Checkout, refresh and portal requests per tenant.
    pub throttle_per_minute: u32,
    pub events: EventPolicyConfig,
}

impl BillingArgs {
    pub fn read(&self) -> Result<BillingConfig, ConfigError> {
        Ok(BillingConfig {
            app_url: read_optional(self.app_url.as_ref())?,
            events: self.events.read()?,
            journey_window_hours: self.journey_window_hours.read()?,
            throttle_per_minute: self.throttle_per_minute.read()?,
        })
    }
}
