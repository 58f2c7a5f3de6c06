//! Checkouts: how far each got, whose money is still on its way, and the journey that begins with one.

use super::{Cause, Entry, Policy, UnitOfWork, cause};
use crate::domain::event::{CheckoutChange, Event, Session};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::journey::Journey;
use crate::domain::outcome::{OTHER_CUSTOMER, Outcome};
use crate::domain::subscription::StaleReason;
use crate::domain::tags::Tags;
use crate::domain::tenant::{Checkout, CheckoutStatus};
use crate::domain::unit_of_work::Effect;

impl UnitOfWork {
    /// Closes one of our sessions that Stripe, when asked, calls complete.
    pub fn answer_session(&mut self, session: &Session, answered_at: i64) {
        let cause = Cause { name: cause::REFRESH, event: None, at: answered_at };
        let status = CheckoutChange::Completed.leads_to(session);
        match self.known_session(session) {
            Ok((tenant, customer)) => {
                self.close(cause, session, &customer, &tenant, status);
                self.begin_journey(&tenant, session, answered_at);
            }
            Err(_) => self.close_of_deleted_customer(cause, session, status),
        }
    }

    pub(super) fn session(
        &mut self,
        event: &Event,
        change: CheckoutChange,
        session: &Session,
        policy: &Policy,
    ) -> Effect {
        match change {
            CheckoutChange::Completed | CheckoutChange::PaymentSucceeded => {
                self.session_completed(event, change, session, policy)
            }
            CheckoutChange::PaymentFailed => self.payment_failed(event, session),
            CheckoutChange::Expired => self.session_expired(event, session),
        }
    }

    fn session_completed(
        &mut self,
        event: &Event,
        change: CheckoutChange,
        session: &Session,
        policy: &Policy,
    ) -> Effect {
        let Some(customer) = &session.customer else {
            return Effect::new(Outcome::Ignored).because("no_customer");
        };
        let ours = self.checkouts.get(&session.id);
        let named = ours.map(|checkout| checkout.tenant.clone()).or_else(|| session.tags.tenant.clone());
        let referenced = session.client_reference.clone().filter(|_| policy.trust_client_reference);
        if named.is_none() && referenced.as_ref().is_some_and(|tenant| self.is_of_another(tenant, customer)) {
            // Anyone can write it into a Payment Link's URL: it does not claim the tenant as metadata does.
            return Effect::new(Outcome::Parked).because(OTHER_CUSTOMER).loudly();
        }
        let cause = Cause::event(event);
        let tenant = match self.tenant_or_link(event, customer, named.or(referenced).as_ref()) {
            Ok(tenant) => tenant,
            Err(effect) => {
                self.close_of_deleted_customer(cause, session, change.leads_to(session));
                return effect;
            }
        };
        self.close(cause, session, customer, &tenant, change.leads_to(session));
        self.begin_journey(&tenant, session, event.created);
        if let Some(subscription) = &session.subscription {
            self.ask_unless_held(subscription, (&tenant, customer), cause);
        }
        Effect::new(Outcome::Applied).of(tenant)
    }

    /// Whether the tenant has another customer than this one, which is no tenant's.
    fn is_of_another(&self, tenant: &TenantId, customer: &CustomerId) -> bool {
        let has_customer = self.tenants.get(tenant).is_some_and(|held| held.customer.is_some());
        has_customer && self.tenant_of(customer).is_none() && !self.tombstones.contains(customer)
    }

    /// A completed session's journey becomes its tenant's, unless a later one's has already. One that no checkout began
    /// gives way. If its customer has come to another tenant since, that one has no part in it.
    fn begin_journey(&mut self, tenant: &TenantId, session: &Session, at: i64) {
        let journey = match self.checkouts.get(&session.id) {
            Some(checkout) => (checkout.tenant == *tenant).then_some(checkout.journey),
            None => self.journey_of_a_lost_checkout(&session.tags, tenant, at),
        };
        let Some(journey) = journey else { return };
        let held = self.tenants.get(tenant).and_then(|tenant| tenant.journey);
        let is_of_a_checkout = |held: Journey| self.checkouts.values().any(|one| one.journey == held);
        if held.is_none_or(|held| held.began_at_ms < journey.began_at_ms || !is_of_a_checkout(held)) {
            self.tenant_mut(tenant).journey = Some(journey);
        }
    }

