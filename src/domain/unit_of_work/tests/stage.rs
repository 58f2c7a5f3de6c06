//! The stage: a unit of work that is begun in plain words, and drafts of the events that are applied to it.

use super::*;
use crate::domain::event::CUSTOMER_CREATED;
use crate::domain::event::CheckoutChange::{Completed, Expired, PaymentFailed, PaymentSucceeded};
use crate::domain::event::InvoiceChange::{Paid, PaymentActionRequired};
use crate::domain::ids::{DeploymentId, EventId, PlanName, PriceId};
use crate::domain::journey::Traceparent;
use crate::domain::plan::Entitlement;
use crate::domain::previous::Previous;
use crate::domain::subscription::SubscriptionChange::{Announced, Changed, Created, Deleted};
use crate::domain::subscription::{Item, State};
use crate::domain::tenant::Holdings;

/// A unit of work and the policy that events are applied by.
pub(super) struct Stage {
    pub(super) work: UnitOfWork,
    pub(super) policy: Policy,
}

impl Stage {
    /// Nobody is there yet.
    pub(super) fn empty() -> Self {
        Self::set(&[], vec![])
    }

    /// `acme` is there, linked to `cus_acme`.
    pub(super) fn with_acme() -> Self {
        Self::set(&[("acme", Some("cus_acme"))], vec![])
    }

    /// `acme` is there, linked to `cus_acme`, and has the checkout `cs_1` open, which began journey 1.
    pub(super) fn with_acme_at_checkout() -> Self {
        Self::set(&[("acme", Some("cus_acme"))], vec![checkout("cs_1", "acme", "cus_acme", 1)])
    }

    pub(super) fn set(tenants: &[(&str, Option<&str>)], checkouts: Vec<Checkout>) -> Self {
        let tenants = tenants.iter().map(|(id, customer)| Tenant {
            customer: customer.map(customer_id),
            ..Tenant::new(tenant_id(id))
        });
        let catalog = Catalog::parse("pro=price_pro;team=price_team", true).expect("plans");
        Self {
            work: UnitOfWork::begin([], tenants, [], checkouts),
            policy: Policy {
                mode: Some(Mode::Test),
                account: OwnAccount::default(),
                deployment: DeploymentId::parse("ours").expect("a deployment"),
                trust_client_reference: false,
                catalog,
            },
        }
    }

    pub(super) fn trusting_client_references(mut self) -> Self {
        self.policy.trust_client_reference = true;
        self
    }

    /// An event comes in: what became of it, and why.
    pub(super) fn hears(&mut self, event: Draft) -> (Outcome, Option<&'static str>) {
        let effect = self.plays(event);
        (effect.outcome, effect.reason)
    }

    /// An event comes in: all that there is to say about it.
    pub(super) fn plays(&mut self, event: Draft) -> Effect {
        self.work.apply(&event.into_event(), None, &self.policy)
    }

    /// An event comes in, in a trace in which the journey of that number would begin.
    pub(super) fn plays_in(&mut self, number: u8, event: Draft) -> Effect {
        self.work.apply(&event.into_event(), Some(journey(number)), &self.policy)
    }

    /// Events come in and are applied.
    pub(super) fn applies<const N: usize>(&mut self, events: [Draft; N]) {
        for event in events {
            let effect = self.plays(event);
            assert_eq!(effect.outcome, Outcome::Applied, "{effect:?}");
        }
    }

    /// The store brings what has been waiting for its customer.
    pub(super) fn brings_parked<const N: usize>(&mut self, events: [Draft; N]) {
        for event in events {
            self.work.park(event.into_event());
        }
    }

    /// The operator links a tenant to a customer by hand.
    pub(super) fn operator_links(&mut self, tenant: &str, customer: &str) -> Result<(), LinkRefusal> {
        let cause = Cause { name: "operator", event: None, at: 500 };
        self.work.release(&customer_id(customer));
        self.work.link(&tenant_id(tenant), &customer_id(customer), cause, &self.policy)
    }

    pub(super) fn tenant(&self, id: &str) -> &Tenant {
        self.work.tenant(&tenant_id(id)).expect("the tenant is there")
    }

