//! `billhook tenant erase`: removes a tenant for a data-protection request. `log_files` finds the log files that name it.

mod log_files;

use clap::Args;
use serde_json::json;

use self::log_files::{LogFile, find_in_logs};
use crate::billing::{Erased, Run, erase_tenant};
use crate::cli::table;
use crate::cli::{
    CommandError, at_the_command_line, migrated, policy_without_events, say, warn, without_a_key,
};
use crate::config::{self, DatabaseArgs, LogDirArgs, StripeAccountArgs, StripeApiArgs};
use crate::domain::ids::TenantId;

/// What it does, for the help.
pub(super) const CONSEQUENCES: &str = "\
Payloads, names and ids of the tenant, its customers and subscriptions are deleted; in the journal a random name takes their
place. Event ids stay, so that a repeat is still known, and the customers' ids, so that no event links them again. At Stripe
nothing is deleted. Log files are not changed: those that name the tenant are listed. It cannot be undone.";

#[derive(Args)]
pub(in crate::cli) struct EraseArgs {
    /// The tenant, as tokens name it
    tenant: String,

    #[command(flatten)]
    confirmation: Confirmation,

    /// Erase it also while a subscription is alive, and do not ask Stripe
    #[arg(long)]
    force: bool,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    stripe: StripeApiArgs,

    #[command(flatten)]
    account: StripeAccountArgs,

    #[command(flatten)]
    logs: LogDirArgs,
}

/// It cannot be undone, so one of the two is asked for.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Confirmation {
    /// Say what would be erased, and erase nothing
    #[arg(long)]
    dry_run: bool,

    /// Erase it
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: &EraseArgs) -> Result<(), CommandError> {
    let tenant = config::stored_tenant("TENANT", &args.tenant)?;
    let (config, account) = (args.stripe.read()?, args.account.read()?);
    if !args.force && config.secret_key.is_none() {
        return Err(without_a_key());
    }
    let store = migrated(&args.database).await?;
    let policy = policy_without_events(&store, &config, account).await?;
    let billing = at_the_command_line(store, Some(&config), policy, &args.logs)?;
    let run = if args.confirmation.dry_run { Run::Dry } else { Run::Real };
    let stripe = billing.stripe.as_ref().filter(|_| !args.force);
    let erased = erase_tenant(&billing, stripe, &tenant, run).await?;
    let files = find_in_logs(&args.logs.read()?.dir, &tenant, &erased.scope.ended_customers());
    for file in files.iter().filter(|file| file.error.is_some()) {
        warn(file);
    }
    say(&if args.json {
        as_json(&tenant, &erased, &files, run)
    } else {
        as_lines(&tenant, &erased, &files, run)
    })
}

fn as_json(tenant: &TenantId, erased: &Erased, files: &[LogFile], run: Run) -> String {
    let file = |file: &LogFile| {
        json!({
            "file": file.path.display().to_string(),
            "lines": file.lines,
            "last": file.last,
            "error": file.error,
        })
    };
    let json = json!({
        "tenant": tenant,
        "alias": erased.alias.as_ref().filter(|_| run == Run::Real),
        "customers": erased.scope.ended_customers(),
        "subscriptions": erased.links.subscriptions,
        "checkouts": erased.links.checkouts,
        "events": erased.events,
        "journal_entries": erased.journal_entries,
        "open_checkouts": erased.open_checkouts,
        "log_files": files.iter().map(file).collect::<Vec<_>>(),
        "dry_run": run == Run::Dry,
    });
    format!("{json:#}")
}

fn as_lines(tenant: &TenantId, erased: &Erased, files: &[LogFile], run: Run) -> String {
    let mut lines = match (&erased.alias, run) {
        (None, _) => vec![format!("Nothing is stored about tenant {tenant}.")],
        (Some(alias), Run::Real) => vec![format!("Erased tenant {tenant}. The journal calls it {alias}.")],
        (Some(_), Run::Dry) => vec![format!("Would erase tenant {tenant}.")],
    };
    if erased.alias.is_some() {
        lines.push(table::fields(&[
            ("subscriptions", erased.links.subscriptions.to_string()),
            ("checkouts", erased.links.checkouts.to_string()),
            ("events", erased.events.to_string()),
            ("journal entries", erased.journal_entries.to_string()),
        ]));
    }
    for customer in erased.scope.ended_customers() {
        lines.push(format!(
            "{customer} can never be linked again. Delete it at Stripe if it is to be erased there."
        ));
    }
    for session in &erased.open_checkouts {
        lines.push(format!("{session} may still be open at Stripe. Expire it there."));
    }
    lines.extend(files.iter().map(LogFile::to_string));
    lines.join("\n")
}
