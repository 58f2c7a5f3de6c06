//! Asking Stripe how things stand where the events do not say. Each question is a row, so that a restart forgets none
//! and replicas do not ask twice; the answer stands unless an event was faster.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tracing::{Instrument, info_span};

use super::refresh_log::RefreshLog;
use super::schedule::{Step, backoff_ms, forever};
use crate::billing::commit::commit;
use crate::billing::first_payment::settled_by_invoice;
use crate::billing::stale_customer::Suspect;
use crate::billing::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::domain::subscription::{Snapshot, Subscription};
use crate::domain::unit_of_work::UnitOfWork;
use crate::store::retry_on_conflict;
use crate::store::{BatchScope, ClaimedRefresh, Due, StoreError, Transaction};
use crate::stripe::{Answer, Deadline, Stripe, StripeError, Subscriptions};
use crate::telemetry::spans;

/// How many questions are on their way at once: twice what the budget needs at Stripe's usual fifth of a second, so that a
/// slow answer leaves none of it unused.
const AT_ONCE: u64 = 4;

/// How long a question is ours: longer than the answers to all that is asked in turn usually take. Who loses it by waiting
/// has asked in vain, and does no harm.
const CLAIM_MS: i64 = 120_000;

/// How often an answer that was overtaken by an event is asked for again at once.
const ASKS: u32 = 3;

/// The pause before a question is put again, doubled with each try, and the longest. A question is never given up while
/// Stripe does not answer: it comes back.
const PAUSE_MS: i64 = 1000;
const LONGEST_PAUSE_MS: i64 = 5 * 60 * 1000;

/// How many tries in vain are counted: with as many the pause is the longest.
const VAIN: i64 = 9;

/// After how many tries Stripe is believed that it does not know what is asked about: whatever else was in vain, a dozen
/// of them are left for that, an hour in which a wrong key is put right.
const UNKNOWN: i64 = VAIN + 12;

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Stripe said something else than we held.
    Changed,
    /// Stripe said the same, or the question answered itself.
    Unchanged,
    /// Events were faster each time.
    Overtaken,
}

/// Asks what is to be asked, for good. Without a key for Stripe's API the questions wait.
pub(super) async fn run(billing: &Billing) {
    if let Some(stripe) = billing.stripe.as_ref().map(Stripe::paced) {
        forever("refresh", Some(billing.reporter.refresh_wanted()), || step(billing, &stripe)).await;
    }
}

async fn step(billing: &Billing, stripe: &Stripe) -> Result<Step, BillingError> {
    let now_ms = billing.clock.now_ms();
    let due = Due { now_ms, until_ms: now_ms + CLAIM_MS, latest_ms: now_ms + 2 * LONGEST_PAUSE_MS };
    let claimed = billing.store.claim_refreshes(due, AT_ONCE).await?;
    if claimed.is_empty() {
        return Ok(Step::Idle);
    }
    let mut by_customer: BTreeMap<&CustomerId, Vec<&ClaimedRefresh>> = BTreeMap::new();
    for claimed in &claimed {
        by_customer.entry(&claimed.refresh.customer).or_default().push(claimed);
    }
    let asked = by_customer.values().map(|questions| ask_in_turn(billing, stripe, questions));
    let asked = futures_util::future::join_all(asked).await;
    asked.into_iter().try_fold(Step::More, |step, asked| Ok(step.max(asked?)))
}

/// Asks about one customer, one question after the other: their answers would overtake each other.
async fn ask_in_turn(
    billing: &Billing,
    stripe: &Stripe,
    questions: &[&ClaimedRefresh],
) -> Result<Step, BillingError> {
    let mut step = Step::More;
    for question in questions {
        step = step.max(ask_or_put_off(billing, stripe, question).await?);
    }
    Ok(step)
}

