//! Checkout sessions: they link their customer, close their checkout, and report whether the first
//! payment is pending.

use super::{Batch, Cause, Effect, EntryKind, Policy, cause};
use crate::domain::event::{CheckoutEventKind, Event, Session};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::outcome::{OTHER_CUSTOMER, Outcome};
use crate::domain::subscription::StaleReason;
use crate::domain::tenant::{Checkout, CheckoutStatus};

impl Batch {
    /// Closes a session of ours that is complete, according to Stripe's answer.
    pub fn apply_refreshed_session(&mut self, session: &Session, answered_at: i64) {
        let cause = Cause { name: cause::REFRESH, event: None, at: answered_at };
        let status = CheckoutEventKind::Completed.checkout_status(session);
        match self.owner_of_session(session) {
            Ok((tenant, customer)) => {
                self.close_checkout(cause, session, &customer, &tenant, status);
                self.set_journey_of_session(&tenant, session, cause);
            }
            Err(_) => self.close_checkout_of_deleted_customer(cause, session, status),
        }
    }

    pub(super) fn apply_session(
        &mut self,
        event: &Event,
        kind: CheckoutEventKind,
        session: &Session,
        policy: &Policy,
    ) -> Effect {
        match kind {
            CheckoutEventKind::Completed | CheckoutEventKind::PaymentSucceeded => {
                self.apply_completed_session(event, kind, session, policy)
            }
            CheckoutEventKind::PaymentFailed => self.apply_failed_payment(event, session),
            CheckoutEventKind::Expired => self.apply_expired_session(event, session),
        }
    }

    fn apply_completed_session(
        &mut self,
        event: &Event,
        kind: CheckoutEventKind,
        session: &Session,
        policy: &Policy,
    ) -> Effect {
        let Some(customer) = &session.customer else {
            return Effect::new(Outcome::Ignored).with_reason("no_customer");
        };
        let ours = self.checkouts.get(&session.id);
        let named = ours.map(|checkout| checkout.tenant.clone()).or_else(|| session.metadata.tenant.clone());
        let referenced = session.client_reference.clone().filter(|_| policy.trust_client_reference);
        if named.is_none()
            && referenced.as_ref().is_some_and(|tenant| self.has_other_customer(tenant, customer))
        {
            // Anyone can write the reference into the URL of a Payment Link, so it is weaker than
            // metadata.
            return Effect::new(Outcome::Parked).with_reason(OTHER_CUSTOMER).into_warning();
        }
        let (cause, status) = (Cause::event(event), kind.checkout_status(session));
        let tenant = match self.tenant_or_link(event, customer, named.or(referenced).as_ref()) {
            Ok(tenant) => tenant,
            Err(effect) => {
                self.close_checkout_of_deleted_customer(cause, session, status);
                return effect;
            }
        };
        self.close_checkout(cause, session, customer, &tenant, status);
        self.set_journey_of_session(&tenant, session, cause);
        if let Some(subscription) = &session.subscription {
            self.refresh_if_unknown(subscription, (&tenant, customer), cause);
        }
        Effect::new(Outcome::Applied).for_tenant(tenant)
    }

    /// Whether the tenant has another customer, and this one is neither linked nor deleted.
    fn has_other_customer(&self, tenant: &TenantId, customer: &CustomerId) -> bool {
        let has_customer = self.tenants.get(tenant).is_some_and(|tenant| tenant.customer.is_some());
        has_customer && self.tenant_of(customer).is_none() && !self.tombstones.contains(customer)
    }

    fn apply_failed_payment(&mut self, event: &Event, session: &Session) -> Effect {
        let (cause, status) = (Cause::event(event), CheckoutStatus::PaymentFailed);
        match self.owner_of_session(session) {
            Ok((tenant, customer)) => {
                self.close_checkout(cause, session, &customer, &tenant, status);
                Effect::new(Outcome::Applied).for_tenant(tenant)
            }
            Err(effect) => {
                self.close_checkout_of_deleted_customer(cause, session, status);
                effect
            }
        }
    }

