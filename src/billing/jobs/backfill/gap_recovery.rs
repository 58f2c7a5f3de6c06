//! Recovery from a gap that is longer than Stripe lists events for: every linked customer is asked
//! about, and tenants that bought in the gap are linked by what their subscriptions say. Its
//! position is stored with each page, so that a recovery that was interrupted continues there, also
//! after a restart or on another replica.

use super::{Backfill, Interrupted};
use crate::billing::STRIPE_DEADLINE;
use crate::billing::link::{Run, link_tenants};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::domain::unit_of_work::cause;
use crate::store::{GapRecovery, GapStep, StoreError};
use crate::stripe::{Deadline, Stripe};
use crate::telemetry::loggable::loggable;
use crate::telemetry::spans;

/// How many customers are asked about in one statement.
const CUSTOMERS: u64 = 500;

impl Backfill<'_> {
    /// Carries a recovery on to its end. Subscriptions that were made since then are looked at.
    pub(super) async fn recover(
        &self,
        stripe: &Stripe,
        since: i64,
        mut recovery: GapRecovery,
    ) -> Result<(), Interrupted> {
        let store = &self.billing.store;
        loop {
            self.hold_lease().await?;
            let next = match &recovery.step {
                GapStep::Customers { after } => Some(self.ask_about_customers(after.as_ref()).await?),
                GapStep::Subscriptions { after } => self.link_tenants(stripe, since, after.as_ref()).await?,
            };
            let Some(step) = next else { return Ok(store.finish_gap_recovery(recovery.started_at).await?) };
            recovery.step = step;
            store.save_gap_recovery(&recovery).await?;
        }
    }

    /// Asks about the customers of one page of tenants. Returns the next step.
    async fn ask_about_customers(&self, after: Option<&TenantId>) -> Result<GapStep, StoreError> {
        let store = &self.billing.store;
        let linked = store.linked_tenants(after, CUSTOMERS).await?;
        let Some((last, _)) = linked.last() else { return Ok(GapStep::Subscriptions { after: None }) };
        let next = GapStep::Customers { after: Some(last.clone()) };
        let question = |(tenant, customer): (TenantId, CustomerId)| {
            let subject = RefreshSubject::Customer(customer.clone());
            Refresh { subject, customer, tenant, reason: RefreshReason::MissedEvents, event: None }
        };
        let questions: Vec<Refresh> = linked.into_iter().map(question).collect();
        store.insert_new_refreshes(&questions, spans::current_trace(), self.billing.clock.now_ms()).await?;
        self.billing.reporter.refresh_wanted().notify_one();
        Ok(next)
    }

    /// Links the tenants that one page of subscriptions names; Stripe no longer lists the events
    /// that did. Returns the next step; none after the last page.
    async fn link_tenants(
        &self,
        stripe: &Stripe,
        since: i64,
        after: Option<&SubscriptionId>,
    ) -> Result<Option<GapStep>, Interrupted> {
        let deadline = Deadline::after(STRIPE_DEADLINE);
        let page = match stripe.list_subscriptions_since(since, after, deadline).await {
            Ok(answer) => answer.value,
            Err(error) if error.is_missing() && after.is_some() => {
                tracing::warn!(
                    "Stripe no longer has the subscription to continue after; listing from the newest"
                );
                return Ok(Some(GapStep::Subscriptions { after: None }));
            }
            Err(error) => return Err(error.into()),
        };
        let deployment = &self.billing.policy.deployment;
        let named = page
            .snapshots
            .into_iter()
            .filter_map(|one| Some((one.tags.tenant_of(deployment)?, one.customer)));
        let links: Vec<_> = named.collect();
        let results = link_tenants(self.billing, &links, cause::REFRESH, Run::Real).await?;
        for ((tenant, customer), result) in links.iter().zip(results) {
            if let Err(refusal) = result {
                tracing::warn!(%tenant, customer = loggable(customer.as_str()), %refusal, "a subscription is not linked to the tenant that it names");
            }
        }
        Ok(page.next.map(|last| GapStep::Subscriptions { after: Some(last) }))
    }
}
