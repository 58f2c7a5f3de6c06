//! One thing that happened in a tenant's billing, for people and for tools.

use serde_json::{Map, Value};

use crate::domain::ids::TenantId;
use crate::store::TimelineEntry;
use crate::telemetry::topics::rfc3339;

/// The names are the log lines', so that what reads those reads these too.
pub(super) fn as_json(tenant: Option<&TenantId>, entry: &TimelineEntry) -> Map<String, Value> {
    let known = [
        ("time", Some(rfc3339(entry.at_ms))),
        ("event", Some(entry.what.clone())),
        ("outcome", entry.outcome.clone()),
        ("tenant_id", tenant.map(ToString::to_string)),
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
}

/// When, what, from which status to which, of which subscription or else customer, why, and in which trace.
pub(super) fn cells(entry: &TimelineEntry) -> [String; 6] {
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
