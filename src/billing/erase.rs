//! Erasing a tenant for a data-protection request.

use std::collections::BTreeSet;

use super::{Billing, RunMode, STRIPE_DEADLINE};
use crate::domain::batch::{Batch, cause};
use crate::domain::ids::{CustomerId, SessionId, SubscriptionId, TenantId};
use crate::domain::subscription::Status;
use crate::store::{BatchScope, ErasedLinks, ErasureScope, MayConflict, StoreError, retry_on_conflict};
use crate::stripe::{CustomerState, Deadline, Stripe, StripeCheckoutState, StripeError};
use crate::telemetry::topics::{Level, Line, Topic};

#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The customer would continue to be charged and get nothing for it.
    #[error(
        "{subscription} of {customer} is {status}; cancel it at Stripe first, or pass --force to erase the tenant anyway"
    )]
    Alive { subscription: SubscriptionId, customer: CustomerId, status: Status },
    /// The key may belong to another account.
    #[error(
        "Stripe does not know {0}; use a key of the account that has the customer, or pass --force to erase the tenant \
         without asking Stripe"
    )]
    UnknownCustomer(CustomerId),
    #[error("{0}; pass --force to erase the tenant without asking Stripe")]
    Stripe(#[from] StripeError),
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
}

impl MayConflict for EraseError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// What was erased.
#[derive(Debug)]
pub struct Erasure {
    /// The tenant's random new name; none if nothing is stored about the tenant.
    pub alias: Option<TenantId>,
    pub scope: ErasureScope,
    pub links: ErasedLinks,
    /// Number of events that lost their payload and names.
    pub events: u64,
    /// Number of journal entries that lost their names.
    pub journal_entries: u64,
    /// Sessions that can still be paid, because Stripe was not asked.
    pub open_checkouts: Vec<SessionId>,
}

/// What has ended, according to Stripe.
#[derive(Debug, Default)]
struct Ended {
    subscriptions: BTreeSet<SubscriptionId>,
    /// Deleted customers, with all their subscriptions.
    customers: BTreeSet<CustomerId>,
}

/// Erases a tenant, unless a subscription is alive at Stripe, which is not checked without
/// `stripe`. Safe to run again: a later run erases what an interrupted one left.
pub async fn erase_tenant(
    billing: &Billing,
    stripe: Option<&Stripe>,
    tenant: &TenantId,
    run: RunMode,
) -> Result<Erasure, EraseError> {
    let scope = scope_of(billing, tenant).await?;
    let ended = match stripe {
        Some(stripe) => Some(expire_sessions_if_ended(billing, stripe, &scope, run).await?),
        None => None,
    };
    let open_checkouts = billing.store.open_sessions(&scope).await?;
    let is_stored = !scope.own.is_empty()
        || !scope.moved.is_empty()
        || !scope.events.is_empty()
        || billing.store.tenant(tenant).await?.is_some();
    if !is_stored {
        let links = ErasedLinks { subscriptions: 0, checkouts: 0 };
        return Ok(Erasure { alias: None, scope, links, events: 0, journal_entries: 0, open_checkouts });
    }
    let alias = random_alias();
    let links = retry_on_conflict(|| erase_links(billing, &scope, ended.as_ref(), &alias, run)).await?;
    let events = erase_events(billing, &scope, &alias, run).await?;
    // Last, because a run after an interruption finds the tenant's customers in the journal.
    let journal_entries = erase_journal_entries(billing, &scope, &alias, run).await?;
    if run == RunMode::Apply {
        let line = Line::new(Topic::SubscriptionState, Level::Info, "tenant.erased", billing.clock.now_ms());
        billing.topics.append(&[line.tenant(&alias).reason(cause::OPERATOR)]);
    }
    Ok(Erasure { alias: Some(alias), scope, links, events, journal_entries, open_checkouts })
}

