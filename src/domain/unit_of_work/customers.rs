//! Customers: which tenant has which, what waits for one to be linked, and what remains when one is deleted.

use super::{Cause, Effect, Entry, Held, LinkRefusal, Policy, UnitOfWork, Unparked, cause};
use crate::domain::event::{CUSTOMER_CREATED, Event};
use crate::domain::ids::{CustomerId, DeploymentId, TenantId};
use crate::domain::outcome::{OTHER_CUSTOMER, Outcome};
use crate::domain::refresh::{RefreshReason, RefreshSubject};
use crate::domain::subscription::StaleReason;
use crate::domain::tags::Tags;
use crate::domain::tenant::Tenant;

impl UnitOfWork {
    /// Links a customer to a tenant and applies what was parked for it. Linking twice is linking once.
    pub fn link(
        &mut self,
        tenant: &TenantId,
        customer: &CustomerId,
        cause: Cause<'_>,
        policy: &Policy,
    ) -> Result<(), LinkRefusal> {
        if self.is_withheld(customer) {
            return Err(LinkRefusal::CustomerWithheld);
        }
        if cause.name != cause::OPERATOR && self.foreign.contains_key(customer) {
            return Err(LinkRefusal::CustomerOfAnotherDeployment);
        }
        self.set_customer(tenant, customer, cause)?;
        self.unpark(cause, policy);
        Ok(())
    }

    /// Has the tenant's next customer created under another idempotency key, unless the tenant has changed since it was seen.
    pub fn raise_generation(&mut self, seen: &Tenant) {
        let held = self.tenants.get(&seen.id);
        if held.is_none_or(|held| held.customer.is_none() && held.generation == seen.generation) {
            self.tenant_mut(&seen.id).generation = seen.generation + 1;
        }
    }

    /// Moves the tenant to another customer, once everything that its customer had is over. What that customer had stays in
    /// the tenant's history. Returns the customer that it replaces, if it had one.
    pub fn replace_customer(
        &mut self,
        tenant: &TenantId,
        customer: &CustomerId,
        cause: Cause<'_>,
        policy: &Policy,
    ) -> Result<Option<CustomerId>, LinkRefusal> {
        let replaced = self.tenants.get(tenant).and_then(|tenant| tenant.customer.clone());
        let replaced = replaced.filter(|replaced| replaced != customer);
        if let Some(replaced) = &replaced {
            if self.held_of(replaced).any(|held| !held.subscription.state.status.is_final()) {
                return Err(LinkRefusal::CustomerHasSubscription);
            }
            // Refused before anything is taken from the tenant.
            if self.tenant_of(customer).is_some() {
                return Err(LinkRefusal::CustomerHasTenant);
            }
            self.free_tenant_of(replaced, cause);
            // Its metadata names the tenant, too.
            self.leave_to_operator(replaced);
        }
        self.link(tenant, customer, cause, policy)?;
        Ok(replaced)
    }

    /// Notes that a customer names a tenant which has another customer, until it is linked.
    pub fn name_tenant(&mut self, customer: &CustomerId, tenant: &TenantId) {
        if self.named_tenants.insert(customer.clone(), tenant.clone()).as_ref() != Some(tenant) {
            self.changes.reassigned.insert(customer.clone());
        }
    }

    /// Takes the operator's mark off a customer, so that it can be linked again.
    pub fn release(&mut self, customer: &CustomerId) {
        if self.withheld.remove(customer) {
            self.changes.withheld.insert(customer.clone());
        }
    }

    /// Takes the customer from its tenant, which it returns, for good: it is then as if nobody had ever linked it. What it
    /// has is held no longer, what it still says waits, and whatever its metadata says only the operator links it again.
    pub fn unlink(&mut self, customer: &CustomerId, cause: Cause<'_>) -> Option<TenantId> {
        let tenant = self.free_tenant_of(customer, cause)?;
        let held: Vec<_> = self.held_of(customer).map(|held| held.subscription.id.clone()).collect();
        for id in held {
            if let Some(held) = self.subscriptions.remove(&id) {
                self.changes.entitlements.insert(held.tenant);
                self.changes.dropped.insert(id);
            }
        }
        self.leave_to_operator(customer);
        Some(tenant)
    }

    /// From now on only the operator links the customer, whatever its metadata says.
    fn leave_to_operator(&mut self, customer: &CustomerId) {
        self.withheld.insert(customer.clone());
        self.changes.withheld.insert(customer.clone());
    }

