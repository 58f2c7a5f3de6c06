//! Events of a customer that no tenant has are parked. The customer's own metadata, written before any event reached us, may
//! name its tenant: so Stripe is asked once about each.

use super::schedule::{DueTime, Step, forever};
use crate::billing::commit::commit;
use crate::billing::link::{Run, link_tenants};
use crate::billing::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::ids::CustomerId;
use crate::domain::tags::Tags;
use crate::domain::unit_of_work::{Cause, LinkRefusal, UnitOfWork, cause};
use crate::store::retry_on_conflict;
use crate::store::{BatchScope, StoreError};
use crate::stripe::{Deadline, Stripe, StripeError};
use crate::telemetry::loggable::loggable;

/// How many customers are asked about before the next look.
const AT_ONCE: u64 = 4;

/// How often parked events are looked through: seldom, since there can be many of another product's customers.
const INTERVAL_MS: i64 = 30 * 1000;

/// The pause where the key may not read customers: it can be given the permission.
const REFUSED_INTERVAL_MS: i64 = 60 * 60 * 1000;

/// Asks about parked customers, forever. Without a key for Stripe's API they wait.
pub(super) async fn run(billing: &Billing) {
    let Some(stripe) = billing.stripe.as_ref().map(Stripe::paced) else { return };
    let due = DueTime::now();
    forever("asking about parked customers", None, || step(billing, &stripe, &due)).await;
}

async fn step(billing: &Billing, stripe: &Stripe, due: &DueTime) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    if !due.has_come(steady_ms) {
        return Ok(Step::Idle);
    }
    let customers = billing.store.unasked_parked_customers(AT_ONCE).await?;
    for customer in &customers {
        let asked = ask(billing, stripe, customer).await;
        if let Err(BillingError::Stripe(error @ StripeError::Rejected(rejection))) = &asked {
            tracing::warn!(%error, customer = loggable(customer.as_str()), "Stripe does not say which tenant a customer belongs to");
            if matches!(rejection.status, 401 | 403) {
                due.set(steady_ms + REFUSED_INTERVAL_MS);
                return Ok(Step::Idle);
            }
        } else {
            asked?;
        }
        billing.store.note_asked(customer, billing.clock.now_ms()).await?;
    }
    if customers.is_empty() {
        due.set(steady_ms + INTERVAL_MS);
        return Ok(Step::Idle);
    }
    Ok(Step::More)
}

async fn ask(billing: &Billing, stripe: &Stripe, customer: &CustomerId) -> Result<(), BillingError> {
    let tags = stripe.customer_tags(customer, Deadline::after(STRIPE_DEADLINE)).await?;
    let Some(Tags { tenant: Some(tenant), deployment, .. }) = tags else { return Ok(()) };
    if let Some(other) = deployment.filter(|named| *named != billing.policy.deployment) {
        let is_foreign = |work: &mut UnitOfWork, cause: Cause<'_>| {
            work.answer_foreign(customer, &other, cause, &billing.policy);
        };
        return Ok(retry_on_conflict(|| remember(billing, customer, is_foreign)).await?);
    }
    let link = [(tenant.clone(), customer.clone())];
    for came in link_tenants(billing, &link, cause::REFRESH, Run::Real).await? {
        let Err(refusal) = came else { continue };
        tracing::warn!(%tenant, customer = loggable(customer.as_str()), %refusal, "a customer is not linked to the tenant that it names");
        if refusal == LinkRefusal::TenantHasCustomer {
            let names = |work: &mut UnitOfWork, _: Cause<'_>| work.name_tenant(customer, &tenant);
            retry_on_conflict(|| remember(billing, customer, names)).await?;
        }
    }
    Ok(())
}

/// Writes down what Stripe said of a customer.
async fn remember(
    billing: &Billing,
    customer: &CustomerId,
    what: impl Fn(&mut UnitOfWork, Cause<'_>),
) -> Result<(), StoreError> {
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&BatchScope::customer(customer)).await?;
    what(&mut work, Cause { name: cause::REFRESH, event: None, at: billing.clock.now_seconds() });
    commit(billing, transaction, &work).await
}
