//! The journey that an event belongs to, and the journey of a tenant.

use super::{Batch, Cause};
use crate::domain::event::{Event, Session, Subject};
use crate::domain::ids::TenantId;
use crate::domain::journey::Journey;
use crate::domain::metadata::Metadata;
use crate::domain::tenant::Checkout;

impl Batch {
    /// The journey of the event: that of its session's or subscription's checkout, else the one
    /// that its metadata names if it is a checkout of this tenant, else the tenant's. Metadata
    /// comes before the tenant's journey, because the events of a second checkout arrive before
    /// that checkout completes.
    pub(super) fn journey_of(&self, event: &Event, tenant: Option<&TenantId>) -> Option<Journey> {
        let by_session = match &event.subject {
            Subject::Checkout(_, session) => self.checkouts.get(&session.id),
            _ => None,
        };
        let by_subscription = || event.subscription().and_then(|id| self.checkout_of(id));
        let named = event.named_journey();
        let by_metadata = || {
            self.checkouts
                .values()
                .find(|checkout| Some(checkout.journey.origin) == named && Some(&checkout.tenant) == tenant)
        };
        // A customer can move to another tenant. The journeys of its former tenant do not move with
        // it.
        let is_tenants = |checkout: &&Checkout| tenant.is_none_or(|tenant| checkout.tenant == *tenant);
        let recorded = by_session.or_else(by_subscription).filter(is_tenants);
        recorded
            .or_else(by_metadata)
            .map(|checkout| checkout.journey)
            .or_else(|| self.journey_of_tenant(tenant?))
    }

    pub(super) fn journey_of_tenant(&self, tenant: &TenantId) -> Option<Journey> {
        self.tenants.get(tenant).and_then(|tenant| tenant.journey)
    }

    /// Starts a journey for a tenant that never completed a checkout of ours, or continues the
    /// journey of a checkout whose record is lost. The tenant's first completed checkout replaces
    /// it.
    pub(super) fn start_journey_if_none(&mut self, event: &Event, tenant: &TenantId) {
        let Some(new_journey) = self.new_journey else { return };
        if self.journey_of(event, Some(tenant)).is_some() {
            return;
        }
        let lost = event.metadata().and_then(|metadata| self.lost_journey(metadata, tenant, event.created));
        self.tenant_mut(tenant).journey = Some(lost.unwrap_or(new_journey));
    }

    /// Makes the journey of a completed session the tenant's, unless the tenant has the journey of
    /// a later checkout. A journey without a checkout is always replaced. If the customer has moved
    /// to another tenant since, nothing changes.
    pub(super) fn set_journey_of_session(&mut self, tenant: &TenantId, session: &Session, cause: Cause<'_>) {
        let journey = match self.checkouts.get(&session.id) {
            Some(checkout) => (checkout.tenant == *tenant).then_some(checkout.journey),
            None => self.lost_journey(&session.metadata, tenant, cause.at),
        };
        let Some(journey) = journey else { return };
        let has_checkout = |current: Journey| self.checkouts.values().any(|one| one.journey == current);
        let is_replaced =
            |current: Journey| current.started_at_ms < journey.started_at_ms || !has_checkout(current);
        if self.journey_of_tenant(tenant).is_none_or(is_replaced) {
            self.tenant_mut(tenant).journey = Some(journey);
        }
    }

    /// The journey of a checkout that is not in the database, because the database was restored
    /// from an older backup. The metadata names its tenant. Only our own checkout, or another
    /// holder of the API key, can have written it.
    fn lost_journey(&self, metadata: &Metadata, tenant: &TenantId, at: i64) -> Option<Journey> {
        let origin = metadata.journey.filter(|_| metadata.tenant.as_ref() == Some(tenant))?;
        let is_lost = self.checkouts.values().all(|checkout| checkout.journey.origin != origin);
        let is_new = self.journey_of_tenant(tenant).is_none_or(|current| current.origin != origin);
        (is_lost && is_new).then_some(Journey { origin, started_at_ms: at.saturating_mul(1000) })
    }
}
