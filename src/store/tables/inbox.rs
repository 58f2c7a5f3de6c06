//! The inbox as a person looks at it: lists of events, and all that is known of one.

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

/// An event without its payload, which is large and may be personal.
#[derive(Debug, Clone)]
pub struct InboxEvent {
    /// `evt_...`
    pub id: EventId,
    /// Stripe's word for what happened.
    pub type_name: String,
    /// The version of Stripe's API that it is written in.
    pub api_version: Option<String>,
    /// When Stripe made it, in Unix seconds.
    pub created: i64,
    /// When it came, in Unix milliseconds.
    pub received_at_ms: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// The customer that it names.
    pub customer: Option<String>,
    /// The subscription that it names.
    pub subscription: Option<String>,
    /// Stripe's id of the request that caused it.
    pub request_id: Option<String>,
    /// The journey it belongs to.
    pub journey: Option<String>,
    /// The trace that processed it.
    pub trace: Option<String>,
    /// How often it was tried again in vain.
    pub attempts: i64,
    /// When it is tried again, in Unix milliseconds.
    pub retry_at_ms: Option<i64>,
}

/// Which events are looked for.
#[derive(Debug)]
pub struct WantedEvents<'a> {
    /// With one of these outcomes.
    pub outcomes: &'a [Outcome],
    /// Of this tenant.
    pub tenant: Option<&'a TenantId>,
    /// Of this type, or of all that begin so if it ends in `*`.
    pub type_name: Option<&'a str>,
    /// That came at this time or later, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// That stand after this one in the list.
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
    /// The events that are looked for, the latest that came first.
    pub async fn events(&self, wanted: &WantedEvents<'_>, most: u64) -> Result<Vec<InboxEvent>, StoreError> {
        let mut found = Vec::new();
        for outcome in wanted.outcomes {
            // One seek in an index for each outcome: of all at once the database would have to sort the whole inbox.
            let latest = wanted
                .with(*outcome)
                .order_by_desc(event::Column::ReceivedAtMs)
                .order_by_desc(event::Column::Id)
                .limit(most);
            found.extend(latest.into_partial_model::<Row>().all(&self.db).await?);
        }
        // A stable sort: what came in one millisecond stays in the order of the outcomes, then in the database's own.
        found.sort_by_key(|row| Reverse(row.received_at_ms));
        found.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        found.into_iter().map(read).collect()
    }

    /// An event, if it is in the inbox.
    pub async fn event(&self, id: &EventId) -> Result<Option<InboxEvent>, StoreError> {
        let row = event::Entity::find_by_id(id.as_str()).into_partial_model::<Row>().one(&self.db).await?;
        row.map(read).transpose()
    }

    /// The bytes of an event, if they are kept.
    pub async fn payload(&self, id: &EventId) -> Result<Option<Vec<u8>>, StoreError> {
        let payload: Option<Option<Vec<u8>>> = event::Entity::find_by_id(id.as_str())
            .select_only()
            .column(event::Column::Payload)
            .into_tuple()
            .one(&self.db)
            .await?;
        Ok(payload.flatten())
    }

    /// What an event changed, as the journal tells it.
    pub async fn changes_by(&self, event: &InboxEvent) -> Result<Vec<TimelineEntry>, StoreError> {
        // By its tenant, whose journal has an index.
        let Some(tenant) = &event.tenant else { return Ok(Vec::new()) };
        let changes = transition::Entity::find()
            .filter(transition::Column::TenantId.eq(tenant.as_str()))
            .filter(transition::Column::EventId.eq(event.id.as_str()))
            .order_by_asc(transition::Column::Id);
        Ok(changes.all(&self.db).await?.into_iter().map(journaled).collect())
    }
}

impl WantedEvents<'_> {
    /// Those of them that have this outcome.
    fn with(&self, outcome: Outcome) -> Select<event::Entity> {
        use event::Column::{EventType, ReceivedAtMs, TenantId};
        let of_type = self.type_name.map(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => EventType.starts_with(beginning),
            None => EventType.eq(wanted),
        });
        event::Entity::find()
            .filter(event::Column::Outcome.eq(outcome.as_str()))
            .apply_if(self.tenant, |events, tenant| events.filter(TenantId.eq(tenant.as_str())))
            .apply_if(of_type, QueryFilter::filter)
            .apply_if(self.since_ms, |events, since_ms| events.filter(ReceivedAtMs.gte(since_ms)))
            .apply_if(self.after, |events, after| events.filter(stands_after(after, outcome)))
    }
}

/// Whether an event with this outcome stands after that one in the list.
fn stands_after(after: &InboxEvent, outcome: Outcome) -> Condition {
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
