//! Whatever the order, the repetition and the split into batches: the same end, and where the events decide, the right
//! one.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::domain::ids::{EventId, PriceId};
use crate::domain::previous::{Previous, Replaced};
use crate::domain::subscription::SubscriptionChange::{Changed, Created, Deleted};
use crate::domain::subscription::{Item, State};

const STATUSES: [&str; 5] = ["incomplete", "trialing", "active", "past_due", "unpaid"];

/// One change in a subscription's life.
#[derive(Debug, Clone)]
struct Step {
    seconds_later: i64,
    status: usize,
    cancel_at: Option<i64>,
    quantity: i64,
}

fn step(quantities: impl Strategy<Value = i64>) -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![3 => Just(0_i64), 1 => 1_i64..3];
    let end = prop_oneof![2 => Just(None), 1 => (1_i64..3).prop_map(Some)];
    (seconds, 0..STATUSES.len(), end, quantities).prop_map(|(seconds_later, status, cancel_at, quantity)| {
        Step { seconds_later, status, cancel_at, quantity }
    })
}

/// Whether a life may come back to a state within a second. Only then can its events leave open which is the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    Never,
    Sometimes,
}

/// One subscription's life, as Stripe would tell it in order.
fn life(number: usize, steps: &[Step], ends: bool, returns: Returns) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = 100;
    let mut before: Option<State> = None;
    let mut seen_this_second: Vec<State> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        at += step.seconds_later;
        if step.seconds_later > 0 {
            seen_this_second = before.iter().cloned().collect();
        }
        let state = State {
            status: Status::parse(STATUSES[step.status]).expect("a status"),
            started_at: Some(100),
            items: vec![Item {
                price: PriceId::parse("price_pro").expect("a price"),
                lookup_key: None,
                quantity: Some(step.quantity),
            }],
            current_period_end: Some(10_000),
            trial_end: None,
            cancel_at: step.cancel_at,
            cancel_at_period_end: false,
            ended_at: None,
        };
        if returns == Returns::Never && seen_this_second.contains(&state) {
            continue;
        }
        seen_this_second.push(state.clone());
        let change = if index == 0 { Created } else { Changed };
        let previous = before.as_ref().map(|before| replaced(before, &state));
        events.push(told(number, index, at, change, state.clone(), previous));
        before = Some(state);
    }
    if let (true, Some(mut state)) = (ends, before) {
        state.status = Status::Canceled;
        events.push(told(number, steps.len(), at, Deleted, state, None));
    }
    events
}

/// What `previous_attributes` would say.
fn replaced(before: &State, after: &State) -> Previous {
    fn said<T: PartialEq + Clone>(before: Option<&T>, after: Option<&T>) -> Replaced<T> {
        if before == after { Replaced::Not } else { Replaced::Value(before.cloned()) }
    }
    Previous {
        status: said(Some(&before.status), Some(&after.status)),
        items: said(Some(&before.items), Some(&after.items)),
        cancel_at: said(before.cancel_at.as_ref(), after.cancel_at.as_ref()),
        ..Previous::default()
    }
}

/// Events have ids that tell nothing of their order.
fn told(
    number: usize,
    index: usize,
    created: i64,
    change: SubscriptionChange,
    state: State,
    previous: Option<Previous>,
) -> Event {
    let snapshot = Snapshot {
        id: subscription_id(&format!("sub_{number}")),
        customer: customer_id("cus_acme"),
        state,
        tags: Tags::default(),
        previous,
        has_all_items: true,
        latest_invoice: None,
    };
    let scrambled = (index * 7919 + number * 104_729 + 13) % 1_000_003;
    Event {
        id: EventId::parse(&format!("evt_{scrambled}x{number}x{index}")).expect("an event's id"),
        type_name: "customer.subscription.updated".into(),
        created,
        livemode: Some(false),
        account: None,
        context: None,
        api_version: None,
        request_id: None,
        idempotency_key: None,
        subject: Subject::Subscription(change, Box::new(snapshot)),
    }
}

/// The service's memory between batches: the rows and the inbox.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<SubscriptionId, Held>,
    inbox: Vec<Event>,
    undecided: bool,
}

