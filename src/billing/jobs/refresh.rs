//! Refreshes: asking Stripe for the current state where the events do not say. Each refresh is a
//! row, so that a restart loses none and replicas do not repeat it. Stripe's response is stored
//! unless an event changed the subscription in between.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tracing::{Instrument, info_span};

use super::refresh_log::RefreshLog;
use super::schedule::{Step, backoff_ms, run_forever};
use crate::billing::commit::commit;
use crate::billing::first_payment::with_paid_or_void_invoice;
use crate::billing::missing_customer::MissingCustomer;
use crate::billing::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::batch::Batch;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::domain::subscription::{Snapshot, Subscription};
use crate::store::{BatchScope, ClaimWindow, RefreshJob, StoreError, Transaction, retry_on_conflict};
use crate::stripe::{ApiResponse, CustomerState, Deadline, FetchedSubscriptions, Stripe, StripeError};
use crate::telemetry::spans;

/// How many refreshes run at once: twice what the rate budget needs at Stripe's usual response time
/// of 0.2 s, so that a slow response wastes none of the budget.
const MAX_CONCURRENT_REFRESHES: u64 = 4;

/// How long a claim lasts: longer than the refreshes of one customer usually take. Losing a claim
/// wastes a request and does no other harm.
const CLAIM_MS: i64 = 120_000;

/// Requests for one refresh, if an event changes the subscription during each.
const MAX_FETCHES: u32 = 3;

/// The pause before a retry doubles with each attempt. Refreshes are retried without limit while
/// Stripe is unavailable.
const FIRST_PAUSE_MS: i64 = 1000;
const MAX_PAUSE_MS: i64 = 5 * 60 * 1000;

/// Failed attempts are counted up to here, where the pause reaches its maximum.
const MAX_COUNTED_FAILURES: i64 = 9;

/// After so many attempts an object that Stripe does not know is given up: a dozen attempts are
/// left for that even after other failures, an hour in which a wrong key can be fixed.
const MAX_ATTEMPTS_IF_MISSING: i64 = MAX_COUNTED_FAILURES + 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefreshResult {
    Changed,
    /// Stripe has the same state, or an event has brought it since.
    Unchanged,
    /// Events changed the subscription during each request.
    Overtaken,
}

/// Runs due refreshes, forever. Without a Stripe key they wait.
pub(super) async fn run(billing: &Billing) {
    if let Some(stripe) = billing.stripe.as_ref().map(Stripe::throttled) {
        run_forever("refresh", Some(billing.reporter.refresh_wanted()), || step(billing, &stripe)).await;
    }
}

async fn step(billing: &Billing, stripe: &Stripe) -> Result<Step, BillingError> {
    let now_ms = billing.clock.now_ms();
    let window =
        ClaimWindow { now_ms, claimed_until_ms: now_ms + CLAIM_MS, max_due_ms: now_ms + 2 * MAX_PAUSE_MS };
    let jobs = billing.store.claim_refreshes(window, MAX_CONCURRENT_REFRESHES).await?;
    if jobs.is_empty() {
        return Ok(Step::Idle);
    }
    let mut by_customer: BTreeMap<&CustomerId, Vec<&RefreshJob>> = BTreeMap::new();
    for job in &jobs {
        by_customer.entry(&job.refresh.customer).or_default().push(job);
    }
    // One after another for each customer, because parallel refreshes would overtake each other.
    let running = by_customer.values().map(|jobs| async move {
        let mut step = Step::More;
        for job in jobs {
            step = step.max(refresh_or_postpone(billing, stripe, job).await?);
        }
        Ok::<_, BillingError>(step)
    });
    let steps = futures_util::future::join_all(running).await;
    steps.into_iter().try_fold(Step::More, |step, next| Ok(step.max(next?)))
}

