//! `billhook deployment`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CommandError, migrated, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::ids::DeploymentId;
use crate::store::OtherDeployment;

/// Which deployment the database belongs to.
#[derive(Subcommand)]
pub(super) enum DeploymentCommand {
    /// Show the database's deployment, and the others whose customers were seen on the same Stripe account
    Show(ShowArgs),
    /// Make the database that of another deployment: after its database was lost, or to take its customers over
    #[command(after_help = ADOPT)]
    Adopt(AdoptArgs),
}

const ADOPT: &str = "\
The customers of that deployment are this database's from now on, and the events that were quarantined for them are
applied as soon as the service runs. Stop every replica first, and start them again afterwards: a running service keeps
the deployment it started with.";

#[derive(Args)]
pub(super) struct ShowArgs {
    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub(super) struct AdoptArgs {
    /// The deployment, as `billhook deployment show` lists it
    id: String,

    /// Also if no customer of that deployment was ever seen here
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
    let store = migrated(&args.database).await?;
    let deployment = store.deployment().await?;
    let others = store.other_deployments().await?;
    if args.json {
        let as_json =
            |other: &OtherDeployment| json!({ "id": other.deployment_id, "customers": other.customers });
        let others: Vec<Value> = others.iter().map(as_json).collect();
        return say(&format!("{:#}", json!({ "id": deployment, "others": others })));
    }
    let mut lines = vec![match &deployment {
        Some(deployment) => format!("This database belongs to the deployment {deployment}."),
        None => "This database has no deployment yet: the first start of the service decides.".into(),
    }];
    lines.extend(others.iter().map(|OtherDeployment { deployment_id, customers }| {
        format!("Customers of the deployment {deployment_id} on the same account: {customers}")
    }));
    say(&lines.join("\n"))
}

async fn adopt(args: &AdoptArgs) -> Result<(), CommandError> {
    let id: DeploymentId = config::argument("ID", &args.id)?;
    let store = migrated(&args.database).await?;
    let is_known = store.other_deployments().await?.iter().any(|other| other.deployment_id == id.as_str());
    if !is_known && !args.yes {
        return Err(CommandError::Failed(format!(
            "not adopted: no customer of the deployment {id} was seen here. `billhook deployment show` lists those that were; \
             --yes adopts it all the same"
        )));
    }
    let before = store.deployment().await?;
    let events = store.adopt_deployment(&id, SystemClock.now_ms()).await?;
    let instead = before.map(|before| format!(" instead of {before}")).unwrap_or_default();
    say(&format!(
        "This database belongs to the deployment {id}{instead}. {events} quarantined events are applied as soon as the service \
         runs."
    ))
}
