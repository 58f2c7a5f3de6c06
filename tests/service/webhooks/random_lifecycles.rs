//! Random lives of subscriptions, told to several replicas in random disorder: in the end the service says what Stripe
//! says.
//!
//! Each replica has lanes of its own, so that the events of one customer are applied in several lanes at the same time.
//!
//! The replicas that hear the events have no Stripe key, so that nothing but the events decides. There is one thing that
//! events cannot decide: when a subscription comes back, within one second, to a state that it had in that second, the
//! previous values lead in a circle, and no order of the second's events is better than another. Such a life waits for
//! the next second before it goes back. (With a key the service asks Stripe, and need not know.)
//!
//! Then a replica with a key asks Stripe what the events left open, and still all is as it should be.

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
use crate::support::random_cases::{Cases, tell_all};

on_both_databases!(
    however_the_events_of_random_lives_are_delivered_the_service_ends_where_stripe_does,
    a_plan_that_changed_back_a_second_later_is_what_it_was_before,
);

/// A tale is a conversation of some fifty requests, so an ordinary run has few.
const CASES: Cases = Cases { seed_variable: "BILLHOOK_LIVES_SEED", ordinary: 10, soak: 300 };

/// What is sold, worst plan first.
const PRICES: [(&str, usize); 3] =
    [("price_pro_monthly", 0), ("price_pro_yearly", 0), ("price_team_monthly", 1)];
const PLANS: [&str; 2] = ["pro", "team"];

async fn however_the_events_of_random_lives_are_delivered_the_service_ends_where_stripe_does(
    database: Database,
) {
    let mut world = World::begin(database).await;
    tell_all(CASES, tale(), async |tale| world.tell(tale).await).await;
    world.end().await;
}

async fn a_plan_that_changed_back_a_second_later_is_what_it_was_before(database: Database) {
    let mut world = World::begin(database).await;
    let price = |price, seconds_later| Step { of: 0, seconds_later, change: Change::Price(price) };
    let tale = Tale {
        beginnings: vec![Beginning::Paid],
        steps: vec![price("price_team_monthly", 0), price("price_pro_monthly", 1)],
        order: vec![3, 2, 1],
        repeats: vec![],
        groups: vec![1],
        replicas: vec![0, 1, 2],
    };
    world.tell(&tale).await.expect("the service says what Stripe says");
    world.end().await;
}

// --- tales

/// What happens at Stripe, and how its events are delivered.
#[derive(Debug, Clone)]
struct Tale {
    beginnings: Vec<Beginning>,
    steps: Vec<Step>,
    /// Events are delivered in the order of these numbers, which are dealt to them in turn.
    order: Vec<u32>,
    /// The events that are delivered once more.
    repeats: Vec<Index>,
    /// How many are delivered at once, in turn.
    groups: Vec<usize>,
    /// To which replica, in turn.
    replicas: Vec<usize>,
}

/// How a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// By a checkout of the service's own, paid at once. Only a tenant's first can begin so.
    OwnCheckout,
    /// The same, by a debit that takes its time.
    OwnCheckoutByDebit,
    /// By a session of somebody else's that names the tenant in its metadata and in its subscription's.
    Paid,
    /// The same, by a debit that takes its time.
    Debit,
    /// The same, but nothing of the subscription says whose it is: until the session is heard of, all else waits.
    PaidAndUntagged,
    /// Tagged, with a trial.
    Trial,
}

