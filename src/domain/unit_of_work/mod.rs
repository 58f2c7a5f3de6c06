//! The unit of work: the rows that a batch of events touches, held in memory while the events are applied to them.
//!
//! The store fills it under lock, events are applied in the order they came, and the store writes back what changed.
//! Nothing here waits for anything, so that a whole batch costs a few statements and no round trips.
//!
//! Start reading at [`UnitOfWork::apply`], which leads to `subscriptions`, `customers`, `checkouts` or `payments` by what an event
//! is about. `journal` notes what changed, and `effect` is what became of an event.

mod checkouts;
mod customers;
mod effect;
mod journal;
mod payments;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

pub use effect::Effect;
pub use journal::{Entry, JournalEntry};
pub use payments::Payment;

use super::event::{Event, Subject};
use super::ids::{AccountId, CustomerId, DeploymentId, EventId, SessionId, SubscriptionId, TenantId};
use super::journey::Journey;
use super::known_prices::KnownPrices;
use super::mode::Mode;
use super::ordering::Contender;
use super::outcome::{ACCOUNT_UNKNOWN, FOREIGN_DEPLOYMENT, Outcome};
use super::plan::Catalog;
use super::refresh::{Refresh, RefreshReason, RefreshSubject};
use super::subscription::Subscription;
use super::tenant::{Checkout, Tenant};

/// What the configuration has to say about events.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The mode of the key and of the database, once either is known.
    pub mode: Option<Mode>,
    /// The account of the key and of the database, once it is known.
    pub account: OwnAccount,
    /// The deployment that this database belongs to.
    pub deployment: DeploymentId,
    /// Whether `client_reference_id` may link a customer on a session that we did not make.
    pub trust_client_reference: bool,
    /// Prices and plans.
    pub catalog: Catalog,
}

/// The key's own account. It is known from the configuration or the database, or learned from Stripe while events come in
/// already.
#[derive(Debug, Clone, Default)]
pub struct OwnAccount(Arc<OnceLock<AccountId>>);

impl OwnAccount {
    /// The account, if it is known.
    pub fn get(&self) -> Option<&AccountId> {
        self.0.get()
    }

    /// Remembers the account from now on. The first one stays.
    pub fn learn(&self, account: AccountId) {
        _ = self.0.set(account);
    }
}

