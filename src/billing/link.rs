//! Linking tenants to their customers, and taking a customer from its tenant.

use super::commit::commit;
use super::{Billing, BillingError};
use crate::domain::ids::{CustomerId, SessionId, SubscriptionId, TenantId};
use crate::domain::subscription::Status;
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::domain::unit_of_work::{Cause, LinkRefusal, UnitOfWork, cause};
use crate::store::{BatchScope, StoreError, Transaction};
use crate::store::{MayConflict, retry_on_conflict};

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

impl MayConflict for LinkError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// Whether what is asked for is done, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It is done.
    Real,
    /// It is decided as if it were, and then left as it was.
    Dry,
}

/// What came of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// The tenant has its customer now.
    Now,
    /// It had it before.
    Before,
}

/// What a tenant loses with its customer.
#[derive(Debug)]
pub struct Unlinked {
    /// The customer.
    pub customer: CustomerId,
    /// What is held no longer, and goes on at Stripe as it stands.
    pub subscriptions: Vec<(SubscriptionId, Status)>,
    /// Pages on which somebody can still pay for the customer.
    pub open_checkouts: Vec<SessionId>,
}

/// Has the tenant's next customer created under another idempotency key, unless another request has done so or has linked the
/// tenant meanwhile.
pub(super) async fn raise_generation(billing: &Billing, seen: &Tenant) -> Result<(), BillingError> {
    retry_on_conflict(|| async {
        let transaction = billing.store.begin().await?;
        let mut work = transaction.unit_of_work(&BatchScope::tenant(&seen.id)).await?;
        work.raise_generation(seen);
        commit(billing, transaction, &work).await
    })
    .await
    .map_err(BillingError::from)
}

