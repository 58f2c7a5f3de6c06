//! Asking Stripe once about each customer with parked events. The metadata of the customer may name
//! its tenant, if it was written before any event reached us.

use super::schedule::{DueTime, Step, run_forever};
use crate::billing::commit::commit;
use crate::billing::link::{RunMode, link_tenants};
use crate::billing::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::batch::{Batch, Cause, LinkRefusal, cause};
use crate::domain::ids::CustomerId;
use crate::domain::metadata::Metadata;
use crate::store::{BatchScope, StoreError, retry_on_conflict};
use crate::stripe::{Deadline, Stripe, StripeError};
use crate::telemetry::redact::hash_if_email;

const MAX_CUSTOMERS_PER_STEP: u64 = 4;

/// Long, because another product on the same account can have many customers.
const INTERVAL_MS: i64 = 30 * 1000;

/// The pause if the key may not read customers: the operator can add the permission later.
const REJECTED_INTERVAL_MS: i64 = 60 * 60 * 1000;

/// Without a Stripe key the customers wait.
pub(super) async fn run(billing: &Billing) {
    let Some(stripe) = billing.stripe.as_ref().map(Stripe::throttled) else { return };
    let due = DueTime::now();
    run_forever("asking about parked customers", None, || step(billing, &stripe, &due)).await;
}

async fn step(billing: &Billing, stripe: &Stripe, due: &DueTime) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    if !due.has_come(steady_ms) {
        return Ok(Step::Idle);
    }
    let customers = billing.store.unchecked_parked_customers(MAX_CUSTOMERS_PER_STEP).await?;
    for customer in &customers {
        let result = link_by_metadata(billing, stripe, customer).await;
        if let Err(BillingError::Stripe(error @ StripeError::Rejected(rejection))) = &result {
            tracing::warn!(%error, customer = hash_if_email(customer.as_str()), "could not read a parked customer's metadata");
            if matches!(rejection.status, 401 | 403) {
                due.set(steady_ms + REJECTED_INTERVAL_MS);
                return Ok(Step::Idle);
            }
        } else {
            result?;
        }
        billing.store.mark_checked(customer, billing.clock.now_ms()).await?;
    }
    if customers.is_empty() {
        due.set(steady_ms + INTERVAL_MS);
        return Ok(Step::Idle);
    }
    Ok(Step::More)
}

async fn link_by_metadata(
    billing: &Billing,
    stripe: &Stripe,
    customer: &CustomerId,
) -> Result<(), BillingError> {
    let metadata = stripe.customer_metadata(customer, Deadline::after(STRIPE_DEADLINE)).await?;
    let Some(Metadata { tenant: Some(tenant), deployment, .. }) = metadata else { return Ok(()) };
    if let Some(other) = deployment.filter(|named| *named != billing.policy.deployment) {
        let is_foreign = |batch: &mut Batch, cause: Cause<'_>| {
            batch.mark_foreign(customer, &other, cause, &billing.policy);
        };
        return Ok(retry_on_conflict(|| update_customer(billing, customer, is_foreign)).await?);
    }
    let link = [(tenant.clone(), customer.clone())];
    for result in link_tenants(billing, &link, cause::REFRESH, RunMode::Apply).await? {
        let Err(refusal) = result else { continue };
        tracing::warn!(%tenant, customer = hash_if_email(customer.as_str()), %refusal, "could not link a customer to the tenant that it names");
        if refusal == LinkRefusal::TenantHasCustomer {
            let names = |batch: &mut Batch, _: Cause<'_>| batch.record_taken_tenant(customer, &tenant);
            retry_on_conflict(|| update_customer(billing, customer, names)).await?;
        }
    }
    Ok(())
}

async fn update_customer(
    billing: &Billing,
    customer: &CustomerId,
    change: impl Fn(&mut Batch, Cause<'_>),
) -> Result<(), StoreError> {
    let transaction = billing.store.begin().await?;
    let mut batch = transaction.load_batch(&BatchScope::customer(customer)).await?;
    change(&mut batch, Cause { name: cause::REFRESH, event: None, at: billing.clock.now_seconds() });
    commit(billing, transaction, &batch).await
}