    pub(super) fn customer_of(&self, tenant: &str) -> Option<&str> {
        self.tenant(tenant).customer.as_ref().map(CustomerId::as_str)
    }

    pub(super) fn subscription(&self, id: &str) -> &Subscription {
        &self.work.held(&subscription_id(id)).expect("the subscription is held").subscription
    }

    pub(super) fn holds(&self, subscription: &str) -> bool {
        self.work.held(&subscription_id(subscription)).is_some()
    }

    pub(super) fn status(&self, subscription: &str) -> &str {
        self.subscription(subscription).state.status.as_str()
    }

    pub(super) fn grants(&self, subscription: &str) -> bool {
        self.policy.catalog.grants(self.subscription(subscription))
    }

    pub(super) fn checkout(&self, session: &str) -> &Checkout {
        self.work.checkout(&session_id(session)).expect("the checkout is there")
    }

    /// What these subscriptions together entitle to.
    pub(super) fn entitlement(&self, subscriptions: &[&str]) -> Entitlement {
        let held: Vec<_> = subscriptions.iter().map(|id| self.subscription(id).clone()).collect();
        let has_customer =
            self.work.tenant(&tenant_id("acme")).is_some_and(|tenant| tenant.customer.is_some());
        let holdings = Holdings { has_customer, subscriptions: held };
        self.policy.catalog.entitlement(&holdings, &self.work.known_prices)
    }

    /// The journal in short: what changed, for a transition from which status to which.
    pub(super) fn journal(&self) -> Vec<String> {
        self.work.changes().journal.iter().map(|entry| in_short(&entry.entry)).collect()
    }

    pub(super) fn last_entry(&self) -> &JournalEntry {
        self.work.changes().journal.last().expect("the journal has an entry")
    }

    /// Stripe answers that the subscription stands as the draft says. Whether that changed anything.
    pub(super) fn stripe_answers(&mut self, says: Draft, answered_at: i64) -> bool {
        let Subject::Subscription(_, snapshot) = says.0.subject else { panic!("not a subscription") };
        self.work.answer(&snapshot.customer, std::slice::from_ref(&snapshot), answered_at)
    }

    /// What Stripe is to be asked, why, and after which event.
    pub(super) fn asked(&self) -> Vec<String> {
        let in_short = |refresh: &Refresh| {
            let after = refresh.event.as_ref().map(|event| format!(", after {event}")).unwrap_or_default();
            format!("{}: {}{after}", refresh.subject, refresh.reason.as_str())
        };
        self.work.changes().refreshes.values().map(in_short).collect()
    }

    /// What came of each parked event that found its tenant, by the event's id.
    pub(super) fn unparked(&self) -> Vec<(&str, Outcome)> {
        self.work
            .changes()
            .unparked
            .iter()
            .map(|waited| (waited.event.id.as_str(), waited.effect.outcome))
            .collect()
    }
}

fn in_short(entry: &Entry) -> String {
    match entry {
        Entry::Transition { subscription, from, to } => {
            let from = from.as_ref().map_or("nothing", Status::as_str);
            format!("{subscription}: {from} -> {to}")
        }
        other => other.as_str().to_owned(),
    }
}

/// A checkout of ours that is still open.
pub(super) fn checkout(session: &str, tenant: &str, customer: &str, began: u8) -> Checkout {
    Checkout {
        session: session_id(session),
        tenant: tenant_id(tenant),
        customer: customer_id(customer),
        plan: PlanName::parse("pro").expect("a plan's name"),
        price: None,
        success_path: "/billing/done".into(),
        cancel_path: "/billing".into(),
        status: CheckoutStatus::Open,
        subscription: None,
        journey: journey(began),
    }
}

/// The journey of that number.
pub(super) fn journey(number: u8) -> Journey {
    let origin = format!("00-{number:032x}-{number:016x}-01");
    Journey {
        origin: Traceparent::parse(&origin).expect("a traceparent"),
        began_at_ms: 1000 * i64::from(number),
    }
}

/// An event that is being written. It happened at 100 unless it says when.
#[derive(Clone)]
pub(super) struct Draft(Event);

