//! `billhook deployment`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::text::count;
use super::{CommandError, open_store, print, print_json, print_sentences, table};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::ids::DeploymentId;
use crate::store::OtherDeployment;

#[derive(Subcommand)]
pub(super) enum DeploymentCommand {
    /// Show the database's deployment and the others with customers on the same Stripe account
    Show(ShowArgs),
    /// Make this the database of another deployment, to replace a lost database or take over its
    /// customers
    #[command(after_help = ADOPT_AFTER_HELP)]
    Adopt(AdoptArgs),
}

const ADOPT_AFTER_HELP: &str = "\
The customers of that deployment belong to this database from now on. The events
that were quarantined for them are applied as soon as the service runs. Stop all
replicas first and start them again afterwards: a running service keeps the
deployment it started with.";

#[derive(Args)]
pub(super) struct ShowArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub(super) struct AdoptArgs {
    /// The deployment, as `billhook deployment show` lists it
    id: String,

    /// Adopt it even if no customer of that deployment was seen here
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(command: &DeploymentCommand) -> Result<(), CommandError> {
    match command {
        DeploymentCommand::Show(args) => show(args).await,
        DeploymentCommand::Adopt(args) => adopt(args).await,
    }
}

async fn show(args: &ShowArgs) -> Result<(), CommandError> {
    let store = open_store(&args.database).await?;
    let deployment = store.deployment().await?;
    let others = store.other_deployments().await?;
    if args.json {
        let as_json =
            |other: &OtherDeployment| json!({ "id": other.deployment_id, "customers": other.customers });
        let others: Vec<Value> = others.iter().map(as_json).collect();
        return print_json(&json!({ "id": deployment, "others": others }));
    }
    print(&match &deployment {
        Some(deployment) => format!("This database belongs to the deployment {deployment}."),
        None => "This database has no deployment yet. The first start of the service sets it.".into(),
    })?;
    if others.is_empty() {
        return Ok(());
    }
    let row = |other: &OtherDeployment| [other.deployment_id.clone(), other.customers.to_string()];
    let rows: Vec<_> = others.iter().map(row).collect();
    print(&format!("\n{}", table::with_heading(["OTHER DEPLOYMENT", "CUSTOMERS"], &rows)))
}

async fn adopt(args: &AdoptArgs) -> Result<(), CommandError> {
    let id: DeploymentId = config::parse_id("ID", &args.id)?;
    let store = open_store(&args.database).await?;
    let is_known = store.other_deployments().await?.iter().any(|other| other.deployment_id == id.as_str());
    if !is_known && !args.yes {
        return Err(CommandError::Failed(format!(
            "not adopted: no customer of the deployment {id} was seen here. Check the id with `billhook deployment show`, \
             or adopt it with --yes"
        )));
    }
    let before = store.deployment().await?;
    let events = store.adopt_deployment(&id, SystemClock.now_ms()).await?;
    let instead = before.map(|before| format!(" instead of {before}")).unwrap_or_default();
    let events = count(events, "quarantined event");
    print_sentences(&format!(
        "This database belongs to the deployment {id}{instead}.\nThe service will apply {events} as soon as it runs."
    ))
}
