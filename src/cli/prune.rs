//! `billhook prune`: deletes old payloads, as the service does once an hour.

use clap::Args;
use serde_json::json;

use super::text::count;
use super::{CommandError, open_store, print, print_json};
use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigError, DatabaseArgs, RetentionArgs};

#[derive(Args)]
pub(super) struct PruneArgs {
    /// Print how many payloads would be deleted; delete none
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    retention: RetentionArgs,
}

pub(super) async fn run(args: &PruneArgs) -> Result<(), CommandError> {
    let Some(retention) = args.retention.read()? else {
        let problem = "is 0: payloads are kept forever";
        return Err(ConfigError::new("BILLHOOK_KEEP_PAYLOADS_DAYS", problem).into());
    };
    let store = open_store(&args.database).await?;
    let cutoff_ms = retention.cutoff_ms(SystemClock.now_ms());
    let mut events = 0;
    if args.dry_run {
        events = store.count_old_payloads(cutoff_ms).await?;
    } else {
        while let Some(deleted) = store.delete_old_payloads(cutoff_ms).await? {
            events += deleted;
        }
    }
    if args.json {
        return print_json(&json!({ "events": events, "dry_run": args.dry_run }));
    }
    let payloads = count(events, "payload");
    print(&if args.dry_run {
        format!("Would delete {payloads}; the event records would be kept.")
    } else {
        format!("Deleted {payloads}; the event records were kept.")
    })
}
