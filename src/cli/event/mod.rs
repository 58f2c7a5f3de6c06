//! `billhook event`: shows the inbox and processes its events again. One file for each subcommand.
//! `replay` and `retry_dead` change the database; the others only read it.

mod list;
mod replay;
mod retry_dead;
mod show;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::CommandError;
use crate::store::InboxEvent;
use crate::telemetry::topics::rfc3339;

#[derive(Subcommand)]
pub(super) enum EventCommand {
    /// List the events of the inbox, the latest first
    List(list::ListArgs),
    /// Show one event and what it changed
    Show(show::ShowArgs),
    /// Replay events: process them again, or refresh the customers of those that were processed
    #[command(after_help = replay::AFTER_HELP)]
    Replay(replay::ReplayArgs),
    /// Retry all dead events
    RetryDead(retry_dead::RetryDeadArgs),
}

pub(super) async fn run(command: &EventCommand) -> Result<(), CommandError> {
    match command {
        EventCommand::List(args) => list::run(args).await,
        EventCommand::Show(args) => show::run(args).await,
        EventCommand::Replay(args) => replay::run(args).await,
        EventCommand::RetryDead(args) => retry_dead::run(args).await,
    }
}

/// The fields of an event in a list.
fn as_json(event: &InboxEvent) -> Map<String, Value> {
    let json = json!({
        "id": event.id,
        "type": event.type_name,
        "created": rfc3339(event.created.saturating_mul(1000)),
        "received": rfc3339(event.received_at_ms),
        "outcome": event.outcome.as_str(),
        "reason": event.reason,
        "tenant": event.tenant,
        "customer": event.customer,
        "subscription": event.subscription,
        "attempts": event.attempts,
        "next_try": event.retry_at_ms.map(rfc3339),
        "trace_id": event.trace,
    });
    json.as_object().cloned().unwrap_or_default()
}
