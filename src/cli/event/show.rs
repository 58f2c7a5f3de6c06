//! `billhook event show`

use clap::Args;
use serde_json::{Value, json};

use super::as_json;
use crate::cli::entry::{self, cells};
use crate::cli::table::{self, or_dash};
use crate::cli::{CommandError, migrated, say};
use crate::config::{self, DatabaseArgs};
use crate::domain::event::may_be_kept;
use crate::domain::ids::EventId;
use crate::domain::outcome::{NEVER_LINKED, TENANT_ERASED};
use crate::store::{InboxEvent, TimelineEntry};
use crate::telemetry::topics::rfc3339;

#[derive(Args)]
pub(in crate::cli) struct ShowArgs {
    /// Stripe's event, `evt_...`
    event: String,

    /// Print the bytes that came, too: they have personal data
    #[arg(long)]
    payload: bool,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
}

/// What has become of the bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// They are there.
    There,
    /// They were, until nobody needed them any more.
    Dropped,
    /// They never were: the event concerns nothing here, or bears a key.
    Never,
}

pub(super) async fn run(args: &ShowArgs) -> Result<(), CommandError> {
    let id: EventId = config::argument("EVENT", &args.event)?;
    let store = migrated(&args.database).await?;
    let Some(event) = store.event(&id).await? else {
        return Err(CommandError::Failed(format!(
            "{id} is not in the inbox: it never came, or is another database's"
        )));
    };
    let payload = store.payload(&id).await?;
    let kept = Kept::of(&event, payload.as_deref());
    let changes = store.changes_by(&event).await?;
    let payload = payload.filter(|_| args.payload);
    if args.json {
        return say(&in_json(&event, kept, payload.as_deref(), &changes));
    }
    say(&in_lines(&event, kept, &changes))?;
    payload.map_or(Ok(()), |payload| say(&format!("\n{}", String::from_utf8_lossy(&payload))))
}

impl Kept {
    fn of(event: &InboxEvent, payload: Option<&[u8]>) -> Self {
        let reason = event.reason.as_deref();
        let was_kept = matches!(reason, Some(NEVER_LINKED | TENANT_ERASED));
        match payload {
            Some(_) => Self::There,
            None if !may_be_kept(&event.type_name, event.outcome) => Self::Never,
            None if !event.outcome.keeps_payload(reason) && !was_kept => Self::Never,
            None => Self::Dropped,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::There => "kept",
            Self::Dropped => "dropped",
            Self::Never => "never_kept",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::There => "kept; --payload prints it",
            Self::Dropped => "dropped: it was old, or its tenant was erased",
            Self::Never => {
                "never kept: it concerns nothing here or a deleted customer, or bears a key or a customer's personal data"
            }
        }
    }
}

fn in_json(event: &InboxEvent, kept: Kept, payload: Option<&[u8]>, changes: &[TimelineEntry]) -> String {
    let mut shown = as_json(event);
    let changes: Vec<Value> =
        changes.iter().map(|change| entry::as_json(event.tenant.as_ref(), change).into()).collect();
    let more = json!({
        "api_version": event.api_version,
        "request_id": event.request_id,
        "journey_id": event.journey,
        "payload_is": kept.as_str(),
        "changes": changes,
    });
    shown.extend(more.as_object().cloned().unwrap_or_default());
    if let Some(payload) = payload {
        shown.insert("payload".to_owned(), serde_json::from_slice(payload).unwrap_or_default());
    }
    format!("{:#}", Value::from(shown))
}

fn in_lines(event: &InboxEvent, kept: Kept, changes: &[TimelineEntry]) -> String {
    let fields = [
        ("event", event.id.to_string()),
        ("type", event.type_name.clone()),
        ("api_version", or_dash(event.api_version.as_ref())),
        ("created", rfc3339(event.created.saturating_mul(1000))),
        ("received", rfc3339(event.received_at_ms)),
        ("outcome", event.outcome.to_string()),
        ("reason", or_dash(event.reason.as_ref())),
        ("tenant", or_dash(event.tenant.as_ref())),
        ("customer", or_dash(event.customer.as_ref())),
        ("subscription", or_dash(event.subscription.as_ref())),
        ("request_id", or_dash(event.request_id.as_ref())),
        ("attempts", event.attempts.to_string()),
        ("next_try", or_dash(event.retry_at_ms.map(rfc3339))),
        ("journey_id", or_dash(event.journey.as_ref())),
        ("trace_id", or_dash(event.trace.as_ref())),
        ("payload", kept.sentence().to_owned()),
        ("changed", if changes.is_empty() { "nothing".to_owned() } else { String::new() }),
    ];
    let changes = table::plain(&changes.iter().map(cells).collect::<Vec<_>>());
    let changes: Vec<String> = changes.lines().map(|line| format!("  {line}")).collect();
    let fields = table::fields(&fields).lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    std::iter::once(fields).chain(changes).collect::<Vec<_>>().join("\n")
}
