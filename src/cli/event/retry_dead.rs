//! `billhook event retry-dead`

use clap::Args;
use serde_json::json;

use crate::cli::text::count;
use crate::cli::{CommandError, open_store, print, print_json};
use crate::clock::{Clock, SystemClock};
use crate::config::DatabaseArgs;
use crate::domain::ids::EventId;

/// Bounds a transaction, so that it holds its locks only briefly.
const EVENTS_PER_TRANSACTION: u64 = 500;

#[derive(Args)]
pub(in crate::cli) struct RetryDeadArgs {
    /// Retry only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,

    /// Print how many events would be retried; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(args: &RetryDeadArgs) -> Result<(), CommandError> {
    let store = open_store(&args.database).await?;
    let type_name = args.type_name.as_deref();
    let mut events = 0;
    if args.dry_run {
        events = store.count_dead_events(type_name).await?;
    } else {
        // In the order of their ids, so that an event that becomes dead again in the meantime is
        // not retried twice.
        let mut after: Option<EventId> = None;
        loop {
            let now_ms = SystemClock.now_ms();
            let retried =
                store.retry_dead_events(type_name, after.as_ref(), EVENTS_PER_TRANSACTION, now_ms).await?;
            let Some(last) = retried.last() else { break };
            events += retried.len() as u64;
            after = Some(last.clone());
        }
    }
    if args.json {
        return print_json(&json!({ "events": events, "dry_run": args.dry_run }));
    }
    print(&match (events, args.dry_run) {
        (0, _) => "No event is dead.".to_owned(),
        (_, true) => format!("Would retry {}.", count(events, "dead event")),
        (_, false) => format!("The service will retry {} as soon as it runs.", count(events, "dead event")),
    })
}