    fn set_customer(
        &mut self,
        tenant_id: &TenantId,
        customer: &CustomerId,
        cause: Cause<'_>,
    ) -> Result<(), LinkRefusal> {
        if self.tombstones.contains(customer) {
            return Err(LinkRefusal::CustomerDeleted);
        }
        match self.tenant_of(customer) {
            Some(tenant) if tenant.id == *tenant_id => return Ok(()),
            Some(_) => return Err(LinkRefusal::CustomerHasTenant),
            None => {}
        }
        if self.tenants.get(tenant_id).is_some_and(|tenant| tenant.customer.is_some()) {
            return Err(LinkRefusal::TenantHasCustomer);
        }
        self.tenant_mut(tenant_id).customer = Some(customer.clone());
        let (foreign, named) = (self.foreign.remove(customer), self.named_tenants.remove(customer));
        if foreign.is_some() || named.is_some() {
            self.changes.reassigned.insert(customer.clone());
        }
        self.changes.entitlements.insert(tenant_id.clone());
        self.hand_over(customer, tenant_id);
        self.decided.push(customer.clone());
        self.note(Entry::CustomerLinked, tenant_id, customer, cause);
        // A customer that was just made has nothing that could be asked about.
        if cause.name != cause::CHECKOUT && cause.name != CUSTOMER_CREATED {
            let subject = RefreshSubject::Customer(customer.clone());
            self.ask(subject, (tenant_id, customer), RefreshReason::Linked, cause);
        }
        Ok(())
    }

    /// What a customer has goes with it: the tenant that had lost it is not to see what becomes of it from now on.
    fn hand_over(&mut self, customer: &CustomerId, to: &TenantId) {
        let of_customer = |held: &&mut Held| held.subscription.customer == *customer && held.tenant != *to;
        for held in self.subscriptions.values_mut().filter(of_customer) {
            let from = std::mem::replace(&mut held.tenant, to.clone());
            self.changes.subscriptions.insert(held.subscription.id.clone());
            self.changes.entitlements.extend([from, to.clone()]);
        }
    }

    /// Applies what was parked for customers that now have a tenant or an end.
    pub(super) fn unpark(&mut self, cause: Cause<'_>, policy: &Policy) {
        for customer in std::mem::take(&mut self.decided) {
            for event in self.parked.remove(&customer).unwrap_or_default() {
                let effect = self.apply_here(&event, policy);
                let by = cause.event.map(|by| by.id.clone());
                self.changes.unparked.push(Unparked { event, effect, by });
            }
        }
    }

    /// A customer was made or changed: its metadata may name its tenant.
    pub(super) fn customer_changed(&mut self, event: &Event, customer: &CustomerId, tags: &Tags) -> Effect {
        // The checkout that made it links it, in whichever deployment that was.
        if event.is_of_our_new_customer() {
            return Effect::new(Outcome::Ignored).because("made_by_checkout");
        }
        let Some(named) = &tags.tenant else {
            return Effect::new(Outcome::Ignored).because("names_no_tenant");
        };
        let is_linked = self.tenant_of(customer).is_some();
        match self.tenant_or_link(event, customer, Some(named)) {
            Ok(tenant) if is_linked => Effect::new(Outcome::Applied).because("no_change").of(tenant),
            Ok(tenant) => Effect::new(Outcome::Applied).of(tenant),
            // There is nothing in it to be applied later.
            Err(effect) if effect.outcome == Outcome::Parked => {
                Effect { outcome: Outcome::Ignored, ..effect }
            }
            Err(effect) => effect,
        }
    }

    /// Whether an event's customer belongs to another deployment on the same account. Its metadata says so once, and events
    /// without metadata follow it. A customer that is linked here is ours, whatever else was written into its objects.
    pub(super) fn is_of_another_deployment(&mut self, event: &Event, policy: &Policy) -> bool {
        let Some(customer) = event.customer() else { return false };
        if self.tombstones.contains(customer) || self.tenant_of(customer).is_some() {
            return false;
        }
        match event.tags().and_then(|tags| tags.deployment.as_ref()) {
            Some(named) if *named == policy.deployment => false,
            Some(named) => {
                self.remember_foreign(customer, named);
                true
            }
            None => self.foreign.contains_key(customer),
        }
    }

    /// Remembers that a customer belongs to another deployment. What is parked for it waits for nothing any more.
    fn remember_foreign(&mut self, customer: &CustomerId, deployment: &DeploymentId) {
        if self.foreign.insert(customer.clone(), deployment.clone()).as_ref() != Some(deployment) {
            self.changes.reassigned.insert(customer.clone());
            self.decided.push(customer.clone());
        }
    }