impl Draft {
    pub(super) fn about(type_name: &str, subject: Subject) -> Self {
        Self(Event {
            id: EventId::parse("evt_1").expect("an event id"),
            type_name: type_name.into(),
            created: 100,
            livemode: Some(false),
            account: None,
            context: None,
            api_version: None,
            request_id: None,
            idempotency_key: None,
            subject,
        })
    }

    fn subscription(type_name: &str, change: SubscriptionChange, status: &str) -> Self {
        let price = PriceId::parse("price_pro").expect("a price id");
        let state = State {
            status: Status::parse(status).expect("a status"),
            started_at: Some(1),
            items: vec![Item { price, lookup_key: None, quantity: Some(1) }],
            current_period_end: Some(10_000),
            trial_end: None,
            cancel_at: None,
            cancel_at_period_end: false,
            ended_at: None,
        };
        let (id, customer) = (subscription_id("sub_1"), customer_id("cus_acme"));
        let tags = Tags::default();
        let snapshot =
            Snapshot { id, customer, state, tags, previous: None, has_all_items: true, latest_invoice: None };
        Self::about(type_name, Subject::Subscription(change, Box::new(snapshot)))
    }

    pub(super) fn created(status: &str) -> Self {
        Self::subscription("customer.subscription.created", Created, status)
    }

    pub(super) fn updated(status: &str) -> Self {
        Self::subscription("customer.subscription.updated", Changed, status)
    }

    pub(super) fn deleted(status: &str) -> Self {
        Self::subscription("customer.subscription.deleted", Deleted, status)
    }

    pub(super) fn trial_will_end(status: &str) -> Self {
        Self::subscription("customer.subscription.trial_will_end", Announced, status)
    }

    fn session(type_name: &str, change: CheckoutChange) -> Self {
        let session = Session {
            id: session_id("cs_1"),
            customer: Some(customer_id("cus_acme")),
            subscription: Some(subscription_id("sub_1")),
            client_reference: None,
            unpaid: false,
            tags: Tags::default(),
        };
        Self::about(type_name, Subject::Checkout(change, Box::new(session)))
    }

    pub(super) fn session_completed() -> Self {
        Self::session("checkout.session.completed", Completed)
    }

    pub(super) fn async_payment_succeeded() -> Self {
        Self::session("checkout.session.async_payment_succeeded", PaymentSucceeded)
    }

    pub(super) fn async_payment_failed() -> Self {
        Self::session("checkout.session.async_payment_failed", PaymentFailed)
    }

    pub(super) fn session_expired() -> Self {
        Self::session("checkout.session.expired", Expired).on_session(|session| session.subscription = None)
    }

    fn invoice(type_name: &str, change: InvoiceChange) -> Self {
        let (customer, subscription) = (customer_id("cus_acme"), Some(subscription_id("sub_1")));
        Self::about(type_name, Subject::Invoice(change, Invoice { customer, subscription, journey: None }))
    }

    pub(super) fn invoice_paid() -> Self {
        Self::invoice("invoice.paid", Paid)
    }

    pub(super) fn invoice_payment_failed() -> Self {
        Self::invoice("invoice.payment_failed", InvoiceChange::PaymentFailed)
    }

    pub(super) fn invoice_action_required() -> Self {
        Self::invoice("invoice.payment_action_required", PaymentActionRequired)
    }

    pub(super) fn customer_created() -> Self {
        Self::about(CUSTOMER_CREATED, Subject::Customer(customer_id("cus_acme"), Tags::default()))
    }

    pub(super) fn customer_updated() -> Self {
        Self::about("customer.updated", Subject::Customer(customer_id("cus_acme"), Tags::default()))
    }

    pub(super) fn customer_deleted() -> Self {
        Self::about("customer.deleted", Subject::CustomerDeleted(customer_id("cus_acme")))
    }

    pub(super) fn portal_opened() -> Self {
        Self::about("billing_portal.session.created", Subject::PortalOpened(customer_id("cus_acme")))
    }

    pub(super) fn at(mut self, created: i64) -> Self {
        self.0.created = created;
        self
    }

    pub(super) fn named(mut self, id: &str) -> Self {
        self.0.id = EventId::parse(id).expect("an event id");
        self
    }

    pub(super) fn live(mut self) -> Self {
        self.0.livemode = Some(true);
        self
    }

