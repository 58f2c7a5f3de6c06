//! `billhook event list` and `billhook event retry`

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{CommandError, migrated, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::ids::EventId;
use crate::domain::outcome::Outcome;
use crate::store::TroubledEvent;

/// How many events are listed: more than a person reads, and no answer that a tool cannot hold.
const MOST: u64 = 200;

#[derive(Subcommand)]
pub(super) enum EventCommand {
    /// List events that could not be applied, the latest first
    List(ListArgs),
    /// Have events that failed or were given up tried again at once
    Retry(RetryArgs),
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// What became of them; several can be named [default: failed and dead]
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    outcome: Vec<Troubled>,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub(super) struct RetryArgs {
    /// Stripe's events, `evt_...`
    #[arg(required = true)]
    event: Vec<String>,

    #[command(flatten)]
    database: DatabaseArgs,
}

/// The outcomes that somebody may have to look at.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Troubled {
    /// Could not be applied, and is tried again
    Failed,
    /// Was given up
    Dead,
    /// Waits for its customer to be linked
    Parked,
    /// Belongs to another mode or account
    Quarantined,
}

impl From<Troubled> for Outcome {
    fn from(troubled: Troubled) -> Self {
        match troubled {
            Troubled::Failed => Self::Failed,
            Troubled::Dead => Self::Dead,
            Troubled::Parked => Self::Parked,
            Troubled::Quarantined => Self::Quarantined,
        }
    }
}

pub(super) async fn run(command: &EventCommand) -> Result<(), CommandError> {
    match command {
        EventCommand::List(args) => list(args).await,
        EventCommand::Retry(args) => retry(args).await,
    }
}

async fn list(args: &ListArgs) -> Result<(), CommandError> {
    let outcomes: Vec<Outcome> = if args.outcome.is_empty() {
        vec![Outcome::Failed, Outcome::Dead]
    } else {
        args.outcome.iter().copied().map(Outcome::from).collect()
    };
    let events = migrated(&args.database).await?.events_with_outcome(&outcomes, MOST).await?;
    if args.json {
        return say(&format!("{:#}", events.iter().map(as_json).collect::<serde_json::Value>()));
    }
    if events.is_empty() {
        return say("There are none.");
    }
    events.iter().try_for_each(|event| say(&as_line(event)))?;
    if events.len() as u64 == MOST {
        say(&format!("These are the latest {MOST}; there may be more."))
    } else {
        Ok(())
    }
}

async fn retry(args: &RetryArgs) -> Result<(), CommandError> {
    let ids = args.event.iter().map(|text| config::argument("EVENT", text));
    let ids: Vec<EventId> = ids.collect::<Result<_, _>>()?;
    let store = migrated(&args.database).await?;
    let mut others = Vec::new();
    for id in &ids {
        if store.retry_event(id, SystemClock.now_ms()).await? {
            say(&format!("{id} is tried again as soon as the service runs."))?;
        } else {
            others.push(id.as_str());
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    Err(CommandError::Failed(format!(
        "unknown, or neither failed nor dead: {}; `billhook event list` shows which there are",
        others.join(", ")
    )))
}

fn as_line(event: &TroubledEvent) -> String {
    let TroubledEvent { id, type_name, created, outcome, reason, customer, attempts, trace } = event;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let (reason, customer, trace) = (or_none(reason), or_none(customer), or_none(trace));
    format!("{id} {created} {outcome} {reason} {type_name} {customer} tries={attempts} trace={trace}")
}

fn as_json(event: &TroubledEvent) -> serde_json::Value {
    json!({
        "id": event.id,
        "type": event.type_name,
        "created": event.created,
        "outcome": event.outcome,
        "reason": event.reason,
        "customer": event.customer,
        "attempts": event.attempts,
        "trace_id": event.trace,
    })
}
