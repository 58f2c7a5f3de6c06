//! Subscriptions change at random, and their events reach several replicas in random order.
//! Afterwards the service's state equals Stripe's.
//!
//! Each replica has its own lanes, so the events of one customer are applied in several lanes at
//! the same time.
//!
//! The replicas that receive the events have no Stripe key, so only the events decide. Events
//! cannot decide one case: when a subscription returns, within one second, to a state that it had
//! in that second, its `previous_attributes` form a circle and no order of that second's events is
//! better than another. Such a change waits for the next second. (With a key, the service would ask
//! Stripe.)
//!
//! Then a replica with a key runs the queued refreshes, and the state still equals Stripe's.

use std::fmt::Write;

use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::app::{TestApp, eventually};
use crate::support::database::{Database, on_both_databases};
use crate::support::random_cases::{Cases, run_cases};

on_both_databases!(
    random_deliveries_end_in_the_state_at_stripe,
    plan_changed_back_a_second_later_is_the_old_plan,
);

/// A scenario sends about fifty requests, so a default run has few scenarios.
const CASES: Cases = Cases { seed_variable: "BILLHOOK_LIVES_SEED", default_count: 10, soak_count: 300 };

/// The prices for sale and the index of their plan in `PLANS`, lowest plan first.
const PRICES: [(&str, usize); 3] =
    [("price_pro_monthly", 0), ("price_pro_yearly", 0), ("price_team_monthly", 1)];
const PLANS: [&str; 2] = ["pro", "team"];

async fn random_deliveries_end_in_the_state_at_stripe(database: Database) {
    let mut setup = Setup::start(database).await;
    run_cases(CASES, scenario(), async |scenario| setup.run(scenario).await).await;
    setup.stop().await;
}

async fn plan_changed_back_a_second_later_is_the_old_plan(database: Database) {
    let mut setup = Setup::start(database).await;
    let price = |price, seconds_later| Step { subscription: 0, seconds_later, change: Change::Price(price) };
    let scenario = Scenario {
        purchases: vec![Purchase::Session],
        steps: vec![price("price_team_monthly", 0), price("price_pro_monthly", 1)],
        order: vec![3, 2, 1],
        repeats: vec![],
        groups: vec![1],
        replicas: vec![0, 1, 2],
    };
    setup.run(&scenario).await.expect("the service's state equals Stripe's");
    setup.stop().await;
}

// --- scenarios

/// What happens at Stripe, and how its events are delivered.
#[derive(Debug, Clone)]
struct Scenario {
    purchases: Vec<Purchase>,
    steps: Vec<Step>,
    /// Sort keys of the deliveries. The list repeats if there are more deliveries.
    order: Vec<u32>,
    /// The events that are delivered twice.
    repeats: Vec<Index>,
    /// How many events are delivered concurrently, group after group. The list repeats.
    groups: Vec<usize>,
    /// The replicas that receive the events. The list repeats.
    replicas: Vec<usize>,
}

/// How a subscription is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purchase {
    /// Through the service's checkout, paid at once. Only a tenant's first purchase can use it.
    OwnCheckout,
    /// Through the service's checkout, by delayed debit.
    OwnCheckoutByDebit,
    /// By a session created outside the service, which names the tenant in its own and its
    /// subscription's metadata.
    Session,
    /// By such a session and delayed debit.
    SessionByDebit,
    /// By a session whose subscription does not name the tenant. Other events are parked until the
    /// session's arrives.
    UntaggedSession,
    /// By a tagged session with a trial.
    TrialSession,
}

