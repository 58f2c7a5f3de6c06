//! Recovery from a gap longer than Stripe lists events: every linked customer is refreshed, and
//! tenants that bought in the gap are linked by the metadata of their subscriptions. The position
//! is stored with each page, so that an interrupted recovery continues there, also after a restart
//! or on another replica.

use super::{Backfill, BackfillError};
use crate::billing::STRIPE_DEADLINE;
use crate::billing::link::{RunMode, link_tenants};
use crate::domain::batch::cause;
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::store::{GapRecovery, GapStep, StoreError};
use crate::stripe::{Deadline, Stripe};
use crate::telemetry::redact::hash_if_email;
use crate::telemetry::spans;

const CUSTOMERS_PER_PAGE: u64 = 500;

impl Backfill<'_> {
    /// Completes a recovery. `since` is the earliest creation time, in Unix seconds, of the
    /// subscriptions to check.
    pub(super) async fn recover(
        &self,
        stripe: &Stripe,
        since: i64,
        mut recovery: GapRecovery,
    ) -> Result<(), BackfillError> {
        let store = &self.billing.store;
        loop {
            self.renew_lease().await?;
            let next = match &recovery.step {
                GapStep::Customers { after } => Some(self.refresh_customers(after.as_ref()).await?),
                GapStep::Subscriptions { after } => self.link_tenants(stripe, since, after.as_ref()).await?,
            };
            let Some(step) = next else { return Ok(store.finish_gap_recovery(recovery.started_at).await?) };
            recovery.step = step;
            store.save_gap_recovery(&recovery).await?;
        }
    }

    /// Requests a refresh for the customers of one page of tenants. Returns the next step.
    async fn refresh_customers(&self, after: Option<&TenantId>) -> Result<GapStep, StoreError> {
        let store = &self.billing.store;
        let linked = store.linked_tenants(after, CUSTOMERS_PER_PAGE).await?;
        let Some((last, _)) = linked.last() else { return Ok(GapStep::Subscriptions { after: None }) };
        let next = GapStep::Customers { after: Some(last.clone()) };
        let refresh = |(tenant, customer): (TenantId, CustomerId)| {
            let subject = RefreshSubject::Customer(customer.clone());
            Refresh { subject, customer, tenant, reason: RefreshReason::MissedEvents, event: None }
        };
        let refreshes: Vec<Refresh> = linked.into_iter().map(refresh).collect();
        store.insert_new_refreshes(&refreshes, spans::current_trace(), self.billing.clock.now_ms()).await?;
        self.billing.reporter.refresh_wanted().notify_one();
        Ok(next)
    }

    /// Links the tenants named by one page of subscriptions, because Stripe no longer lists their
    /// events. Returns the next step; none after the last page.
    async fn link_tenants(
        &self,
        stripe: &Stripe,
        since: i64,
        after: Option<&SubscriptionId>,
    ) -> Result<Option<GapStep>, BackfillError> {
        let deadline = Deadline::after(STRIPE_DEADLINE);
        let page = match stripe.list_subscriptions_since(since, after, deadline).await {
            Ok(page) => page,
            Err(error) if error.is_missing() && after.is_some() => {
                tracing::warn!(
                    "the subscription to continue after is no longer at Stripe; listing from the newest"
                );
                return Ok(Some(GapStep::Subscriptions { after: None }));
            }
            Err(error) => return Err(error.into()),
        };
        let deployment = &self.billing.policy.deployment;
        let named = page
            .snapshots
            .into_iter()
            .filter_map(|one| Some((one.metadata.tenant_of(deployment)?, one.customer)));
        let links: Vec<_> = named.collect();
        let results = link_tenants(self.billing, &links, cause::REFRESH, RunMode::Apply).await?;
        for ((tenant, customer), result) in links.iter().zip(results) {
            if let Err(refusal) = result {
                tracing::warn!(%tenant, customer = hash_if_email(customer.as_str()), %refusal, "could not link a subscription's customer to the tenant that it names");
            }
        }
        Ok(page.next.map(|last| GapStep::Subscriptions { after: Some(last) }))
    }
}
