//! Linking a tenant to its customer.

use super::Billing;
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::scene::{Cause, LinkRefusal};
use crate::store::{Store, StoreError, StoreFailure, Touched};
use crate::telemetry::spans;

/// Why a tenant could not be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The link would take something away from somebody.
    #[error(transparent)]
    Refused(#[from] LinkRefusal),
    /// The database refused or was not there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often a transaction that lost a race is begun again. Every race has a winner, so that a few times are enough.
pub(super) const RACES: u32 = 5;

/// Links a tenant to a customer and applies what was parked for it. Linking twice is linking once. `cause` is our own
/// word for the journal: `checkout` or `operator`.
pub async fn link_tenant(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    cause: &'static str,
) -> Result<(), LinkError> {
    for _ in 1..RACES {
        match link_once(billing, &billing.store, tenant, customer, cause).await {
            Err(LinkError::Store(error)) if error.failure() == StoreFailure::Conflict => {}
            result => return result,
        }
    }
    link_once(billing, &billing.store, tenant, customer, cause).await
}

async fn link_once(
    billing: &Billing,
    store: &Store,
    tenant: &TenantId,
    customer: &CustomerId,
    cause: &'static str,
) -> Result<(), LinkError> {
    let transaction = store.begin().await?;
    let mut scene = transaction.scene(&Touched::pair(tenant, customer)).await?;
    let cause = Cause { name: cause, event: None, at: billing.clock.now_seconds() };
    scene.link(tenant, customer, cause, &billing.policy)?;
    let trace = spans::current_trace();
    transaction.write(&scene, |_| trace, billing.clock.now_ms()).await?;
    transaction.commit().await?;
    super::ingest::tell_changes(billing, scene.changes(), trace);
    Ok(())
}
