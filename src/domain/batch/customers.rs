//! Customers: linking them to tenants, unlinking and deleting them.

use super::{Batch, Cause, Effect, EntryKind, OwnedSubscription, Policy, cause};
use crate::domain::event::{CUSTOMER_CREATED, Event};
use crate::domain::ids::{CustomerId, DeploymentId, TenantId};
use crate::domain::metadata::Metadata;
use crate::domain::outcome::{OTHER_CUSTOMER, Outcome};
use crate::domain::refresh::{RefreshReason, RefreshSubject};
use crate::domain::subscription::StaleReason;
use crate::domain::tenant::Tenant;

/// Why a customer cannot be linked to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    #[error("the tenant is linked to another customer")]
    TenantHasCustomer,
    #[error("the customer is linked to another tenant")]
    CustomerHasTenant,
    #[error(
        "the tenant's customer still has a subscription; cancel it at Stripe or run `billhook tenant unlink` first"
    )]
    CustomerHasSubscription,
    /// The first refresh of the tenant's customer is pending.
    #[error(
        "the refresh of the tenant's customer is pending; start the service if it is not running, and try again"
    )]
    CustomerNotKnown,
    #[error("the customer belongs to another deployment on the same Stripe account")]
    CustomerOfAnotherDeployment,
    #[error("the customer was deleted at Stripe, or its tenant was erased")]
    CustomerDeleted,
    #[error("the operator unlinked the customer; link it again with `billhook tenant link`")]
    CustomerUnlinkedByOperator,
}

impl Batch {
    /// Links a customer to a tenant and applies its parked events. Does nothing if they are linked
    /// already.
    pub fn link(
        &mut self,
        tenant: &TenantId,
        customer: &CustomerId,
        cause: Cause<'_>,
        policy: &Policy,
    ) -> Result<(), LinkRefusal> {
        if self.is_unlinked_by_operator(customer) {
            return Err(LinkRefusal::CustomerUnlinkedByOperator);
        }
        if cause.name != cause::OPERATOR && self.foreign.contains_key(customer) {
            return Err(LinkRefusal::CustomerOfAnotherDeployment);
        }
        self.set_customer(tenant, customer, cause)?;
        self.apply_parked(cause, policy);
        Ok(())
    }

    /// Raises the generation of a tenant without a customer, so that its next customer is created
    /// under another idempotency key. Does nothing if the tenant has changed since it was read as
    /// `seen`.
    pub fn raise_generation(&mut self, seen: &Tenant) {
        let stored = self.tenants.get(&seen.id);
        if stored.is_none_or(|stored| stored.customer.is_none() && stored.generation == seen.generation) {
            self.tenant_mut(&seen.id).generation = seen.generation + 1;
        }
    }

