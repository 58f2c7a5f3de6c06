//! `billhook event list`

use clap::{Args, ValueEnum};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

use super::as_json;
use crate::cli::table::{self, or_dash};
use crate::cli::{CommandError, migrated, say, say_there_are_more};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::ids::EventId;
use crate::domain::outcome::Outcome;
use crate::store::{InboxEvent, WantedEvents};
use crate::telemetry::topics::rfc3339;

/// How many events are listed: more than a person reads, and no answer that a tool cannot hold.
const MOST: usize = 200;

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    /// What became of them; several can be named [default: failed and dead]
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    outcome: Vec<WantedOutcome>,

    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,

    /// Only of this type, or of all that begin so: `customer.subscription.*`
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,

    /// Only what came since then: `2026-11-25`, `2026-11-25T10:00:00Z`, or so long ago: `90m`, `36h`, `7d`
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// Go on after this event, the last of the list before
    #[arg(long, value_name = "EVENT")]
    after: Option<String>,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

/// The outcomes that can be asked for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WantedOutcome {
    /// Could not be applied, and is tried again
    Failed,
    /// Was given up
    Dead,
    /// Waits for its customer to be linked
    Parked,
    /// Belongs to another mode or account
    Quarantined,
    /// Stands in the state
    Applied,
    /// Something later was known already
    Stale,
    /// Changes nothing here
    Ignored,
    /// Whatever it was
    All,
}

impl WantedOutcome {
    fn outcomes(self) -> Vec<Outcome> {
        match self {
            Self::Failed => vec![Outcome::Failed],
            Self::Dead => vec![Outcome::Dead],
            Self::Parked => vec![Outcome::Parked],
            Self::Quarantined => vec![Outcome::Quarantined],
            Self::Applied => vec![Outcome::Applied],
            Self::Stale => vec![Outcome::Stale],
            Self::Ignored => vec![Outcome::Ignored],
            Self::All => Outcome::OF_THE_INBOX.to_vec(),
        }
    }
}

pub(super) async fn run(args: &ListArgs) -> Result<(), CommandError> {
    let tenant = args.tenant.as_deref().map(|text| config::stored_tenant("--tenant", text)).transpose()?;
    let after: Option<EventId> =
        args.after.as_deref().map(|text| config::argument("--after", text)).transpose()?;
    let since_ms = args.since.as_deref().map(since_ms).transpose()?;
    let outcomes = outcomes(&args.outcome);
    let store = migrated(&args.database).await?;
    let after = match &after {
        Some(id) => Some(store.event(id).await?.ok_or_else(|| unknown(id))?),
        None => None,
    };
    let wanted = WantedEvents {
        outcomes: &outcomes,
        tenant: tenant.as_ref(),
        type_name: args.type_name.as_deref(),
        since_ms,
        after: after.as_ref(),
    };
    // One more than is told, to know whether there is more.
    let mut events = store.events(&wanted, MOST as u64 + 1).await?;
    let has_more = events.len() > MOST;
    events.truncate(MOST);
    if args.json {
        say(&format!("{:#}", events.iter().map(as_json).collect::<Value>()))?;
    } else if events.is_empty() {
        say(if args.outcome.is_empty() { NOTHING_FAILED } else { "There are none." })?;
    } else {
        say(&as_table(&events))?;
    }
    match events.last() {
        Some(last) if has_more => say_there_are_more(&last.id),
        _ => Ok(()),
    }
}

const NOTHING_FAILED: &str =
    "There are none that failed or were given up. Others are listed by --outcome, such as `all`.";

fn outcomes(wanted: &[WantedOutcome]) -> Vec<Outcome> {
    let wanted = if wanted.is_empty() { &[WantedOutcome::Failed, WantedOutcome::Dead] } else { wanted };
    let all: Vec<Outcome> = wanted.iter().flat_map(|wanted| wanted.outcomes()).collect();
    // Each once, whatever was named twice.
    Outcome::OF_THE_INBOX.into_iter().filter(|outcome| all.contains(outcome)).collect()
}

fn unknown(id: &EventId) -> CommandError {
    CommandError::Failed(format!("--after: {id} is not in the inbox"))
}

fn as_table(events: &[InboxEvent]) -> String {
    let cells = |event: &InboxEvent| {
        [
            event.id.to_string(),
            rfc3339(event.received_at_ms),
            event.type_name.clone(),
            event.outcome.to_string(),
            or_dash(event.reason.as_ref()),
            or_dash(event.tenant.as_ref()),
            or_dash(event.customer.as_ref()),
            event.attempts.to_string(),
            or_dash(event.trace.as_ref()),
        ]
    };
    let heading = ["EVENT", "RECEIVED", "TYPE", "OUTCOME", "REASON", "TENANT", "CUSTOMER", "TRIES", "TRACE"];
    table::under(heading, &events.iter().map(cells).collect::<Vec<_>>())
}

/// Reads a time, a day or a span that ends now, in Unix milliseconds.
fn since_ms(text: &str) -> Result<i64, CommandError> {
    let day = format_description!("[year]-[month]-[day]");
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| Date::parse(text, &day).map(|date| date.with_time(Time::MIDNIGHT).assume_utc()));
    let at_ms = time.ok().and_then(|time| time.unix_timestamp().checked_mul(1000));
    let ago_ms = || SystemClock.now_ms().checked_sub(span_ms(text)?);
    at_ms.or_else(ago_ms).ok_or_else(|| {
        config::missing("--since is neither a time (`2026-11-25T10:00:00Z`), nor a day, nor a span (`36h`)")
            .into()
    })
}

fn span_ms(text: &str) -> Option<i64> {
    let (number, unit_ms) = [("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        .into_iter()
        .find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)))?;
    i64::from(number.parse::<u32>().ok()?).checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_a_day_and_a_span_are_understood_and_nothing_else() {
        assert_eq!(since_ms("1970-01-02").ok(), Some(86_400_000));
        assert_eq!(since_ms("1970-01-01T01:00:01+01:00").ok(), Some(1000));
        for (span, ms) in [("90m", 5_400_000), ("36h", 129_600_000), ("7d", 604_800_000)] {
            assert_eq!(span_ms(span), Some(ms));
        }
        for nonsense in ["", "yesterday", "7", "d", "-1d", "1w", "2026-13-01", "99999999999d"] {
            assert!(since_ms(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn what_is_named_twice_is_listed_once() {
        let twice = outcomes(&[WantedOutcome::Dead, WantedOutcome::All]);
        assert_eq!(twice, Outcome::OF_THE_INBOX);
        assert_eq!(outcomes(&[]), [Outcome::Failed, Outcome::Dead]);
    }
}
