//! Having an event of the inbox looked at anew, because a person wants it.
//!
//! An event is applied at most once. One that is not settled yet is decided on by the rule as if it had just come. One
//! that is has had its effect, and what was true then may be long overtaken: Stripe is asked what is true now.

use crate::domain::ids::{CustomerId, EventId};
use crate::domain::outcome::Outcome;
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::store::{InboxEvent, Store, StoreError};

/// What the service does as soon as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// Decides on an event that had this outcome as if it had just come.
    DecidedAnew(Outcome),
    /// Asks Stripe about the customer of an event that has this outcome, and keeps it.
    Asked(Outcome, CustomerId),
}

/// Why an event is not looked at anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayed {
    /// It never came.
    #[error("is not in the inbox")]
    Unknown,
    /// There is nothing to decide on.
    #[error("is {0}, and its payload is not kept")]
    NoPayload(Outcome),
    /// There is nobody to ask about.
    #[error("is {0}, and no tenant has its customer: there is nothing to ask Stripe about")]
    NoTenant(Outcome),
}

/// Has an event looked at anew by the service. What is to be done is a row: it is done once the service runs.
pub async fn replay(
    store: &Store,
    id: &EventId,
    now_ms: i64,
) -> Result<Result<Replayed, NotReplayed>, StoreError> {
    let Some(event) = store.event(id).await? else { return Ok(Err(NotReplayed::Unknown)) };
    if event.outcome.is_settled() {
        return ask(store, &event, now_ms).await;
    }
    let is_due = store.decide_anew(id, now_ms).await?;
    Ok(if is_due {
        Ok(Replayed::DecidedAnew(event.outcome))
    } else {
        Err(NotReplayed::NoPayload(event.outcome))
    })
}

async fn ask(
    store: &Store,
    event: &InboxEvent,
    now_ms: i64,
) -> Result<Result<Replayed, NotReplayed>, StoreError> {
    let nobody = Ok(Err(NotReplayed::NoTenant(event.outcome)));
    let customer = event.customer.as_deref().and_then(|text| CustomerId::parse(text).ok());
    let Some(customer) = customer else { return nobody };
    let Some(tenant) = store.tenant_of(&customer).await? else { return nobody };
    let question = Refresh {
        subject: RefreshSubject::Customer(customer.clone()),
        customer: customer.clone(),
        tenant,
        reason: RefreshReason::Operator,
        event: Some(event.id.clone()),
    };
    store.insert_new_refreshes(&[question], None, now_ms).await?;
    Ok(Ok(Replayed::Asked(event.outcome, customer)))
}
