//! `billhook prune`: drops payloads that nobody needs any more, as the service does by itself.

use clap::Args;

use super::{CommandError, migrated, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs, RetentionArgs};

#[derive(Args)]
pub(super) struct PruneArgs {
    /// Say how many payloads would be dropped, and drop none
    #[arg(long)]
    dry_run: bool,

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
    if args.dry_run {
        let old = store.count_old_payloads(old_before_ms).await?;
        return say(&format!("Would drop the payloads of {old} events; what they were and did would stay."));
    }
    let mut all = 0;
    while let Some(dropped) = store.drop_old_payloads(old_before_ms).await? {
        all += dropped;
    }
    say(&format!("Dropped the payloads of {all} events; what they were and did stays."))
}
