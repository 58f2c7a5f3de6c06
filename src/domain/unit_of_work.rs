//! The unit of work: the rows that a batch of events touches, held in memory while the events are applied to them.
//!
//! The store fills it under lock, events are applied in the order they came, and the store writes back what changed.
//! Nothing here waits for anything, so that a whole batch costs a few statements and no round trips.

mod effect;
mod journal;

use std::collections::{BTreeMap, BTreeSet};

pub use effect::Effect;
pub use journal::{Entry, JournalEntry};

use super::event::{
    CheckoutChange, Event, Invoice, InvoiceChange, Session, Subject, SubscriptionChange, Tags,
};
use super::ids::{CustomerId, EventId, SessionId, SubscriptionId, TenantId};
use super::journey::Journey;
use super::mode::Mode;
use super::outcome::Outcome;
use super::plan::Catalog;
use super::subscription::{self, Decision, PaymentProblem, Snapshot, StaleReason, Status, Subscription};
use super::tenant::{Checkout, CheckoutStatus, Tenant};

/// What the configuration has to say about events.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The mode of the key and of the database, once either is known.
    pub mode: Option<Mode>,
    /// Whether `client_reference_id` may link a customer on a session that we did not make.
    pub trust_client_reference: bool,
    /// Prices and plans.
    pub catalog: Catalog,
}

/// The rows that a batch touches, and what has changed in them.
#[derive(Debug, Default)]
pub struct UnitOfWork {
    tombstones: BTreeSet<CustomerId>,
    tenants: BTreeMap<TenantId, Tenant>,
    subscriptions: BTreeMap<SubscriptionId, Held>,
    checkouts: BTreeMap<SessionId, Checkout>,
    parked: BTreeMap<CustomerId, Vec<Event>>,
    /// Customers that the event being applied has linked or ended: what is parked for them is applied after it.
    decided: Vec<CustomerId>,
    changes: Changes,
}

/// A subscription and the tenant that has it.
#[derive(Debug, Clone)]
pub struct Held {
    /// Whose.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: Subscription,
}

/// What there is to write back.
#[derive(Debug, Default)]
pub struct Changes {
    /// Customers that were deleted.
    pub tombstones: BTreeSet<CustomerId>,
    /// Tenants that changed.
    pub tenants: BTreeSet<TenantId>,
    /// Those of them that had no row.
    pub new_tenants: BTreeSet<TenantId>,
    /// Subscriptions that changed.
    pub subscriptions: BTreeSet<SubscriptionId>,
    /// Checkouts that changed.
    pub checkouts: BTreeSet<SessionId>,
    /// What to append to the journal.
    pub journal: Vec<JournalEntry>,
    /// Parked events that are parked no longer.
    pub unparked: Vec<Unparked>,
}

/// A parked event, and what became of it in the end.
#[derive(Debug)]
pub struct Unparked {
    /// The event that waited.
    pub event: Event,
    /// What became of it.
    pub effect: Effect,
    /// The event that ended its wait, if it was one.
    pub by: Option<EventId>,
}

/// Why something is being done: goes into the journal.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// An event's type, or our own word: `checkout`, `operator`, `refresh`.
    pub name: &'a str,
    /// The event, if it was one.
    pub event: Option<&'a Event>,
    /// When, in Unix seconds: the event's own time, or ours.
    pub at: i64,
}

impl<'a> Cause<'a> {
    fn event(event: &'a Event) -> Self {
        Self { name: &event.type_name, event: Some(event), at: event.created }
    }
}

/// A customer cannot be linked to this tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// The tenant has another customer.
    #[error("the tenant is linked to another customer")]
    TenantHasCustomer,
    /// The customer has another tenant.
    #[error("the customer is linked to another tenant")]
    CustomerHasTenant,
    /// The customer was deleted at Stripe.
    #[error("the customer was deleted at Stripe")]
    CustomerDeleted,
}