    fn apply_expired_session(&mut self, event: &Event, session: &Session) -> Effect {
        let Some(checkout) = self.checkouts.get(&session.id) else {
            return Effect::new(Outcome::Ignored).with_reason("unknown_session");
        };
        let (tenant, customer) = (self.owner_of_checkout(checkout), checkout.customer.clone());
        if checkout.status != CheckoutStatus::Open {
            return Effect::new(Outcome::Stale).with_reason("session_closed").for_tenant(tenant);
        }
        self.close_checkout(Cause::event(event), session, &customer, &tenant, CheckoutStatus::Expired);
        Effect::new(Outcome::Applied).for_tenant(tenant)
    }

    /// The tenant and the customer of the session, from our checkout if there is one, else from the
    /// session's customer.
    fn owner_of_session(&self, session: &Session) -> Result<(TenantId, CustomerId), Effect> {
        if let Some(checkout) = self.checkouts.get(&session.id) {
            if self.tombstones.contains(&checkout.customer) {
                return Err(Effect::stale(StaleReason::CustomerDeleted));
            }
            return Ok((self.owner_of_checkout(checkout), checkout.customer.clone()));
        }
        let Some(customer) = &session.customer else {
            return Err(Effect::new(Outcome::Ignored).with_reason("no_customer"));
        };
        Ok((self.linked_tenant_or_effect(customer)?, customer.clone()))
    }

    /// The tenant that has the checkout's customer now, else the tenant that started the checkout.
    fn owner_of_checkout(&self, checkout: &Checkout) -> TenantId {
        self.tenant_of(&checkout.customer).map_or_else(|| checkout.tenant.clone(), |tenant| tenant.id.clone())
    }

    /// Closes a checkout of ours whose customer was deleted. While it is open, its tenant cannot
    /// start another one.
    fn close_checkout_of_deleted_customer(
        &mut self,
        cause: Cause<'_>,
        session: &Session,
        status: CheckoutStatus,
    ) {
        let ours = self.checkouts.get(&session.id);
        let Some(checkout) = ours.filter(|one| self.tombstones.contains(&one.customer)) else { return };
        let (tenant, customer) = (checkout.tenant.clone(), checkout.customer.clone());
        if checkout.status.can_become(status) {
            self.close_checkout(cause, session, &customer, &tenant, status);
        }
    }

    /// Closes the checkout, if it is ours, and notes on the subscription whether its payment is
    /// pending.
    fn close_checkout(
        &mut self,
        cause: Cause<'_>,
        session: &Session,
        customer: &CustomerId,
        tenant: &TenantId,
        mut status: CheckoutStatus,
    ) {
        if let Some(checkout) = self.checkouts.get_mut(&session.id) {
            if checkout.status.can_become(status) {
                checkout.status = status;
            }
            status = checkout.status;
            checkout.subscription = session.subscription.clone().or(checkout.subscription.take());
            self.changes.checkouts.insert(session.id.clone());
        }
        if let Some(subscription) = &session.subscription {
            self.apply_session_payment(subscription, status, cause.at);
        }
        self.add_to_journal(EntryKind::CheckoutClosed, tenant, customer, cause);
    }

    /// Completes the checkout of a subscription whose first payment has arrived. Returns whether
    /// its status changed.
    pub(super) fn complete_checkout_of(&mut self, subscription: &SubscriptionId) -> bool {
        let of_subscription = |checkout: &&mut Checkout| checkout.subscription.as_ref() == Some(subscription);
        if let Some(checkout) = self.checkouts.values_mut().find(of_subscription)
            && checkout.status.can_become(CheckoutStatus::Complete)
        {
            checkout.status = CheckoutStatus::Complete;
            self.changes.checkouts.insert(checkout.session.clone());
            return true;
        }
        false
    }

    pub(super) fn checkout_of(&self, subscription: &SubscriptionId) -> Option<&Checkout> {
        self.checkouts.values().find(|checkout| checkout.subscription.as_ref() == Some(subscription))
    }
}
