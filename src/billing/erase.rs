//! Erasing a tenant, for a data-protection request.

use std::collections::BTreeSet;

use super::{Billing, Run, STRIPE_DEADLINE};
use crate::domain::ids::{CustomerId, SessionId, SubscriptionId, TenantId};
use crate::domain::subscription::Status;
use crate::domain::unit_of_work::{UnitOfWork, cause};
use crate::store::{BatchScope, ErasedLinks, ErasureScope, StoreError};
use crate::store::{MayConflict, retry_on_conflict};
use crate::stripe::{CustomerStanding, Deadline, SessionView, Stripe, StripeError};
use crate::telemetry::topics::{Level, Line, Topic};

/// Why a tenant is not erased.
#[derive(Debug, thiserror::Error)]
pub enum NotErased {
    /// It would go on being charged, and get nothing for it.
    #[error(
        "{subscription} of {customer} is {status}; cancel it at Stripe first, or pass --force to erase the tenant all the same"
    )]
    Alive {
        /// The subscription.
        subscription: SubscriptionId,
        /// Who pays for it.
        customer: CustomerId,
        /// How it stands.
        status: Status,
    },
    /// The key may be of another account.
    #[error(
        "Stripe does not know {0}; use a key of the account that has the customer, or pass --force to erase the tenant \
         without asking Stripe"
    )]
    UnknownCustomer(CustomerId),
    /// Stripe refused or was not there.
    #[error("{0}; pass --force to erase the tenant without asking Stripe")]
    Stripe(#[from] StripeError),
    /// The database refused or was not there.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
}

