//! `billhook prune`: drops payloads that nobody needs any more, as the service does by itself.

use clap::Args;
use serde_json::json;

use super::{CommandError, migrated, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs, RetentionArgs};
use crate::store::{Store, StoreError};

#[derive(Args)]
pub(super) struct PruneArgs {
    /// Say how many payloads would be dropped, and drop none
    #[arg(long)]
    dry_run: bool,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    retention: RetentionArgs,
}

pub(super) async fn run(args: &PruneArgs) -> Result<(), CommandError> {
    let Some(retention) = args.retention.read()? else {
        return Err(config::missing("BILLHOOK_KEEP_PAYLOADS_DAYS is 0: payloads are kept for good").into());
    };
    let store = migrated(&args.database).await?;
    let old_before_ms = retention.ends_at_ms(SystemClock.now_ms());
    let events = if args.dry_run {
        store.count_old_payloads(old_before_ms).await?
    } else {
        drop_all(&store, old_before_ms).await?
    };
    if args.json {
        return say(&format!("{:#}", json!({ "events": events, "dry_run": args.dry_run })));
    }
    say(&if args.dry_run {
        format!("Would drop the payloads of {events} events; what they were and did would stay.")
    } else {
        format!("Dropped the payloads of {events} events; what they were and did stays.")
    })
}

async fn drop_all(store: &Store, old_before_ms: i64) -> Result<u64, StoreError> {
    let mut all = 0;
    while let Some(dropped) = store.drop_old_payloads(old_before_ms).await? {
        all += dropped;
    }
    Ok(all)
}
