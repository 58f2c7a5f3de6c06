//! Replaying an event of the inbox for an operator.
//!
//! An event is applied at most once. An unsettled event is processed by the usual rule, as if it
//! had just arrived. A settled one already had its effect, and its content may be outdated, so
//! Stripe is asked for the current state instead.

use crate::domain::ids::{CustomerId, EventId};
use crate::domain::outcome::Outcome;
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::store::{InboxEvent, Store, StoreError};

/// What the service does with the event once it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Processes the event, which had this outcome, as if it had just arrived.
    Reprocess(Outcome),
    /// Keeps the outcome and refreshes the event's customer from Stripe.
    Refresh(Outcome, CustomerId),
}

/// Why an event cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("is not in the inbox")]
    Unknown,
    #[error("is {0}, and its payload is not stored")]
    NoPayload(Outcome),
    #[error("is {0}, and no tenant has its customer: there is nothing to ask Stripe about")]
    NoTenant(Outcome),
}

/// Marks an event for replay. The mark is a row, so the service picks it up once it runs.
pub async fn replay(
    store: &Store,
    id: &EventId,
    now_ms: i64,
) -> Result<Result<Replay, ReplayError>, StoreError> {
    let Some(event) = store.event(id).await? else { return Ok(Err(ReplayError::Unknown)) };
    if event.outcome.is_settled() {
        return refresh_customer(store, &event, now_ms).await;
    }
    let is_due = store.retry_event(id, now_ms).await?;
    Ok(if is_due { Ok(Replay::Reprocess(event.outcome)) } else { Err(ReplayError::NoPayload(event.outcome)) })
}

async fn refresh_customer(
    store: &Store,
    event: &InboxEvent,
    now_ms: i64,
) -> Result<Result<Replay, ReplayError>, StoreError> {
    let no_tenant = Ok(Err(ReplayError::NoTenant(event.outcome)));
    let customer = event.customer.as_deref().and_then(|text| CustomerId::parse(text).ok());
    let Some(customer) = customer else { return no_tenant };
    let Some(tenant) = store.tenant_of(&customer).await? else { return no_tenant };
    let refresh = Refresh {
        subject: RefreshSubject::Customer(customer.clone()),
        customer: customer.clone(),
        tenant,
        reason: RefreshReason::Operator,
        event: Some(event.id.clone()),
    };
    store.insert_new_refreshes(&[refresh], None, now_ms).await?;
    Ok(Ok(Replay::Refresh(event.outcome, customer)))
}
