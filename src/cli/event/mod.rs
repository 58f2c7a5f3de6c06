//! `billhook event`: the inbox, looked at and put right. One file for each subcommand; `replay` and `retry_dead` change
//! something, the others only read.

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
    /// List events of the inbox, the latest that came first
    List(list::ListArgs),
    /// Show all that is known of one event, and what it changed
    Show(show::ShowArgs),
    /// Have events looked at anew: what is not settled is decided on again, what is has Stripe asked
    #[command(after_help = replay::RULE)]
    Replay(replay::ReplayArgs),
    /// Have all events that were given up tried again
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

/// What a list says of an event.
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
