//! `billhook tenant show --timeline`

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::commands::{CommandError, say};
use crate::domain::ids::TenantId;
use crate::store::{Store, Timeline, TimelineEntry};
use crate::telemetry::topics::rfc3339;

/// How many entries are told, the latest. A subscription that renews makes four a month: this is ten years of one, and
/// still no more than a terminal scrolls back.
const MOST: usize = 500;

/// Tells the tenant's story.
pub(super) async fn tell(store: &Store, tenant: &TenantId, json: bool) -> Result<(), CommandError> {
    let Timeline { entries, has_older } = store.timeline(tenant, MOST).await?;
    say(&if json { as_json(tenant, &entries) } else { as_lines(&entries) })?;
    if has_older {
        // Not on stdout, where every line and every member of the array is an entry.
        writeln!(io::stderr(), "billhook: these are the latest {MOST} entries; there are older ones")?;
    }
    Ok(())
}

/// The names are the log lines', so that what reads those reads these too.
fn as_json(tenant: &TenantId, entries: &[TimelineEntry]) -> String {
    let object = |entry: &TimelineEntry| {
        let known = [
            ("time", Some(rfc3339(entry.at_ms))),
            ("event", Some(entry.what.clone())),
            ("outcome", entry.outcome.clone()),
            ("tenant_id", Some(tenant.to_string())),
            ("customer_id", entry.customer.clone()),
            ("subscription_id", entry.subscription.clone()),
            ("stripe_event_id", entry.event.clone()),
            ("stripe_event_type", entry.event_type.clone()),
            ("stripe_request_id", entry.request_id.clone()),
            ("journey_id", entry.journey.clone()),
            ("trace_id", entry.trace.clone()),
            ("from", entry.from.clone()),
            ("to", entry.to.clone()),
            ("reason", entry.reason.clone()),
        ];
        known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
    };
    let objects: Vec<Map<String, Value>> = entries.iter().map(object).collect();
    format!("{:#}", Value::from(objects))
}

/// One line an entry, each column as wide as its widest cell.
fn as_lines(entries: &[TimelineEntry]) -> String {
    let rows: Vec<[String; 6]> = entries.iter().map(cells).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default());
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let line = cells.map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// When, what, from which status to which, of which subscription or else customer, why, and in which trace.
fn cells(entry: &TimelineEntry) -> [String; 6] {
    let from = entry.from.as_deref().unwrap_or("-");
    let statuses = entry.to.as_ref().map(|to| format!("{from} -> {to}"));
    let of = entry.subscription.as_ref().or(entry.customer.as_ref());
    let why = [&entry.event_type, &entry.event, &entry.reason];
    [
        rfc3339(entry.at_ms),
        entry.what.clone(),
        statuses.unwrap_or_default(),
        of.cloned().unwrap_or_default(),
        why.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" "),
        format!("trace={}", entry.trace.as_deref().unwrap_or("-")),
    ]
}
