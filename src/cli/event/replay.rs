//! `billhook event replay`

use clap::Args;
use serde_json::{Value, json};

use crate::billing::{self, Replay, ReplayError};
use crate::cli::{CommandError, open_store, print_json, print_sentences};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::ids::EventId;

pub(super) const AFTER_HELP: &str = "\
An event is applied at most once. An event that is failed, dead, parked or
quarantined is processed as if it had just arrived. An event that is applied,
stale or ignored stays so, and its customer's subscriptions are fetched from
Stripe. The service does both as soon as it runs.";

#[derive(Args)]
pub(in crate::cli) struct ReplayArgs {
    /// The Stripe events, `evt_...`
    #[arg(required = true)]
    event: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

type ReplayResult = Result<Replay, ReplayError>;

pub(super) async fn run(args: &ReplayArgs) -> Result<(), CommandError> {
    let ids = args.event.iter().map(|text| config::parse_id("EVENT", text));
    let ids: Vec<EventId> = ids.collect::<Result<_, _>>()?;
    let store = open_store(&args.database).await?;
    let mut results = Vec::new();
    let mut refused = Vec::new();
    for id in &ids {
        let result = billing::replay(&store, id, SystemClock.now_ms()).await?;
        if args.json {
            results.push(as_json(id, &result));
        } else if let Ok(replayed) = &result {
            print_sentences(&as_sentences(id, replayed))?;
        }
        refused.extend(result.err().map(|reason| format!("{id} {reason}")));
    }
    if args.json {
        print_json(&results.into())?;
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Failed(format!("not replayed: {}", refused.join("; "))))
    }
}

fn as_sentences(id: &EventId, replayed: &Replay) -> String {
    match replayed {
        Replay::Reprocess(outcome) => {
            format!("{id} was {outcome}. The service will process it again as soon as it runs.")
        }
        Replay::Refresh(outcome, customer) => format!(
            "{id} is {outcome} and is not applied twice. The service will fetch the subscriptions of {customer} from Stripe as \
             soon as it runs."
        ),
    }
}

fn as_json(id: &EventId, result: &ReplayResult) -> Value {
    let (action, outcome, reason) = match result {
        Ok(Replay::Reprocess(outcome)) => ("decided_anew", Some(outcome), None),
        Ok(Replay::Refresh(outcome, _)) => ("stripe_asked", Some(outcome), None),
        Err(ReplayError::Unknown) => ("none", None, Some("unknown")),
        Err(ReplayError::NoPayload(outcome)) => ("none", Some(outcome), Some("no_payload")),
        Err(ReplayError::NoTenant(outcome)) => ("none", Some(outcome), Some("no_tenant")),
    };
    json!({ "id": id, "outcome": outcome.map(|outcome| outcome.as_str()), "action": action, "reason": reason })
}
