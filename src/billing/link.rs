//! Linking tenants to customers, and unlinking them.

use super::commit::commit;
use super::{Billing, BillingError};
use crate::domain::batch::{Batch, Cause, LinkRefusal, cause};
use crate::domain::ids::{CustomerId, SessionId, SubscriptionId, TenantId};
use crate::domain::subscription::Status;
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::store::{BatchScope, MayConflict, StoreError, Transaction, retry_on_conflict};

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The link would take a customer or a tenant from another link.
    #[error(transparent)]
    Refused(#[from] LinkRefusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayConflict for LinkError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    Apply,
    /// Computes the same result in a transaction that is rolled back.
    DryRun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOutcome {
    Linked,
    AlreadyLinked,
}

/// What a tenant loses with its customer.
#[derive(Debug)]
pub struct UnlinkReport {
    pub customer: CustomerId,
    /// The subscriptions that are no longer stored. At Stripe they continue unchanged.
    pub subscriptions: Vec<(SubscriptionId, Status)>,
    /// Sessions on which the customer can still pay.
    pub open_checkouts: Vec<SessionId>,
}

/// Raises the tenant's generation, so that its next customer is created under another idempotency
/// key. Does nothing if a concurrent request did so or linked the tenant since `seen` was read.
pub(super) async fn use_next_customer_key(billing: &Billing, seen: &Tenant) -> Result<(), BillingError> {
    retry_on_conflict(|| async {
        let transaction = billing.store.begin().await?;
        let mut batch = transaction.load_batch(&BatchScope::tenant(&seen.id)).await?;
        batch.raise_generation(seen);
        commit(billing, transaction, &batch).await
    })
    .await
    .map_err(BillingError::from)
}

/// Links a tenant to the customer created by its checkout, and applies the events parked for that
/// customer. Idempotent.
pub(super) async fn link_created_customer(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<(), LinkError> {
    retry_on_conflict(|| link_once(billing, tenant, customer, cause::CHECKOUT, |_| {})).await
}

/// Links a tenant to a customer that the operator names, even one that the operator unlinked
/// before.
pub async fn link_as_operator(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<(), LinkError> {
    retry_on_conflict(|| {
        link_once(billing, tenant, customer, cause::OPERATOR, |batch| {
            batch.clear_unlinked_by_operator(customer);
        })
    })
    .await
}

/// Moves a tenant to a customer that the operator names. Refused unless all subscriptions of its
/// current customer have ended. Returns the replaced customer, if there was one.
pub async fn replace_as_operator(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
) -> Result<Option<CustomerId>, LinkError> {
    retry_on_conflict(|| async {
        let before = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
        if let Some(replaced) = &before
            && billing.store.has_customer_refresh(replaced).await?
        {
            return Err(LinkRefusal::CustomerNotKnown.into());
        }
        let customers = before.iter().chain([customer]);
        let transaction = billing.store.begin().await?;
        let scope = BatchScope::links(customers.map(|customer| (tenant, customer)));
        let mut batch = transaction.load_batch(&scope).await?;
        if batch.tenant(tenant).and_then(|tenant| tenant.customer.as_ref()) != before.as_ref() {
            return Err(StoreError::conflict("the tenant's customer changed").into());
        }
        batch.clear_unlinked_by_operator(customer);
        let cause = cause_now(billing, cause::OPERATOR);
        let replaced = batch.replace_customer(tenant, customer, cause, &billing.policy)?;
        commit(billing, transaction, &batch).await?;
        Ok(replaced)
    })
    .await
}

async fn link_once(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    cause_name: &'static str,
    prepare: impl FnOnce(&mut Batch),
) -> Result<(), LinkError> {
    let transaction = billing.store.begin().await?;
    let mut batch = transaction.load_batch(&BatchScope::link(tenant, customer)).await?;
    prepare(&mut batch);
    batch.link(tenant, customer, cause_now(billing, cause_name), &billing.policy)?;
    Ok(commit(billing, transaction, &batch).await?)
}

fn cause_now(billing: &Billing, name: &'static str) -> Cause<'static> {
    Cause { name, event: None, at: billing.clock.now_seconds() }
}

/// Links many tenants in one transaction and returns the results in the same order. Never links a
/// customer that the operator unlinked, because the list may be older than that.
pub async fn link_tenants(
    billing: &Billing,
    links: &[(TenantId, CustomerId)],
    cause_name: &'static str,
    run: RunMode,
) -> Result<Vec<Result<LinkOutcome, LinkRefusal>>, StoreError> {
    retry_on_conflict(|| async {
        // Skips existing links without locking them: a resumed import has many.
        let before = billing.store.customers_of(links.iter().map(|(tenant, _)| tenant)).await?;
        let is_linked = |tenant: &TenantId, customer: &CustomerId| before.get(tenant) == Some(customer);
        let new = links.iter().filter(|(tenant, customer)| !is_linked(tenant, customer));
        let new: Vec<_> = new.map(|(tenant, customer)| (tenant, customer)).collect();
        if new.is_empty() {
            return Ok(vec![Ok(LinkOutcome::AlreadyLinked); links.len()]);
        }
        let transaction = billing.store.begin().await?;
        let mut batch = transaction.load_batch(&BatchScope::links(new)).await?;
        let cause = cause_now(billing, cause_name);
        let link = |(tenant, customer): &(TenantId, CustomerId)| {
            if is_linked(tenant, customer) {
                return Ok(LinkOutcome::AlreadyLinked);
            }
            let had = batch.tenant(tenant).and_then(|tenant| tenant.customer.as_ref()) == Some(customer);
            let outcome = if had { LinkOutcome::AlreadyLinked } else { LinkOutcome::Linked };
            batch.link(tenant, customer, cause, &billing.policy).map(|()| outcome)
        };
        let outcomes = links.iter().map(link).collect();
        commit_or_roll_back(billing, transaction, &batch, run).await?;
        Ok(outcomes)
    })
    .await
}

/// Removes the link between a tenant and its customer, and the customer's subscriptions. Events
/// cannot restore it. None, and nothing changed, if the tenant has no customer or a concurrent
/// change moved it.
pub async fn unlink_tenant(
    billing: &Billing,
    tenant: &TenantId,
    run: RunMode,
) -> Result<Option<UnlinkReport>, StoreError> {
    retry_on_conflict(|| async {
        let customer = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
        let Some(customer) = customer else { return Ok(None) };
        let transaction = billing.store.begin().await?;
        let mut batch = transaction.load_batch(&BatchScope::link(tenant, &customer)).await?;
        let subscriptions = batch
            .subscriptions_of(&customer)
            .map(|held| (held.subscription.id.clone(), held.subscription.state.status.clone()))
            .collect();
        if batch.tenant(tenant).and_then(|tenant| tenant.customer.as_ref()) != Some(&customer) {
            return Ok(None);
        }
        batch.unlink(&customer, cause_now(billing, cause::OPERATOR));
        commit_or_roll_back(billing, transaction, &batch, run).await?;
        let checkouts = billing.store.checkouts_to_check(tenant).await?;
        let is_open =
            |checkout: &Checkout| checkout.status == CheckoutStatus::Open && checkout.customer == customer;
        let open_checkouts = checkouts.into_iter().filter(is_open).map(|checkout| checkout.session).collect();
        Ok(Some(UnlinkReport { customer, subscriptions, open_checkouts }))
    })
    .await
}

async fn commit_or_roll_back(
    billing: &Billing,
    transaction: Transaction,
    batch: &Batch,
    run: RunMode,
) -> Result<(), StoreError> {
    match run {
        RunMode::Apply => commit(billing, transaction, batch).await,
        RunMode::DryRun => Ok(()),
    }
}
