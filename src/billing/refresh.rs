//! Asking Stripe how a subscription stands, when the events that we have do not say.

use super::{Billing, BillingError};
use crate::billing::ingest::tell_changes;
use crate::domain::event::Session;
use crate::domain::ids::TenantId;
use crate::store::{StoreFailure, Touched};
use crate::stripe::{Deadline, Stripe};
use crate::telemetry::spans;
use crate::telemetry::topics::{Level, Line, Topic};

/// How often an answer that was overtaken by an event is asked for again.
const ASKS: u32 = 3;

/// Takes over what a completed checkout session made: its subscription, as Stripe answers, and its end.
///
/// Fails if Stripe or the database refuses. Nothing happens if the session made no subscription.
pub(super) async fn take_over_session(
    billing: &Billing,
    stripe: &Stripe,
    tenant: &TenantId,
    session: &Session,
    deadline: Deadline,
) -> Result<(), BillingError> {
    let Some(id) = &session.subscription else { return Ok(()) };
    for _ in 0..ASKS {
        let revision = billing.store.revision(id).await?;
        let (snapshot, answered_at) = stripe.retrieve_subscription(id, deadline).await?.value;

        let transaction = billing.store.begin().await?;
        let mut scene = transaction.scene(&Touched::session(session, &snapshot.customer)).await?;
        if scene.held(id).map(|held| held.subscription.revision) != revision {
            continue;
        }
        let changed = scene.answer(tenant, &snapshot, answered_at);
        scene.answer_session(session, answered_at);
        let trace = spans::current_trace();
        let written = transaction.write(&scene, |_| trace, billing.clock.now_ms()).await;
        let committed = match written {
            Ok(()) => transaction.commit().await,
            Err(error) => Err(error),
        };
        match committed {
            Err(error) if error.failure() == StoreFailure::Conflict => continue,
            result => result?,
        }
        tell_changes(billing, scene.changes(), trace);
        let event = if changed { "refresh.changed" } else { "refresh.unchanged" };
        let line = Line::new(Topic::SubscriptionState, Level::Info, event, billing.clock.now_ms());
        billing.topics.append(&[line.tenant(tenant).customer(&snapshot.customer).subscription(id).traced()]);
        return Ok(());
    }
    tracing::warn!(subscription = %id, "Stripe's answers were overtaken by events each time; the events stand");
    Ok(())
}
