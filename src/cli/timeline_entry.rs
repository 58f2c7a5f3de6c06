//! One entry of a tenant's timeline, as JSON and as a row of a table.

use serde_json::{Map, Value};

use super::text::{or_dash, time};
use crate::domain::ids::TenantId;
use crate::store::TimelineEntry;
use crate::telemetry::topics::rfc3339;

pub(super) const HEADING: [&str; 8] =
    ["TIME", "WHAT", "STATUS", "SUBJECT", "EVENT", "REASON", "TYPE", "TRACE"];

/// The field names are those of the topic log lines, so that a tool that reads those can read these
/// too.
pub(super) fn as_json(tenant: Option<&TenantId>, entry: &TimelineEntry) -> Map<String, Value> {
    let fields = [
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
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

/// The subject is the subscription, else the customer.
pub(super) fn row(entry: &TimelineEntry) -> [String; 8] {
    let from = entry.from.as_deref().unwrap_or("-");
    [
        time(entry.at_ms),
        entry.what.clone(),
        or_dash(entry.to.as_ref().map(|to| format!("{from} -> {to}"))),
        or_dash(entry.subscription.as_ref().or(entry.customer.as_ref())),
        or_dash(entry.event.as_ref()),
        or_dash(entry.reason.as_ref()),
        or_dash(entry.event_type.as_ref()),
        or_dash(entry.trace.as_ref()),
    ]
}
