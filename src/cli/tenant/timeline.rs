//! `billhook tenant show --timeline`

use std::io::{self, Write};

use crate::cli::{CommandError, print, print_json, table, timeline_entry};
use crate::domain::ids::TenantId;
use crate::store::{Store, Timeline};

/// A subscription that is renewed makes four entries a month, so these are ten years of one. It is
/// still no more than a terminal scrolls back.
const MAX_ENTRIES: usize = 500;

/// Prints the latest entries, the oldest first.
pub(super) async fn show(store: &Store, tenant: &TenantId, json: bool) -> Result<(), CommandError> {
    let Timeline { entries, has_older } = store.timeline(tenant, MAX_ENTRIES).await?;
    if json {
        let objects = entries.iter().map(|entry| timeline_entry::as_json(Some(tenant), entry));
        print_json(&objects.collect())?;
    } else {
        let rows: Vec<_> = entries.iter().map(timeline_entry::row).collect();
        print(&table::with_heading(timeline_entry::HEADING, &rows))?;
    }
    if has_older {
        // Not to stdout, where every line and array member is an entry.
        writeln!(io::stderr(), "billhook: these are the latest {MAX_ENTRIES} entries; there are older ones")?;
    }
    Ok(())
}