impl MayConflict for NotErased {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// What is erased of a tenant.
#[derive(Debug)]
pub struct Erased {
    /// What it is called from now on; none if nothing is stored of it.
    pub alias: Option<TenantId>,
    /// Whose customers they were.
    pub scope: ErasureScope,
    /// What is deleted.
    pub links: ErasedLinks,
    /// How many events have lost their payloads and names.
    pub events: u64,
    /// How many entries of the journal have lost their names.
    pub journal_entries: u64,
    /// Sessions that can still be paid: Stripe was not asked.
    pub open_checkouts: Vec<SessionId>,
}

/// What Stripe says is over.
#[derive(Debug, Default)]
struct Ended {
    subscriptions: BTreeSet<SubscriptionId>,
    /// Deleted ones: all that they had is over.
    customers: BTreeSet<CustomerId>,
}

/// Erases a tenant, unless something of it is alive at Stripe. Without `stripe` that is not asked. Safe to run again: what
/// an interrupted run has left is erased then.
pub async fn erase_tenant(
    billing: &Billing,
    stripe: Option<&Stripe>,
    tenant: &TenantId,
    run: Run,
) -> Result<Erased, NotErased> {
    let scope = scope_of(billing, tenant).await?;
    let ended = match stripe {
        Some(stripe) => Some(refuse_living(billing, stripe, &scope, run).await?),
        None => None,
    };
    let open_checkouts = billing.store.open_sessions(&scope).await?;
    let is_stored = !scope.own.is_empty()
        || !scope.moved.is_empty()
        || !scope.events.is_empty()
        || billing.store.tenant(tenant).await?.is_some();
    if !is_stored {
        let links = ErasedLinks { subscriptions: 0, checkouts: 0 };
        return Ok(Erased { alias: None, scope, links, events: 0, journal_entries: 0, open_checkouts });
    }
    let alias = new_alias();
    let links = retry_on_conflict(|| erase_links(billing, &scope, ended.as_ref(), &alias, run)).await?;
    let events = erase_events(billing, &scope, &alias, run).await?;
    // Last: the journal tells an interrupted run's successor which customers were the tenant's.
    let journal_entries = erase_entries(billing, &scope, &alias, run).await?;
    if run == Run::Real {
        let line = Line::new(Topic::SubscriptionState, Level::Info, "tenant.erased", billing.clock.now_ms());
        billing.topics.append(&[line.tenant(&alias).reason(cause::OPERATOR)]);
    }
    Ok(Erased { alias: Some(alias), scope, links, events, journal_entries, open_checkouts })
}

async fn scope_of(billing: &Billing, tenant: &TenantId) -> Result<ErasureScope, StoreError> {
    let mut customers = billing.store.customers_ever_of(tenant).await?;
    let mut events = BTreeSet::new();
    for event in billing.store.events_naming(tenant, &billing.policy.deployment).await? {
        customers.extend(event.customer);
        events.insert(event.id);
    }
    let moved = billing.store.customers_of_others(&customers, tenant).await?;
    let own = customers.difference(&moved).cloned().collect();
    let linked = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
    let moved_here = linked.filter(|customer| moved.contains(customer));
    Ok(ErasureScope { tenant: tenant.clone(), own, moved, moved_here, events })
}

/// Expires the sessions that could still be paid, once it is known that the erasure is not refused.
async fn refuse_living(
    billing: &Billing,
    stripe: &Stripe,
    scope: &ErasureScope,
    run: Run,
) -> Result<Ended, NotErased> {
    let ended = ended_at_stripe(stripe, scope).await?;
    let open = billing.store.open_sessions(scope).await?;
    if run == Run::Dry || open.is_empty() {
        return Ok(ended);
    }
    for session in open {
        close(stripe, &session).await?;
    }
    // One of them may have been paid before it was expired.
    ended_at_stripe(stripe, scope).await
}

/// Asks Stripe what each customer has.
async fn ended_at_stripe(stripe: &Stripe, scope: &ErasureScope) -> Result<Ended, NotErased> {
    let mut ended = Ended::default();
    for customer in &scope.ended_customers() {
        let deadline = Deadline::after(STRIPE_DEADLINE);
        match stripe.list_subscriptions(customer, deadline).await {
            Ok(answer) => {
                for snapshot in answer.value.snapshots {
                    let status = snapshot.state.status;
                    if !status.is_final() {
                        return Err(alive(snapshot.id, customer, status));
                    }
                    ended.subscriptions.insert(snapshot.id);
                }
            }
            Err(error) if error.is_missing_customer() => {
                let standing = stripe.customer_standing(customer, deadline).await?.value;
                if standing != CustomerStanding::Deleted {
                    return Err(NotErased::UnknownCustomer(customer.clone()));
                }
                ended.customers.insert(customer.clone());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}

fn alive(subscription: SubscriptionId, customer: &CustomerId, status: Status) -> NotErased {
    NotErased::Alive { subscription, customer: customer.clone(), status }
}

/// What was paid meanwhile is a subscription, about which Stripe is asked next.
async fn close(stripe: &Stripe, session: &SessionId) -> Result<(), StripeError> {
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let Err(error) = stripe.expire_checkout_session(session, deadline).await else { return Ok(()) };
    match stripe.retrieve_checkout_session(session, deadline).await {
        Ok(seen) if matches!(seen.value, SessionView::Open { .. }) => Err(error),
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

/// The rows are locked as a batch of events locks them: one that runs is waited for, and the next one finds the tombstones.
async fn erase_links(
    billing: &Billing,
    scope: &ErasureScope,
    ended: Option<&Ended>,
    alias: &TenantId,
    run: Run,
) -> Result<ErasedLinks, NotErased> {
    let mut transaction = billing.store.begin().await?;
    let customers = scope.ended_customers();
    // The moved ones, too: their checkouts change, and an event of theirs must not read these before.
    let locked = customers.union(&scope.moved).cloned().collect();
    let work = transaction.unit_of_work(&BatchScope::erased(&scope.tenant, &locked)).await?;
    let linked = work.tenant(&scope.tenant).and_then(|tenant| tenant.customer.as_ref());
    let is_new = linked.is_some_and(|customer| !customers.contains(customer));
    let is_lost =
        |customer: &CustomerId| work.tenant_of(customer).is_some_and(|tenant| tenant.id != scope.tenant);
    if is_new || customers.iter().any(is_lost) {
        return Err(StoreError::lost_race("a customer was linked meanwhile; run the command again").into());
    }
    if let Some(ended) = ended {
        refuse_held(&work, &customers, ended)?;
    }
    let links = transaction.erase_links(scope, alias, billing.clock.now_ms()).await?;
    if run == Run::Real {
        transaction.commit().await?;
    }
    Ok(links)
}

/// An event may have brought a subscription since Stripe was asked.
fn refuse_held(work: &UnitOfWork, customers: &BTreeSet<CustomerId>, ended: &Ended) -> Result<(), NotErased> {
    for customer in customers.difference(&ended.customers) {
        for held in work.held_of(customer) {
            let (id, status) = (&held.subscription.id, &held.subscription.state.status);
            if !status.is_final() && !ended.subscriptions.contains(id) {
                return Err(alive(id.clone(), customer, status.clone()));
            }
        }
    }
    Ok(())
}

async fn erase_events(
    billing: &Billing,
    scope: &ErasureScope,
    alias: &TenantId,
    run: Run,
) -> Result<u64, StoreError> {
    let (mut erased, mut after) = (0, String::new());
    while let Some(page) = billing.store.next_events(scope, &after).await? {
        erased += page.found.len() as u64;
        if run == Run::Real && !page.found.is_empty() {
            retry_on_conflict(|| billing.store.erase_events(&page.found, scope, alias)).await?;
        }
        after = page.last;
    }
    Ok(erased)
}

async fn erase_entries(
    billing: &Billing,
    scope: &ErasureScope,
    alias: &TenantId,
    run: Run,
) -> Result<u64, StoreError> {
    let (mut erased, mut after) = (0, i64::MIN);
    while let Some(page) = billing.store.next_entries(scope, after).await? {
        erased += page.found.len() as u64;
        if run == Run::Real && !page.found.is_empty() {
            retry_on_conflict(|| billing.store.erase_entries(&page.found, scope, alias)).await?;
        }
        after = page.last;
    }
    Ok(erased)
}

/// Random: from a hash of the name the name could be found by trying names.
fn new_alias() -> TenantId {
    let alias = TenantId::parse(&format!("erased-{}", uuid::Uuid::new_v4().simple()));
    alias.expect("it has the characters of a tenant id")
}