/// A defect that panics over one question must not hold up the others, nor be met again at once.
async fn ask_or_put_off(
    billing: &Billing,
    stripe: &Stripe,
    claimed: &ClaimedRefresh,
) -> Result<Step, BillingError> {
    let asked = AssertUnwindSafe(ask_in_a_trace(billing, stripe, claimed)).catch_unwind().await;
    if let Ok(asked) = asked {
        return asked;
    }
    tracing::error!(subject = %claimed.refresh.subject, "a defect: asking Stripe panicked");
    put_off(billing, claimed).await?;
    Ok(Step::Trouble)
}

/// Asks in a trace of its own, which links to the one that left the question open.
async fn ask_in_a_trace(
    billing: &Billing,
    stripe: &Stripe,
    claimed: &ClaimedRefresh,
) -> Result<Step, BillingError> {
    let span = info_span!(parent: None, "refresh", billing.refresh.reason = claimed.refresh.reason.as_str());
    if let Some(cause) = claimed.traceparent {
        spans::link(&span, cause);
    }
    ask(billing, stripe, claimed).instrument(span).await
}

/// Asks one question. It is trouble if Stripe cannot be asked.
async fn ask(billing: &Billing, stripe: &Stripe, claimed: &ClaimedRefresh) -> Result<Step, BillingError> {
    let refresh = &claimed.refresh;
    let journey = billing.store.tenant(&refresh.tenant).await?.and_then(|tenant| tenant.journey);
    let log = RefreshLog::begin(billing, refresh, journey);
    let stripe = &stripe.on_behalf_of(log.whose());
    let failure = match ask_until_it_stands(billing, stripe, claimed).await {
        Ok((Ended::Changed, request_id)) => {
            log.changed(request_id.as_deref());
            return Ok(Step::More);
        }
        Ok((Ended::Unchanged, request_id)) => {
            log.unchanged(request_id.as_deref());
            return Ok(Step::More);
        }
        Ok((Ended::Overtaken, request_id)) => {
            log.failed("overtaken", request_id.as_deref());
            put_off(billing, claimed).await?;
            return Ok(Step::More);
        }
        Err(BillingError::Stripe(error)) => error,
        Err(error) => return Err(error),
    };
    log.failed(&failure.to_string(), failure.request_id());
    if failure.is_missing() {
        match stripe_does_not_know(billing, stripe, claimed).await {
            Err(BillingError::Stripe(error)) => {
                tracing::warn!(%error, "nor can Stripe be asked for the customer");
            }
            settled => return settled.map(|()| Step::More),
        }
    }
    put_off(billing, claimed).await?;
    Ok(Step::Trouble)
}

/// Stripe says that it does not know what is asked about. A customer that was deleted ends here as if its event had come.
/// Anything else stays as it is; it is asked about again, for the key may be of another account, and in the end left.
async fn stripe_does_not_know(
    billing: &Billing,
    stripe: &Stripe,
    claimed: &ClaimedRefresh,
) -> Result<(), BillingError> {
    let Refresh { subject, tenant, customer, .. } = &claimed.refresh;
    let (suspect, now_ms) = (Suspect { tenant, customer }, billing.clock.now_ms());
    let is_deleted = matches!(subject, RefreshSubject::Customer(_))
        && suspect.end_if_deleted(billing, stripe, Deadline::after(STRIPE_DEADLINE)).await?;
    tracing::error!(%subject, %tenant, "Stripe does not know what we hold; is STRIPE_SECRET_KEY of the right account?");
    if is_deleted || claimed.attempts >= UNKNOWN {
        return Ok(billing.store.drop_refresh(claimed, now_ms).await?);
    }
    let due_at_ms = now_ms + LONGEST_PAUSE_MS;
    Ok(billing.store.put_off_refresh(claimed, claimed.attempts + 1, due_at_ms).await?)
}

async fn put_off(billing: &Billing, claimed: &ClaimedRefresh) -> Result<(), StoreError> {
    let due_at_ms = billing.clock.now_ms() + backoff_ms(PAUSE_MS, LONGEST_PAUSE_MS, claimed.attempts);
    let attempts = claimed.attempts.max(VAIN.min(claimed.attempts + 1));
    billing.store.put_off_refresh(claimed, attempts, due_at_ms).await
}

