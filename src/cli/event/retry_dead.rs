//! `billhook event retry-dead`

use clap::Args;
use serde_json::json;

use crate::cli::{CommandError, migrated, say};
use crate::clock::{Clock, SystemClock};
use crate::config::DatabaseArgs;
use crate::domain::ids::EventId;

/// How many are made due in one transaction, so that its locks are short.
const AT_ONCE: u64 = 500;

#[derive(Args)]
pub(in crate::cli) struct RetryDeadArgs {
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,

    /// Say how many there are, and leave them as they are
    #[arg(long)]
    dry_run: bool,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(args: &RetryDeadArgs) -> Result<(), CommandError> {
    let store = migrated(&args.database).await?;
    let type_name = args.type_name.as_deref();
    let mut events = 0;
    if args.dry_run {
        events = store.count_dead_events(type_name).await?;
    } else {
        // By their ids, so that one that dies again meanwhile is not met again.
        let mut after: Option<EventId> = None;
        loop {
            let now_ms = SystemClock.now_ms();
            let retried = store.retry_dead_events(type_name, after.as_ref(), AT_ONCE, now_ms).await?;
            let Some(last) = retried.last() else { break };
            events += retried.len() as u64;
            after = Some(last.clone());
        }
    }
    if args.json {
        return say(&format!("{:#}", json!({ "events": events, "dry_run": args.dry_run })));
    }
    say(&match (events, args.dry_run) {
        (0, _) => "There are none.".to_owned(),
        (_, true) => format!("Would have {events} dead events tried again."),
        (_, false) => format!("{events} dead events are tried again as soon as the service runs."),
    })
}