/// Runs a refresh in a trace of its own, which links to the one that requested it. A refresh that
/// panics is postponed, so that it neither blocks the others nor repeats at once.
async fn refresh_or_postpone(
    billing: &Billing,
    stripe: &Stripe,
    job: &RefreshJob,
) -> Result<Step, BillingError> {
    let span = info_span!(parent: None, "refresh", billing.refresh.reason = job.refresh.reason.as_str());
    if let Some(cause) = job.traceparent {
        spans::link(&span, cause);
    }
    let running = AssertUnwindSafe(refresh(billing, stripe, job).instrument(span)).catch_unwind();
    if let Ok(step) = running.await {
        return step;
    }
    tracing::error!(subject = %job.refresh.subject, "a refresh panicked");
    postpone(billing, job).await?;
    Ok(Step::Failed)
}

/// Returns [`Step::Failed`] if Stripe fails.
async fn refresh(billing: &Billing, stripe: &Stripe, job: &RefreshJob) -> Result<Step, BillingError> {
    let refresh = &job.refresh;
    let journey = billing.store.tenant(&refresh.tenant).await?.and_then(|tenant| tenant.journey);
    let log = RefreshLog::start(billing, refresh, journey);
    let stripe = &stripe.with_span_context(log.billing_context());
    let failure = match fetch_and_store(billing, stripe, job).await {
        Ok((RefreshResult::Changed, request_id)) => {
            log.changed(request_id.as_deref());
            return Ok(Step::More);
        }
        Ok((RefreshResult::Unchanged, request_id)) => {
            log.unchanged(request_id.as_deref());
            return Ok(Step::More);
        }
        Ok((RefreshResult::Overtaken, request_id)) => {
            log.failed("overtaken", request_id.as_deref());
            postpone(billing, job).await?;
            return Ok(Step::More);
        }
        Err(BillingError::Stripe(error)) => error,
        Err(error) => return Err(error),
    };
    log.failed(&failure.to_string(), failure.request_id());
    if failure.is_missing() {
        match handle_missing(billing, stripe, job).await {
            Err(BillingError::Stripe(error)) => {
                tracing::warn!(%error, "could not ask Stripe for the customer either");
            }
            handled => return handled.map(|()| Step::More),
        }
    }
    postpone(billing, job).await?;
    Ok(Step::Failed)
}

/// Handles an object that Stripe does not know. A deleted customer is ended as by its event.
/// Anything else is kept and refreshed again, because the key may belong to another account, and
/// given up in the end.
async fn handle_missing(billing: &Billing, stripe: &Stripe, job: &RefreshJob) -> Result<(), BillingError> {
    let Refresh { subject, tenant, customer, .. } = &job.refresh;
    let (missing, now_ms) = (MissingCustomer { tenant, customer }, billing.clock.now_ms());
    let is_deleted = matches!(subject, RefreshSubject::Customer(_))
        && missing.record_if_deleted(billing, stripe, Deadline::after(STRIPE_DEADLINE)).await?
            == CustomerState::Deleted;
    if !is_deleted {
        tracing::error!(%subject, %tenant, "not found at Stripe; check the id, or the account of STRIPE_SECRET_KEY");
    }
    if is_deleted || job.attempts >= MAX_ATTEMPTS_IF_MISSING {
        return Ok(billing.store.cancel_refresh(job, now_ms).await?);
    }
    let due_at_ms = now_ms + MAX_PAUSE_MS;
    Ok(billing.store.postpone_refresh(job, job.attempts + 1, due_at_ms).await?)
}

async fn postpone(billing: &Billing, job: &RefreshJob) -> Result<(), StoreError> {
    let due_at_ms = billing.clock.now_ms() + backoff_ms(FIRST_PAUSE_MS, MAX_PAUSE_MS, job.attempts);
    let attempts = job.attempts.max(MAX_COUNTED_FAILURES.min(job.attempts + 1));
    billing.store.postpone_refresh(job, attempts, due_at_ms).await
}