impl Replica {
    fn take(&mut self, batch: &[Event]) {
        let policy = Stage::with_acme().policy;
        let tenant = Tenant { customer: Some(customer_id("cus_acme")), ..Tenant::new(tenant_id("acme")) };
        let mut work = UnitOfWork::begin([], [tenant], self.rows.values().cloned(), []);
        for event in &self.inbox {
            let Subject::Subscription(change, snapshot) = &event.subject else { unreachable!() };
            let is_tie =
                self.rows.get(&snapshot.id).is_some_and(|held| held.subscription.as_of == event.created);
            if is_tie {
                let contender = Contender::new(event.id.clone(), event.created, *change, snapshot);
                work.contend(&snapshot.id, contender);
            }
        }
        for event in batch {
            if self.inbox.iter().all(|known| known.id != event.id) {
                let effect = work.apply(event, None, &policy);
                self.undecided |= effect.reason == Some("undecided_second");
                self.inbox.push(event.clone());
            }
        }
        for id in &work.changes().subscriptions {
            self.rows.insert(id.clone(), work.held(id).expect("what changed is held").clone());
        }
    }

    fn told_in_batches(events: &[Event], sizes: &[usize]) -> Self {
        let mut replica = Self::default();
        let mut rest = events;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, later) = rest.split_at((*size).min(rest.len()));
            replica.take(batch);
            rest = later;
        }
        replica
    }

    fn states(&self) -> BTreeMap<SubscriptionId, State> {
        self.rows.iter().map(|(id, held)| (id.clone(), held.subscription.state.clone())).collect()
    }
}

/// The events, some of them twice, in an order of their own.
fn shuffled(events: Vec<Event>) -> impl Strategy<Value = Vec<Event>> {
    let repeated = vec(any::<Index>(), 0..4);
    (Just(events), repeated).prop_flat_map(|(events, repeats)| {
        let again: Vec<Event> = repeats.iter().map(|index| index.get(&events).clone()).collect();
        Just(events.into_iter().chain(again).collect::<Vec<_>>()).prop_shuffle()
    })
}

/// One to three lives, told in order one after the other, in a small world where states are alike.
fn lives(returns: Returns) -> impl Strategy<Value = Vec<Event>> {
    let one = (vec(step(1_i64..3), 1..7), any::<bool>());
    vec(one, 1..4).prop_map(move |lives| {
        let numbered = lives.into_iter().enumerate();
        numbered.flat_map(|(number, (steps, ends))| life(number, &steps, ends, returns)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_the_events_decide_every_order_ends_where_the_right_one_does(
        (told, heard, sizes) in lives(Returns::Never).prop_flat_map(|told| {
            (Just(told.clone()), shuffled(told), vec(1_usize..6, 1..5))
        })
    ) {
        let oracle: BTreeMap<SubscriptionId, State> = told.iter().map(last_state).collect();
        let replica = Replica::told_in_batches(&heard, &sizes);
        prop_assert_eq!(replica.states(), oracle);
    }

    #[test]
    fn every_order_ends_in_the_same_state_even_where_the_events_do_not_decide(
        (one, other, sizes) in lives(Returns::Sometimes).prop_flat_map(|told| {
            (shuffled(told.clone()), shuffled(told), vec(1_usize..6, 1..5))
        })
    ) {
        let here = Replica::told_in_batches(&one, &sizes);
        let there = Replica::told_in_batches(&other, &[64]);
        prop_assert_eq!(here.states(), there.states());
    }
}

/// Later events overwrite earlier ones, since they are told in order.
fn last_state(event: &Event) -> (SubscriptionId, State) {
    let Subject::Subscription(_, snapshot) = &event.subject else { unreachable!() };
    (snapshot.id.clone(), snapshot.state.clone())
}

#[test]
fn a_second_that_the_events_do_not_decide_is_reported() {
    let there = |quantity| Step { seconds_later: 0, status: 2, cancel_at: None, quantity };
    let events = life(1, &[there(1), there(2), there(1)], false, Returns::Sometimes);
    let replica = Replica::told_in_batches(&events, &[1]);
    assert!(replica.undecided, "there and back in one second: nobody can tell from the events");
}