    /// The journey of a checkout that we have no record of, since the database was restored from a backup that is older.
    /// The tags say whose it was, and only our own checkout, or another holder of the API key, can have written them.
    pub(super) fn journey_of_a_lost_checkout(
        &self,
        tags: &Tags,
        tenant: &TenantId,
        at: i64,
    ) -> Option<Journey> {
        let origin = tags.journey.filter(|_| tags.tenant.as_ref() == Some(tenant))?;
        let is_lost = self.checkouts.values().all(|checkout| checkout.journey.origin != origin);
        let held = self.tenants.get(tenant).and_then(|tenant| tenant.journey);
        let is_new = held.is_none_or(|held| held.origin != origin);
        (is_lost && is_new).then_some(Journey { origin, began_at_ms: at.saturating_mul(1000) })
    }

    fn payment_failed(&mut self, event: &Event, session: &Session) -> Effect {
        let (cause, status) = (Cause::event(event), CheckoutChange::PaymentFailed.leads_to(session));
        match self.known_session(session) {
            Ok((tenant, customer)) => {
                self.close(cause, session, &customer, &tenant, status);
                Effect::new(Outcome::Applied).of(tenant)
            }
            Err(effect) => {
                self.close_of_deleted_customer(cause, session, status);
                effect
            }
        }
    }

    /// A checkout of ours whose customer was deleted is over like any other: an open one would keep its tenant from the
    /// next.
    fn close_of_deleted_customer(&mut self, cause: Cause<'_>, session: &Session, status: CheckoutStatus) {
        let ours = self.checkouts.get(&session.id);
        let Some(checkout) = ours.filter(|one| self.tombstones.contains(&one.customer)) else { return };
        let (tenant, customer) = (checkout.tenant.clone(), checkout.customer.clone());
        if checkout.status.can_become(status) {
            self.close(cause, session, &customer, &tenant, status);
        }
    }

    fn session_expired(&mut self, event: &Event, session: &Session) -> Effect {
        let Some(checkout) = self.checkouts.get(&session.id) else {
            return Effect::new(Outcome::Ignored).because("unknown_session");
        };
        let (tenant, customer) = (self.whose(checkout), checkout.customer.clone());
        if checkout.status != CheckoutStatus::Open {
            return Effect::new(Outcome::Stale).because("session_closed").of(tenant);
        }
        self.close(Cause::event(event), session, &customer, &tenant, CheckoutStatus::Expired);
        Effect::new(Outcome::Applied).of(tenant)
    }

    /// Whose session it is: by our own record of it, else by its customer.
    fn known_session(&self, session: &Session) -> Result<(TenantId, CustomerId), Effect> {
        if let Some(checkout) = self.checkouts.get(&session.id) {
            if self.tombstones.contains(&checkout.customer) {
                return Err(Effect::stale(StaleReason::CustomerDeleted));
            }
            return Ok((self.whose(checkout), checkout.customer.clone()));
        }
        let Some(customer) = &session.customer else {
            return Err(Effect::new(Outcome::Ignored).because("no_customer"));
        };
        Ok((self.tenant_that_has(customer)?, customer.clone()))
    }

    /// Who has the checkout's customer, else who made it.
    fn whose(&self, checkout: &Checkout) -> TenantId {
        self.tenant_of(&checkout.customer).map_or_else(|| checkout.tenant.clone(), |tenant| tenant.id.clone())
    }

    /// Closes the checkout, tells its subscription whether money is still awaited, and journals it.
    fn close(
        &mut self,
        cause: Cause<'_>,
        session: &Session,
        customer: &CustomerId,
        tenant: &TenantId,
        status: CheckoutStatus,
    ) {
        let mut status = status;
        if let Some(checkout) = self.checkouts.get_mut(&session.id) {
            if checkout.status.can_become(status) {
                checkout.status = status;
            }
            status = checkout.status;
            checkout.subscription = session.subscription.clone().or(checkout.subscription.take());
            self.changes.checkouts.insert(session.id.clone());
        }
        if let Some(subscription) = &session.subscription {
            self.hear_session(subscription, status, cause.at);
        }
        self.note(Entry::CheckoutClosed, tenant, customer, cause);
    }

    /// The subscription's first money has come: its checkout waits no longer. Whether it did.
    pub(super) fn checkout_is_paid(&mut self, subscription: &SubscriptionId) -> bool {
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

    pub(super) fn awaits_payment(&self, subscription: &SubscriptionId) -> bool {
        self.checkout_of(subscription).is_some_and(|checkout| checkout.status.withholds_access())
    }
}
