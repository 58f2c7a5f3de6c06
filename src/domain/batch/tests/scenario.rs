//! Builds batches and the events that are applied to them.

use super::*;
use crate::domain::event::CUSTOMER_CREATED;
use crate::domain::event::CheckoutEventKind::{Completed, Expired, PaymentFailed, PaymentSucceeded};
use crate::domain::event::InvoiceEventKind::{Paid, PaymentActionRequired};
use crate::domain::ids::{DeploymentId, EventId, PlanName, PriceId};
use crate::domain::journey::Traceparent;
use crate::domain::plan::Entitlement;
use crate::domain::previous_attributes::PreviousAttributes;
use crate::domain::subscription::SubscriptionEventKind::{Announced, Changed, Created, Deleted};
use crate::domain::subscription::{Item, State};
use crate::domain::tenant::BillingState;

pub(super) struct Scenario {
    pub(super) batch: Batch,
    pub(super) policy: Policy,
}

impl Scenario {
    /// No tenants.
    pub(super) fn empty() -> Self {
        Self::new(&[], vec![])
    }

    /// The tenant `acme`, linked to `cus_acme`.
    pub(super) fn with_acme() -> Self {
        Self::new(&[("acme", Some("cus_acme"))], vec![])
    }

    /// The tenant `acme`, linked to `cus_acme`, with the open checkout `cs_1` and its journey 1.
    pub(super) fn with_open_checkout() -> Self {
        Self::new(&[("acme", Some("cus_acme"))], vec![checkout("cs_1", "acme", "cus_acme", 1)])
    }

