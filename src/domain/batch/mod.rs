//! A batch of events and the rows that they concern, in memory.
//!
//! The store locks the rows and loads them into a [`Batch`], the batch applies one event after
//! another, and the store writes [`Changes`] back. There is no I/O here, so a batch costs a few
//! statements however many events it has.
//!
//! Start reading at [`Batch::apply`]. It calls `subscriptions`, `checkouts`, `payments` or
//! `customers`, depending on the event's subject. The ordering rule itself is not here: see
//! [`decide`](super::subscription::decide) and [`same_second`](super::same_second).

mod changes;
mod checkouts;
mod customers;
mod journal;
mod journeys;
mod payments;
mod policy;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};

pub use changes::{Changes, Effect, Unparked};
pub use customers::LinkRefusal;
pub use journal::{Cause, EntryKind, JournalEntry, cause};
pub use payments::Payment;
pub use policy::{OwnAccount, Policy};

use super::event::{Event, Subject};
use super::ids::{CustomerId, DeploymentId, SessionId, SubscriptionId, TenantId};
use super::journey::Journey;
use super::known_prices::KnownPrices;
use super::outcome::{FOREIGN_DEPLOYMENT, Outcome};
use super::refresh::{Refresh, RefreshReason, RefreshSubject};
use super::same_second::Candidate;
use super::subscription::Subscription;
use super::tenant::{Checkout, Tenant};

/// The rows that a batch of events concerns, and what changed in them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Deleted customers.
    tombstones: BTreeSet<CustomerId>,
    /// Customers that the operator unlinked from their tenant. No event links them again.
    unlinked_by_operator: BTreeSet<CustomerId>,
    /// Customers of other deployments that share our Stripe account.
    foreign: BTreeMap<CustomerId, DeploymentId>,
    /// Tenants that customers name in their metadata, but that already have another customer.
    taken_tenants: BTreeMap<CustomerId, TenantId>,
    tenants: BTreeMap<TenantId, Tenant>,
    subscriptions: BTreeMap<SubscriptionId, OwnedSubscription>,
    checkouts: BTreeMap<SessionId, Checkout>,
    /// Events that wait for their customer to be linked, in order of arrival.
    parked: BTreeMap<CustomerId, Vec<Event>>,
    /// The snapshots that may have to be compared within their second.
    candidates: BTreeMap<SubscriptionId, Vec<Candidate>>,
    /// Payments of subscriptions that are not stored yet, with Stripe's time of each.
    payments: BTreeMap<SubscriptionId, Vec<(Payment, i64)>>,
    known_prices: KnownPrices,
    /// Customers that the current event linked, deleted or found to be foreign. Their parked events
    /// are applied after it.
    customers_to_unpark: Vec<CustomerId>,
    /// The journey that starts with the current event if its tenant has none.
    new_journey: Option<Journey>,
    changes: Changes,
}

#[derive(Debug, Clone)]
pub struct OwnedSubscription {
    pub tenant: TenantId,
    pub subscription: Subscription,
}

impl Batch {
    /// Takes the rows that the store has locked.
    pub fn new(
        tombstones: impl IntoIterator<Item = CustomerId>,
        tenants: impl IntoIterator<Item = Tenant>,
        subscriptions: impl IntoIterator<Item = OwnedSubscription>,
        checkouts: impl IntoIterator<Item = Checkout>,
    ) -> Self {
        Self {
            tombstones: tombstones.into_iter().collect(),
            tenants: tenants.into_iter().map(|tenant| (tenant.id.clone(), tenant)).collect(),
            subscriptions: subscriptions
                .into_iter()
                .map(|owned| (owned.subscription.id.clone(), owned))
                .collect(),
            checkouts: checkouts.into_iter().map(|checkout| (checkout.session.clone(), checkout)).collect(),
            ..Self::default()
        }
    }

    /// Adds an event that waits for its customer. Parked events are applied in the order in which
    /// they are added.
    pub fn add_parked(&mut self, event: Event) {
        if let Some(customer) = event.customer() {
            self.parked.entry(customer.clone()).or_default().push(event);
        }
    }

    /// Adds the checkout of a parked event.
    pub fn add_checkout(&mut self, checkout: Checkout) {
        self.checkouts.entry(checkout.session.clone()).or_insert(checkout);
    }

    pub fn add_unlinked_by_operator(&mut self, customer: CustomerId) {
        self.unlinked_by_operator.insert(customer);
    }

    pub fn add_foreign(&mut self, customer: CustomerId, deployment: DeploymentId) {
        self.foreign.insert(customer, deployment);
    }

    /// The other deployment that the customer belongs to.
    pub fn foreign_deployment(&self, customer: &CustomerId) -> Option<&DeploymentId> {
        self.foreign.get(customer)
    }

    pub fn add_taken_tenant(&mut self, customer: CustomerId, tenant: TenantId) {
        self.taken_tenants.insert(customer, tenant);
    }

    /// The tenant that the customer's metadata names although that tenant has another customer.
    pub fn taken_tenant(&self, customer: &CustomerId) -> Option<&TenantId> {
        self.taken_tenants.get(customer)
    }

    pub fn add_known_prices(&mut self, known: &KnownPrices) {
        self.known_prices.merge(known);
    }

