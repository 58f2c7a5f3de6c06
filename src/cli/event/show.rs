//! `billhook event show`

use clap::Args;
use serde_json::{Value, json};

use super::as_json;
use crate::cli::text::{or_dash, time, time_of_seconds};
use crate::cli::{CommandError, open_store, print, print_json, table, timeline_entry};
use crate::config::{self, DatabaseArgs};
use crate::domain::event::may_keep_payload;
use crate::domain::ids::EventId;
use crate::domain::outcome::{NEVER_LINKED, TENANT_ERASED};
use crate::store::{InboxEvent, TimelineEntry};

#[derive(Args)]
pub(in crate::cli) struct ShowArgs {
    /// The Stripe event, `evt_...`
    event: String,

    /// Also print the payload, which has personal data
    #[arg(long)]
    payload: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PayloadState {
    Kept,
    /// Retention or an erasure deleted it.
    Deleted,
    /// It was not stored: the event changes nothing here, or contains a key.
    NeverKept,
}

pub(super) async fn run(args: &ShowArgs) -> Result<(), CommandError> {
    let id: EventId = config::parse_id("EVENT", &args.event)?;
    let store = open_store(&args.database).await?;
    let Some(event) = store.event(&id).await? else {
        return Err(CommandError::Failed(format!(
            "{id} is not in the inbox: it was never received, or is in another database"
        )));
    };
    let payload = store.payload(&id).await?;
    let payload_state = PayloadState::of(&event, payload.as_deref());
    let changes = store.changes_by(&event).await?;
    let payload = payload.filter(|_| args.payload);
    if args.json {
        return print_json(&as_json_with_changes(&event, payload_state, payload.as_deref(), &changes));
    }
    print(&as_text(&event, payload_state, &changes))?;
    payload.map_or(Ok(()), |payload| print(&format!("\n{}", String::from_utf8_lossy(&payload))))
}

impl PayloadState {
    fn of(event: &InboxEvent, payload: Option<&[u8]>) -> Self {
        let reason = event.reason.as_deref();
        let was_kept = matches!(reason, Some(NEVER_LINKED | TENANT_ERASED));
        match payload {
            Some(_) => Self::Kept,
            None if !may_keep_payload(&event.type_name, event.outcome) => Self::NeverKept,
            None if !event.outcome.keeps_payload(reason) && !was_kept => Self::NeverKept,
            None => Self::Deleted,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Deleted => "dropped",
            Self::NeverKept => "never_kept",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Kept => "kept; --payload prints it",
            Self::Deleted => "deleted: it was old, or its tenant was erased",
            Self::NeverKept => {
                "never kept: the event changes nothing here or is about a deleted customer, or the payload has a key or a \
                 customer's personal data"
            }
        }
    }
}

fn as_json_with_changes(
    event: &InboxEvent,
    payload_state: PayloadState,
    payload: Option<&[u8]>,
    changes: &[TimelineEntry],
) -> Value {
    let mut shown = as_json(event);
    let change = |change| timeline_entry::as_json(event.tenant.as_ref(), change).into();
    let more = json!({
        "api_version": event.api_version,
        "request_id": event.request_id,
        "journey_id": event.journey,
        "payload_is": payload_state.as_str(),
        "changes": changes.iter().map(change).collect::<Vec<Value>>(),
    });
    shown.extend(more.as_object().cloned().unwrap_or_default());
    if let Some(payload) = payload {
        shown.insert("payload".to_owned(), serde_json::from_slice(payload).unwrap_or_default());
    }
    shown.into()
}

fn as_text(event: &InboxEvent, payload_state: PayloadState, changes: &[TimelineEntry]) -> String {
    let fields = table::fields(&[
        ("event", event.id.to_string()),
        ("type", event.type_name.clone()),
        ("api_version", or_dash(event.api_version.as_ref())),
        ("created", time_of_seconds(event.created)),
        ("received", time(event.received_at_ms)),
        ("outcome", event.outcome.to_string()),
        ("reason", or_dash(event.reason.as_ref())),
        ("tenant", or_dash(event.tenant.as_ref())),
        ("customer", or_dash(event.customer.as_ref())),
        ("subscription", or_dash(event.subscription.as_ref())),
        ("request_id", or_dash(event.request_id.as_ref())),
        ("attempts", event.attempts.to_string()),
        ("next_try", or_dash(event.retry_at_ms.map(time))),
        ("journey_id", or_dash(event.journey.as_ref())),
        ("trace_id", or_dash(event.trace.as_ref())),
        ("payload", payload_state.sentence().to_owned()),
        ("changes", if changes.is_empty() { "none".to_owned() } else { changes.len().to_string() }),
    ]);
    if changes.is_empty() {
        return fields;
    }
    let rows: Vec<_> = changes.iter().map(timeline_entry::row).collect();
    format!("{fields}\n\n{}", table::with_heading(timeline_entry::HEADING, &rows))
}
