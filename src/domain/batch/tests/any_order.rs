//! Property tests: the order of events, their repetition and their split into batches do not change
//! the final state. If the events decide it, it is Stripe's own.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::domain::ids::PriceId;
use crate::domain::previous_attributes::{PreviousAttributes, PreviousValue};
use crate::domain::subscription::SubscriptionEventKind::{Changed, Created, Deleted};
use crate::domain::subscription::{Item, State};

const STATUSES: [&str; 5] = ["incomplete", "trialing", "active", "past_due", "unpaid"];

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

/// Whether a subscription can return to a former state within a second. Only then can the latest
/// event be undecidable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    Never,
    Sometimes,
}

/// The events of one subscription, in Stripe's order.
fn lifecycle(number: usize, steps: &[Step], ends: bool, returns: Returns) -> Vec<Event> {
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
        let kind = if index == 0 { Created } else { Changed };
        let previous = before.as_ref().map(|before| previous_attributes(before, &state));
        events.push(event(number, index, at, kind, state.clone(), previous));
        before = Some(state);
    }
    if let (true, Some(mut state)) = (ends, before) {
        state.status = Status::Canceled;
        events.push(event(number, steps.len(), at, Deleted, state, None));
    }
    events
}

fn previous_attributes(before: &State, after: &State) -> PreviousAttributes {
    fn previous<T: PartialEq + Clone>(before: Option<&T>, after: Option<&T>) -> PreviousValue<T> {
        if before == after { PreviousValue::Unchanged } else { PreviousValue::Was(before.cloned()) }
    }
    PreviousAttributes {
        status: previous(Some(&before.status), Some(&after.status)),
        items: previous(Some(&before.items), Some(&after.items)),
        cancel_at: previous(before.cancel_at.as_ref(), after.cancel_at.as_ref()),
        ..PreviousAttributes::default()
    }
}

/// The event id says nothing about the order.
fn event(
    number: usize,
    index: usize,
    created: i64,
    kind: SubscriptionEventKind,
    state: State,
    previous: Option<PreviousAttributes>,
) -> Event {
    let snapshot = Snapshot {
        id: subscription_id(&format!("sub_{number}")),
        customer: customer_id("cus_acme"),
        state,
        metadata: Metadata::default(),
        previous,
        has_all_items: true,
        latest_invoice: None,
    };
    let scrambled = (index * 7919 + number * 104_729 + 13) % 1_000_003;
    let subject = Subject::Subscription(kind, Box::new(snapshot));
    TestEvent::new("customer.subscription.updated", subject)
        .id(&format!("evt_{scrambled}x{number}x{index}"))
        .at(created)
        .into_event()
}

/// The stored rows and the inbox between two batches.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<SubscriptionId, OwnedSubscription>,
    inbox: Vec<Event>,
    undecided: bool,
}

impl Replica {
    fn apply_batch(&mut self, events: &[Event]) {
        let policy = Scenario::with_acme().policy;
        let tenant = Tenant { customer: Some(customer_id("cus_acme")), ..Tenant::new(tenant_id("acme")) };
        let mut batch = Batch::new([], [tenant], self.rows.values().cloned(), []);
        for event in &self.inbox {
            let Subject::Subscription(kind, snapshot) = &event.subject else { unreachable!() };
            let is_tie =
                self.rows.get(&snapshot.id).is_some_and(|stored| stored.subscription.as_of == event.created);
            if is_tie {
                let candidate = Candidate::new(event.id.clone(), event.created, *kind, snapshot);
                batch.add_candidate(&snapshot.id, candidate);
            }
        }
        for event in events {
            if self.inbox.iter().all(|known| known.id != event.id) {
                let effect = batch.apply(event, None, &policy);
                self.undecided |= effect.reason == Some("undecided_second");
                self.inbox.push(event.clone());
            }
        }
        for id in &batch.changes().subscriptions {
            self.rows.insert(
                id.clone(),
                batch.subscription(id).expect("a changed subscription is stored").clone(),
            );
        }
    }

    fn from_batches(events: &[Event], sizes: &[usize]) -> Self {
        let mut replica = Self::default();
        let mut rest = events;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, later) = rest.split_at((*size).min(rest.len()));
            replica.apply_batch(batch);
            rest = later;
        }
        replica
    }

    fn states(&self) -> BTreeMap<SubscriptionId, State> {
        self.rows.iter().map(|(id, stored)| (id.clone(), stored.subscription.state.clone())).collect()
    }
}

/// The events in random order, some of them repeated.
fn shuffled(events: Vec<Event>) -> impl Strategy<Value = Vec<Event>> {
    let repeated = vec(any::<Index>(), 0..4);
    (Just(events), repeated).prop_flat_map(|(events, repeats)| {
        let again: Vec<Event> = repeats.iter().map(|index| index.get(&events).clone()).collect();
        Just(events.into_iter().chain(again).collect::<Vec<_>>()).prop_shuffle()
    })
}

/// The events of one to three subscriptions, one subscription after another. There are few possible
/// states, so that many are equal.
fn lifecycles(returns: Returns) -> impl Strategy<Value = Vec<Event>> {
    let one = (vec(step(1_i64..3), 1..7), any::<bool>());
    vec(one, 1..4).prop_map(move |lifecycles| {
        let numbered = lifecycles.into_iter().enumerate();
        numbered.flat_map(|(number, (steps, ends))| lifecycle(number, &steps, ends, returns)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decidable_events_end_in_the_right_state_in_any_order(
        (ordered, received, sizes) in lifecycles(Returns::Never).prop_flat_map(|ordered| {
            (Just(ordered.clone()), shuffled(ordered), vec(1_usize..6, 1..5))
        })
    ) {
        let expected: BTreeMap<SubscriptionId, State> = ordered.iter().map(last_state).collect();
        let replica = Replica::from_batches(&received, &sizes);
        prop_assert_eq!(replica.states(), expected);
    }

    #[test]
    fn undecidable_events_end_in_the_same_state_in_any_order(
        (one, other, sizes) in lifecycles(Returns::Sometimes).prop_flat_map(|events| {
            (shuffled(events.clone()), shuffled(events), vec(1_usize..6, 1..5))
        })
    ) {
        let one = Replica::from_batches(&one, &sizes);
        let other = Replica::from_batches(&other, &[64]);
        prop_assert_eq!(one.states(), other.states());
    }
}

/// For a map in which later events overwrite earlier ones.
fn last_state(event: &Event) -> (SubscriptionId, State) {
    let Subject::Subscription(_, snapshot) = &event.subject else { unreachable!() };
    (snapshot.id.clone(), snapshot.state.clone())
}

#[test]
fn undecidable_second_is_reported() {
    let step = |quantity| Step { seconds_later: 0, status: 2, cancel_at: None, quantity };
    let events = lifecycle(1, &[step(1), step(2), step(1)], false, Returns::Sometimes);
    let replica = Replica::from_batches(&events, &[1]);
    assert!(replica.undecided, "the events of one second go to another state and back");
}
