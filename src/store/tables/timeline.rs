//! A tenant's history, from the journal, the inbox and the checkouts.

use entity::{checkout, event, transition};
use sea_orm::{ColumnTrait, DerivePartialModel, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::ids::TenantId;
use crate::store::{Store, StoreError};

#[derive(Debug)]
pub struct Timeline {
    /// Oldest first.
    pub entries: Vec<TimelineEntry>,
    /// Whether older entries were left out.
    pub has_older: bool,
}

/// Has the field names of the log lines.
#[derive(Debug, Default)]
pub struct TimelineEntry {
    /// When it was recorded or, for an event, received. In Unix milliseconds.
    pub at_ms: i64,
    /// `subscription.transition`, `event.applied`, `checkout.begun` and the like.
    pub what: String,
    /// The event's outcome so far.
    pub outcome: Option<String>,
    /// The subscription's status before.
    pub from: Option<String>,
    /// The subscription's status after.
    pub to: Option<String>,
    pub customer: Option<String>,
    pub subscription: Option<String>,
    /// The event's id.
    pub event: Option<String>,
    pub event_type: Option<String>,
    /// The Stripe API request that caused the event.
    pub request_id: Option<String>,
    /// The reason for the outcome, or the cause of a change without an event.
    pub reason: Option<String>,
    pub journey: Option<String>,
    /// `None` for a change by a command.
    pub trace: Option<String>,
}

/// An event without its payload, which is large and not needed here.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "event::Entity")]
struct EventRow {
    id: String,
    event_type: String,
    stripe_request_id: Option<String>,
    customer_id: Option<String>,
    subscription_id: Option<String>,
    journey_id: Option<String>,
    trace_id: Option<String>,
    outcome: String,
    reason: Option<String>,
    received_at_ms: i64,
}

impl Store {
    /// The latest entries.
    ///
    /// Sorted by time, for comparison with the log files: an event has the time of its arrival, and
    /// its changes the time when they were recorded, which is later for a parked event. Within a
    /// millisecond, checkouts come first, then events, then the journal.
    pub async fn timeline(&self, tenant: &TenantId, max_entries: usize) -> Result<Timeline, StoreError> {
        // One more of each, to find out whether there are older ones.
        let limit = max_entries as u64 + 1;
        let mut entries = self.checkouts_started(tenant, limit).await?;
        entries.extend(self.events_received(tenant, limit).await?);
        entries.extend(self.journal(tenant, limit).await?);
        // A stable sort, which keeps the order above within a millisecond.
        entries.sort_by_key(|entry| entry.at_ms);
        let surplus = entries.len().saturating_sub(max_entries);
        Ok(Timeline { entries: entries.split_off(surplus), has_older: surplus > 0 })
    }

    async fn checkouts_started(
        &self,
        tenant: &TenantId,
        limit: u64,
    ) -> Result<Vec<TimelineEntry>, StoreError> {
        let latest = checkout::Entity::find()
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .order_by_desc(checkout::Column::CreatedAtMs)
            .order_by_desc(checkout::Column::SessionId)
            .limit(limit);
        Ok(latest.all(&self.db).await?.into_iter().rev().map(started).collect())
    }

    async fn events_received(&self, tenant: &TenantId, limit: u64) -> Result<Vec<TimelineEntry>, StoreError> {
        let latest = event::Entity::find()
            .filter(event::Column::TenantId.eq(tenant.as_str()))
            .order_by_desc(event::Column::ReceivedAtMs)
            .order_by_desc(event::Column::Created)
            .order_by_desc(event::Column::Id)
            .limit(limit)
            .into_partial_model();
        Ok(latest.all(&self.db).await?.into_iter().rev().map(received).collect())
    }

    async fn journal(&self, tenant: &TenantId, limit: u64) -> Result<Vec<TimelineEntry>, StoreError> {
        let latest = transition::Entity::find()
            .filter(transition::Column::TenantId.eq(tenant.as_str()))
            .order_by_desc(transition::Column::RecordedAtMs)
            .order_by_desc(transition::Column::Id)
            .limit(limit);
        Ok(latest.all(&self.db).await?.into_iter().rev().map(journaled).collect())
    }
}

/// The id of the journey is also that of the trace.
fn started(row: checkout::Model) -> TimelineEntry {
    TimelineEntry {
        at_ms: row.created_at_ms,
        what: "checkout.begun".to_owned(),
        customer: Some(row.customer_id),
        journey: Some(row.journey_id.clone()),
        trace: Some(row.journey_id),
        ..TimelineEntry::default()
    }
}

fn received(row: EventRow) -> TimelineEntry {
    TimelineEntry {
        at_ms: row.received_at_ms,
        what: format!("event.{}", row.outcome),
        outcome: Some(row.outcome),
        customer: row.customer_id,
        subscription: row.subscription_id,
        event: Some(row.id),
        event_type: Some(row.event_type),
        request_id: row.stripe_request_id,
        reason: row.reason,
        journey: row.journey_id,
        trace: row.trace_id,
        ..TimelineEntry::default()
    }
}

/// The cause of a change by an event is the event's type.
pub(in crate::store) fn journaled(row: transition::Model) -> TimelineEntry {
    let (event_type, reason) =
        if row.event_id.is_some() { (Some(row.cause), None) } else { (None, Some(row.cause)) };
    TimelineEntry {
        at_ms: row.recorded_at_ms,
        what: row.entry,
        from: row.from_status,
        to: row.to_status,
        customer: Some(row.customer_id),
        subscription: row.subscription_id,
        event: row.event_id,
        event_type,
        reason,
        journey: row.journey_id,
        trace: row.trace_id,
        ..TimelineEntry::default()
    }
}
