//! Taking over what a completed session of ours made, when the next checkout finds it unknown: the buyer waits, so Stripe
//! is asked at once.

use super::commit::commit;
use super::first_payment::settled_by_invoice;
use super::{Billing, BillingError};
use crate::domain::event::Session;
use crate::domain::tenant::Checkout;
use crate::store::retry_on_conflict;
use crate::store::{BatchScope, StoreError};
use crate::stripe::{Answer, Deadline, Stripe, Subscriptions};
use crate::telemetry::topics::{Level, Line, Topic};

/// How often an answer that was overtaken by an event is asked for again.
const ASKS: u32 = 3;

/// What Stripe said of a session's subscription; none if there is none.
type Said = Option<Answer<Subscriptions>>;

/// Takes over what a completed session of ours made: its subscription, as Stripe answers, and its end.
///
/// Fails if Stripe or the database refuses.
pub(super) async fn take_over_session(
    billing: &Billing,
    stripe: &Stripe,
    checkout: &Checkout,
    session: &Session,
    deadline: Deadline,
) -> Result<(), BillingError> {
    for _ in 0..ASKS {
        let revision = match &session.subscription {
            Some(id) => billing.store.revision(id).await?,
            None => None,
        };
        let said = ask(billing, stripe, checkout, session, deadline).await?;
        if retry_on_conflict(|| take_over(billing, checkout, session, &said, revision)).await? {
            return Ok(());
        }
    }
    tracing::warn!(session = %session.id, "Stripe's answers were overtaken by events each time; the events stand");
    Ok(())
}

async fn ask(
    billing: &Billing,
    stripe: &Stripe,
    checkout: &Checkout,
    session: &Session,
    deadline: Deadline,
) -> Result<Said, BillingError> {
    let Some(id) = &session.subscription else { return Ok(None) };
    match stripe.retrieve_subscription(id, deadline).await {
        Ok(Answer { value: (snapshot, answered_at), request_id }) => {
            let snapshots = vec![snapshot];
            let settled = settled_by_invoice(billing, stripe, &snapshots, deadline).await?;
            Ok(Some(Answer { value: Subscriptions { snapshots, answered_at, settled }, request_id }))
        }
        Err(error) => {
            let line = line(billing, checkout, session, Level::Error, "refresh.failed");
            let reason = error.to_string();
            billing.topics.append(&[line.stripe_request(error.request_id()).reason(reason.as_str())]);
            if error.is_missing() { Ok(None) } else { Err(error.into()) }
        }
    }
}

/// Writes the answer down, unless an event was faster: then `false`.
async fn take_over(
    billing: &Billing,
    checkout: &Checkout,
    session: &Session,
    said: &Said,
    revision: Option<i64>,
) -> Result<bool, StoreError> {
    let transaction = billing.store.begin().await?;
    let mut work = transaction.unit_of_work(&BatchScope::session(session, &checkout.customer)).await?;
    let held = session.subscription.as_ref().and_then(|id| work.held(id));
    if held.map(|held| held.subscription.revision) != revision {
        return Ok(false);
    }
    let answered_at =
        said.as_ref().map_or_else(|| billing.clock.now_seconds(), |answer| answer.value.answered_at);
    work.answer_session(session, answered_at);
    let changed = said.as_ref().is_some_and(|answer| {
        let changed = work.answer(&checkout.customer, &answer.value.snapshots, answered_at);
        work.answer_settled(&answer.value.settled, answered_at);
        changed
    });
    commit(billing, transaction, &work).await?;
    if let Some(answer) = said {
        let event = if changed { "refresh.changed" } else { "refresh.unchanged" };
        let line = line(billing, checkout, session, Level::Info, event);
        billing.topics.append(&[line.stripe_request(answer.request_id.as_deref())]);
    }
    Ok(true)
}

fn line(
    billing: &Billing,
    checkout: &Checkout,
    session: &Session,
    level: Level,
    event: &'static str,
) -> Line {
    Line::new(Topic::SubscriptionState, level, event, billing.clock.now_ms())
        .tenant(&checkout.tenant)
        .customer(&checkout.customer)
        .subscription(session.subscription.as_ref())
        .journey(checkout.journey.id())
        .traced()
}
