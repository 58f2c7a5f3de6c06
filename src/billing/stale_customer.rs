//! A customer that Stripe knows no more, although no event told us: deleted while we could not be reached for longer
//! than Stripe lists events, or never of the key's account.

use super::ingest::report_changes;
use super::race::race;
use super::{Billing, BillingError, Caller};
use crate::domain::ids::CustomerId;
use crate::domain::unit_of_work::{Cause, cause};
use crate::store::{StoreError, Touched};
use crate::stripe::{CustomerStanding, Deadline, Stripe};
use crate::telemetry::spans;

/// What is to become of a customer that Stripe has never heard of. One that was deleted is always let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It stays: the key may be that of another account, which an operator can put right.
    Keep,
    /// Its tenant is about to buy, and must not be held up by it.
    LetGo,
}

/// Tells the operator of a customer that Stripe says is not there, and takes it from its tenant, so that the next checkout
/// makes another one. Whether the tenant is free now.
pub(super) async fn let_go(
    billing: &Billing,
    stripe: &Stripe,
    caller: &Caller,
    customer: &CustomerId,
    unknown: Unknown,
    deadline: Deadline,
) -> Result<bool, BillingError> {
    let tenant = &caller.tenant;
    let standing = stripe.customer_standing(customer, deadline).await?.value;
    tracing::error!(
        %tenant, %customer, ?standing,
        "Stripe does not have the tenant's customer; if this is one of many, check that STRIPE_SECRET_KEY is of the right account"
    );
    let is_over = match (standing, unknown) {
        (CustomerStanding::Deleted, _) => true,
        (CustomerStanding::Unknown, Unknown::LetGo) => false,
        (CustomerStanding::Unknown, Unknown::Keep) | (CustomerStanding::Living, _) => return Ok(false),
    };
    race(|| free(billing, caller, customer, is_over)).await?;
    Ok(true)
}

async fn free(
    billing: &Billing,
    caller: &Caller,
    customer: &CustomerId,
    is_over: bool,
) -> Result<(), StoreError> {
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&Touched::pair(&caller.tenant, customer)).await?;
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: billing.clock.now_seconds() };
    if is_over {
        work.end_customer(customer, cause);
    } else {
        work.free_tenant_of(customer, cause);
    }
    let trace = spans::current_trace();
    transaction.write(&work, |_| trace, billing.clock.now_ms()).await?;
    transaction.commit().await?;
    report_changes(billing, work.changes(), trace);
    Ok(())
}
