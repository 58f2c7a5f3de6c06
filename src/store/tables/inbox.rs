//! The inbox for the operator: lists of events, and the details of one event.

use std::cmp::{Ordering, Reverse};

use entity::{event, transition};
use sea_orm::sea_query::ExprTrait;
use sea_orm::{
    ColumnTrait, Condition, DerivePartialModel, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
};

use super::rows;
use super::timeline::journaled;
use crate::domain::ids::{EventId, TenantId};
use crate::domain::outcome::Outcome;
use crate::store::{Store, StoreError, TimelineEntry};

/// Without the payload, which is large and may contain personal data.
#[derive(Debug, Clone)]
pub struct InboxEvent {
    pub id: EventId,
    pub type_name: String,
    pub api_version: Option<String>,
    /// In Unix seconds, by Stripe's clock.
    pub created: i64,
    pub received_at_ms: i64,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub tenant: Option<TenantId>,
    pub customer: Option<String>,
    pub subscription: Option<String>,
    /// The Stripe API request that caused the event.
    pub request_id: Option<String>,
    pub journey: Option<String>,
    /// The trace that processed the event.
    pub trace: Option<String>,
    /// Failed retries.
    pub attempts: i64,
    pub retry_at_ms: Option<i64>,
}

#[derive(Debug)]
pub struct EventFilter<'a> {
    pub outcomes: &'a [Outcome],
    pub tenant: Option<&'a TenantId>,
    /// A prefix if it ends in `*`.
    pub type_name: Option<&'a str>,
    /// Received at this time or later, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// The last event of the previous page.
    pub after: Option<&'a InboxEvent>,
}

#[derive(DerivePartialModel)]
#[sea_orm(entity = "event::Entity")]
struct Row {
    id: String,
    event_type: String,
    api_version: Option<String>,
    created: i64,
    received_at_ms: i64,
    outcome: String,
    reason: Option<String>,
    tenant_id: Option<String>,
    customer_id: Option<String>,
    subscription_id: Option<String>,
    stripe_request_id: Option<String>,
    journey_id: Option<String>,
    trace_id: Option<String>,
    attempts: i64,
    retry_at_ms: Option<i64>,
}

impl Store {
    /// The event that was received last comes first.
    pub async fn events(&self, filter: &EventFilter<'_>, limit: u64) -> Result<Vec<InboxEvent>, StoreError> {
        let mut found = Vec::new();
        for outcome in filter.outcomes {
            // One index seek for each outcome. For all outcomes at once, the database would sort
            // the whole inbox.
            let latest = filter
                .query(*outcome)
                .order_by_desc(event::Column::ReceivedAtMs)
                .order_by_desc(event::Column::Id)
                .limit(limit);
            found.extend(latest.into_partial_model::<Row>().all(&self.db).await?);
        }
        // A stable sort: within a millisecond, the order of the outcomes and then of the database
        // remains.
        found.sort_by_key(|row| Reverse(row.received_at_ms));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        found.into_iter().map(read).collect()
    }

    pub async fn event(&self, id: &EventId) -> Result<Option<InboxEvent>, StoreError> {
        let row = event::Entity::find_by_id(id.as_str()).into_partial_model::<Row>().one(&self.db).await?;
        row.map(read).transpose()
    }

    /// `None` if the payload was deleted.
    pub async fn payload(&self, id: &EventId) -> Result<Option<Vec<u8>>, StoreError> {
        let payload: Option<Option<Vec<u8>>> = event::Entity::find_by_id(id.as_str())
            .select_only()
            .column(event::Column::Payload)
            .into_tuple()
            .one(&self.db)
            .await?;
        Ok(payload.flatten())
    }

    /// The journal entries of an event.
    pub async fn changes_by(&self, event: &InboxEvent) -> Result<Vec<TimelineEntry>, StoreError> {
        // Filters by tenant for the index.
        let Some(tenant) = &event.tenant else { return Ok(Vec::new()) };
        let changes = transition::Entity::find()
            .filter(transition::Column::TenantId.eq(tenant.as_str()))
            .filter(transition::Column::EventId.eq(event.id.as_str()))
            .order_by_asc(transition::Column::Id);
        Ok(changes.all(&self.db).await?.into_iter().map(journaled).collect())
    }
}

impl EventFilter<'_> {
    fn query(&self, outcome: Outcome) -> Select<event::Entity> {
        use event::Column::{EventType, ReceivedAtMs, TenantId};
        let of_type = self.type_name.map(|name| match name.strip_suffix('*') {
            Some(prefix) => EventType.starts_with(prefix),
            None => EventType.eq(name),
        });
        event::Entity::find()
            .filter(event::Column::Outcome.eq(outcome.as_str()))
            .apply_if(self.tenant, |events, tenant| events.filter(TenantId.eq(tenant.as_str())))
            .apply_if(of_type, QueryFilter::filter)
            .apply_if(self.since_ms, |events, since_ms| events.filter(ReceivedAtMs.gte(since_ms)))
            .apply_if(self.after, |events, after| events.filter(comes_after(after, outcome)))
    }
}

/// Whether an event with this outcome comes after that one in the list.
fn comes_after(after: &InboxEvent, outcome: Outcome) -> Condition {
    use event::Column::{Id, ReceivedAtMs};
    let earlier = Condition::any().add(ReceivedAtMs.lt(after.received_at_ms));
    let same_time = ReceivedAtMs.eq(after.received_at_ms);
    match outcome.cmp(&after.outcome) {
        Ordering::Less => earlier,
        Ordering::Equal => earlier.add(same_time.and(Id.lt(after.id.as_str()))),
        Ordering::Greater => earlier.add(same_time),
    }
}

fn read(row: Row) -> Result<InboxEvent, StoreError> {
    Ok(InboxEvent {
        id: rows::id("event", &row.id)?,
        type_name: row.event_type,
        api_version: row.api_version,
        created: row.created,
        received_at_ms: row.received_at_ms,
        outcome: rows::word("event", &row.outcome, Outcome::parse)?,
        reason: row.reason,
        tenant: row.tenant_id.as_deref().map(|text| rows::tenant_id("event", text)).transpose()?,
        customer: row.customer_id,
        subscription: row.subscription_id,
        request_id: row.stripe_request_id,
        journey: row.journey_id,
        trace: row.trace_id,
        attempts: row.attempts,
        retry_at_ms: row.retry_at_ms,
    })
}