    /// Links the tenant to another customer, if all subscriptions of its present customer are
    /// final. They stay in the tenant's history. Returns the replaced customer.
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
            if self.subscriptions_of(replaced).any(|owned| !owned.subscription.state.status.is_final()) {
                return Err(LinkRefusal::CustomerHasSubscription);
            }
            // Checked before the tenant loses its present customer.
            if self.tenant_of(customer).is_some() {
                return Err(LinkRefusal::CustomerHasTenant);
            }
            self.free_tenant_of(replaced, cause);
            // Its metadata still names the tenant.
            self.mark_unlinked_by_operator(replaced);
        }
        self.link(tenant, customer, cause, policy)?;
        Ok(replaced)
    }

    /// Records that the customer's metadata names a tenant with another customer. Linking the
    /// customer removes the record.
    pub fn record_taken_tenant(&mut self, customer: &CustomerId, tenant: &TenantId) {
        if self.taken_tenants.insert(customer.clone(), tenant.clone()).as_ref() != Some(tenant) {
            self.changes.customer_notes.insert(customer.clone());
        }
    }

    pub fn clear_unlinked_by_operator(&mut self, customer: &CustomerId) {
        if self.unlinked_by_operator.remove(customer) {
            self.changes.changed_unlink_marks.insert(customer.clone());
        }
    }

    /// Unlinks the customer on the operator's behalf and removes its subscriptions. Its later
    /// events are parked, and only the operator can link it again, whatever its metadata says.
    /// Returns its tenant.
    pub fn unlink(&mut self, customer: &CustomerId, cause: Cause<'_>) -> Option<TenantId> {
        let tenant = self.free_tenant_of(customer, cause)?;
        for (id, owned) in
            self.subscriptions.extract_if(.., |_, owned| owned.subscription.customer == *customer)
        {
            self.changes.entitlements.insert(owned.tenant);
            self.changes.removed_subscriptions.insert(id);
        }
        self.mark_unlinked_by_operator(customer);
        Some(tenant)
    }

    fn mark_unlinked_by_operator(&mut self, customer: &CustomerId) {
        self.unlinked_by_operator.insert(customer.clone());
        self.changes.changed_unlink_marks.insert(customer.clone());
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
        let (foreign, named) = (self.foreign.remove(customer), self.taken_tenants.remove(customer));
        if foreign.is_some() || named.is_some() {
            self.changes.customer_notes.insert(customer.clone());
        }
        self.changes.entitlements.insert(tenant_id.clone());
        self.move_subscriptions(customer, tenant_id);
        self.customers_to_unpark.push(customer.clone());
        self.add_to_journal(EntryKind::CustomerLinked, tenant_id, customer, cause);
        // A customer that was just created has no subscriptions yet.
        if cause.name != cause::CHECKOUT && cause.name != CUSTOMER_CREATED {
            let subject = RefreshSubject::Customer(customer.clone());
            self.request_refresh(subject, (tenant_id, customer), RefreshReason::Linked, cause);
        }
        Ok(())
    }

    /// Moves the customer's stored subscriptions from its former tenant, which must not see their
    /// later changes.
    fn move_subscriptions(&mut self, customer: &CustomerId, to: &TenantId) {
        let to_move =
            |owned: &&mut OwnedSubscription| owned.subscription.customer == *customer && owned.tenant != *to;
        for owned in self.subscriptions.values_mut().filter(to_move) {
            let from = std::mem::replace(&mut owned.tenant, to.clone());
            self.changes.subscriptions.insert(owned.subscription.id.clone());
            self.changes.entitlements.extend([from, to.clone()]);
        }
    }

    /// `customer.created` and `.updated`: the metadata may name the customer's tenant.
    pub(super) fn apply_customer_change(
        &mut self,
        event: &Event,
        customer: &CustomerId,
        metadata: &Metadata,
    ) -> Effect {
        // The checkout that created the customer links it. It may belong to another deployment.
        if event.is_customer_created_by_checkout() {
            return Effect::new(Outcome::Ignored).with_reason("made_by_checkout");
        }
        let Some(named) = &metadata.tenant else {
            return Effect::new(Outcome::Ignored).with_reason("names_no_tenant");
        };
        let is_linked = self.tenant_of(customer).is_some();
        match self.tenant_or_link(event, customer, Some(named)) {
            Ok(tenant) if is_linked => {
                Effect::new(Outcome::Applied).with_reason("no_change").for_tenant(tenant)
            }
            Ok(tenant) => Effect::new(Outcome::Applied).for_tenant(tenant),
            // The event has nothing to apply later.
            Err(effect) if effect.outcome == Outcome::Parked => {
                Effect { outcome: Outcome::Ignored, ..effect }
            }
            Err(effect) => effect,
        }
    }

    /// Whether the event's customer belongs to another deployment on the same account. Metadata
    /// that names a deployment is remembered for the customer's events without metadata. A customer
    /// that is linked here is ours, whatever its metadata says.
    pub(super) fn is_of_another_deployment(&mut self, event: &Event, policy: &Policy) -> bool {
        let Some(customer) = event.customer() else { return false };
        if self.tombstones.contains(customer) || self.tenant_of(customer).is_some() {
            return false;
        }
        match event.metadata().and_then(|metadata| metadata.deployment.as_ref()) {
            Some(named) if *named == policy.deployment => false,
            Some(named) => {
                self.set_foreign(customer, named);
                true
            }
            None => self.foreign.contains_key(customer),
        }
    }

    fn set_foreign(&mut self, customer: &CustomerId, deployment: &DeploymentId) {
        if self.foreign.insert(customer.clone(), deployment.clone()).as_ref() != Some(deployment) {
            self.changes.customer_notes.insert(customer.clone());
            self.customers_to_unpark.push(customer.clone());
        }
    }

    /// Stripe answered that the customer belongs to another deployment. Has no effect on a customer
    /// that is linked here.
    pub fn mark_foreign(
        &mut self,
        customer: &CustomerId,
        deployment: &DeploymentId,
        cause: Cause<'_>,
        policy: &Policy,
    ) {
        if !self.tombstones.contains(customer) && self.tenant_of(customer).is_none() {
            self.set_foreign(customer, deployment);
            self.apply_parked(cause, policy);
        }
    }

    pub(super) fn apply_customer_deletion(&mut self, event: &Event, customer: &CustomerId) -> Effect {
        if self.tombstones.contains(customer) {
            return Effect::stale(StaleReason::CustomerDeleted);
        }
        match self.end_customer(customer, Cause::event(event)) {
            Some(tenant) => Effect::new(Outcome::Applied).for_tenant(tenant),
            None => Effect::new(Outcome::Applied).with_reason("unknown_customer"),
        }
    }

    /// Applies the deletion of a customer: ends its subscriptions, keeps its id as a tombstone and
    /// frees its tenant. Returns the tenant.
    pub fn end_customer(&mut self, customer: &CustomerId, cause: Cause<'_>) -> Option<TenantId> {
        self.tombstones.insert(customer.clone());
        self.changes.tombstones.insert(customer.clone());
        self.end_subscriptions_of(customer, cause);
        self.customers_to_unpark.push(customer.clone());
        self.free_tenant_of(customer, cause)
    }

    /// Removes the customer from its tenant, so that the next checkout creates another one. The
    /// customer's subscriptions stay as they are. Returns the tenant.
    pub fn free_tenant_of(&mut self, customer: &CustomerId, cause: Cause<'_>) -> Option<TenantId> {
        let id = self.tenant_of(customer)?.id.clone();
        let tenant = self.tenant_mut(&id);
        tenant.customer = None;
        tenant.generation += 1;
        self.changes.entitlements.insert(id.clone());
        self.add_to_journal(EntryKind::CustomerUnlinked, &id, customer, cause);
        Some(id)
    }

    /// Changes nothing. The event is a milestone of the tenant's journey.
    pub(super) fn apply_portal_opening(&self, customer: &CustomerId) -> Effect {
        match self.linked_tenant_or_effect(customer) {
            Ok(tenant) => Effect::new(Outcome::Applied).for_tenant(tenant),
            Err(effect) if effect.outcome == Outcome::Parked => {
                Effect::new(Outcome::Ignored).with_reason("unknown_customer")
            }
            Err(effect) => effect,
        }
    }

    /// The tenant of the customer. An unlinked customer is first linked to the tenant that the
    /// event names, if that tenant has no customer.
    pub(super) fn tenant_or_link(
        &mut self,
        event: &Event,
        customer: &CustomerId,
        named: Option<&TenantId>,
    ) -> Result<TenantId, Effect> {
        let found = self.linked_tenant_or_effect(customer);
        let (Err(Effect { outcome: Outcome::Parked, .. }), Some(named)) = (&found, named) else {
            return found;
        };
        // Our own checkouts wrote the tenant into the metadata, so the next renewal would undo the
        // operator's unlinking.
        if self.is_unlinked_by_operator(customer) {
            return Err(Effect::new(Outcome::Parked).with_reason("customer_unlinked").into_warning());
        }
        // An event never replaces the current customer of a tenant.
        if self.set_customer(named, customer, Cause::event(event)).is_err() {
            self.record_taken_tenant(customer, named);
            let parked = Effect::new(Outcome::Parked).with_reason(OTHER_CUSTOMER).into_warning();
            return Err(parked.for_tenant(named.clone()));
        }
        Ok(named.clone())
    }

    /// The tenant of the customer. Without a tenant the event is parked, or stale if the customer
    /// was deleted.
    pub(super) fn linked_tenant_or_effect(&self, customer: &CustomerId) -> Result<TenantId, Effect> {
        if self.tombstones.contains(customer) {
            return Err(Effect::stale(StaleReason::CustomerDeleted));
        }
        let tenant = self.tenant_of(customer).map(|tenant| tenant.id.clone());
        tenant.ok_or_else(|| Effect::new(Outcome::Parked).with_reason("unknown_customer"))
    }

    pub fn tenant_of(&self, customer: &CustomerId) -> Option<&Tenant> {
        self.tenants.values().find(|tenant| tenant.customer.as_ref() == Some(customer))
    }

    /// The tenant, to be changed. Creates it if it has no row.
    pub(super) fn tenant_mut(&mut self, id: &TenantId) -> &mut Tenant {
        self.changes.tenants.insert(id.clone());
        self.tenants.entry(id.clone()).or_insert_with(|| {
            self.changes.new_tenants.insert(id.clone());
            Tenant::new(id.clone())
        })
    }
}