#[derive(Debug, Clone)]
struct Step {
    subscription: usize,
    seconds_later: u32,
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Changes the price of the first item.
    Price(&'static str),
    /// Adds an item, unless one has this price.
    AddItem(&'static str),
    Quantity(u32),
    Renew,
    Status(&'static str),
    /// Schedules or withdraws a cancellation as the API does, with `cancel_at_period_end`.
    CancelAtPeriodEnd(bool),
    /// Schedules a cancellation as the Customer Portal does, with `cancel_at`.
    CancelAtDate,
    /// Settles a delayed debit: whether it succeeds.
    SettleDebit(bool),
    Cancel,
}

fn scenario() -> BoxedStrategy<Scenario> {
    let others = prop_oneof![
        Just(Purchase::Session),
        Just(Purchase::SessionByDebit),
        Just(Purchase::UntaggedSession),
        Just(Purchase::TrialSession)
    ];
    // Few subscriptions with many changes are a harder test than many with few.
    let other_count = prop_oneof![2 => Just(0), 1 => Just(1), 1 => Just(2)];
    let others = other_count.prop_flat_map(move |count: usize| vec(others.clone(), count));
    let first = prop_oneof![
        Just(Purchase::OwnCheckout),
        Just(Purchase::OwnCheckoutByDebit),
        Just(Purchase::Session),
        Just(Purchase::SessionByDebit),
        Just(Purchase::UntaggedSession),
        Just(Purchase::TrialSession)
    ];
    let purchases = (first, others).prop_map(|(first, mut purchases)| {
        purchases.insert(0, first);
        purchases
    });
    (
        purchases,
        vec(step(), 4..24),
        vec(any::<u32>(), 1..90),
        vec(any::<Index>(), 0..8),
        vec(1_usize..16, 1..5),
        vec(0_usize..3, 1..6),
    )
        .prop_map(|(purchases, steps, order, repeats, groups, replicas)| Scenario {
            purchases,
            steps,
            order,
            repeats,
            groups,
            replicas,
        })
        .boxed()
}

fn step() -> impl Strategy<Value = Step> {
    // Most changes share a second with the one before, because those are the hardest to order.
    let seconds = prop_oneof![3 => Just(0_u32), 1 => 1_u32..4];
    (0_usize..3, seconds, change()).prop_map(|(subscription, seconds_later, change)| Step {
        subscription,
        seconds_later,
        change,
    })
}

fn change() -> impl Strategy<Value = Change> {
    let price = || proptest::sample::select(&PRICES[..]).prop_map(|(price, _)| price);
    let status = proptest::sample::select(&["active", "past_due", "unpaid", "paused"][..]);
    prop_oneof![
        4 => price().prop_map(Change::Price),
        1 => price().prop_map(Change::AddItem),
        3 => (1_u32..4).prop_map(Change::Quantity),
        3 => Just(Change::Renew),
        6 => status.prop_map(Change::Status),
        3 => any::<bool>().prop_map(Change::CancelAtPeriodEnd),
        2 => Just(Change::CancelAtDate),
        2 => any::<bool>().prop_map(Change::SettleDebit),
        1 => Just(Change::Cancel),
    ]
}

// --- the services

/// Two services on one database: a seller with a Stripe key, and a receiver of three replicas without
/// a key. The seller runs only while it creates a checkout and while it runs the refreshes. Its
/// backfill would otherwise fetch a state from Stripe that the scenario changes in the same second.
struct Setup {
    seller: TestApp,
    receiver: TestApp,
    replicas: Vec<String>,
    tenants: usize,
}

/// A subscription in the double.
struct TestSubscription {
    id: String,
    session: String,
    /// The fields that the service stores, as the double has them.
    state: Value,
    /// The states it has had in the current second.
    states_in_second: Vec<Value>,
}

impl Setup {
    async fn start(database: Database) -> Self {
        let mut seller = TestApp::start_with(database, &[("--throttle-per-minute", "6000")]).await;
        seller.stop_service().await;
        seller.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
        let settings = [("--database-url", seller.database.url.as_str()), ("--stripe-secret-key", "")];
        let mut receiver = TestApp::start_with(database, &settings).await;
        let replicas =
            vec![receiver.url.clone(), receiver.start_replica().await, receiver.start_replica().await];
        Self { seller, receiver, replicas, tenants: 0 }
    }

    async fn stop(self) {
        self.receiver.stop().await;
        self.seller.stop().await;
    }

    /// Runs the scenario at Stripe, delivers the events and compares the states. The error is the
    /// difference.
    async fn run(&mut self, scenario: &Scenario) -> Result<(), String> {
        self.tenants += 1;
        let tenant = format!("tenant-{}", self.tenants);
        let (customer, subscriptions) = self.run_at_stripe(&tenant, scenario).await;
        let events = self.events_of(&customer).await;
        let deliveries = deliveries(&events, scenario);
        let delivered = self.deliver(&deliveries, scenario).await;
        let mut compared = delivered.and(self.compare(&tenant, &subscriptions, &events).await);
        if compared.is_ok() {
            self.run_refreshes().await;
            let after = self.compare(&tenant, &subscriptions, &events).await;
            compared = after.map_err(|difference| format!("after the refreshes: {difference}"));
        }
        compared.map_err(|difference| format!("{difference}\n{}", describe(&deliveries)))
    }

    /// Advances the clock until no refresh is queued.
    async fn run_refreshes(&mut self) {
        self.seller.start_service().await;
        eventually("no refresh is queued", || async {
            self.seller.clock.advance_seconds(1);
            self.seller.queued_refreshes().await.is_empty().then_some(())
        })
        .await;
        self.seller.stop_service().await;
    }

    /// Runs the scenario in the double. Returns the customer and its subscriptions.
    async fn run_at_stripe(&mut self, tenant: &str, scenario: &Scenario) -> (String, Vec<TestSubscription>) {
        let tag = format!("&subscription_data[metadata][tenant_id]={tenant}");
        let mut customer = None;
        let mut subscriptions = Vec::new();
        for purchase in &scenario.purchases {
            self.advance_clock(1, &mut subscriptions).await;
            let (session, card) = match purchase {
                Purchase::OwnCheckout => (self.start_checkout(tenant).await, "ok"),
                Purchase::OwnCheckoutByDebit => (self.start_checkout(tenant).await, "delayed"),
                Purchase::Session => (self.create_session(tenant, customer.as_deref(), &tag).await, "ok"),
                Purchase::SessionByDebit => {
                    (self.create_session(tenant, customer.as_deref(), &tag).await, "delayed")
                }
                Purchase::UntaggedSession => {
                    (self.create_session(tenant, customer.as_deref(), "").await, "ok")
                }
                Purchase::TrialSession => {
                    let trial = format!("{tag}&subscription_data[trial_period_days]=14");
                    (self.create_session(tenant, customer.as_deref(), &trial).await, "ok")
                }
            };
            self.seller.stripe.pay_with(&session, card).await;
            let paid = self.session(&session).await;
            customer = Some(text(&paid, "customer").to_owned());
            let id = text(&paid, "subscription").to_owned();
            let state = self.state_at_stripe(&id).await;
            subscriptions.push(TestSubscription {
                id,
                session,
                states_in_second: vec![state.clone()],
                state,
            });
        }
        for step in &scenario.steps {
            self.advance_clock(step.seconds_later, &mut subscriptions).await;
            let index = step.subscription % subscriptions.len();
            self.apply(step.change, &mut subscriptions, index).await;
        }
        (customer.expect("at least one subscription"), subscriptions)
    }

    async fn apply(&self, change: Change, subscriptions: &mut [TestSubscription], index: usize) {
        if !self.is_possible(change, &subscriptions[index]).await {
            return;
        }
        let next = predicted_state(change, &subscriptions[index].state);
        let goes_back = next.is_some_and(|next| {
            next != subscriptions[index].state && subscriptions[index].states_in_second.contains(&next)
        });
        if goes_back {
            self.advance_clock(1, subscriptions).await;
        }
        let (stripe, id) = (&self.seller.stripe, &subscriptions[index].id);
        let path = format!("/v1/subscriptions/{id}");
        match change {
            Change::Price(price) => stripe.update_subscription(id, &json!({ "price": price })).await,
            Change::Quantity(quantity) => {
                stripe.update_subscription(id, &json!({ "quantity": quantity })).await;
            }
            Change::Renew => stripe.update_subscription(id, &json!({ "renew": true })).await,
            Change::Status(status) => stripe.update_subscription(id, &json!({ "status": status })).await,
            Change::CancelAtPeriodEnd(ends) => {
                stripe.update_subscription(id, &json!({ "cancel_at_period_end": ends })).await;
            }
            Change::SettleDebit(ok) => stripe.settle(&subscriptions[index].session, ok).await,
            Change::AddItem(price) => self.call("POST", &path, &format!("items[0][price]={price}")).await,
            Change::CancelAtDate => self.call("POST", &path, "cancel_at=min_period_end").await,
            Change::Cancel => self.call("DELETE", &path, "").await,
        }
        let state = self.state_at_stripe(&subscriptions[index].id).await;
        subscriptions[index].states_in_second.push(state.clone());
        subscriptions[index].state = state;
    }

    async fn call(&self, method: &str, path: &str, form: &str) {
        let response = self.seller.stripe.api(method, path, form).await;
        assert!(response["error"].is_null(), "{method} {path} {form}: {response}");
    }

    async fn is_possible(&self, change: Change, subscription: &TestSubscription) -> bool {
        match change {
            Change::SettleDebit(_) => {
                let path = "/v1/events?type=checkout.session.*&limit=100";
                let page = self.seller.stripe.api("GET", path, "").await;
                let is_of_session = |event: &&Value| event["data"]["object"]["id"] == *subscription.session;
                let events: Vec<&Value> = list(&page).iter().filter(is_of_session).collect();
                events.len() == 1 && events[0]["data"]["object"]["payment_status"] == "unpaid"
            }
            Change::AddItem(price) => {
                let items = subscription.state["items"].as_array().expect("items");
                subscription.state["status"] != "canceled" && items.iter().all(|item| item["price"] != price)
            }
            _ => subscription.state["status"] != "canceled",
        }
    }

    /// Advances the double's stopped clock.
    async fn advance_clock(&self, seconds: u32, subscriptions: &mut [TestSubscription]) {
        if seconds > 0 {
            self.seller.stripe.set_clock(&json!({ "stopped": true, "advance_seconds": seconds })).await;
            for subscription in subscriptions {
                subscription.states_in_second = vec![subscription.state.clone()];
            }
        }
    }

    async fn start_checkout(&mut self, tenant: &str) -> String {
        self.seller.start_service().await;
        // The clock jumps far, which looks like a long downtime, so checkout returns 503 until the
        // backfill has run.
        let bought = eventually("the checkout succeeds", || async {
            let response = self.seller.check_out(&self.seller.token(tenant), &json!({})).await;
            (response.status != 503).then(|| response.ok())
        })
        .await;
        self.seller.stop_service().await;
        text(&bought, "session_id").to_owned()
    }

    async fn create_session(&self, tenant: &str, customer: Option<&str>, more: &str) -> String {
        let customer = customer.map(|customer| format!("&customer={customer}")).unwrap_or_default();
        let form = format!(
            "mode=subscription&line_items[0][price]=price_pro_monthly&line_items[0][quantity]=1\
             &success_url=https://app.example.com/&metadata[tenant_id]={tenant}{customer}{more}"
        );
        let session = self.seller.stripe.api("POST", "/v1/checkout/sessions", &form).await;
        text(&session, "id").to_owned()
    }

    async fn session(&self, id: &str) -> Value {
        self.seller.stripe.api("GET", &format!("/v1/checkout/sessions/{id}"), "").await
    }

    /// All events of a customer, oldest first.
    async fn events_of(&self, customer: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.seller.stripe.api("GET", &format!("/v1/events?limit=100{after}"), "").await;
            let newer = list(&page);
            events.extend(newer.iter().filter(|event| is_about(event, customer)).cloned());
            // The customer's creation is its first event. Older events belong to earlier scenarios.
            let is_creation = newer.iter().any(|event| event["data"]["object"]["id"] == customer);
            match newer.last() {
                Some(last) if page["has_more"] == true && !is_creation => {
                    after = format!("&starting_after={}", text(last, "id"));
                }
                _ => break,
            }
        }
        events.reverse();
        events
    }

    /// Delivers group after group, each concurrently. The error is the first response that is not 200.
    async fn deliver(&self, deliveries: &[Value], scenario: &Scenario) -> Result<(), String> {
        let mut rest = deliveries;
        let mut replicas = scenario.replicas.iter().cycle();
        for size in scenario.groups.iter().cycle() {
            let (group, later) = rest.split_at((*size).min(rest.len()));
            let posts = group
                .iter()
                .zip(&mut replicas)
                .map(|(event, replica)| self.receiver.deliver_at(&self.replicas[*replica], event));
            for response in join_all(posts).await {
                if response.status != 200 {
                    return Err(format!("an event got {}: {}", response.status, response.text));
                }
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn compare(
        &self,
        tenant: &str,
        subscriptions: &[TestSubscription],
        events: &[Value],
    ) -> Result<(), String> {
        for subscription in subscriptions {
            let row = self.seller.database.row::<entity::subscription::Entity>(&subscription.id).await;
            check_equal(
                &subscription.id,
                &row.map(|row| service_fields(&row)).unwrap_or_default(),
                &subscription.state,
            )?;
        }
        for event in events {
            let outcome = self.seller.outcome(text(event, "id")).await;
            let is_settled = matches!(&outcome, Some((name, _)) if ["applied", "stale", "ignored"].contains(&name.as_str()));
            if !is_settled {
                return Err(format!("{} ended as {outcome:?}", text(event, "id")));
            }
        }
        let response = self.receiver.subscription(&self.receiver.token(tenant)).await.ok();
        check_equal("the response", &normalized(response), &expected_response(tenant, subscriptions, events))
    }

    async fn state_at_stripe(&self, subscription: &str) -> Value {
        let stripe = &self.seller.stripe;
        stripe_fields(&stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await)
    }
}

// --- prediction

/// The subscription's state after the change, unless the change cannot lead back to an earlier
/// state.
fn predicted_state(change: Change, state: &Value) -> Option<Value> {
    let mut next = state.clone();
    match change {
        Change::Price(price) => next["items"][0]["price"] = price.into(),
        Change::Quantity(quantity) => next["items"][0]["quantity"] = quantity.into(),
        Change::Status(status) => next["status"] = status.into(),
        Change::CancelAtPeriodEnd(true) => {
            next["cancel_at"] = state["current_period_end"].clone();
            next["cancel_at_period_end"] = true.into();
        }
        Change::CancelAtDate => {
            next["cancel_at"] = state["current_period_end"].clone();
            next["cancel_at_period_end"] = false.into();
        }
        Change::CancelAtPeriodEnd(false) => {
            next["cancel_at"] = Value::Null;
            next["cancel_at_period_end"] = false.into();
        }
        // Periods and items are only added, a cancellation is final, and a debit changes no field
        // of the state.
        Change::AddItem(_) | Change::Renew | Change::SettleDebit(_) | Change::Cancel => return None,
    }
    Some(next)
}

// --- deliveries

/// The events in the scenario's order, some of them twice.
fn deliveries(events: &[Value], scenario: &Scenario) -> Vec<Value> {
    let repeats = scenario.repeats.iter().map(|index| index.get(events));
    let mut sorted: Vec<(u32, &Value)> =
        scenario.order.iter().copied().cycle().zip(events.iter().chain(repeats)).collect();
    sorted.sort_by_key(|(number, _)| *number);
    sorted.into_iter().map(|(_, event)| event.clone()).collect()
}

fn describe(deliveries: &[Value]) -> String {
    let mut text = "delivered in this order:\n".to_owned();
    for event in deliveries {
        let object = &event["data"]["object"];
        let (id, kind, created) = (&event["id"], &event["type"], &event["created"]);
        let previous = &event["data"]["previous_attributes"];
        let fields = if object["object"] == "subscription" { stripe_fields(object) } else { Value::Null };
        let object_id = &object["id"];
        writeln!(text, "{created} {kind} {id} of {object_id}: {fields} was {}", previous_fields(previous))
            .expect("a line");
    }
    text
}

/// The previous values, with their items shortened.
fn previous_fields(previous: &Value) -> Value {
    let mut shortened = previous.clone();
    if let Some(replaced) = shortened.get_mut("items") {
        *replaced = items(previous);
    }
    shortened
}

fn is_about(event: &Value, customer: &str) -> bool {
    let object = &event["data"]["object"];
    object["id"] == customer || object["customer"] == customer
}

// --- the state at Stripe

fn stripe_fields(subscription: &Value) -> Value {
    let data = list(&subscription["items"]);
    let ends = data.iter().filter_map(|item| item["current_period_end"].as_i64());
    json!({
        "status": subscription["status"],
        "started_at": subscription["created"],
        "items": items(subscription),
        "current_period_end": ends.min(),
        "trial_end": subscription["trial_end"],
        "cancel_at": subscription["cancel_at"],
        "cancel_at_period_end": subscription["cancel_at_period_end"],
        "ended_at": subscription["ended_at"],
    })
}

fn items(subscription: &Value) -> Value {
    let items = list(&subscription["items"]).iter();
    items.map(|item| json!({ "price": item["price"]["id"], "quantity": item["quantity"] })).collect()
}

/// The response that the documented rule and the double's state require.
fn expected_response(tenant: &str, subscriptions: &[TestSubscription], events: &[Value]) -> Value {
    let priority = |subscription: &&TestSubscription| {
        let (state, grants) = (&subscription.state, grants(subscription, events));
        let is_not_past_due = state["status"] != "past_due";
        let plan_order =
            grants.then(|| (best_item(state).1, is_not_past_due, state["current_period_end"].as_i64()));
        let start_order = (!grants).then(|| state["started_at"].as_i64());
        (grants, plan_order, start_order, std::cmp::Reverse(subscription.id.clone()))
    };
    let deciding = subscriptions.iter().max_by_key(priority).expect("at least one subscription");
    let state = &deciding.state;
    let access = grants(deciding, events);
    let (item, plan) = best_item(state);
    let is_canceled = |subscription: &TestSubscription| subscription.state["status"] == "canceled";
    let cancel_at = if is_canceled(deciding) { Value::Null } else { state["cancel_at"].clone() };
    json!({
        "tenant": tenant,
        "plan": if access { PLANS[plan] } else { "free" },
        "access": access,
        "status": state["status"],
        "price": item["price"],
        "quantity": item["quantity"],
        "current_period_end": state["current_period_end"],
        "trial_end": state["trial_end"],
        "scheduled_cancel": !cancel_at.is_null(),
        "cancel_at": cancel_at,
        "can_manage": true,
        "may_manage": true,
    })
}

fn grants(subscription: &TestSubscription, events: &[Value]) -> bool {
    let by_status = ["active", "trialing", "past_due"].contains(&text(&subscription.state, "status"));
    by_status && !awaits_payment(subscription, events)
}

/// Whether its checkout completed unpaid and no payment has arrived since.
fn awaits_payment(subscription: &TestSubscription, events: &[Value]) -> bool {
    let has_event = |kind: &str, what: &dyn Fn(&Value) -> bool| {
        events.iter().any(|event| event["type"] == kind && what(&event["data"]["object"]))
    };
    let of_session = |object: &Value| object["id"] == *subscription.session;
    let of_invoice =
        |object: &Value| object["parent"]["subscription_details"]["subscription"] == *subscription.id;
    has_event("checkout.session.completed", &|object| {
        of_session(object) && object["payment_status"] == "unpaid"
    }) && !has_event("checkout.session.async_payment_succeeded", &of_session)
        && !has_event("invoice.paid", &of_invoice)
}

/// The first item with the best plan, and that plan's index in `PLANS`.
fn best_item(state: &Value) -> (&Value, usize) {
    let rank =
        |item: &Value| PRICES.iter().find(|(price, _)| item["price"] == *price).map_or(0, |(_, rank)| *rank);
    let items = state["items"].as_array().expect("items");
    let item = items.iter().rev().max_by_key(|item| rank(item)).expect("an item");
    (item, rank(item))
}

// --- the state at the service

fn service_fields(row: &entity::subscription::Model) -> Value {
    let mut items: Value = serde_json::from_str(&row.items).expect("items");
    for item in items.as_array_mut().expect("a list of items") {
        item.as_object_mut().expect("an item").remove("lookup_key");
    }
    json!({
        "status": row.status,
        "started_at": row.started_at,
        "items": items,
        "current_period_end": row.current_period_end,
        "trial_end": row.trial_end,
        "cancel_at": row.cancel_at,
        "cancel_at_period_end": row.cancel_at_period_end,
        "ended_at": row.ended_at,
    })
}

/// The response with its times in seconds and without `as_of`, which depends on the events rather
/// than the subscription.
fn normalized(mut response: Value) -> Value {
    response.as_object_mut().expect("a response").remove("as_of");
    for time in ["current_period_end", "trial_end", "cancel_at"] {
        if let Some(text) = response[time].as_str() {
            let at = OffsetDateTime::parse(text, &Rfc3339).expect("a time");
            response[time] = at.unix_timestamp().into();
        }
    }
    response
}

fn check_equal(what: &str, service: &Value, stripe: &Value) -> Result<(), String> {
    if service == stripe {
        return Ok(());
    }
    Err(format!("{what}\nat the service: {service}\nat Stripe:      {stripe}"))
}

fn list(list: &Value) -> &[Value] {
    list["data"].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} of {object}"))
}