/// Links a tenant to the customer that its checkout has made, and applies what was parked for it. Linking twice is linking
/// once.
pub(super) async fn link_buyer(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<(), LinkError> {
    retry_on_conflict(|| link_once(billing, tenant, customer, cause::CHECKOUT, |_| {})).await
}

/// The same for a customer that the operator names, also if the operator has taken it from its tenant before.
pub async fn link_by_hand(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<(), LinkError> {
    retry_on_conflict(|| link_once(billing, tenant, customer, cause::OPERATOR, |work| work.release(customer)))
        .await
}

/// Moves a tenant to another customer that the operator names, once everything that its customer had is over. Returns the
/// customer that it replaces, if the tenant had one.
pub async fn replace_by_hand(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<Option<CustomerId>, LinkError> {
    retry_on_conflict(|| replace_once(billing, tenant, customer)).await
}

async fn replace_once(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<Option<CustomerId>, LinkError> {
    let before = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
    if let Some(replaced) = &before
        && billing.store.is_asked_about(replaced).await?
    {
        return Err(LinkRefusal::CustomerNotKnown.into());
    }
    let customers = before.iter().chain([customer]);
    let transaction = billing.store.begin().await?;
    let scope = BatchScope::pairs(customers.map(|customer| (tenant, customer)));
    let mut work = transaction.unit_of_work(&scope).await?;
    if work.tenant(tenant).and_then(|tenant| tenant.customer.as_ref()) != before.as_ref() {
        return Err(StoreError::lost_race("the tenant's customer changed").into());
    }
    work.release(customer);
    let cause = now(billing, cause::OPERATOR);
    let replaced = work.replace_customer(tenant, customer, cause, &billing.policy)?;
    commit(billing, transaction, &work).await?;
    Ok(replaced)
}

async fn link_once(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    cause: &'static str,
    prepare: impl FnOnce(&mut UnitOfWork),
) -> Result<(), LinkError> {
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&BatchScope::pair(tenant, customer)).await?;
    prepare(&mut work);
    work.link(tenant, customer, now(billing, cause), &billing.policy)?;
    Ok(commit(billing, transaction, &work).await?)
}

fn now(billing: &Billing, cause: &'static str) -> Cause<'static> {
    Cause { name: cause, event: None, at: billing.clock.now_seconds() }
}

/// Links many tenants in one transaction, because of what `cause` says. What came of each, in their order. A list that is
/// older than the operator's word does not take it back: what was taken from its tenant stays so.
pub async fn link_tenants(
    billing: &Billing,
    links: &[(TenantId, CustomerId)],
    cause: &'static str,
    run: Run,
) -> Result<Vec<Result<Linked, LinkRefusal>>, StoreError> {
    retry_on_conflict(|| link_all_once(billing, links, cause, run)).await
}

/// What is linked already is passed over without a lock: whoever goes on has much of it.
async fn link_all_once(
    billing: &Billing,
    links: &[(TenantId, CustomerId)],
    cause: &'static str,
    run: Run,
) -> Result<Vec<Result<Linked, LinkRefusal>>, StoreError> {
    let before = billing.store.customers_of(links.iter().map(|(tenant, _)| tenant)).await?;
    let is_linked = |tenant: &TenantId, customer: &CustomerId| before.get(tenant) == Some(customer);
    let new = links.iter().filter(|(tenant, customer)| !is_linked(tenant, customer));
    let new: Vec<_> = new.map(|(tenant, customer)| (tenant, customer)).collect();
    if new.is_empty() {
        return Ok(vec![Ok(Linked::Before); links.len()]);
    }
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&BatchScope::pairs(new)).await?;
    let cause = now(billing, cause);
    let mut link = |tenant: &TenantId, customer: &CustomerId| {
        let had = work.tenant(tenant).and_then(|tenant| tenant.customer.as_ref()) == Some(customer);
        let linked = if had { Linked::Before } else { Linked::Now };
        work.link(tenant, customer, cause, &billing.policy).map(|()| linked)
    };
    let came_of_each = links.iter().map(|(tenant, customer)| {
        if is_linked(tenant, customer) { Ok(Linked::Before) } else { link(tenant, customer) }
    });
    let came_of_each = came_of_each.collect();
    finish(billing, transaction, &work, run).await?;
    Ok(came_of_each)
}

/// Takes its customer from a tenant: it is then as if the two had never been linked, and only the operator links the
/// customer again. None if the tenant has no customer.
pub async fn unlink_tenant(
    billing: &Billing,
    tenant: &TenantId,
    run: Run,
) -> Result<Option<Unlinked>, StoreError> {
    retry_on_conflict(|| unlink_once(billing, tenant, run)).await
}

async fn unlink_once(billing: &Billing, tenant: &TenantId, run: Run) -> Result<Option<Unlinked>, StoreError> {
    let customer = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
    let Some(customer) = customer else { return Ok(None) };
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&BatchScope::pair(tenant, &customer)).await?;
    let subscriptions = work
        .held_of(&customer)
        .map(|held| (held.subscription.id.clone(), held.subscription.state.status.clone()))
        .collect();
    // Whoever was faster has freed the tenant already, or given its customer to another.
    if work.tenant(tenant).and_then(|tenant| tenant.customer.as_ref()) != Some(&customer) {
        return Ok(None);
    }
    work.unlink(&customer, now(billing, cause::OPERATOR));
    finish(billing, transaction, &work, run).await?;
    let checkouts = billing.store.pending_checkouts(tenant).await?;
    let is_open =
        |checkout: &Checkout| checkout.status == CheckoutStatus::Open && checkout.customer == customer;
    let open_checkouts = checkouts.into_iter().filter(is_open).map(|checkout| checkout.session).collect();
    Ok(Some(Unlinked { customer, subscriptions, open_checkouts }))
}

/// Commits what was decided, or drops it with its transaction.
async fn finish(
    billing: &Billing,
    transaction: Transaction,
    work: &UnitOfWork,
    run: Run,
) -> Result<(), StoreError> {
    match run {
        Run::Real => commit(billing, transaction, work).await,
        Run::Dry => Ok(()),
    }
}
