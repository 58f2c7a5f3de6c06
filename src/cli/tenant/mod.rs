//! `billhook tenant`: links tenants to Stripe customers, and shows what they are entitled to.
//!
//! `link` is in this file; every other subcommand has a file of its own. [`crate::billing`] decides
//! what they do.

mod erase;
mod import;
mod list;
mod show;
mod timeline;
mod unlink;

use clap::{Args, Subcommand};

use super::{
    CommandError, command_billing, open_store, print_sentences, resolve_account, resolve_deployment, warn,
    warn_without_plans,
};
use crate::billing::{Billing, LinkError, link_as_operator, replace_as_operator};
use crate::config::{self, DatabaseArgs, EventPolicyArgs, EventPolicyConfig, LogDirArgs};
use crate::domain::batch::Policy;
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// Link a tenant to the customer that it already has at Stripe
    Link(LinkArgs),
    /// Unlink a tenant from its customer
    #[command(after_help = unlink::AFTER_HELP)]
    Unlink(unlink::UnlinkArgs),
    /// Delete what is stored about a tenant, for a data-protection request
    #[command(after_help = erase::AFTER_HELP, override_usage = erase::USAGE)]
    Erase(Box<erase::EraseArgs>),
    /// Link many tenants to their customers from a CSV file, and fetch their subscriptions from
    /// Stripe
    #[command(after_help = import::AFTER_HELP)]
    Import(Box<import::ImportArgs>),
    /// List tenants and what they are entitled to
    List(list::ListArgs),
    /// Show what a tenant is entitled to, and why
    Show(show::ShowArgs),
}

#[derive(Args)]
pub(super) struct LinkArgs {
    /// The tenant, as tokens name it
    tenant: String,

    /// The Stripe customer, `cus_...`
    customer: String,

    /// Replace the tenant's current customer, if all of its subscriptions have ended
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    events: EventPolicyArgs,

    #[command(flatten)]
    logs: LogDirArgs,
}

pub(super) async fn run(command: &TenantCommand) -> Result<(), CommandError> {
    match command {
        TenantCommand::Link(args) => link(args).await,
        TenantCommand::Unlink(args) => unlink::run(args).await,
        TenantCommand::Erase(args) => erase::run(args).await,
        TenantCommand::Import(args) => import::run(args).await,
        TenantCommand::List(args) => list::run(args).await,
        TenantCommand::Show(args) => show::run(args).await,
    }
}

async fn link(args: &LinkArgs) -> Result<(), CommandError> {
    let tenant: TenantId = config::parse_id("TENANT", &args.tenant)?;
    let customer: CustomerId = config::parse_id("CUSTOMER", &args.customer)?;
    let config = args.events.read()?;
    warn_without_plans(&config.catalog);
    let store = open_store(&args.database).await?;
    let billing = billing(store, config, &args.logs).await?;
    let replaced = if args.replace {
        replace_as_operator(&billing, &tenant, &customer).await
    } else {
        link_as_operator(&billing, &tenant, &customer).await.map(|()| None)
    };
    let replaced = replaced.map_err(|error| match error {
        LinkError::Refused(refusal) => CommandError::Link(refusal),
        LinkError::Store(error) => CommandError::Store(error),
    })?;
    print_sentences(&match replaced {
        Some(replaced) => format!("Tenant {tenant} is now linked to {customer} instead of {replaced}."),
        None => format!("Tenant {tenant} is linked to {customer}."),
    })?;
    if !customer.as_str().starts_with("cus_") {
        // Not refused: Stripe once let the owner of an account choose the ids.
        warn(format_args!(
            "{customer} does not look like `cus_...`: check it with `billhook reconcile --tenant {tenant}`"
        ));
    }
    Ok(())
}

/// Billing that links and unlinks. It has no Stripe client: the service fetches the customer's
/// subscriptions.
async fn billing(
    store: Store,
    config: EventPolicyConfig,
    logs: &LogDirArgs,
) -> Result<Billing, CommandError> {
    let policy = Policy {
        mode: store.mode().await?,
        account: resolve_account(&store, None).await?,
        deployment: resolve_deployment(&store, config.deployment.as_ref()).await?,
        trust_client_reference: config.trust_client_reference,
        catalog: config.catalog,
    };
    command_billing(store, None, policy, logs)
}
