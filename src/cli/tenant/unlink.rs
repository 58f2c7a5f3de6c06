//! `billhook tenant unlink`

use clap::Args;
use serde_json::{Value, json};

use super::billing;
use crate::billing::{RunMode, UnlinkReport, unlink_tenant};
use crate::cli::{CommandError, open_store, print_json, print_sentences};
use crate::config::{self, DatabaseArgs, EventPolicyArgs, LogDirArgs};
use crate::domain::ids::TenantId;
use crate::domain::subscription::Status;

pub(super) const AFTER_HELP: &str = "\
The tenant is on the plan `free` at once, and its next checkout creates a new
customer. The subscriptions of the old customer continue at Stripe, and are
charged, until you cancel them there. Its events are parked. Only `billhook
tenant link` links it again.";

#[derive(Args)]
pub(in crate::cli) struct UnlinkArgs {
    /// The tenant, as tokens name it
    tenant: String,

    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    events: EventPolicyArgs,

    #[command(flatten)]
    logs: LogDirArgs,
}

pub(super) async fn run(args: &UnlinkArgs) -> Result<(), CommandError> {
    let tenant = config::parse_stored_tenant("TENANT", &args.tenant)?;
    let config = args.events.read()?;
    let store = open_store(&args.database).await?;
    let billing = billing(store, config, &args.logs).await?;
    let run = if args.dry_run { RunMode::DryRun } else { RunMode::Apply };
    let Some(unlinked) = unlink_tenant(&billing, &tenant, run).await? else {
        return Err(CommandError::Failed(format!("not unlinked: tenant {tenant} has no customer")));
    };
    if args.json {
        return print_json(&as_json(&tenant, &unlinked, run));
    }
    print_sentences(&as_text(&tenant, &unlinked, run))
}

fn as_json(tenant: &TenantId, unlinked: &UnlinkReport, run: RunMode) -> Value {
    let UnlinkReport { customer, subscriptions, open_checkouts } = unlinked;
    let subscription = |(id, status): &(_, Status)| json!({ "id": id, "status": status.as_str() });
    json!({
        "tenant": tenant,
        "customer": customer,
        "subscriptions": subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        "open_checkouts": open_checkouts,
        "dry_run": run == RunMode::DryRun,
    })
}

fn as_text(tenant: &TenantId, unlinked: &UnlinkReport, run: RunMode) -> String {
    let UnlinkReport { customer, subscriptions, open_checkouts } = unlinked;
    let (done, removed) = match run {
        RunMode::Apply => ("Unlinked", "was removed here"),
        RunMode::DryRun => ("Would unlink", "would be removed here"),
    };
    let mut lines = vec![format!("{done} {customer} from tenant {tenant}.")];
    for (id, status) in subscriptions {
        let at_stripe =
            if status.is_final() { "" } else { "; it continues at Stripe until you cancel it there" };
        lines.push(format!("{id} ({status}) {removed}{at_stripe}."));
    }
    for session in open_checkouts {
        lines.push(format!(
            "{session} is still open. A payment there is for {customer} and is parked until you link it. The tenant's next \
             checkout closes the session."
        ));
    }
    lines.join("\n")
}