    /// Whether only the operator can link this customer.
    pub fn is_unlinked_by_operator(&self, customer: &CustomerId) -> bool {
        self.unlinked_by_operator.contains(customer)
    }

    pub fn customers_without_tenant<'a>(
        &self,
        customers: impl Iterator<Item = &'a CustomerId>,
    ) -> impl Iterator<Item = &'a CustomerId> {
        customers.filter(|customer| self.tenant_of(customer).is_none())
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    pub fn into_changes(self) -> Changes {
        self.changes
    }

    pub fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id)
    }

    pub fn subscriptions_of<'a>(
        &'a self,
        customer: &'a CustomerId,
    ) -> impl Iterator<Item = &'a OwnedSubscription> {
        self.subscriptions.values().filter(move |owned| owned.subscription.customer == *customer)
    }

    pub fn subscription(&self, id: &SubscriptionId) -> Option<&OwnedSubscription> {
        self.subscriptions.get(id)
    }

    pub fn checkout(&self, id: &SessionId) -> Option<&Checkout> {
        self.checkouts.get(id)
    }

    /// Applies one event, and the parked events that it releases. `new_journey` becomes the
    /// tenant's journey if the tenant has none, that is, if it never completed a checkout of ours.
    pub fn apply(&mut self, event: &Event, new_journey: Option<Journey>, policy: &Policy) -> Effect {
        self.new_journey = new_journey;
        let effect = self.apply_one(event, policy);
        self.new_journey = None;
        effect
    }

    fn apply_one(&mut self, event: &Event, policy: &Policy) -> Effect {
        if let Some(reason) = policy.quarantine_reason(event) {
            return Effect::new(Outcome::Quarantined).with_reason(reason);
        }
        if self.is_of_another_deployment(event, policy) {
            self.apply_parked(Cause::event(event), policy);
            return Effect::new(Outcome::Quarantined).with_reason(FOREIGN_DEPLOYMENT).into_info();
        }
        let effect = match &event.subject {
            Subject::Thin => Effect::new(Outcome::Ignored).with_reason("thin_event").into_warning(),
            Subject::Unhandled => Effect::new(Outcome::Ignored).with_reason("type_not_used"),
            Subject::Unreadable(what) => Effect::new(Outcome::Failed).with_reason(what),
            Subject::Subscription(change, snapshot) => self.apply_snapshot(event, *change, snapshot, policy),
            Subject::Checkout(change, session) => self.apply_session(event, *change, session, policy),
            Subject::Invoice(change, invoice) => self.apply_invoice(event, *change, invoice),
            Subject::Customer(customer, metadata) => self.apply_customer_change(event, customer, metadata),
            Subject::CustomerDeleted(customer) => self.apply_customer_deletion(event, customer),
            Subject::PortalOpened(customer) => self.apply_portal_opening(customer),
        };
        if effect.outcome == Outcome::Parked {
            self.add_parked(event.clone());
        }
        self.apply_parked(Cause::event(event), policy);
        if let (Outcome::Applied, Some(tenant)) = (effect.outcome, &effect.tenant) {
            self.start_journey_if_none(event, tenant);
        }
        let journey = self.journey_of(event, effect.tenant.as_ref());
        effect.in_journey(journey)
    }

    /// Applies the parked events of customers that now have a tenant, are deleted, or belong to
    /// another deployment.
    fn apply_parked(&mut self, cause: Cause<'_>, policy: &Policy) {
        for customer in std::mem::take(&mut self.customers_to_unpark) {
            for event in self.parked.remove(&customer).unwrap_or_default() {
                let effect = self.apply_one(&event, policy);
                let by = cause.event.map(|by| by.id.clone());
                self.changes.unparked.push(Unparked { event, effect, by });
            }
        }
    }

    fn mark_changed(&mut self, id: &SubscriptionId) {
        if let Some(owned) = self.subscriptions.get(id) {
            self.changes.subscriptions.insert(id.clone());
            self.changes.entitlements.insert(owned.tenant.clone());
        }
    }

    /// Replaces an earlier request about the same subject.
    fn request_refresh(
        &mut self,
        subject: RefreshSubject,
        (tenant, customer): (&TenantId, &CustomerId),
        reason: RefreshReason,
        cause: Cause<'_>,
    ) {
        let refresh = Refresh {
            subject: subject.clone(),
            customer: customer.clone(),
            tenant: tenant.clone(),
            reason,
            event: cause.event.map(|event| event.id.clone()),
        };
        self.changes.refreshes.insert(subject, refresh);
    }

    fn add_to_journal(
        &mut self,
        kind: EntryKind,
        tenant: &TenantId,
        customer: &CustomerId,
        cause: Cause<'_>,
    ) {
        let journey = match cause.event {
            Some(event) => {
                self.start_journey_if_none(event, tenant);
                self.journey_of(event, Some(tenant))
            }
            None => self.tenants.get(tenant).and_then(|tenant| tenant.journey),
        };
        self.changes.journal.push(JournalEntry {
            kind,
            tenant: tenant.clone(),
            customer: customer.clone(),
            cause: cause.name.to_owned(),
            event: cause.event.map(|event| event.id.clone()),
            at: cause.at,
            journey,
        });
    }
}

#[cfg(test)]
mod tests;