    pub(super) fn silent_about_its_mode(mut self) -> Self {
        self.0.livemode = None;
        self
    }

    pub(super) fn of_account(mut self, account: &str) -> Self {
        self.0.account = Some(account.into());
        self
    }

    /// Under this idempotency key its request was made.
    pub(super) fn under_key(mut self, key: &str) -> Self {
        self.0.idempotency_key = Some(key.into());
        self
    }

    pub(super) fn in_context(mut self, context: &str) -> Self {
        self.0.context = Some(context.into());
        self
    }

    /// Of another customer than `cus_acme`.
    pub(super) fn of(mut self, customer: &str) -> Self {
        let id = customer_id(customer);
        match &mut self.0.subject {
            Subject::Subscription(_, snapshot) => snapshot.customer = id,
            Subject::Checkout(_, session) => session.customer = Some(id),
            Subject::Invoice(_, invoice) => invoice.customer = id,
            Subject::Customer(customer, _)
            | Subject::CustomerDeleted(customer)
            | Subject::PortalOpened(customer) => *customer = id,
            Subject::Thin | Subject::Unreadable(_) | Subject::Unhandled => panic!("names no customer"),
        }
        self
    }

    /// For another subscription than `sub_1`.
    pub(super) fn for_subscription(mut self, subscription: &str) -> Self {
        let id = subscription_id(subscription);
        match &mut self.0.subject {
            Subject::Subscription(_, snapshot) => snapshot.id = id,
            Subject::Checkout(_, session) => session.subscription = Some(id),
            Subject::Invoice(_, invoice) => invoice.subscription = Some(id),
            _ => panic!("names no subscription"),
        }
        self
    }

    /// Of another session than `cs_1`.
    pub(super) fn of_session(self, id: &str) -> Self {
        self.on_session(|session| session.id = session_id(id))
    }

    pub(super) fn unpaid(self) -> Self {
        self.on_session(|session| session.unpaid = true)
    }

    pub(super) fn with_client_reference(self, tenant: &str) -> Self {
        self.on_session(|session| session.client_reference = Some(tenant_id(tenant)))
    }

    /// Its metadata names a tenant.
    pub(super) fn tagged(mut self, tenant: &str) -> Self {
        self.tags().tenant = Some(tenant_id(tenant));
        self
    }

    /// Its metadata names the origin of a journey.
    pub(super) fn tagged_with_journey(mut self, number: u8) -> Self {
        let origin = Some(journey(number).origin);
        match &mut self.0.subject {
            Subject::Invoice(_, invoice) => invoice.journey = origin,
            _ => self.tags().journey = origin,
        }
        self
    }

    pub(super) fn at_price(self, price: &str) -> Self {
        let price = PriceId::parse(price).expect("a price id");
        self.on_state(|state| state.items[0].price = price)
    }

    pub(super) fn on_state(mut self, change: impl FnOnce(&mut State)) -> Self {
        let Subject::Subscription(_, snapshot) = &mut self.0.subject else { panic!("not a subscription") };
        change(&mut snapshot.state);
        self
    }

    /// Its list of items was cut.
    pub(super) fn with_more_items(mut self) -> Self {
        let Subject::Subscription(_, snapshot) = &mut self.0.subject else { panic!("not a subscription") };
        snapshot.has_all_items = false;
        self
    }

    /// What the update replaced.
    pub(super) fn replacing(mut self, previous: Previous) -> Self {
        let Subject::Subscription(_, snapshot) = &mut self.0.subject else { panic!("not a subscription") };
        snapshot.previous = Some(previous);
        self
    }

    pub(super) fn on_session(mut self, change: impl FnOnce(&mut Session)) -> Self {
        let Subject::Checkout(_, session) = &mut self.0.subject else { panic!("not a session") };
        change(session);
        self
    }

    fn tags(&mut self) -> &mut Tags {
        match &mut self.0.subject {
            Subject::Subscription(_, snapshot) => &mut snapshot.tags,
            Subject::Checkout(_, session) => &mut session.tags,
            Subject::Customer(_, tags) => tags,
            _ => panic!("bears no tags"),
        }
    }

    pub(super) fn into_event(self) -> Event {
        self.0
    }
}
