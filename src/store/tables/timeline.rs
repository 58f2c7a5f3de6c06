//! A tenant's story, from what was written down of it: the journal, the inbox and the checkouts.

use entity::{checkout, event, transition};
use sea_orm::{ColumnTrait, DerivePartialModel, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::ids::TenantId;
use crate::store::{Store, StoreError};

/// A tenant's story, oldest first.
#[derive(Debug)]
pub struct Timeline {
    /// What happened.
    pub entries: Vec<TimelineEntry>,
    /// Whether something older is left out.
    pub has_older: bool,
}

/// One thing that happened in a tenant's billing, in the words of the log lines.
#[derive(Debug, Default)]
pub struct TimelineEntry {
    /// When it was written down or, for an event, when it came. In Unix milliseconds.
    pub at_ms: i64,
    /// `subscription.transition`, `event.applied`, `checkout.begun` and the like.
    pub what: String,
    /// What has become of an event by now.
    pub outcome: Option<String>,
    /// A subscription's status before.
    pub from: Option<String>,
    /// Its status after.
    pub to: Option<String>,
    /// Whose card is charged.
    pub customer: Option<String>,
    /// Which subscription it is about.
    pub subscription: Option<String>,
    /// The event, `evt_...`.
    pub event: Option<String>,
    /// Stripe's word for that event.
    pub event_type: Option<String>,
    /// Stripe's id of the request that caused that event.
    pub request_id: Option<String>,
    /// Why: what an outcome alone does not say, or our own word for what no event did.
    pub reason: Option<String>,
    /// The journey it belongs to.
    pub journey: Option<String>,
    /// The trace in which it happened; none at the command line.
    pub trace: Option<String>,
}

/// An event without its payload, which is large and nobody's to read here.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "event::Entity")]
struct Arrival {
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
    /// The latest of the tenant's story, at most so many entries.
    ///
    /// It goes by time, so that it can be laid beside the log files: an event stands where it came, and what it changed
    /// where that was written, at once or when its wait for its tenant was over. Within a millisecond, too, what leads to
    /// something comes before it: a checkout, then the events, then the journal as it was written.
    pub async fn timeline(&self, tenant: &TenantId, most: usize) -> Result<Timeline, StoreError> {
        // One more of each than is told, to know whether there is more.
        let limit = most as u64 + 1;
        let mut entries = self.checkouts_begun(tenant, limit).await?;
        entries.extend(self.events_received(tenant, limit).await?);
        entries.extend(self.journal(tenant, limit).await?);
        // A stable sort: what is of one millisecond stays in the order above.
        entries.sort_by_key(|entry| entry.at_ms);
        let surplus = entries.len().saturating_sub(most);
        Ok(Timeline { entries: entries.split_off(surplus), has_older: surplus > 0 })
    }

    async fn checkouts_begun(&self, tenant: &TenantId, limit: u64) -> Result<Vec<TimelineEntry>, StoreError> {
        let latest = checkout::Entity::find()
            .filter(checkout::Column::TenantId.eq(tenant.as_str()))
            .order_by_desc(checkout::Column::CreatedAtMs)
            .order_by_desc(checkout::Column::SessionId)
            .limit(limit);
        Ok(latest.all(&self.db).await?.into_iter().rev().map(begun).collect())
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

/// A checkout began its journey, whose id is that of its trace. It had no subscription yet.
fn begun(row: checkout::Model) -> TimelineEntry {
    TimelineEntry {
        at_ms: row.created_at_ms,
        what: "checkout.begun".to_owned(),
        customer: Some(row.customer_id),
        journey: Some(row.journey_id.clone()),
        trace: Some(row.journey_id),
        ..TimelineEntry::default()
    }
}

fn received(row: Arrival) -> TimelineEntry {
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

/// The cause is an event's type where an event did it, else our own word.
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