impl UnitOfWork {
    /// Begins with the rows that the store has locked.
    pub fn begin(
        tombstones: impl IntoIterator<Item = CustomerId>,
        tenants: impl IntoIterator<Item = Tenant>,
        subscriptions: impl IntoIterator<Item = Held>,
        checkouts: impl IntoIterator<Item = Checkout>,
    ) -> Self {
        Self {
            tombstones: tombstones.into_iter().collect(),
            tenants: tenants.into_iter().map(|tenant| (tenant.id.clone(), tenant)).collect(),
            subscriptions: subscriptions
                .into_iter()
                .map(|held| (held.subscription.id.clone(), held))
                .collect(),
            checkouts: checkouts.into_iter().map(|checkout| (checkout.session.clone(), checkout)).collect(),
            parked: BTreeMap::new(),
            decided: Vec::new(),
            changes: Changes::default(),
        }
    }

    /// Adds an event that waits for its customer. Events wait in the order they are added.
    pub fn park(&mut self, event: Event) {
        if let Some(customer) = event.customer() {
            self.parked.entry(customer.clone()).or_default().push(event);
        }
    }

    /// The customers that no tenant has: the store asks for what is parked for them.
    pub fn unlinked<'a>(
        &self,
        customers: impl Iterator<Item = &'a CustomerId>,
    ) -> impl Iterator<Item = &'a CustomerId> {
        customers.filter(|customer| self.tenant_of(customer).is_none())
    }

    /// What is to be written back.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What was to be written back, once it is.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// A tenant that is touched.
    pub fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id)
    }

    /// A subscription that is touched.
    pub fn held(&self, id: &SubscriptionId) -> Option<&Held> {
        self.subscriptions.get(id)
    }

    /// A checkout that is touched.
    pub fn checkout(&self, id: &SessionId) -> Option<&Checkout> {
        self.checkouts.get(id)
    }

    /// Applies one event: changes the rows as it demands, and says what became of it.
    pub fn apply(&mut self, event: &Event, policy: &Policy) -> Effect {
        if let Some(reason) = quarantine_reason(event, policy) {
            return Effect::new(Outcome::Quarantined).because(reason);
        }
        let effect = match &event.subject {
            Subject::Thin => Effect::new(Outcome::Ignored).because("thin_event").loudly(),
            Subject::Unhandled => Effect::new(Outcome::Ignored).because("type_not_used"),
            Subject::Unreadable(what) => Effect::new(Outcome::Failed).because(what),
            Subject::Subscription(change, snapshot) => self.snapshot(event, *change, snapshot, policy),
            Subject::Checkout(change, session) => self.session(event, *change, session, policy),
            Subject::Invoice(change, invoice) => self.invoice(event, *change, invoice),
            Subject::CustomerDeleted(customer) => self.customer_deleted(event, customer),
            Subject::PortalOpened(customer) => self.portal_opened(customer),
        };
        if effect.outcome == Outcome::Parked {
            self.park(event.clone());
        }
        self.unpark(Cause::event(event), policy);
        let journey = self.journey_of(event, effect.tenant.as_ref());
        effect.on(journey)
    }

    /// Takes over what Stripe answered when asked for a subscription, at Stripe's own time. Whether it changed
    /// anything: an end that we know of stays one.
    pub fn answer(&mut self, tenant: &TenantId, snapshot: &Snapshot, answered_at: i64) -> bool {
        let held = self.subscriptions.get(&snapshot.id).map(|held| &held.subscription.state);
        let is_over = held.is_some_and(|state| state.status.is_final()) && !snapshot.state.status.is_final();
        if is_over || self.tombstones.contains(&snapshot.customer) {
            return false;
        }
        let changed = held != Some(&snapshot.state);
        self.put(tenant, snapshot, Cause { name: "refresh", event: None, at: answered_at });
        changed
    }

    /// Closes one of our sessions that Stripe, when asked, calls complete.
    pub fn answer_session(&mut self, session: &Session, answered_at: i64) {
        if let Ok((tenant, customer)) = self.known_session(session) {
            let cause = Cause { name: "refresh", event: None, at: answered_at };
            self.close(cause, session, &customer, &tenant, completed(session));
            self.begin_journey(&tenant, session);
        }
    }

    /// Links a customer to a tenant and applies what was parked for it. Linking twice is linking once.
    pub fn link(
        &mut self,
        tenant: &TenantId,
        customer: &CustomerId,
        cause: Cause<'_>,
        policy: &Policy,
    ) -> Result<(), LinkRefusal> {
        self.set_customer(tenant, customer, cause)?;
        self.unpark(cause, policy);
        Ok(())
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
        self.decided.push(customer.clone());
        self.note(Entry::CustomerLinked, tenant_id, customer, cause);
        Ok(())
    }

    /// Applies what was parked for customers that now have a tenant or an end.
    fn unpark(&mut self, cause: Cause<'_>, policy: &Policy) {
        for customer in std::mem::take(&mut self.decided) {
            for event in self.parked.remove(&customer).unwrap_or_default() {
                let effect = self.apply(&event, policy);
                let by = cause.event.map(|by| by.id.clone());
                self.changes.unparked.push(Unparked { event, effect, by });
            }
        }
    }

    /// The tenant, to be changed; made if it has no row yet.
    fn tenant_mut(&mut self, id: &TenantId) -> &mut Tenant {
        self.changes.tenants.insert(id.clone());
        self.tenants.entry(id.clone()).or_insert_with(|| {
            self.changes.new_tenants.insert(id.clone());
            Tenant::new(id.clone())
        })
    }

    fn tenant_of(&self, customer: &CustomerId) -> Option<&Tenant> {
        self.tenants.values().find(|tenant| tenant.customer.as_ref() == Some(customer))
    }

    /// The tenant of the customer, linking it first if the event's own tags name a tenant that is free.
    fn tenant_or_link(
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
        match self.set_customer(named, customer, Cause::event(event)) {
            Ok(()) => Ok(named.clone()),
            // A tenant with a living customer is never taken over by what an event says.
            Err(_) => Err(Effect::new(Outcome::Parked).because("tenant_has_another_customer").loudly()),
        }
    }

    fn snapshot(
        &mut self,
        event: &Event,
        change: SubscriptionChange,
        snapshot: &Snapshot,
        policy: &Policy,
    ) -> Effect {
        let Tags { tenant: named, .. } = &snapshot.tags;
        let tenant = match self.tenant_or_link(event, &snapshot.customer, named.as_ref()) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        let held = self.subscriptions.get(&snapshot.id).map(|held| &held.subscription);
        let snapshot = with_the_end_that_the_type_tells(change, snapshot);
        let effect = match subscription::decide(held, change, &snapshot, event.created) {
            Decision::Stale(reason) => Effect::stale(reason),
            Decision::Unchanged => {
                self.confirm(&snapshot.id, change, event.created);
                Effect::new(Outcome::Applied).because("no_change")
            }
            Decision::Apply => {
                let first = held.is_none();
                self.put(&tenant, &snapshot, Cause::event(event));
                if first && change == SubscriptionChange::Announced {
                    self.distrust(&snapshot.id);
                }
                applied(&snapshot, policy)
            }
        };
        effect.of(tenant)
    }

    /// Takes a snapshot over, and journals it if it changed anything.
    fn put(&mut self, tenant: &TenantId, snapshot: &Snapshot, cause: Cause<'_>) {
        let from = self.subscriptions.get(&snapshot.id).map(|held| held.subscription.state.clone());
        let awaiting_payment = from.is_none() && self.awaits_payment(&snapshot.id);
        let held = self.subscriptions.entry(snapshot.id.clone()).or_insert_with(|| Held {
            tenant: tenant.clone(),
            subscription: Subscription { awaiting_payment, ..Subscription::first(snapshot, cause.at) },
        });
        if from.is_some() {
            held.subscription.advance(snapshot.state.clone(), cause.at);
        }
        self.changes.subscriptions.insert(snapshot.id.clone());
        if from.as_ref() != Some(&snapshot.state) {
            let entry = Entry::Transition {
                subscription: snapshot.id.clone(),
                from: from.map(|state| state.status),
                to: snapshot.state.status.clone(),
            };
            self.note(entry, tenant, &snapshot.customer, cause);
        }
    }

    /// What we hold was still so at that time. An announcement says nothing of its time: its snapshot can be old.
    fn confirm(&mut self, id: &SubscriptionId, change: SubscriptionChange, created: i64) {
        if let Some(held) = self.subscriptions.get_mut(id)
            && change != SubscriptionChange::Announced
            && created > held.subscription.as_of
        {
            held.subscription.as_of = created;
            self.changes.subscriptions.insert(id.clone());
        }
    }

    /// A row that an announcement made gives way to any real snapshot.
    fn distrust(&mut self, id: &SubscriptionId) {
        if let Some(held) = self.subscriptions.get_mut(id) {
            held.subscription.as_of = held.subscription.state.started_at.unwrap_or_default();
        }
    }

    fn awaits_payment(&self, subscription: &SubscriptionId) -> bool {
        self.checkout_of(subscription).is_some_and(|checkout| checkout.status.withholds_access())
    }

    fn session(
        &mut self,
        event: &Event,
        change: CheckoutChange,
        session: &Session,
        policy: &Policy,
    ) -> Effect {
        match change {
            CheckoutChange::Completed | CheckoutChange::PaymentSucceeded => {
                self.session_completed(event, session, policy)
            }
            CheckoutChange::PaymentFailed => self.payment_failed(event, session),
            CheckoutChange::Expired => self.session_expired(event, session),
        }
    }

    fn session_completed(&mut self, event: &Event, session: &Session, policy: &Policy) -> Effect {
        let Some(customer) = &session.customer else {
            return Effect::new(Outcome::Ignored).because("no_customer");
        };
        let ours = self.checkouts.get(&session.id);
        let named = ours.map(|checkout| checkout.tenant.clone()).or_else(|| session.tags.tenant.clone());
        let referenced = if policy.trust_client_reference { session.client_reference.clone() } else { None };
        let tenant = match self.tenant_or_link(event, customer, named.or(referenced).as_ref()) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        let status = if session.unpaid { CheckoutStatus::AwaitingPayment } else { CheckoutStatus::Complete };
        self.close(Cause::event(event), session, customer, &tenant, status);
        self.begin_journey(&tenant, session);
        Effect::new(Outcome::Applied).of(tenant)
    }

    /// A completed session's journey becomes its tenant's, unless a later one has already.
    fn begin_journey(&mut self, tenant: &TenantId, session: &Session) {
        let Some(checkout) = self.checkouts.get(&session.id) else { return };
        let journey = checkout.journey;
        let held = self.tenants.get(tenant).and_then(|tenant| tenant.journey);
        if held.is_none_or(|held| held.began_at_ms < journey.began_at_ms) {
            self.tenant_mut(tenant).journey = Some(journey);
        }
    }

    fn payment_failed(&mut self, event: &Event, session: &Session) -> Effect {
        match self.known_session(session) {
            Ok((tenant, customer)) => {
                let failed = CheckoutStatus::PaymentFailed;
                self.close(Cause::event(event), session, &customer, &tenant, failed);
                Effect::new(Outcome::Applied).of(tenant)
            }
            Err(effect) => effect,
        }
    }

    fn session_expired(&mut self, event: &Event, session: &Session) -> Effect {
        let Some(checkout) = self.checkouts.get(&session.id) else {
            return Effect::new(Outcome::Ignored).because("unknown_session");
        };
        let (tenant, customer) = (checkout.tenant.clone(), checkout.customer.clone());
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
            return Ok((checkout.tenant.clone(), checkout.customer.clone()));
        }
        let Some(customer) = &session.customer else {
            return Err(Effect::new(Outcome::Ignored).because("no_customer"));
        };
        Ok((self.tenant_that_has(customer)?, customer.clone()))
    }

    /// The tenant of the customer. Without one the event waits for it, unless the customer is gone.
    fn tenant_that_has(&self, customer: &CustomerId) -> Result<TenantId, Effect> {
        if self.tombstones.contains(customer) {
            return Err(Effect::stale(StaleReason::CustomerDeleted));
        }
        let tenant = self.tenant_of(customer).map(|tenant| tenant.id.clone());
        tenant.ok_or_else(|| Effect::new(Outcome::Parked).because("unknown_customer"))
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
            self.await_payment(subscription, status.withholds_access());
        }
        self.note(Entry::CheckoutClosed, tenant, customer, cause);
    }

    fn await_payment(&mut self, subscription: &SubscriptionId, awaiting: bool) {
        if let Some(held) = self.subscriptions.get_mut(subscription)
            && held.subscription.awaiting_payment != awaiting
        {
            held.subscription.awaiting_payment = awaiting;
            held.subscription.revision += 1;
            self.changes.subscriptions.insert(subscription.clone());
        }
    }

    fn invoice(&mut self, event: &Event, change: InvoiceChange, invoice: &Invoice) -> Effect {
        let Some(id) = &invoice.subscription else {
            return Effect::new(Outcome::Ignored).because("not_for_a_subscription");
        };
        let tenant = match self.tenant_that_has(&invoice.customer) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        if change == InvoiceChange::Paid {
            self.checkout_is_paid(id);
        }
        let Some(held) = self.subscriptions.get_mut(id) else {
            return Effect::new(Outcome::Ignored).because("subscription_not_held").of(tenant);
        };
        let customer = held.subscription.customer.clone();
        let problem = match change {
            InvoiceChange::Paid => None,
            InvoiceChange::PaymentFailed => Some(PaymentProblem::Failed),
            InvoiceChange::PaymentActionRequired => Some(PaymentProblem::ActionRequired),
        };
        held.subscription.payment_problem = problem;
        held.subscription.revision += 1;
        self.changes.subscriptions.insert(id.clone());
        if change == InvoiceChange::Paid {
            self.await_payment(id, false);
        }
        let entry = Entry::PaymentNoted { subscription: id.clone() };
        self.note(entry, &tenant, &customer, Cause::event(event));
        Effect::new(Outcome::Applied).of(tenant)
    }

    /// Nothing changes: a milestone of the tenant's journey.
    fn portal_opened(&self, customer: &CustomerId) -> Effect {
        match self.tenant_that_has(customer) {
            Ok(tenant) => Effect::new(Outcome::Applied).of(tenant),
            Err(effect) if effect.outcome == Outcome::Parked => {
                Effect::new(Outcome::Ignored).because("unknown_customer")
            }
            Err(effect) => effect,
        }
    }

    /// Ends the customer's subscriptions, keeps its id as a tombstone and frees its tenant.
    fn customer_deleted(&mut self, event: &Event, customer: &CustomerId) -> Effect {
        if !self.tombstones.insert(customer.clone()) {
            return Effect::stale(StaleReason::CustomerDeleted);
        }
        self.changes.tombstones.insert(customer.clone());
        self.end_subscriptions_of(event, customer);
        self.decided.push(customer.clone());

        let Some(id) = self.tenant_of(customer).map(|tenant| tenant.id.clone()) else {
            return Effect::new(Outcome::Applied).because("unknown_customer");
        };
        let tenant = self.tenant_mut(&id);
        tenant.customer = None;
        tenant.generation += 1;
        let tenant = id;
        self.note(Entry::CustomerUnlinked, &tenant, customer, Cause::event(event));
        Effect::new(Outcome::Applied).of(tenant)
    }

    fn end_subscriptions_of(&mut self, event: &Event, customer: &CustomerId) {
        let living: Vec<(TenantId, Snapshot)> = self
            .subscriptions
            .values()
            .filter(|held| held.subscription.customer == *customer)
            .filter(|held| !held.subscription.state.status.is_final())
            .map(|held| (held.tenant.clone(), ended(&held.subscription, event.created)))
            .collect();
        for (tenant, snapshot) in living {
            self.put(&tenant, &snapshot, Cause::event(event));
        }
    }

    /// The subscription's first money has come: its checkout waits no longer.
    fn checkout_is_paid(&mut self, subscription: &SubscriptionId) {
        let of_subscription = |checkout: &&mut Checkout| checkout.subscription.as_ref() == Some(subscription);
        if let Some(checkout) = self.checkouts.values_mut().find(of_subscription)
            && checkout.status.can_become(CheckoutStatus::Complete)
        {
            checkout.status = CheckoutStatus::Complete;
            self.changes.checkouts.insert(checkout.session.clone());
        }
    }

    fn checkout_of(&self, subscription: &SubscriptionId) -> Option<&Checkout> {
        self.checkouts.values().find(|checkout| checkout.subscription.as_ref() == Some(subscription))
    }

    /// The journey an event belongs to: that of its session or subscription, else the one its tags name if we know
    /// it for this tenant, else its tenant's.
    fn journey_of(&self, event: &Event, tenant: Option<&TenantId>) -> Option<Journey> {
        let by_session = match &event.subject {
            Subject::Checkout(_, session) => self.checkouts.get(&session.id),
            _ => None,
        };
        let by_subscription = || event.subscription().and_then(|id| self.checkout_of(id));
        let tagged = event.tags().and_then(|tags| tags.journey);
        let by_tags = || {
            self.checkouts
                .values()
                .find(|checkout| Some(checkout.journey.origin) == tagged && Some(&checkout.tenant) == tenant)
        };
        let checkout = by_session.or_else(by_subscription).or_else(by_tags);
        checkout
            .map(|checkout| checkout.journey)
            .or_else(|| tenant.and_then(|id| self.tenants.get(id)).and_then(|tenant| tenant.journey))
    }

    fn note(&mut self, entry: Entry, tenant: &TenantId, customer: &CustomerId, cause: Cause<'_>) {
        let journey = match cause.event {
            Some(event) => self.journey_of(event, Some(tenant)),
            None => self.tenants.get(tenant).and_then(|tenant| tenant.journey),
        };
        self.changes.journal.push(JournalEntry {
            entry,
            tenant: tenant.clone(),
            customer: customer.clone(),
            cause: cause.name.to_owned(),
            event: cause.event.map(|event| event.id.clone()),
            at: cause.at,
            journey,
        });
    }
}