/// Random, because a hash of the name could be reversed by trying names.
fn random_alias() -> TenantId {
    let alias = TenantId::parse(&format!("erased-{}", uuid::Uuid::new_v4().simple()));
    alias.expect("the alias has only characters of a tenant id")
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

/// Refuses if a subscription is alive. Otherwise expires the sessions that can still be paid.
async fn expire_sessions_if_ended(
    billing: &Billing,
    stripe: &Stripe,
    scope: &ErasureScope,
    run: RunMode,
) -> Result<Ended, EraseError> {
    let ended = ended_at_stripe(stripe, scope).await?;
    let open = billing.store.open_sessions(scope).await?;
    if run == RunMode::DryRun || open.is_empty() {
        return Ok(ended);
    }
    for session in open {
        expire(stripe, &session).await?;
    }
    // A session may have been paid before it expired.
    ended_at_stripe(stripe, scope).await
}

/// Asks Stripe about each customer. Fails if a subscription is alive.
async fn ended_at_stripe(stripe: &Stripe, scope: &ErasureScope) -> Result<Ended, EraseError> {
    let mut ended = Ended::default();
    for customer in &scope.ended_customers() {
        let deadline = Deadline::after(STRIPE_DEADLINE);
        match stripe.list_subscriptions(customer, deadline).await {
            Ok(response) => {
                for snapshot in response.value.snapshots {
                    let status = snapshot.state.status;
                    if !status.is_final() {
                        return Err(alive(snapshot.id, customer, status));
                    }
                    ended.subscriptions.insert(snapshot.id);
                }
            }
            Err(error) if error.is_missing_customer() => {
                let state = stripe.customer_state(customer, deadline).await?;
                if state != CustomerState::Deleted {
                    return Err(EraseError::UnknownCustomer(customer.clone()));
                }
                ended.customers.insert(customer.clone());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}

fn alive(subscription: SubscriptionId, customer: &CustomerId, status: Status) -> EraseError {
    EraseError::Alive { subscription, customer: customer.clone(), status }
}

/// Ignores a session that was paid meanwhile: its subscription is checked next.
async fn expire(stripe: &Stripe, session: &SessionId) -> Result<(), StripeError> {
    let deadline = Deadline::after(STRIPE_DEADLINE);
    let Err(error) = stripe.expire_checkout_session(session, deadline).await else { return Ok(()) };
    match stripe.retrieve_checkout_session(session, deadline).await {
        Ok(found) if matches!(found.value, StripeCheckoutState::Open { .. }) => Err(error),
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

/// Locks the rows in the same way as a batch of events: a running batch finishes first, and the
/// next one finds the tombstones.
async fn erase_links(
    billing: &Billing,
    scope: &ErasureScope,
    ended: Option<&Ended>,
    alias: &TenantId,
    run: RunMode,
) -> Result<ErasedLinks, EraseError> {
    let mut transaction = billing.store.begin().await?;
    let customers = scope.ended_customers();
    // The moved customers too: their checkouts change, and a concurrent event must not read the old
    // rows.
    let locked = customers.union(&scope.moved).cloned().collect();
    let batch = transaction.load_batch(&BatchScope::erasure(&scope.tenant, &locked)).await?;
    let linked = batch.tenant(&scope.tenant).and_then(|tenant| tenant.customer.as_ref());
    let is_new = linked.is_some_and(|customer| !customers.contains(customer));
    let is_taken =
        |customer: &CustomerId| batch.tenant_of(customer).is_some_and(|tenant| tenant.id != scope.tenant);
    if is_new || customers.iter().any(is_taken) {
        return Err(
            StoreError::conflict("a customer was linked at the same time; run the command again").into()
        );
    }
    if let Some(ended) = ended {
        ensure_ended(&batch, &customers, ended)?;
    }
    let links = transaction.erase_links(scope, alias, billing.clock.now_ms()).await?;
    if run == RunMode::Apply {
        transaction.commit().await?;
    }
    Ok(links)
}

/// An event may have added a subscription since Stripe was asked.
fn ensure_ended(batch: &Batch, customers: &BTreeSet<CustomerId>, ended: &Ended) -> Result<(), EraseError> {
    for customer in customers.difference(&ended.customers) {
        for held in batch.subscriptions_of(customer) {
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
    run: RunMode,
) -> Result<u64, StoreError> {
    let (mut erased, mut after) = (0, String::new());
    while let Some(page) = billing.store.next_events(scope, &after).await? {
        erased += page.found.len() as u64;
        if run == RunMode::Apply && !page.found.is_empty() {
            retry_on_conflict(|| billing.store.erase_events(&page.found, scope, alias)).await?;
        }
        after = page.last;
    }
    Ok(erased)
}

async fn erase_journal_entries(
    billing: &Billing,
    scope: &ErasureScope,
    alias: &TenantId,
    run: RunMode,
) -> Result<u64, StoreError> {
    let (mut erased, mut after) = (0, i64::MIN);
    while let Some(page) = billing.store.next_entries(scope, after).await? {
        erased += page.found.len() as u64;
        if run == RunMode::Apply && !page.found.is_empty() {
            retry_on_conflict(|| billing.store.erase_entries(&page.found, scope, alias)).await?;
        }
        after = page.last;
    }
    Ok(erased)
}
