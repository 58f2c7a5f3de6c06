//! `billhook tenant unlink`

use clap::Args;
use serde_json::json;

use super::billing;
use crate::billing::{Run, Unlinked, unlink_tenant};
use crate::cli::{CommandError, migrated, say};
use crate::config::{self, DatabaseArgs, EventPolicyArgs, LogDirArgs};
use crate::domain::ids::TenantId;
use crate::domain::subscription::Status;

/// What it does, for the help.
pub(super) const CONSEQUENCES: &str = "\
The tenant is free at once, and its next checkout makes it a new customer. What the old one has at Stripe goes on there,
and is charged, until somebody cancels it. What it still sends is parked; only `billhook tenant link` links it again.";

#[derive(Args)]
pub(in crate::cli) struct UnlinkArgs {
    /// The tenant, as tokens name it
    tenant: String,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON, for tools
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
    let tenant = config::stored_tenant("TENANT", &args.tenant)?;
    let config = args.events.read()?;
    let store = migrated(&args.database).await?;
    let billing = billing(store, config, &args.logs).await?;
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let Some(unlinked) = unlink_tenant(&billing, &tenant, run).await? else {
        return Err(CommandError::Failed(format!("not unlinked: tenant {tenant} has no customer")));
    };
    say(&if args.json { as_json(&tenant, &unlinked, run) } else { as_lines(&tenant, &unlinked, run) })
}

fn as_json(tenant: &TenantId, unlinked: &Unlinked, run: Run) -> String {
    let Unlinked { customer, subscriptions, open_checkouts } = unlinked;
    let subscription = |(id, status): &(_, Status)| json!({ "id": id, "status": status.as_str() });
    let json = json!({
        "tenant": tenant,
        "customer": customer,
        "subscriptions": subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        "open_checkouts": open_checkouts,
        "dry_run": run == Run::Dry,
    });
    format!("{json:#}")
}

fn as_lines(tenant: &TenantId, unlinked: &Unlinked, run: Run) -> String {
    let Unlinked { customer, subscriptions, open_checkouts } = unlinked;
    let (done, no_longer) = match run {
        Run::Real => ("Took", "is held no longer"),
        Run::Dry => ("Would take", "would be held no longer"),
    };
    let mut lines = vec![format!("{done} {customer} from tenant {tenant}.")];
    for (id, status) in subscriptions {
        let at_stripe =
            if status.is_final() { "" } else { ", and goes on at Stripe until it is cancelled there" };
        lines.push(format!("{id} ({status}) {no_longer}{at_stripe}."));
    }
    for session in open_checkouts {
        lines.push(format!(
            "{session} is still open: whoever pays there pays for {customer}, and waits for a link. The tenant's next \
             checkout closes it."
        ));
    }
    lines.join("\n")
}