fn completed(session: &Session) -> CheckoutStatus {
    if session.unpaid { CheckoutStatus::AwaitingPayment } else { CheckoutStatus::Complete }
}

/// A price that no plan has gives `free`, and somebody should know.
fn applied(snapshot: &Snapshot, policy: &Policy) -> Effect {
    let applied = Effect::new(Outcome::Applied);
    let ended = snapshot.state.status.is_final();
    if ended || policy.catalog.knows_a_price_of(&snapshot.state.items) {
        applied
    } else {
        applied.because("price_not_configured").loudly()
    }
}

/// Why an event belongs to somebody else, if it does.
fn quarantine_reason(event: &Event, policy: &Policy) -> Option<&'static str> {
    if event.account.is_some() {
        return Some("foreign_account");
    }
    let foreign_mode = |mode: Mode| event.livemode.is_some_and(|livemode| !mode.holds(livemode));
    policy.mode.is_some_and(foreign_mode).then_some("foreign_mode")
}

/// `customer.subscription.deleted` means the end, whatever status its snapshot was drawn with.
fn with_the_end_that_the_type_tells(change: SubscriptionChange, snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    if change == SubscriptionChange::Deleted && !snapshot.state.status.is_final() {
        snapshot.state.status = Status::Canceled;
    }
    snapshot
}

fn ended(subscription: &Subscription, at: i64) -> Snapshot {
    let mut state = subscription.state.clone();
    state.status = Status::Canceled;
    state.ended_at = Some(at);
    Snapshot {
        id: subscription.id.clone(),
        customer: subscription.customer.clone(),
        state,
        tags: Tags::default(),
    }
}

#[cfg(test)]
mod tests;