async fn fetch_and_store(
    billing: &Billing,
    stripe: &Stripe,
    job: &RefreshJob,
) -> Result<(RefreshResult, Option<String>), BillingError> {
    let mut request_id = None;
    for _ in 0..MAX_FETCHES {
        let before = billing.store.subscriptions_of(&job.refresh.customer).await?;
        if has_arrived(&job.refresh, &before) {
            billing.store.cancel_refresh(job, billing.clock.now_ms()).await?;
            return Ok((RefreshResult::Unchanged, None));
        }
        let deadline = Deadline::after(STRIPE_DEADLINE);
        let mut response = fetch(stripe, &job.refresh.subject, deadline).await?;
        let FetchedSubscriptions { snapshots, paid_or_void, .. } = &mut response.value;
        *paid_or_void = with_paid_or_void_invoice(billing, stripe, snapshots, deadline).await?;
        let revisions = revisions(&before);
        let store = || store_if_current(billing, job, &response.value, &revisions);
        if let Some(result) = retry_on_conflict(store).await? {
            return Ok((result, response.request_id));
        }
        request_id = response.request_id;
    }
    Ok((RefreshResult::Overtaken, request_id))
}

/// Whether an event has brought the missing subscription since the refresh was requested. An
/// announcement does not count: its snapshot can be old.
fn has_arrived(refresh: &Refresh, stored: &[Subscription]) -> bool {
    let is_stored =
        |id: &SubscriptionId| stored.iter().any(|one| one.id == *id && !one.is_from_announcement());
    refresh.reason == RefreshReason::NotHeld && refresh.subject.subscription().is_some_and(is_stored)
}

async fn fetch(
    stripe: &Stripe,
    subject: &RefreshSubject,
    deadline: Deadline,
) -> Result<ApiResponse<FetchedSubscriptions>, StripeError> {
    match subject {
        RefreshSubject::Customer(id) => stripe.list_subscriptions(id, deadline).await,
        RefreshSubject::Subscription(id) => stripe.retrieve_subscription(id, deadline).await,
    }
}

pub(in crate::billing) fn revisions(held: &[Subscription]) -> BTreeMap<SubscriptionId, i64> {
    held.iter().map(|held| (held.id.clone(), held.revision)).collect()
}

/// Stores Stripe's state and completes the refresh. Returns `None` and stores nothing if an event
/// changed a subscription since `before`.
async fn store_if_current(
    billing: &Billing,
    job: &RefreshJob,
    theirs: &FetchedSubscriptions,
    before: &BTreeMap<SubscriptionId, i64>,
) -> Result<Option<RefreshResult>, StoreError> {
    let customer = &job.refresh.customer;
    let transaction = billing.store.begin().await?;
    let Some(batch) = load_and_apply(&transaction, customer, before, theirs).await? else { return Ok(None) };
    let changed = !batch.changes().journal.is_empty();
    transaction.complete_refresh(job, billing.clock.now_ms()).await?;
    commit(billing, transaction, &batch).await?;
    Ok(Some(if changed { RefreshResult::Changed } else { RefreshResult::Unchanged }))
}

/// Returns a batch with Stripe's state applied, to be saved. None if an event changed a
/// subscription since `before`.
pub(in crate::billing) async fn load_and_apply(
    transaction: &Transaction,
    customer: &CustomerId,
    before: &BTreeMap<SubscriptionId, i64>,
    theirs: &FetchedSubscriptions,
) -> Result<Option<Batch>, StoreError> {
    let mut batch = transaction.load_batch(&BatchScope::subscriptions(customer, &theirs.snapshots)).await?;
    let is_overtaken = |snapshot: &Snapshot| {
        let revision = batch.subscription(&snapshot.id).map(|held| held.subscription.revision);
        revision != before.get(&snapshot.id).copied()
    };
    if theirs.snapshots.iter().any(is_overtaken) {
        return Ok(None);
    }
    batch.apply_refresh(customer, &theirs.snapshots, theirs.answered_at);
    batch.apply_paid_or_void_invoices(&theirs.paid_or_void, theirs.answered_at);
    Ok(Some(batch))
}
