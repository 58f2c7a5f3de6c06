//! Holding what we hold against what Stripe has, customer by customer.

use super::commit::commit;
use super::first_payment::settled_by_invoice;
use super::jobs::refresh::{answered, revisions};
use super::stale_customer::Suspect;
use super::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::{Difference, Subscription};
use crate::store::StoreError;
use crate::store::retry_on_conflict;
use crate::stripe::{CustomerStanding, Deadline, Stripe, Subscriptions};
use crate::telemetry::spans::Whose;

/// How often a comparison that events overtook is made anew.
const TRIES: u32 = 5;

/// What is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// Stripe has a subscription that we do not hold.
    NotHeld(SubscriptionId),
    /// Stripe says something else of a subscription than we do.
    Differs(SubscriptionId, Vec<Difference>),
    /// We hold a subscription that Stripe does not have.
    UnknownSubscription(SubscriptionId),
    /// Stripe does not have the customer, or not any more.
    NoCustomer(CustomerStanding),
}

/// What a comparison came to.
#[derive(Debug)]
pub struct Comparison {
    /// What was not the same.
    pub found: Vec<Drift>,
    /// What still is not: all of it, unless Stripe's word was to be taken over. What Stripe does not know it has no word
    /// for, and nothing revives what is over here.
    pub left: Vec<Drift>,
}

/// Compares the subscriptions of a tenant's customer with Stripe's, and with `apply` takes over what Stripe says.
///
/// Fails if Stripe or the database refuses.
pub async fn reconcile(
    billing: &Billing,
    tenant: &TenantId,
    customer: &CustomerId,
    apply: bool,
) -> Result<Comparison, BillingError> {
    let whose = Whose { tenant: Some(tenant.clone()), journey: None, customer: Some(customer.clone()) };
    let stripe = &billing.stripe()?.paced().on_behalf_of(whose);
    for _ in 0..TRIES {
        let held = billing.store.subscriptions_of(customer).await?;
        let deadline = Deadline::after(STRIPE_DEADLINE);
        let mut answer = match stripe.list_subscriptions(customer, deadline).await {
            Ok(answer) => answer.value,
            Err(error) if error.is_missing_customer() => {
                return no_customer(billing, stripe, tenant, customer, apply).await;
            }
            Err(error) => return Err(error.into()),
        };
        answer.settled = settled_by_invoice(billing, stripe, &answer.snapshots, deadline).await?;
        if apply && !retry_on_conflict(|| take_over(billing, customer, &held, &answer)).await? {
            continue;
        }
        let now = billing.store.subscriptions_of(customer).await?;
        if apply || revisions(&now) == revisions(&held) {
            let (found, left) = (drift(&held, &answer), drift(&now, &answer));
            return Ok(Comparison { found, left });
        }
    }
    Err(BillingError::Outpaced)
}

/// One that was deleted can be ended as its event would have; what Stripe has never heard of needs a person.
async fn no_customer(
    billing: &Billing,
    stripe: &Stripe,
    tenant: &TenantId,
    customer: &CustomerId,
    apply: bool,
) -> Result<Comparison, BillingError> {
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let standing = stripe.customer_standing(customer, deadline).await?.value;
    let found = vec![Drift::NoCustomer(standing)];
    let is_ended = apply && Suspect { tenant, customer }.end_if_deleted(billing, stripe, deadline).await?;
    Ok(Comparison { left: if is_ended { Vec::new() } else { found.clone() }, found })
}

fn drift(held: &[Subscription], answer: &Subscriptions) -> Vec<Drift> {
    let theirs = answer.snapshots.as_slice();
    let compared = theirs.iter().filter_map(|theirs| match held.iter().find(|held| held.id == theirs.id) {
        None => Some(Drift::NotHeld(theirs.id.clone())),
        Some(held) => {
            let mut differences = held.state.differences(&theirs.state);
            if held.awaiting_payment && answer.settled.contains(&held.id) {
                let (ours, theirs) = ("true".to_owned(), "false".to_owned());
                differences.push(Difference { field: "awaiting_payment", ours, theirs });
            }
            (!differences.is_empty()).then(|| Drift::Differs(held.id.clone(), differences))
        }
    });
    let unknown = held.iter().filter(|held| theirs.iter().all(|theirs| theirs.id != held.id));
    compared.chain(unknown.map(|held| Drift::UnknownSubscription(held.id.clone()))).collect()
}

/// Takes Stripe's word over. `false`: events were faster, and what was compared is no longer so.
async fn take_over(
    billing: &Billing,
    customer: &CustomerId,
    held: &[Subscription],
    answer: &Subscriptions,
) -> Result<bool, StoreError> {
    let transaction = billing.store.begin().await?;
    let Some(work) = answered(&transaction, customer, &revisions(held), answer).await? else {
        return Ok(false);
    };
    commit(billing, transaction, &work).await?;
    Ok(true)
}
