//! The scope of a unit of work: the rows that are read for it.

use std::collections::BTreeSet;

use crate::domain::event::{Event, Session, Subject};
use crate::domain::ids::{CustomerId, EventId, PriceId, SessionId, SubscriptionId, TenantId};
use crate::domain::subscription::Snapshot;

/// The scope of a unit of work. Its rows are locked in one order, so that two transactions cannot block each other:
/// customers first, then tenants, each by id.
#[derive(Debug, Default)]
pub struct BatchScope {
    /// Events that may be in the inbox already.
    pub(super) new_events: BTreeSet<EventId>,
    pub(super) customers: BTreeSet<CustomerId>,
    pub(super) tenants: BTreeSet<TenantId>,
    pub(super) subscriptions: BTreeSet<SubscriptionId>,
    pub(super) sessions: BTreeSet<SessionId>,
    /// The ids of journeys that events name.
    pub(super) journeys: BTreeSet<String>,
    /// The subscriptions of snapshots, each with the second that its snapshot is of.
    pub(super) seconds: BTreeSet<(SubscriptionId, i64)>,
    /// Customers that these events can link or end. Their parked events are read.
    pub(super) relinked_customers: BTreeSet<CustomerId>,
    /// The prices of snapshots' items, now and before.
    pub(super) prices: BTreeSet<PriceId>,
}

impl BatchScope {
    /// Events that Stripe delivered. Some may be in the inbox already.
    pub fn new_events<'a>(events: impl Iterator<Item = &'a Event> + Clone) -> Self {
        let new_events = events.clone().map(|event| event.id.clone()).collect();
        Self { new_events, ..Self::events(events) }
    }

    /// Events of the inbox.
    pub fn events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut scope = Self::default();
        for event in events {
            scope.add_event(event);
        }
        scope
    }

    fn add_event(&mut self, event: &Event) {
        self.customers.extend(event.customer().cloned());
        self.subscriptions.extend(event.subscription().cloned());
        self.journeys.extend(event.named_journey().map(|origin| origin.journey_id().to_string()));
        if let Some(tags) = event.tags() {
            self.tenants.extend(tags.tenant.clone());
        }
        match &event.subject {
            Subject::Checkout(_, session) => {
                self.sessions.insert(session.id.clone());
                self.tenants.extend(session.client_reference.clone());
            }
            Subject::Subscription(_, snapshot) => {
                self.seconds.insert((snapshot.id.clone(), event.created));
                self.prices.extend(snapshot.prices().cloned());
            }
            _ => {}
        }
        if can_relink_customer(event) {
            self.relinked_customers.extend(event.customer().cloned());
        }
    }

    /// A checkout session that Stripe calls complete, and the customer of its subscription.
    pub fn session(session: &Session, customer: &CustomerId) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: session.subscription.iter().cloned().collect(),
            sessions: [session.id.clone()].into(),
            ..Self::default()
        }
    }

    /// A customer's subscriptions, as Stripe answers with them.
    pub fn subscriptions(customer: &CustomerId, snapshots: &[Snapshot]) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
            prices: snapshots.iter().flat_map(Snapshot::prices).cloned().collect(),
            ..Self::default()
        }
    }

    /// A tenant alone.
    pub fn tenant(tenant: &TenantId) -> Self {
        Self { tenants: [tenant.clone()].into(), ..Self::default() }
    }

    /// A customer and its parked events.
    pub fn customer(customer: &CustomerId) -> Self {
        let customers = BTreeSet::from([customer.clone()]);
        Self { relinked_customers: customers.clone(), customers, ..Self::default() }
    }

    /// A tenant and a customer that are to be linked.
    pub fn pair(tenant: &TenantId, customer: &CustomerId) -> Self {
        Self::pairs([(tenant, customer)])
    }

    /// Tenants and customers that are to be linked.
    pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a TenantId, &'a CustomerId)>) -> Self {
        let (tenants, customers): (BTreeSet<_>, BTreeSet<_>) =
            pairs.into_iter().map(|(tenant, customer)| (tenant.clone(), customer.clone())).unzip();
        Self { tenants, relinked_customers: customers.clone(), customers, ..Self::default() }
    }

    /// A tenant that is erased, and its customers.
    pub fn erased(tenant: &TenantId, customers: &BTreeSet<CustomerId>) -> Self {
        Self { tenants: [tenant.clone()].into(), customers: customers.clone(), ..Self::default() }
    }
}

/// Whether an event can link its customer to a tenant, or ends it.
fn can_relink_customer(event: &Event) -> bool {
    let names_a_tenant = event.tags().is_some_and(|tags| tags.tenant.is_some());
    names_a_tenant || matches!(event.subject, Subject::Checkout(..) | Subject::CustomerDeleted(_))
}
