//! Linking a tenant to its customer.

use super::Billing;
use super::commit::commit;
use super::race::{Lost, race};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::unit_of_work::{Cause, LinkRefusal};
use crate::store::{StoreError, Touched};

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

impl Lost for LinkError {
    fn lost(&self) -> bool {
        matches!(self, Self::Store(error) if error.lost())
    }
}

/// Links a tenant to a customer and applies what was parked for it. Linking twice is linking once. `cause` is our own
/// word for the journal: `checkout`, `operator` or `refresh`.
pub async fn link_tenant(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    cause: &'static str,
) -> Result<(), LinkError> {
    race(|| link_once(billing, tenant, customer, cause)).await
}

async fn link_once(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    cause: &'static str,
) -> Result<(), LinkError> {
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&Touched::pair(tenant, customer)).await?;
    let cause = Cause { name: cause, event: None, at: billing.clock.now_seconds() };
    work.link(tenant, customer, cause, &billing.policy)?;
    Ok(commit(billing, transaction, &work).await?)
}