    /// Stripe says, when asked, that a customer belongs to another deployment. One that is linked here is ours.
    pub fn answer_foreign(
        &mut self,
        customer: &CustomerId,
        deployment: &DeploymentId,
        cause: Cause<'_>,
        policy: &Policy,
    ) {
        if !self.tombstones.contains(customer) && self.tenant_of(customer).is_none() {
            self.remember_foreign(customer, deployment);
            self.unpark(cause, policy);
        }
    }

    pub(super) fn customer_deleted(&mut self, event: &Event, customer: &CustomerId) -> Effect {
        if self.tombstones.contains(customer) {
            return Effect::stale(StaleReason::CustomerDeleted);
        }
        match self.end_customer(customer, Cause::event(event)) {
            Some(tenant) => Effect::new(Outcome::Applied).of(tenant),
            None => Effect::new(Outcome::Applied).because("unknown_customer"),
        }
    }

    /// A customer was deleted: ends its subscriptions, keeps its id as a tombstone and frees its tenant, which it returns.
    pub fn end_customer(&mut self, customer: &CustomerId, cause: Cause<'_>) -> Option<TenantId> {
        self.tombstones.insert(customer.clone());
        self.changes.tombstones.insert(customer.clone());
        self.end_subscriptions_of(customer, cause);
        self.decided.push(customer.clone());
        self.free_tenant_of(customer, cause)
    }

    /// Takes the customer from its tenant, which it returns: the next checkout makes another one. What the customer
    /// had stays as it is.
    pub fn free_tenant_of(&mut self, customer: &CustomerId, cause: Cause<'_>) -> Option<TenantId> {
        let id = self.tenant_of(customer)?.id.clone();
        let tenant = self.tenant_mut(&id);
        tenant.customer = None;
        tenant.generation += 1;
        self.changes.entitlements.insert(id.clone());
        self.note(Entry::CustomerUnlinked, &id, customer, cause);
        Some(id)
    }

    /// Nothing changes: a milestone of the tenant's journey.
    pub(super) fn portal_opened(&self, customer: &CustomerId) -> Effect {
        match self.tenant_that_has(customer) {
            Ok(tenant) => Effect::new(Outcome::Applied).of(tenant),
            Err(effect) if effect.outcome == Outcome::Parked => {
                Effect::new(Outcome::Ignored).because("unknown_customer")
            }
            Err(effect) => effect,
        }
    }

    /// The tenant of the customer, linking it first if the event's own tags name a tenant that is free.
    pub(super) fn tenant_or_link(
        &mut self,
        event: &Event,
        customer: &CustomerId,
        named: Option<&TenantId>,
    ) -> Result<TenantId, Effect> {
        if self.tombstones.contains(customer) {
            return Err(Effect::stale(StaleReason::CustomerDeleted));
        }
        if let Some(tenant) = self.tenant_of(customer) {
            return Ok(tenant.id.clone());
        }
        let Some(named) = named else {
            return Err(Effect::new(Outcome::Parked).because("unknown_customer"));
        };
        // Our own checkouts have named the tenant for good: the operator's word would not last until the next renewal.
        if self.is_withheld(customer) {
            return Err(Effect::new(Outcome::Parked).because("customer_unlinked").loudly());
        }
        // A tenant with a living customer is never taken over by what an event says.
        if self.set_customer(named, customer, Cause::event(event)).is_err() {
            self.name_tenant(customer, named);
            return Err(Effect::new(Outcome::Parked).because(OTHER_CUSTOMER).loudly().of(named.clone()));
        }
        Ok(named.clone())
    }

    /// The tenant of the customer. Without one the event waits for it, unless the customer is gone.
    pub(super) fn tenant_that_has(&self, customer: &CustomerId) -> Result<TenantId, Effect> {
        if self.tombstones.contains(customer) {
            return Err(Effect::stale(StaleReason::CustomerDeleted));
        }
        let tenant = self.tenant_of(customer).map(|tenant| tenant.id.clone());
        tenant.ok_or_else(|| Effect::new(Outcome::Parked).because("unknown_customer"))
    }

    /// The tenant that has the customer, if it is touched.
    pub fn tenant_of(&self, customer: &CustomerId) -> Option<&Tenant> {
        self.tenants.values().find(|tenant| tenant.customer.as_ref() == Some(customer))
    }

    /// The tenant, to be changed; made if it has no row yet.
    pub(super) fn tenant_mut(&mut self, id: &TenantId) -> &mut Tenant {
        self.changes.tenants.insert(id.clone());
        self.tenants.entry(id.clone()).or_insert_with(|| {
            self.changes.new_tenants.insert(id.clone());
            Tenant::new(id.clone())
        })
    }
}