    pub(super) fn new(tenants: &[(&str, Option<&str>)], checkouts: Vec<Checkout>) -> Self {
        let tenants = tenants.iter().map(|(id, customer)| Tenant {
            customer: customer.map(customer_id),
            ..Tenant::new(tenant_id(id))
        });
        let catalog = Catalog::parse("pro=price_pro;team=price_team", true).expect("plans");
        Self {
            batch: Batch::new([], tenants, [], checkouts),
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

    /// Applies the event. Returns its outcome and the reason.
    pub(super) fn outcome_of(&mut self, event: TestEvent) -> (Outcome, Option<&'static str>) {
        let effect = self.apply(event);
        (effect.outcome, effect.reason)
    }

    /// Applies the event.
    pub(super) fn apply(&mut self, event: TestEvent) -> Effect {
        self.batch.apply(&event.into_event(), None, &self.policy)
    }

    /// Applies the event, which can start the journey of that number.
    pub(super) fn apply_with_journey(&mut self, number: u8, event: TestEvent) -> Effect {
        self.batch.apply(&event.into_event(), Some(journey(number)), &self.policy)
    }

    /// Applies the events and asserts the outcome `applied`.
    pub(super) fn apply_all<const N: usize>(&mut self, events: [TestEvent; N]) {
        for event in events {
            let effect = self.apply(event);
            assert_eq!(effect.outcome, Outcome::Applied, "{effect:?}");
        }
    }

    /// Adds parked events, as the store does.
    pub(super) fn add_parked<const N: usize>(&mut self, events: [TestEvent; N]) {
        for event in events {
            self.batch.add_parked(event.into_event());
        }
    }

    /// Links as `billhook tenant link` does.
    pub(super) fn link_as_operator(&mut self, tenant: &str, customer: &str) -> Result<(), LinkRefusal> {
        let cause = Cause { name: "operator", event: None, at: 500 };
        self.batch.clear_unlinked_by_operator(&customer_id(customer));
        self.batch.link(&tenant_id(tenant), &customer_id(customer), cause, &self.policy)
    }

    pub(super) fn tenant(&self, id: &str) -> &Tenant {
        self.batch.tenant(&tenant_id(id)).expect("the tenant exists")
    }

    pub(super) fn customer_of(&self, tenant: &str) -> Option<&str> {
        self.tenant(tenant).customer.as_ref().map(CustomerId::as_str)
    }

    pub(super) fn subscription(&self, id: &str) -> &Subscription {
        &self.batch.subscription(&subscription_id(id)).expect("the subscription is stored").subscription
    }

    pub(super) fn has_subscription(&self, subscription: &str) -> bool {
        self.batch.subscription(&subscription_id(subscription)).is_some()
    }

    pub(super) fn status(&self, subscription: &str) -> &str {
        self.subscription(subscription).state.status.as_str()
    }

    pub(super) fn grants(&self, subscription: &str) -> bool {
        self.policy.catalog.grants(self.subscription(subscription))
    }

    pub(super) fn checkout(&self, session: &str) -> &Checkout {
        self.batch.checkout(&session_id(session)).expect("the checkout exists")
    }

    pub(super) fn entitlement(&self, subscriptions: &[&str]) -> Entitlement {
        let subscriptions: Vec<_> = subscriptions.iter().map(|id| self.subscription(id).clone()).collect();
        let has_customer =
            self.batch.tenant(&tenant_id("acme")).is_some_and(|tenant| tenant.customer.is_some());
        let billing_state = BillingState { has_customer, subscriptions };
        self.policy.catalog.entitlement(&billing_state, &self.batch.known_prices)
    }

    /// One line for each journal entry.
    pub(super) fn journal(&self) -> Vec<String> {
        self.batch.changes().journal.iter().map(|entry| describe(&entry.kind)).collect()
    }

    pub(super) fn last_entry(&self) -> &JournalEntry {
        self.batch.changes().journal.last().expect("the journal has an entry")
    }

    /// Applies the event's snapshot as Stripe's answer to a refresh. Returns whether it changed
    /// anything.
    pub(super) fn refresh(&mut self, event: TestEvent, answered_at: i64) -> bool {
        let Subject::Subscription(_, snapshot) = event.0.subject else { panic!("not a subscription") };
        self.batch.apply_refresh(&snapshot.customer, std::slice::from_ref(&snapshot), answered_at)
    }

    /// Subject, reason and event of each requested refresh.
    pub(super) fn refreshes(&self) -> Vec<String> {
        let describe = |refresh: &Refresh| {
            let after = refresh.event.as_ref().map(|event| format!(", after {event}")).unwrap_or_default();
            format!("{}: {}{after}", refresh.subject, refresh.reason.as_str())
        };
        self.batch.changes().refreshes.values().map(describe).collect()
    }

    /// The parked events that were applied, with their outcomes.
    pub(super) fn unparked(&self) -> Vec<(&str, Outcome)> {
        self.batch
            .changes()
            .unparked
            .iter()
            .map(|unparked| (unparked.event.id.as_str(), unparked.effect.outcome))
            .collect()
    }
}

fn describe(entry: &EntryKind) -> String {
    match entry {
        EntryKind::Transition { subscription, from, to } => {
            let from = from.as_ref().map_or("nothing", Status::as_str);
            format!("{subscription}: {from} -> {to}")
        }
        other => other.as_str().to_owned(),
    }
}

/// An open checkout of ours with the journey of that number.
pub(super) fn checkout(session: &str, tenant: &str, customer: &str, number: u8) -> Checkout {
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
        journey: journey(number),
    }
}

pub(super) fn journey(number: u8) -> Journey {
    let origin = format!("00-{number:032x}-{number:016x}-01");
    Journey {
        origin: Traceparent::parse(&origin).expect("a traceparent"),
        started_at_ms: 1000 * i64::from(number),
    }
}

/// An event created at second 100, unless `at` changes it.
#[derive(Clone)]
pub(super) struct TestEvent(Event);

impl TestEvent {
    pub(super) fn new(type_name: &str, subject: Subject) -> Self {
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

    fn subscription(type_name: &str, kind: SubscriptionEventKind, status: &str) -> Self {
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
        let metadata = Metadata::default();
        let snapshot = Snapshot {
            id,
            customer,
            state,
            metadata,
            previous: None,
            has_all_items: true,
            latest_invoice: None,
        };
        Self::new(type_name, Subject::Subscription(kind, Box::new(snapshot)))
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

    fn session(type_name: &str, kind: CheckoutEventKind) -> Self {
        let session = Session {
            id: session_id("cs_1"),
            customer: Some(customer_id("cus_acme")),
            subscription: Some(subscription_id("sub_1")),
            client_reference: None,
            unpaid: false,
            metadata: Metadata::default(),
        };
        Self::new(type_name, Subject::Checkout(kind, Box::new(session)))
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
        Self::session("checkout.session.expired", Expired).edit_session(|session| session.subscription = None)
    }

    fn invoice(type_name: &str, kind: InvoiceEventKind) -> Self {
        let (customer, subscription) = (customer_id("cus_acme"), Some(subscription_id("sub_1")));
        Self::new(type_name, Subject::Invoice(kind, Invoice { customer, subscription, journey: None }))
    }

    pub(super) fn invoice_paid() -> Self {
        Self::invoice("invoice.paid", Paid)
    }

    pub(super) fn invoice_payment_failed() -> Self {
        Self::invoice("invoice.payment_failed", InvoiceEventKind::PaymentFailed)
    }

    pub(super) fn invoice_action_required() -> Self {
        Self::invoice("invoice.payment_action_required", PaymentActionRequired)
    }

    pub(super) fn customer_created() -> Self {
        Self::new(CUSTOMER_CREATED, Subject::Customer(customer_id("cus_acme"), Metadata::default()))
    }

    pub(super) fn customer_updated() -> Self {
        Self::new("customer.updated", Subject::Customer(customer_id("cus_acme"), Metadata::default()))
    }

    pub(super) fn customer_deleted() -> Self {
        Self::new("customer.deleted", Subject::CustomerDeleted(customer_id("cus_acme")))
    }

    pub(super) fn portal_opened() -> Self {
        Self::new("billing_portal.session.created", Subject::PortalOpened(customer_id("cus_acme")))
    }

    pub(super) fn at(mut self, created: i64) -> Self {
        self.0.created = created;
        self
    }

    pub(super) fn id(mut self, id: &str) -> Self {
        self.0.id = EventId::parse(id).expect("an event id");
        self
    }

    pub(super) fn live(mut self) -> Self {
        self.0.livemode = Some(true);
        self
    }

    pub(super) fn without_livemode(mut self) -> Self {
        self.0.livemode = None;
        self
    }

    pub(super) fn of_account(mut self, account: &str) -> Self {
        self.0.account = Some(account.into());
        self
    }

    pub(super) fn with_idempotency_key(mut self, key: &str) -> Self {
        self.0.idempotency_key = Some(key.into());
        self
    }

    pub(super) fn in_context(mut self, context: &str) -> Self {
        self.0.context = Some(context.into());
        self
    }

    pub(super) fn for_customer(mut self, customer: &str) -> Self {
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

    pub(super) fn for_session(self, id: &str) -> Self {
        self.edit_session(|session| session.id = session_id(id))
    }

    pub(super) fn unpaid(self) -> Self {
        self.edit_session(|session| session.unpaid = true)
    }

    pub(super) fn with_client_reference(self, tenant: &str) -> Self {
        self.edit_session(|session| session.client_reference = Some(tenant_id(tenant)))
    }

    /// Writes the tenant into the metadata.
    pub(super) fn with_tenant(mut self, tenant: &str) -> Self {
        self.metadata().tenant = Some(tenant_id(tenant));
        self
    }

    /// Writes the journey of that number into the metadata.
    pub(super) fn with_journey(mut self, number: u8) -> Self {
        let origin = Some(journey(number).origin);
        match &mut self.0.subject {
            Subject::Invoice(_, invoice) => invoice.journey = origin,
            _ => self.metadata().journey = origin,
        }
        self
    }

    pub(super) fn with_price(self, price: &str) -> Self {
        let price = PriceId::parse(price).expect("a price id");
        self.edit_state(|state| state.items[0].price = price)
    }

    pub(super) fn edit_state(mut self, change: impl FnOnce(&mut State)) -> Self {
        let Subject::Subscription(_, snapshot) = &mut self.0.subject else { panic!("not a subscription") };
        change(&mut snapshot.state);
        self
    }

    pub(super) fn with_truncated_items(mut self) -> Self {
        let Subject::Subscription(_, snapshot) = &mut self.0.subject else { panic!("not a subscription") };
        snapshot.has_all_items = false;
        self
    }

    pub(super) fn with_previous(mut self, previous: PreviousAttributes) -> Self {
        let Subject::Subscription(_, snapshot) = &mut self.0.subject else { panic!("not a subscription") };
        snapshot.previous = Some(previous);
        self
    }

    pub(super) fn edit_session(mut self, change: impl FnOnce(&mut Session)) -> Self {
        let Subject::Checkout(_, session) = &mut self.0.subject else { panic!("not a session") };
        change(session);
        self
    }

    fn metadata(&mut self) -> &mut Metadata {
        match &mut self.0.subject {
            Subject::Subscription(_, snapshot) => &mut snapshot.metadata,
            Subject::Checkout(_, session) => &mut session.metadata,
            Subject::Customer(_, metadata) => metadata,
            _ => panic!("has no metadata"),
        }
    }

    pub(super) fn into_event(self) -> Event {
        self.0
    }
}
