//! The scope of a batch: the rows to lock and read.

use std::collections::BTreeSet;

use crate::domain::event::{Event, Session, Subject};
use crate::domain::ids::{CustomerId, EventId, PriceId, SessionId, SubscriptionId, TenantId};
use crate::domain::subscription::Snapshot;

/// Locked in a fixed order, so that two transactions cannot deadlock: customers by id, then tenants
/// by id.
#[derive(Debug, Default)]
pub struct BatchScope {
    /// Events of deliveries. Some may be in the inbox already.
    pub(super) delivered: BTreeSet<EventId>,
    pub(super) customers: BTreeSet<CustomerId>,
    pub(super) tenants: BTreeSet<TenantId>,
    pub(super) subscriptions: BTreeSet<SubscriptionId>,
    pub(super) sessions: BTreeSet<SessionId>,
    pub(super) journeys: BTreeSet<String>,
    /// The subscription and the event's `created` of each snapshot.
    pub(super) snapshot_times: BTreeSet<(SubscriptionId, i64)>,
    /// Customers whose parked events are read, since the events can link or delete the customer.
    pub(super) customers_to_unpark: BTreeSet<CustomerId>,
    /// The current and the previous prices of the snapshots.
    pub(super) prices: BTreeSet<PriceId>,
}

impl BatchScope {
    pub fn deliveries<'a>(events: impl Iterator<Item = &'a Event> + Clone) -> Self {
        let delivered = events.clone().map(|event| event.id.clone()).collect();
        Self { delivered, ..Self::events(events) }
    }

    /// For events of the inbox.
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
        self.journeys.extend(event.named_journey().map(|origin| origin.trace_id().to_string()));
        if let Some(metadata) = event.metadata() {
            self.tenants.extend(metadata.tenant.clone());
        }
        match &event.subject {
            Subject::Checkout(_, session) => {
                self.sessions.insert(session.id.clone());
                self.tenants.extend(session.client_reference.clone());
            }
            Subject::Subscription(_, snapshot) => {
                self.snapshot_times.insert((snapshot.id.clone(), event.created));
                self.prices.extend(snapshot.prices().cloned());
            }
            _ => {}
        }
        if can_unpark(event) {
            self.customers_to_unpark.extend(event.customer().cloned());
        }
    }

    /// For a complete checkout session, with the customer of its subscription.
    pub fn session(session: &Session, customer: &CustomerId) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: session.subscription.iter().cloned().collect(),
            sessions: [session.id.clone()].into(),
            ..Self::default()
        }
    }

    /// For a customer's subscriptions as read from Stripe.
    pub fn subscriptions(customer: &CustomerId, snapshots: &[Snapshot]) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
            prices: snapshots.iter().flat_map(Snapshot::prices).cloned().collect(),
            ..Self::default()
        }
    }

    pub fn tenant(tenant: &TenantId) -> Self {
        Self { tenants: [tenant.clone()].into(), ..Self::default() }
    }

    /// Includes the customer's parked events.
    pub fn customer(customer: &CustomerId) -> Self {
        let customers = BTreeSet::from([customer.clone()]);
        Self { customers_to_unpark: customers.clone(), customers, ..Self::default() }
    }

    pub fn link(tenant: &TenantId, customer: &CustomerId) -> Self {
        Self::links([(tenant, customer)])
    }

    pub fn links<'a>(links: impl IntoIterator<Item = (&'a TenantId, &'a CustomerId)>) -> Self {
        let (tenants, customers): (BTreeSet<_>, BTreeSet<_>) =
            links.into_iter().map(|(tenant, customer)| (tenant.clone(), customer.clone())).unzip();
        Self { tenants, customers_to_unpark: customers.clone(), customers, ..Self::default() }
    }

    pub fn erasure(tenant: &TenantId, customers: &BTreeSet<CustomerId>) -> Self {
        Self { tenants: [tenant.clone()].into(), customers: customers.clone(), ..Self::default() }
    }
}

/// Whether an event can link its customer to a tenant or delete the customer.
fn can_unpark(event: &Event) -> bool {
    let names_a_tenant = event.metadata().is_some_and(|metadata| metadata.tenant.is_some());
    names_a_tenant || matches!(event.subject, Subject::Checkout(..) | Subject::CustomerDeleted(_))
}
