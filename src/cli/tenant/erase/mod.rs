//! `billhook tenant erase`: deletes a tenant for a data-protection request. `log_files` finds the
//! log files that name it.

mod log_files;

use clap::Args;
use serde_json::{Value, json};

use self::log_files::{LogFile, find_in_logs};
use crate::billing::{Erasure, RunMode, erase_tenant};
use crate::cli::table;
use crate::cli::{
    CommandError, command_billing, missing_key_error, open_store, policy_without_plans, print_json,
    print_sentences, warn,
};
use crate::config::{self, ConfigError, DatabaseArgs, LogDirArgs, StripeAccountArgs, StripeApiArgs};
use crate::domain::ids::TenantId;

pub(super) const AFTER_HELP: &str = "\
Deletes the payloads, names and ids of the tenant, its customers and
subscriptions. In the journal a random alias replaces them. Event ids are kept,
so that duplicates are recognised, and customer ids, so that no event links them
again. Nothing is deleted at Stripe. Log files are not changed; those that name
the tenant are listed. This cannot be undone.";

pub(super) const USAGE: &str = "billhook tenant erase [OPTIONS] <--dry-run|--yes> <TENANT>";

#[derive(Args)]
pub(in crate::cli) struct EraseArgs {
    /// The tenant, as tokens name it
    tenant: String,

    #[command(flatten)]
    confirmation: Confirmation,

    /// Erase the tenant even if a subscription has not ended, without a call to Stripe
    #[arg(long)]
    force: bool,

    /// Print JSON
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

/// One of the two flags is required. [`run`] checks it: clap's error would list every option of the
/// command.
#[derive(Args)]
#[group(multiple = false)]
struct Confirmation {
    /// Print what would be erased; erase nothing
    #[arg(long)]
    dry_run: bool,

    /// Erase the tenant
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: &EraseArgs) -> Result<(), CommandError> {
    let tenant = config::parse_stored_tenant("TENANT", &args.tenant)?;
    let Confirmation { dry_run, yes } = args.confirmation;
    if !(dry_run || yes) {
        let problem = "cannot be undone: give --dry-run or --yes";
        return Err(ConfigError::new("`tenant erase`", problem).into());
    }
    let (config, account) = (args.stripe.read()?, args.account.read()?);
    if !args.force && config.secret_key.is_none() {
        return Err(missing_key_error());
    }
    let store = open_store(&args.database).await?;
    let policy = policy_without_plans(&store, &config, account).await?;
    let billing = command_billing(store, Some(&config), policy, &args.logs)?;
    let run = if dry_run { RunMode::DryRun } else { RunMode::Apply };
    let stripe = billing.stripe.as_ref().filter(|_| !args.force);
    let erased = erase_tenant(&billing, stripe, &tenant, run).await?;
    let files = find_in_logs(&args.logs.read()?.dir, &tenant, &erased.scope.ended_customers());
    for file in files.iter().filter(|file| file.error.is_some()) {
        warn(file);
    }
    if args.json {
        return print_json(&as_json(&tenant, &erased, &files, run));
    }
    print_sentences(&as_text(&tenant, &erased, &files, run))
}

fn as_json(tenant: &TenantId, erased: &Erasure, files: &[LogFile], run: RunMode) -> Value {
    let file = |file: &LogFile| {
        json!({
            "file": file.path.display().to_string(),
            "lines": file.lines,
            "last": file.last,
            "error": file.error,
        })
    };
    json!({
        "tenant": tenant,
        "alias": erased.alias.as_ref().filter(|_| run == RunMode::Apply),
        "customers": erased.scope.ended_customers(),
        "subscriptions": erased.links.subscriptions,
        "checkouts": erased.links.checkouts,
        "events": erased.events,
        "journal_entries": erased.journal_entries,
        "open_checkouts": erased.open_checkouts,
        "log_files": files.iter().map(file).collect::<Vec<_>>(),
        "dry_run": run == RunMode::DryRun,
    })
}

fn as_text(tenant: &TenantId, erased: &Erasure, files: &[LogFile], run: RunMode) -> String {
    let mut lines = match (&erased.alias, run) {
        (None, _) => vec![format!("Nothing is stored about tenant {tenant}.")],
        (Some(alias), RunMode::Apply) => {
            vec![format!("Erased tenant {tenant}. The journal calls it {alias}.")]
        }
        (Some(_), RunMode::DryRun) => vec![format!("Would erase tenant {tenant}.")],
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
            "{customer} can never be linked again. Delete it at Stripe to erase it there too."
        ));
    }
    for session in &erased.open_checkouts {
        lines.push(format!("{session} may still be open at Stripe. Expire it there."));
    }
    lines.extend(files.iter().map(LogFile::to_string));
    lines.join("\n")
}
