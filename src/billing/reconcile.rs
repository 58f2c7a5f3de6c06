//! Comparing our subscriptions with Stripe's, customer by customer.

use super::commit::commit;
use super::first_payment::with_paid_or_void_invoice;
use super::jobs::refresh::{load_and_apply, revisions};
use super::missing_customer::MissingCustomer;
use super::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::{Difference, FieldValue, Subscription};
use crate::store::{StoreError, retry_on_conflict};
use crate::stripe::{CustomerState, Deadline, FetchedSubscriptions, Stripe};
use crate::telemetry::spans::BillingContext;

/// How often a comparison is repeated because events changed the subscriptions in between.
const MAX_ATTEMPTS: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// The subscription is at Stripe only.
    NotHeld(SubscriptionId),
    Differs(SubscriptionId, Vec<Difference>),
    /// The subscription is here only.
    UnknownSubscription(SubscriptionId),
    /// The customer does not exist at Stripe or was deleted.
    NoCustomer(CustomerState),
}

#[derive(Debug)]
pub struct Comparison {
    pub found: Vec<Drift>,
    /// The drift that remains: all of it unless the comparison was applied. Stripe has no state for
    /// an object it does not know, and a subscription that is final here stays so.
    pub left: Vec<Drift>,
}

/// Compares the subscriptions of a tenant's customer with Stripe's. With `apply`, stores Stripe's
/// state. Waits for the rate limiter of background work, and gives each step a deadline of its own.
///
/// Fails if Stripe or the database fails.
pub async fn reconcile(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    apply: bool,
) -> Result<Comparison, BillingError> {
    let stripe = billing.stripe()?.throttled();
    compare(billing, &stripe, tenant, customer, apply, || Deadline::after(STRIPE_DEADLINE)).await
}

/// Stores Stripe's state of a customer's subscriptions. For a user who waits: `deadline` is that of
/// the user's request.
pub(super) async fn refresh_customer(
    billing: &Billing,
    stripe: &Stripe,
    tenant: &TenantId,
    customer: &CustomerId,
    deadline: Deadline,
) -> Result<(), BillingError> {
    compare(billing, stripe, tenant, customer, true, || deadline).await.map(|_| ())
}

async fn compare(
    billing: &Billing,
    stripe: &Stripe,
    tenant: &TenantId,
    customer: &CustomerId,
    apply: bool,
    deadline: impl Fn() -> Deadline,
) -> Result<Comparison, BillingError> {
    let context =
        BillingContext { tenant: Some(tenant.clone()), journey: None, customer: Some(customer.clone()) };
    let stripe = &stripe.with_span_context(context);
    for _ in 0..MAX_ATTEMPTS {
        let held = billing.store.subscriptions_of(customer).await?;
        let deadline = deadline();
        let mut theirs = match stripe.list_subscriptions(customer, deadline).await {
            Ok(response) => response.value,
            Err(error) if error.is_missing_customer() => {
                let missing = MissingCustomer { tenant, customer };
                return compare_missing_customer(billing, stripe, missing, apply, deadline).await;
            }
            Err(error) => return Err(error.into()),
        };
        theirs.paid_or_void = with_paid_or_void_invoice(billing, stripe, &theirs.snapshots, deadline).await?;
        if apply && !retry_on_conflict(|| save(billing, customer, &held, &theirs)).await? {
            continue;
        }
        let now = billing.store.subscriptions_of(customer).await?;
        if apply || revisions(&now) == revisions(&held) {
            let (found, left) = (drift(&held, &theirs), drift(&now, &theirs));
            return Ok(Comparison { found, left });
        }
    }
    Err(BillingError::Contention)
}

/// With `apply`, records a deletion as its event would. A customer that Stripe never had is left to
/// the operator.
async fn compare_missing_customer(
    billing: &Billing,
    stripe: &Stripe,
    missing: MissingCustomer<'_>,
    apply: bool,
    deadline: Deadline,
) -> Result<Comparison, BillingError> {
    let state = if apply {
        missing.record_if_deleted(billing, stripe, deadline).await?
    } else {
        stripe.customer_state(missing.customer, deadline).await?
    };
    let found = vec![Drift::NoCustomer(state)];
    let is_recorded = apply && state == CustomerState::Deleted;
    Ok(Comparison { left: if is_recorded { Vec::new() } else { found.clone() }, found })
}

fn drift(held: &[Subscription], stripe: &FetchedSubscriptions) -> Vec<Drift> {
    let theirs = stripe.snapshots.as_slice();
    let compared = theirs.iter().filter_map(|theirs| match held.iter().find(|held| held.id == theirs.id) {
        None => Some(Drift::NotHeld(theirs.id.clone())),
        Some(held) => {
            let mut differences = held.state.differences(&theirs.state);
            if held.awaiting_payment && stripe.paid_or_void.contains(&held.id) {
                let [ours, theirs] = ["true", "false"].map(|value| FieldValue::Text(value.to_owned()));
                differences.push(Difference { field: "awaiting_payment", ours, theirs });
            }
            (!differences.is_empty()).then(|| Drift::Differs(held.id.clone(), differences))
        }
    });
    let unknown = held.iter().filter(|held| theirs.iter().all(|theirs| theirs.id != held.id));
    compared.chain(unknown.map(|held| Drift::UnknownSubscription(held.id.clone()))).collect()
}

/// Stores Stripe's state. Returns `false` and stores nothing if an event changed a subscription
/// since `held` was read.
async fn save(
    billing: &Billing,
    customer: &CustomerId,
    held: &[Subscription],
    theirs: &FetchedSubscriptions,
) -> Result<bool, StoreError> {
    let transaction = billing.store.begin().await?;
    let Some(batch) = load_and_apply(&transaction, customer, &revisions(held), theirs).await? else {
        return Ok(false);
    };
    commit(billing, transaction, &batch).await?;
    Ok(true)
}