#[derive(Debug, Clone)]
struct Step {
    of: usize,
    seconds_later: u32,
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Another price of the first item.
    Price(&'static str),
    /// One more item, unless it has one of this price.
    Item(&'static str),
    Quantity(u32),
    Renew,
    Status(&'static str),
    /// Whether it is to end with its period, as the API says it.
    EndWithPeriod(bool),
    /// The same, as the Customer Portal says it.
    EndOnItsDate,
    /// What the bank says of a debit.
    Settle(bool),
    End,
}

fn tale() -> BoxedStrategy<Tale> {
    let others = prop_oneof![
        Just(Beginning::Paid),
        Just(Beginning::Debit),
        Just(Beginning::PaidAndUntagged),
        Just(Beginning::Trial)
    ];
    // Few subscriptions with long lives are harder to follow than many with short ones.
    let how_many = prop_oneof![2 => Just(0), 1 => Just(1), 1 => Just(2)];
    let others = how_many.prop_flat_map(move |count: usize| vec(others.clone(), count));
    let first = prop_oneof![
        Just(Beginning::OwnCheckout),
        Just(Beginning::OwnCheckoutByDebit),
        Just(Beginning::Paid),
        Just(Beginning::Debit),
        Just(Beginning::PaidAndUntagged),
        Just(Beginning::Trial)
    ];
    let beginnings = (first, others).prop_map(|(first, mut beginnings)| {
        beginnings.insert(0, first);
        beginnings
    });
    (
        beginnings,
        vec(step(), 4..24),
        vec(any::<u32>(), 1..90),
        vec(any::<Index>(), 0..8),
        vec(1_usize..16, 1..5),
        vec(0_usize..3, 1..6),
    )
        .prop_map(|(beginnings, steps, order, repeats, groups, replicas)| Tale {
            beginnings,
            steps,
            order,
            repeats,
            groups,
            replicas,
        })
        .boxed()
}

fn step() -> impl Strategy<Value = Step> {
    // Most of what happens, happens within a second: that is where order is hard to tell.
    let seconds = prop_oneof![3 => Just(0_u32), 1 => 1_u32..4];
    (0_usize..3, seconds, change()).prop_map(|(of, seconds_later, change)| Step { of, seconds_later, change })
}

fn change() -> impl Strategy<Value = Change> {
    let price = || proptest::sample::select(&PRICES[..]).prop_map(|(price, _)| price);
    let status = proptest::sample::select(&["active", "past_due", "unpaid", "paused"][..]);
    prop_oneof![
        4 => price().prop_map(Change::Price),
        1 => price().prop_map(Change::Item),
        3 => (1_u32..4).prop_map(Change::Quantity),
        3 => Just(Change::Renew),
        6 => status.prop_map(Change::Status),
        3 => any::<bool>().prop_map(Change::EndWithPeriod),
        2 => Just(Change::EndOnItsDate),
        2 => any::<bool>().prop_map(Change::Settle),
        1 => Just(Change::End),
    ]
}

// --- the world

/// A shop, which has a key, sells, and is closed while events are delivered; and an office on the same database, which
/// has no key and hears them.
struct World {
    shop: TestApp,
    office: TestApp,
    replicas: Vec<String>,
    tenants: usize,
}

/// A subscription in the double.
struct Life {
    id: String,
    session: String,
    /// How it stands, in what the service keeps.
    state: Value,
    /// How it stood in this second.
    states: Vec<Value>,
}

impl World {
    async fn begin(database: Database) -> Self {
        let shop = TestApp::start_with(database, &[("--throttle-per-minute", "6000")]).await;
        shop.stripe.fault(&json!({ "deliveries": "drop" })).await;
        let otherwise = [("--database-url", shop.database.url.as_str()), ("--stripe-secret-key", "")];
        let mut office = TestApp::start_with(database, &otherwise).await;
        let replicas = vec![office.url.clone(), office.start_replica().await, office.start_replica().await];
        Self { shop, office, replicas, tenants: 0 }
    }

    async fn end(self) {
        self.office.stop().await;
        self.shop.stop().await;
    }

    /// Lets it all happen at Stripe, then delivers the events, then compares. The error says what differs.
    async fn tell(&mut self, tale: &Tale) -> Result<(), String> {
        self.tenants += 1;
        let tenant = format!("tenant-{}", self.tenants);
        let (customer, lives) = self.live(&tenant, tale).await;
        let events = self.events_of(&customer).await;
        let deliveries = deliveries(&events, tale);
        self.shop.go_down().await;
        let told = self.deliver(&deliveries, tale).await;
        let mut compared = told.and(self.compare(&tenant, &lives, &events).await);
        self.shop.come_back().await;
        if compared.is_ok() {
            self.ask_stripe().await;
            let after = self.compare(&tenant, &lives, &events).await;
            compared = after.map_err(|difference| format!("after Stripe was asked: {difference}"));
        }
        compared.map_err(|difference| format!("{difference}\n{}", in_order(&deliveries)))
    }

    /// Time passes until Stripe has answered all that the events left open.
    async fn ask_stripe(&self) {
        eventually("every question is answered", || async {
            self.shop.clock.advance_seconds(1);
            self.shop.questions().await.is_empty().then_some(())
        })
        .await;
    }

    /// Lives all lives in the double. Returns their customer and them.
    async fn live(&self, tenant: &str, tale: &Tale) -> (String, Vec<Life>) {
        let tag = format!("&subscription_data[metadata][tenant_id]={tenant}");
        let mut customer = None;
        let mut lives = Vec::new();
        for beginning in &tale.beginnings {
            self.pass(1, &mut lives).await;
            let (session, card) = match beginning {
                Beginning::OwnCheckout => (self.own_checkout(tenant).await, "ok"),
                Beginning::OwnCheckoutByDebit => (self.own_checkout(tenant).await, "delayed"),
                Beginning::Paid => (self.foreign_session(tenant, customer.as_deref(), &tag).await, "ok"),
                Beginning::Debit => {
                    (self.foreign_session(tenant, customer.as_deref(), &tag).await, "delayed")
                }
                Beginning::PaidAndUntagged => {
                    (self.foreign_session(tenant, customer.as_deref(), "").await, "ok")
                }
                Beginning::Trial => {
                    let trial = format!("{tag}&subscription_data[trial_period_days]=14");
                    (self.foreign_session(tenant, customer.as_deref(), &trial).await, "ok")
                }
            };
            self.shop.stripe.pay_with(&session, card).await;
            let paid = self.session(&session).await;
            customer = Some(text(&paid, "customer").to_owned());
            let id = text(&paid, "subscription").to_owned();
            let state = self.state_at_stripe(&id).await;
            lives.push(Life { id, session, states: vec![state.clone()], state });
        }
        for step in &tale.steps {
            self.pass(step.seconds_later, &mut lives).await;
            let of = step.of % lives.len();
            self.take(step.change, &mut lives, of).await;
        }
        (customer.expect("at least one life"), lives)
    }

    /// One step of one life.
    async fn take(&self, change: Change, lives: &mut [Life], of: usize) {
        if !self.is_possible(change, &lives[of]).await {
            return;
        }
        let next = foreseen(change, &lives[of].state);
        let goes_back = next.is_some_and(|next| next != lives[of].state && lives[of].states.contains(&next));
        if goes_back {
            self.pass(1, lives).await;
        }
        let (stripe, id) = (&self.shop.stripe, &lives[of].id);
        let path = format!("/v1/subscriptions/{id}");
        match change {
            Change::Price(price) => stripe.change(id, &json!({ "price": price })).await,
            Change::Quantity(quantity) => stripe.change(id, &json!({ "quantity": quantity })).await,
            Change::Renew => stripe.change(id, &json!({ "renew": true })).await,
            Change::Status(status) => stripe.change(id, &json!({ "status": status })).await,
            Change::EndWithPeriod(ends) => stripe.change(id, &json!({ "cancel_at_period_end": ends })).await,
            Change::Settle(ok) => stripe.settle(&lives[of].session, ok).await,
            Change::Item(price) => self.call("POST", &path, &format!("items[0][price]={price}")).await,
            Change::EndOnItsDate => self.call("POST", &path, "cancel_at=min_period_end").await,
            Change::End => self.call("DELETE", &path, "").await,
        }
        let state = self.state_at_stripe(&lives[of].id).await;
        lives[of].states.push(state.clone());
        lives[of].state = state;
    }

    async fn call(&self, method: &str, path: &str, form: &str) {
        let answer = self.shop.stripe.api(method, path, form).await;
        assert!(answer["error"].is_null(), "{method} {path} {form}: {answer}");
    }

    async fn is_possible(&self, change: Change, life: &Life) -> bool {
        match change {
            Change::Settle(_) => {
                let path = "/v1/events?type=checkout.session.*&limit=100";
                let told = self.shop.stripe.api("GET", path, "").await;
                let of_session = |event: &&Value| event["data"]["object"]["id"] == *life.session;
                let told: Vec<&Value> = list(&told).iter().filter(of_session).collect();
                told.len() == 1 && told[0]["data"]["object"]["payment_status"] == "unpaid"
            }
            Change::Item(price) => {
                let items = life.state["items"].as_array().expect("items");
                life.state["status"] != "canceled" && items.iter().all(|item| item["price"] != price)
            }
            _ => life.state["status"] != "canceled",
        }
    }

    /// So many seconds pass. All happens within one second until they do.
    async fn pass(&self, seconds: u32, lives: &mut [Life]) {
        if seconds > 0 {
            self.shop.stripe.set_clock(&json!({ "stopped": true, "advance_seconds": seconds })).await;
            for life in lives {
                life.states = vec![life.state.clone()];
            }
        }
    }

    async fn own_checkout(&self, tenant: &str) -> String {
        // After a long absence, and the clock jumps far, nothing is sold until the service knows what was bought meanwhile.
        let bought = eventually("the service sells", || async {
            let answer = self.shop.check_out(&self.shop.token(tenant), &json!({})).await;
            (answer.status != 503).then(|| answer.ok())
        })
        .await;
        text(&bought, "session_id").to_owned()
    }

    async fn foreign_session(&self, tenant: &str, customer: Option<&str>, more: &str) -> String {
        let customer = customer.map(|customer| format!("&customer={customer}")).unwrap_or_default();
        let form = format!(
            "mode=subscription&line_items[0][price]=price_pro_monthly&line_items[0][quantity]=1\
             &success_url=https://app.example.com/&metadata[tenant_id]={tenant}{customer}{more}"
        );
        let session = self.shop.stripe.api("POST", "/v1/checkout/sessions", &form).await;
        text(&session, "id").to_owned()
    }

    async fn session(&self, id: &str) -> Value {
        self.shop.stripe.api("GET", &format!("/v1/checkout/sessions/{id}"), "").await
    }

    /// What the double made of a customer, oldest first, as `GET /v1/events` pages through it.
    async fn events_of(&self, customer: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.shop.stripe.api("GET", &format!("/v1/events?limit=100{after}"), "").await;
            let newer = list(&page);
            events.extend(newer.iter().filter(|event| is_of(event, customer)).cloned());
            // The customer is the first that is heard of it, and older events are of older cases.
            let is_born = newer.iter().any(|event| event["data"]["object"]["id"] == customer);
            match newer.last() {
                Some(last) if page["has_more"] == true && !is_born => {
                    after = format!("&starting_after={}", text(last, "id"));
                }
                _ => break,
            }
        }
        events.reverse();
        events
    }

    /// Delivers group after group, each at once. The error says what was not taken.
    async fn deliver(&self, deliveries: &[Value], tale: &Tale) -> Result<(), String> {
        let mut rest = deliveries;
        let mut replicas = tale.replicas.iter().cycle();
        for size in tale.groups.iter().cycle() {
            let (group, later) = rest.split_at((*size).min(rest.len()));
            let posts = group
                .iter()
                .zip(&mut replicas)
                .map(|(event, replica)| self.office.deliver_at(&self.replicas[*replica], event));
            for answer in join_all(posts).await {
                if answer.status != 200 {
                    return Err(format!("an event was answered {}: {}", answer.status, answer.text));
                }
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn compare(&self, tenant: &str, lives: &[Life], events: &[Value]) -> Result<(), String> {
        for life in lives {
            let row = self.shop.database.row::<entity::subscription::Entity>(&life.id).await;
            same(&life.id, &row.map(|row| kept_by_service(&row)).unwrap_or_default(), &life.state)?;
        }
        for event in events {
            let outcome = self.shop.outcome(text(event, "id")).await;
            let is_done = matches!(&outcome, Some((word, _)) if ["applied", "stale", "ignored"].contains(&word.as_str()));
            if !is_done {
                return Err(format!("{} ended as {outcome:?}", text(event, "id")));
            }
        }
        let answer = self.office.subscription(&self.office.token(tenant)).await.ok();
        same("the answer", &without_times_of_writing(answer), &entitlement(tenant, lives, events))
    }

    /// The fields that the service keeps, as the double has them.
    async fn state_at_stripe(&self, subscription: &str) -> Value {
        let stripe = &self.shop.stripe;
        kept_by_stripe(&stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await)
    }
}

// --- what is foreseen

/// How the subscription will stand after the change, where that may be a state it has been in.
fn foreseen(change: Change, state: &Value) -> Option<Value> {
    let mut next = state.clone();
    match change {
        Change::Price(price) => next["items"][0]["price"] = price.into(),
        Change::Quantity(quantity) => next["items"][0]["quantity"] = quantity.into(),
        Change::Status(status) => next["status"] = status.into(),
        Change::EndWithPeriod(true) => {
            next["cancel_at"] = state["current_period_end"].clone();
            next["cancel_at_period_end"] = true.into();
        }
        Change::EndOnItsDate => {
            next["cancel_at"] = state["current_period_end"].clone();
            next["cancel_at_period_end"] = false.into();
        }
        Change::EndWithPeriod(false) => {
            next["cancel_at"] = Value::Null;
            next["cancel_at_period_end"] = false.into();
        }
        // Periods and items only become more, an end is for good, and a debit is none of the subscription's fields.
        Change::Item(_) | Change::Renew | Change::Settle(_) | Change::End => return None,
    }
    Some(next)
}

// --- deliveries

/// The events in the tale's order, some of them twice.
fn deliveries(events: &[Value], tale: &Tale) -> Vec<Value> {
    let again = tale.repeats.iter().map(|index| index.get(events));
    let mut dealt: Vec<(u32, &Value)> =
        tale.order.iter().copied().cycle().zip(events.iter().chain(again)).collect();
    dealt.sort_by_key(|(number, _)| *number);
    dealt.into_iter().map(|(_, event)| event.clone()).collect()
}

fn in_order(deliveries: &[Value]) -> String {
    let mut text = "delivered in this order:\n".to_owned();
    for event in deliveries {
        let object = &event["data"]["object"];
        let (id, kind, created) = (&event["id"], &event["type"], &event["created"]);
        let previous = &event["data"]["previous_attributes"];
        let kept = if object["object"] == "subscription" { kept_by_stripe(object) } else { Value::Null };
        let of = &object["id"];
        writeln!(text, "{created} {kind} {id} of {of}: {kept} was {}", kept_of(previous)).expect("a line");
    }
    text
}

/// The previous values in few words.
fn kept_of(previous: &Value) -> Value {
    let mut kept = previous.clone();
    if let Some(replaced) = kept.get_mut("items") {
        *replaced = items(previous);
    }
    kept
}

fn is_of(event: &Value, customer: &str) -> bool {
    let object = &event["data"]["object"];
    object["id"] == customer || object["customer"] == customer
}

// --- what Stripe says

fn kept_by_stripe(subscription: &Value) -> Value {
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

/// What the tenant is entitled to, by the words of the rule and the double's own state.
fn entitlement(tenant: &str, lives: &[Life], events: &[Value]) -> Value {
    let merit = |life: &&Life| {
        let (state, grants) = (&life.state, grants(life, events));
        let standing = state["status"] != "past_due";
        let by_merit = grants.then(|| (best(state).1, standing, state["current_period_end"].as_i64()));
        let by_age = (!grants).then(|| state["started_at"].as_i64());
        (grants, by_merit, by_age, std::cmp::Reverse(life.id.clone()))
    };
    let speaker = lives.iter().max_by_key(merit).expect("at least one life");
    let state = &speaker.state;
    let access = grants(speaker, events);
    let (item, plan) = best(state);
    let is_over = |life: &Life| life.state["status"] == "canceled";
    let cancel_at = if is_over(speaker) { Value::Null } else { state["cancel_at"].clone() };
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

fn grants(life: &Life, events: &[Value]) -> bool {
    let by_status = ["active", "trialing", "past_due"].contains(&text(&life.state, "status"));
    by_status && !awaits_payment(life, events)
}

/// Whether its checkout was completed without money, and none has come since.
fn awaits_payment(life: &Life, events: &[Value]) -> bool {
    let told = |kind: &str, what: &dyn Fn(&Value) -> bool| {
        events.iter().any(|event| event["type"] == kind && what(&event["data"]["object"]))
    };
    let of_session = |object: &Value| object["id"] == *life.session;
    let of_invoice = |object: &Value| object["parent"]["subscription_details"]["subscription"] == *life.id;
    told("checkout.session.completed", &|object| of_session(object) && object["payment_status"] == "unpaid")
        && !told("checkout.session.async_payment_succeeded", &of_session)
        && !told("invoice.paid", &of_invoice)
}

/// The item with the best plan, the first of equals, and that plan's place.
fn best(state: &Value) -> (&Value, usize) {
    let rank =
        |item: &Value| PRICES.iter().find(|(price, _)| item["price"] == *price).map_or(0, |(_, rank)| *rank);
    let items = state["items"].as_array().expect("items");
    let item = items.iter().rev().max_by_key(|item| rank(item)).expect("an item");
    (item, rank(item))
}

// --- what the service says

fn kept_by_service(row: &entity::subscription::Model) -> Value {
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

/// The answer with its times in seconds. `as_of` tells of the events, not of the subscription.
fn without_times_of_writing(mut answer: Value) -> Value {
    answer.as_object_mut().expect("an answer").remove("as_of");
    for time in ["current_period_end", "trial_end", "cancel_at"] {
        if let Some(text) = answer[time].as_str() {
            let at = OffsetDateTime::parse(text, &Rfc3339).expect("a time");
            answer[time] = at.unix_timestamp().into();
        }
    }
    answer
}

fn same(what: &str, service: &Value, stripe: &Value) -> Result<(), String> {
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
