//! `billhook tenant show --timeline`

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::{CommandError, entry, say, table};
use crate::domain::ids::TenantId;
use crate::store::{Store, Timeline, TimelineEntry};

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

fn as_json(tenant: &TenantId, entries: &[TimelineEntry]) -> String {
    let objects = entries.iter().map(|entry| entry::as_json(Some(tenant), entry));
    format!("{:#}", objects.collect::<Value>())
}

fn as_lines(entries: &[TimelineEntry]) -> String {
    table::plain(&entries.iter().map(entry::cells).collect::<Vec<_>>())
}
