//! `billhook event replay`

use clap::Args;
use serde_json::{Value, json};

use crate::billing::{self, NotReplayed, Replayed};
use crate::cli::{CommandError, migrated, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::ids::EventId;

/// What it does, for the help.
pub(super) const RULE: &str = "\
An event is applied at most once. What failed, is dead, parked or quarantined is decided on by the same rule as if it had
just come. What is applied, stale or ignored stays so, and Stripe is asked what its customer has now. The service does
either as soon as it runs.";

#[derive(Args)]
pub(in crate::cli) struct ReplayArgs {
    /// Stripe's events, `evt_...`
    #[arg(required = true)]
    event: Vec<String>,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

/// What comes of one event.
type Came = Result<Replayed, NotReplayed>;

pub(super) async fn run(args: &ReplayArgs) -> Result<(), CommandError> {
    let ids = args.event.iter().map(|text| config::argument("EVENT", text));
    let ids: Vec<EventId> = ids.collect::<Result<_, _>>()?;
    let store = migrated(&args.database).await?;
    let mut told = Vec::new();
    let mut refused = Vec::new();
    for id in &ids {
        let came = billing::replay(&store, id, SystemClock.now_ms()).await?;
        if args.json {
            told.push(as_json(id, &came));
        } else if let Ok(replayed) = &came {
            say(&as_line(id, replayed))?;
        }
        refused.extend(came.err().map(|reason| format!("{id} {reason}")));
    }
    if args.json {
        say(&format!("{:#}", Value::from(told)))?;
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Failed(format!("not replayed: {}", refused.join("; "))))
    }
}

fn as_line(id: &EventId, replayed: &Replayed) -> String {
    match replayed {
        Replayed::DecidedAnew(outcome) => {
            format!("{id} was {outcome}: it is decided on anew as soon as the service runs.")
        }
        Replayed::Asked(outcome, customer) => format!(
            "{id} is {outcome}, and is not applied twice: Stripe is asked what {customer} has as soon as the service runs."
        ),
    }
}

fn as_json(id: &EventId, came: &Came) -> Value {
    let (action, outcome, reason) = match came {
        Ok(Replayed::DecidedAnew(outcome)) => ("decided_anew", Some(outcome), None),
        Ok(Replayed::Asked(outcome, _)) => ("stripe_asked", Some(outcome), None),
        Err(NotReplayed::Unknown) => ("none", None, Some("unknown")),
        Err(NotReplayed::NoPayload(outcome)) => ("none", Some(outcome), Some("no_payload")),
        Err(NotReplayed::NoTenant(outcome)) => ("none", Some(outcome), Some("no_tenant")),
    };
    json!({ "id": id, "outcome": outcome.map(|outcome| outcome.as_str()), "action": action, "reason": reason })
}
