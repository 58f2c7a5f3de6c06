//! `billhook event list`

use clap::{Args, ValueEnum};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

use super::as_json;
use crate::cli::table;
use crate::cli::text::{or_dash, time};
use crate::cli::{CommandError, open_store, print, print_json, print_more_hint};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, ConfigError, DatabaseArgs};
use crate::domain::ids::EventId;
use crate::domain::outcome::Outcome;
use crate::store::{EventFilter, InboxEvent};

/// More than a person reads, and few enough for a tool to hold.
const MAX_LISTED: usize = 200;

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    /// List only events with these outcomes [default: failed,dead]
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    outcome: Vec<OutcomeFilter>,

    /// List only this tenant's events
    #[arg(long)]
    tenant: Option<String>,

    /// List only events of this type, or of all types that start so: `customer.subscription.*`
    #[arg(long = "type", value_name = "TYPE")]
    type_name: Option<String>,

    /// List only events received since a time (`2026-11-25`, `2026-11-25T10:00:00Z`) or for a span
    /// until now (`90m`, `36h`, `7d`)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// Continue after this event, the last one of the previous list
    #[arg(long, value_name = "EVENT")]
    after: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutcomeFilter {
    /// Could not be applied; will be retried
    Failed,
    /// Could not be applied; no more retries
    Dead,
    /// Waits for its customer to be linked
    Parked,
    /// Belongs to another mode, account or deployment
    Quarantined,
    /// Was applied
    Applied,
    /// Was older than the stored state
    Stale,
    /// Changes nothing here
    Ignored,
    /// All of these
    All,
}

impl OutcomeFilter {
    fn outcomes(self) -> Vec<Outcome> {
        match self {
            Self::Failed => vec![Outcome::Failed],
            Self::Dead => vec![Outcome::Dead],
            Self::Parked => vec![Outcome::Parked],
            Self::Quarantined => vec![Outcome::Quarantined],
            Self::Applied => vec![Outcome::Applied],
            Self::Stale => vec![Outcome::Stale],
            Self::Ignored => vec![Outcome::Ignored],
            Self::All => Outcome::STORED.to_vec(),
        }
    }
}

pub(super) async fn run(args: &ListArgs) -> Result<(), CommandError> {
    let tenant =
        args.tenant.as_deref().map(|text| config::parse_stored_tenant("--tenant", text)).transpose()?;
    let after: Option<EventId> =
        args.after.as_deref().map(|text| config::parse_id("--after", text)).transpose()?;
    let since_ms = args.since.as_deref().map(since_ms).transpose()?;
    let outcomes = outcomes(&args.outcome);
    let store = open_store(&args.database).await?;
    let after = match &after {
        Some(id) => Some(store.event(id).await?.ok_or_else(|| unknown(id))?),
        None => None,
    };
    let wanted = EventFilter {
        outcomes: &outcomes,
        tenant: tenant.as_ref(),
        type_name: args.type_name.as_deref(),
        since_ms,
        after: after.as_ref(),
    };
    // One more than is listed, to know whether there are more.
    let mut events = store.events(&wanted, MAX_LISTED as u64 + 1).await?;
    let has_more = events.len() > MAX_LISTED;
    events.truncate(MAX_LISTED);
    if args.json {
        print_json(&events.iter().map(as_json).collect())?;
    } else if events.is_empty() {
        print(if args.outcome.is_empty() { NO_FAILED_EVENT } else { "No event matches." })?;
    } else {
        print(&as_table(&events))?;
    }
    match events.last() {
        Some(last) if has_more => print_more_hint(&last.id),
        _ => Ok(()),
    }
}

const NO_FAILED_EVENT: &str =
    "No event is failed or dead. List other events with --outcome, such as `--outcome all`.";

fn outcomes(filters: &[OutcomeFilter]) -> Vec<Outcome> {
    let filters = if filters.is_empty() { &[OutcomeFilter::Failed, OutcomeFilter::Dead] } else { filters };
    let all: Vec<Outcome> = filters.iter().flat_map(|filter| filter.outcomes()).collect();
    // Each outcome once, even if it was named twice.
    Outcome::STORED.into_iter().filter(|outcome| all.contains(outcome)).collect()
}

fn unknown(id: &EventId) -> CommandError {
    CommandError::Failed(format!("--after: {id} is not in the inbox"))
}

fn as_table(events: &[InboxEvent]) -> String {
    let row = |event: &InboxEvent| {
        [
            event.id.to_string(),
            time(event.received_at_ms),
            event.outcome.to_string(),
            event.attempts.to_string(),
            event.type_name.clone(),
            or_dash(event.reason.as_ref()),
            or_dash(event.tenant.as_ref()),
            or_dash(event.customer.as_ref()),
            or_dash(event.trace.as_ref()),
        ]
    };
    let heading =
        ["EVENT", "RECEIVED", "OUTCOME", "ATTEMPTS", "TYPE", "REASON", "TENANT", "CUSTOMER", "TRACE"];
    table::with_heading(heading, &events.iter().map(row).collect::<Vec<_>>())
}

/// Parses a time, a day or a span that ends now. Returns its start in Unix milliseconds.
fn since_ms(text: &str) -> Result<i64, CommandError> {
    let day = format_description!("[year]-[month]-[day]");
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| Date::parse(text, &day).map(|date| date.with_time(Time::MIDNIGHT).assume_utc()));
    let at_ms = time.ok().and_then(|time| time.unix_timestamp().checked_mul(1000));
    let ago_ms = || SystemClock.now_ms().checked_sub(span_ms(text)?);
    at_ms.or_else(ago_ms).ok_or_else(|| {
        ConfigError::new("--since", "is not a time (`2026-11-25T10:00:00Z`), a day or a span (`36h`)").into()
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
    fn since_accepts_time_day_and_span_only() {
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
    fn outcome_named_twice_is_listed_once() {
        let twice = outcomes(&[OutcomeFilter::Dead, OutcomeFilter::All]);
        assert_eq!(twice, Outcome::STORED);
        assert_eq!(outcomes(&[]), [Outcome::Failed, Outcome::Dead]);
    }
}