async fn ask_until_it_stands(
    billing: &Billing,
    stripe: &Stripe,
    claimed: &ClaimedRefresh,
) -> Result<(Ended, Option<String>), BillingError> {
    let mut request_id = None;
    for _ in 0..ASKS {
        let before = billing.store.subscriptions_of(&claimed.refresh.customer).await?;
        if answered_itself(&claimed.refresh, &before) {
            billing.store.drop_refresh(claimed, billing.clock.now_ms()).await?;
            return Ok((Ended::Unchanged, None));
        }
        let deadline = Deadline::after(STRIPE_DEADLINE);
        let mut answer = ask_stripe(stripe, &claimed.refresh.subject, deadline).await?;
        let Subscriptions { snapshots, settled, .. } = &mut answer.value;
        *settled = settled_by_invoice(billing, stripe, snapshots, deadline).await?;
        let revisions = revisions(&before);
        if let Some(ended) =
            retry_on_conflict(|| take_answer(billing, claimed, &answer.value, &revisions)).await?
        {
            return Ok((ended, answer.request_id));
        }
        request_id = answer.request_id;
    }
    Ok((Ended::Overtaken, request_id))
}

/// Whether the events have brought what was missing meanwhile. What only an announcement brought may be old.
fn answered_itself(refresh: &Refresh, held: &[Subscription]) -> bool {
    let is_held = |id: &SubscriptionId| held.iter().any(|held| held.id == *id && held.as_of > i64::MIN);
    refresh.reason == RefreshReason::NotHeld && refresh.subject.subscription().is_some_and(is_held)
}

async fn ask_stripe(
    stripe: &Stripe,
    subject: &RefreshSubject,
    deadline: Deadline,
) -> Result<Answer<Subscriptions>, StripeError> {
    match subject {
        RefreshSubject::Customer(id) => stripe.list_subscriptions(id, deadline).await,
        RefreshSubject::Subscription(id) => {
            let Answer { value: (snapshot, answered_at), request_id } =
                stripe.retrieve_subscription(id, deadline).await?;
            let (snapshots, settled) = (vec![snapshot], BTreeSet::new());
            Ok(Answer { value: Subscriptions { snapshots, answered_at, settled }, request_id })
        }
    }
}

/// The revisions of what we held when we asked.
pub(in crate::billing) fn revisions(held: &[Subscription]) -> BTreeMap<SubscriptionId, i64> {
    held.iter().map(|held| (held.id.clone(), held.revision)).collect()
}

/// Writes the answer down and takes the question back, unless an event was faster: then none.
async fn take_answer(
    billing: &Billing,
    claimed: &ClaimedRefresh,
    answer: &Subscriptions,
    before: &BTreeMap<SubscriptionId, i64>,
) -> Result<Option<Ended>, StoreError> {
    let customer = &claimed.refresh.customer;
    let transaction = billing.store.begin().await?;
    let Some(work) = answered(&transaction, customer, before, answer).await? else { return Ok(None) };
    let changed = !work.changes().journal.is_empty();
    transaction.settle_refresh(claimed, billing.clock.now_ms()).await?;
    commit(billing, transaction, &work).await?;
    Ok(Some(if changed { Ended::Changed } else { Ended::Unchanged }))
}

/// The rows with the answer in them, still to be written; none if an event was faster than the answer.
pub(in crate::billing) async fn answered(
    transaction: &Transaction,
    customer: &CustomerId,
    before: &BTreeMap<SubscriptionId, i64>,
    answer: &Subscriptions,
) -> Result<Option<UnitOfWork>, StoreError> {
    let mut work = transaction.unit_of_work(&BatchScope::subscriptions(customer, &answer.snapshots)).await?;
    let is_overtaken = |snapshot: &Snapshot| {
        let revision = work.held(&snapshot.id).map(|held| held.subscription.revision);
        revision != before.get(&snapshot.id).copied()
    };
    if answer.snapshots.iter().any(is_overtaken) {
        return Ok(None);
    }
    work.answer(customer, &answer.snapshots, answer.answered_at);
    work.answer_settled(&answer.settled, answer.answered_at);
    Ok(Some(work))
}