/// The rows that a batch touches, and what has changed in them.
#[derive(Debug, Default)]
pub struct UnitOfWork {
    tombstones: BTreeSet<CustomerId>,
    /// Customers that the operator has taken from their tenant: no event links them again.
    withheld: BTreeSet<CustomerId>,
    /// Customers of other deployments on the same Stripe account, and which those are.
    foreign: BTreeMap<CustomerId, DeploymentId>,
    /// Customers that name a tenant which has another customer.
    named_tenants: BTreeMap<CustomerId, TenantId>,
    tenants: BTreeMap<TenantId, Tenant>,
    subscriptions: BTreeMap<SubscriptionId, Held>,
    checkouts: BTreeMap<SessionId, Checkout>,
    parked: BTreeMap<CustomerId, Vec<Event>>,
    contenders: BTreeMap<SubscriptionId, Vec<Contender>>,
    /// What was said, and when, of the money of subscriptions that were not held then.
    payments: BTreeMap<SubscriptionId, Vec<(Payment, i64)>>,
    /// The lookup keys that the prices of these events and answers have had.
    known_prices: KnownPrices,
    /// Customers that the event being applied has linked or ended: what is parked for them is applied after it.
    decided: Vec<CustomerId>,
    /// The journey that the event being applied begins if it changes a subscription that belongs to none.
    here: Option<Journey>,
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
    /// Customers that are withheld from events now, and were not, or the other way round.
    pub withheld: BTreeSet<CustomerId>,
    /// Customers whose other deployment, or whose named tenant with another customer, is new or gone.
    pub reassigned: BTreeSet<CustomerId>,
    /// Tenants that changed.
    pub tenants: BTreeSet<TenantId>,
    /// Those of them that had no row.
    pub new_tenants: BTreeSet<TenantId>,
    /// Subscriptions that changed.
    pub subscriptions: BTreeSet<SubscriptionId>,
    /// Subscriptions that are held no longer.
    pub dropped: BTreeSet<SubscriptionId>,
    /// The tenants that have them: what they are entitled to may have changed.
    pub entitlements: BTreeSet<TenantId>,
    /// Checkouts that changed.
    pub checkouts: BTreeSet<SessionId>,
    /// What to append to the journal.
    pub journal: Vec<JournalEntry>,
    /// Parked events that are parked no longer.
    pub unparked: Vec<Unparked>,
    /// What Stripe is to be asked about.
    pub refreshes: BTreeMap<RefreshSubject, Refresh>,
    /// Lookup keys that prices were seen with for the first time.
    pub known_prices: KnownPrices,
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

/// Our own words for why something is done, where it is not an event.
pub mod cause {
    /// A tenant's user buys.
    pub const CHECKOUT: &str = "checkout";
    /// Somebody at the command line.
    pub const OPERATOR: &str = "operator";
    /// Stripe answered when we asked.
    pub const REFRESH: &str = "refresh";
    /// Stripe has no such customer any more, and no event told us.
    pub const RESOURCE_MISSING: &str = "resource_missing";
}

/// Why something is being done: goes into the journal.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// An event's type, or a word of [`cause`].
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
    /// What the tenant's customer has is not over.
    #[error(
        "the tenant's customer still has a subscription that is not over: cancel it at Stripe, or `billhook tenant unlink` first"
    )]
    CustomerHasSubscription,
    /// Stripe was not asked yet what the tenant's customer has.
    #[error(
        "the service is still asking Stripe what the tenant's customer has: try again when it runs and has its answer"
    )]
    CustomerNotKnown,
    /// The customer belongs to another deployment on the same account.
    #[error("the customer belongs to another deployment on the same Stripe account")]
    CustomerOfAnotherDeployment,
    /// The customer was deleted at Stripe, or its tenant was erased.
    #[error("the customer was deleted at Stripe, or its tenant was erased")]
    CustomerDeleted,
    /// The operator has taken the customer from its tenant.
    #[error("the customer was taken from its tenant; `billhook tenant link` links it again")]
    CustomerWithheld,
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
            withheld: BTreeSet::new(),
            foreign: BTreeMap::new(),
            named_tenants: BTreeMap::new(),
            tenants: tenants.into_iter().map(|tenant| (tenant.id.clone(), tenant)).collect(),
            subscriptions: subscriptions
                .into_iter()
                .map(|held| (held.subscription.id.clone(), held))
                .collect(),
            checkouts: checkouts.into_iter().map(|checkout| (checkout.session.clone(), checkout)).collect(),
            parked: BTreeMap::new(),
            contenders: BTreeMap::new(),
            payments: BTreeMap::new(),
            known_prices: KnownPrices::default(),
            decided: Vec::new(),
            here: None,
            changes: Changes::default(),
        }
    }

    /// Adds an event that waits for its customer. Events wait in the order they are added.
    pub fn park(&mut self, event: Event) {
        if let Some(customer) = event.customer() {
            self.parked.entry(customer.clone()).or_default().push(event);
        }
    }

    /// Adds a checkout that an event is about which waits for its customer.
    pub fn add_checkout(&mut self, checkout: Checkout) {
        self.checkouts.entry(checkout.session.clone()).or_insert(checkout);
    }

    /// Adds a customer that the operator has taken from its tenant.
    pub fn withhold(&mut self, customer: CustomerId) {
        self.withheld.insert(customer);
    }

    /// Adds a customer that is known to be another deployment's.
    pub fn add_foreign(&mut self, customer: CustomerId, deployment: DeploymentId) {
        self.foreign.insert(customer, deployment);
    }

    /// The other deployment that a customer belongs to.
    pub fn foreign_deployment(&self, customer: &CustomerId) -> Option<&DeploymentId> {
        self.foreign.get(customer)
    }

    /// Adds a customer that names a tenant which has another customer.
    pub fn add_named_tenant(&mut self, customer: CustomerId, tenant: TenantId) {
        self.named_tenants.insert(customer, tenant);
    }

    /// The tenant that a customer names although it has another customer.
    pub fn named_tenant(&self, customer: &CustomerId) -> Option<&TenantId> {
        self.named_tenants.get(customer)
    }

    /// Adds the lookup keys that prices have had.
    pub fn add_known_prices(&mut self, known: &KnownPrices) {
        self.known_prices.merge(known);
    }

    /// Whether only the operator links this customer.
    pub fn is_withheld(&self, customer: &CustomerId) -> bool {
        self.withheld.contains(customer)
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

    /// The subscriptions of a customer.
    pub fn held_of<'a>(&'a self, customer: &'a CustomerId) -> impl Iterator<Item = &'a Held> {
        self.subscriptions.values().filter(move |held| held.subscription.customer == *customer)
    }

    /// A subscription that is touched.
    pub fn held(&self, id: &SubscriptionId) -> Option<&Held> {
        self.subscriptions.get(id)
    }

    /// A checkout that is touched.
    pub fn checkout(&self, id: &SessionId) -> Option<&Checkout> {
        self.checkouts.get(id)
    }

    /// Applies one event: changes the rows as it demands, and says what became of it. An event of a tenant that has no
    /// journey, since no checkout of ours was ever completed, begins one where it is processed: `here`.
    pub fn apply(&mut self, event: &Event, here: Option<Journey>, policy: &Policy) -> Effect {
        self.here = here;
        let effect = self.apply_here(event, policy);
        self.here = None;
        effect
    }

    fn apply_here(&mut self, event: &Event, policy: &Policy) -> Effect {
        if let Some(reason) = quarantine_reason(event, policy) {
            return Effect::new(Outcome::Quarantined).because(reason);
        }
        if self.is_of_another_deployment(event, policy) {
            self.unpark(Cause::event(event), policy);
            return Effect::new(Outcome::Quarantined).because(FOREIGN_DEPLOYMENT).quietly();
        }
        let effect = match &event.subject {
            Subject::Thin => Effect::new(Outcome::Ignored).because("thin_event").loudly(),
            Subject::Unhandled => Effect::new(Outcome::Ignored).because("type_not_used"),
            Subject::Unreadable(what) => Effect::new(Outcome::Failed).because(what),
            Subject::Subscription(change, snapshot) => self.snapshot(event, *change, snapshot, policy),
            Subject::Checkout(change, session) => self.session(event, *change, session, policy),
            Subject::Invoice(change, invoice) => self.invoice(event, *change, invoice),
            Subject::Customer(customer, tags) => self.customer_changed(event, customer, tags),
            Subject::CustomerDeleted(customer) => self.customer_deleted(event, customer),
            Subject::PortalOpened(customer) => self.portal_opened(customer),
        };
        if effect.outcome == Outcome::Parked {
            self.park(event.clone());
        }
        self.unpark(Cause::event(event), policy);
        if let (Outcome::Applied, Some(tenant)) = (effect.outcome, &effect.tenant) {
            self.begin_journey_unless_known(event, tenant);
        }
        let journey = self.journey_of(event, effect.tenant.as_ref());
        effect.on(journey)
    }

    /// The journey an event belongs to: that of its session or subscription, else the one that its object names if we
    /// know it for this tenant, else its tenant's. What the object names comes before what its customer is on, since a
    /// second checkout's events come before it is completed.
    fn journey_of(&self, event: &Event, tenant: Option<&TenantId>) -> Option<Journey> {
        let by_session = match &event.subject {
            Subject::Checkout(_, session) => self.checkouts.get(&session.id),
            _ => None,
        };
        let by_subscription = || event.subscription().and_then(|id| self.checkout_of(id));
        let named = event.named_journey();
        let by_name = || {
            self.checkouts
                .values()
                .find(|checkout| Some(checkout.journey.origin) == named && Some(&checkout.tenant) == tenant)
        };
        // A customer may have come from another tenant, whose journeys stay its own.
        let is_anothers = |checkout: &&Checkout| tenant.is_some_and(|tenant| checkout.tenant != *tenant);
        let recorded = by_session.or_else(by_subscription).filter(|checkout| !is_anothers(checkout));
        let checkout = recorded.or_else(by_name);
        checkout
            .map(|checkout| checkout.journey)
            .or_else(|| tenant.and_then(|id| self.tenants.get(id)).and_then(|tenant| tenant.journey))
    }

    /// What comes before the first completed checkout of ours may begin a journey that the checkout then takes over; or
    /// is on that of a checkout that we have lost.
    fn begin_journey_unless_known(&mut self, event: &Event, tenant: &TenantId) {
        let Some(here) = self.here else { return };
        if self.journey_of(event, Some(tenant)).is_some() {
            return;
        }
        let lost = event.tags().and_then(|tags| self.journey_of_a_lost_checkout(tags, tenant, event.created));
        self.tenant_mut(tenant).journey = Some(lost.unwrap_or(here));
    }

    /// Has a held subscription written back.
    fn changed(&mut self, id: &SubscriptionId) {
        if let Some(held) = self.subscriptions.get(id) {
            self.changes.subscriptions.insert(id.clone());
            self.changes.entitlements.insert(held.tenant.clone());
        }
    }

    /// Leaves a question to Stripe. Of several about one thing the last stands.
    fn ask(
        &mut self,
        subject: RefreshSubject,
        of: (&TenantId, &CustomerId),
        reason: RefreshReason,
        cause: Cause<'_>,
    ) {
        let (tenant, customer) = (of.0.clone(), of.1.clone());
        let event = cause.event.map(|event| event.id.clone());
        let refresh = Refresh { subject: subject.clone(), customer, tenant, reason, event };
        self.changes.refreshes.insert(subject, refresh);
    }

    fn note(&mut self, entry: Entry, tenant: &TenantId, customer: &CustomerId, cause: Cause<'_>) {
        let journey = match cause.event {
            Some(event) => {
                self.begin_journey_unless_known(event, tenant);
                self.journey_of(event, Some(tenant))
            }
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

/// Why an event belongs to somebody else, if it does.
fn quarantine_reason(event: &Event, policy: &Policy) -> Option<&'static str> {
    let mut named = event.account.iter().chain(&event.context);
    match policy.account.get() {
        Some(own) if named.any(|named| named != own.as_str()) => return Some("foreign_account"),
        None if named.next().is_some() => return Some(ACCOUNT_UNKNOWN),
        _ => {}
    }
    let foreign_mode = |mode: Mode| event.livemode.is_some_and(|livemode| !mode.holds(livemode));
    policy.mode.is_some_and(foreign_mode).then_some("foreign_mode")
}

#[cfg(test)]
mod tests;
