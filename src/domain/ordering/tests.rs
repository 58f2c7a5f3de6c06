use super::*;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::previous::Replaced;
use crate::domain::tags::Tags;

fn state(status: &str) -> State {
    State {
        status: Status::parse(status).expect("a status"),
        started_at: Some(1),
        items: vec![],
        current_period_end: None,
        trial_end: None,
        cancel_at: None,
        cancel_at_period_end: false,
        ended_at: None,
    }
}

fn contender(event: &str, change: SubscriptionChange, status: &str, before: Option<&str>) -> Contender {
    let replaced = before.map_or(Replaced::Not, |before| Replaced::Value(Status::parse(before)));
    let previous = Previous { status: replaced, ..Previous::default() };
    let snapshot = Snapshot {
        id: SubscriptionId::parse("sub_1").expect("an id"),
        customer: CustomerId::parse("cus_1").expect("an id"),
        state: state(status),
        tags: Tags::default(),
        previous: Some(previous),
        has_all_items: true,
        latest_invoice: None,
    };
    Contender::new(EventId::parse(event).expect("an id"), 5, change, &snapshot)
}

fn created(event: &str, status: &str) -> Contender {
    contender(event, SubscriptionChange::Created, status, None)
}

/// An update from one status to another.
fn updated(event: &str, before: &str, status: &str) -> Contender {
    contender(event, SubscriptionChange::Changed, status, Some(before))
}

/// The status that stands, and whether the set decides, whatever the order they came in.
fn settled(contenders: &[Contender]) -> (String, bool) {
    let forwards = latest(contenders).expect("somebody competes");
    let mut reversed = contenders.to_vec();
    reversed.reverse();
    let backwards = latest(&reversed).expect("somebody competes");
    assert_eq!(forwards, backwards, "arrival does not matter");
    (forwards.contender.state.status.to_string(), forwards.certain)
}

#[test]
fn nobody_wins_among_none() {
    assert_eq!(latest(&[]), None);
}

#[test]
fn a_first_snapshot_loses_to_any_other() {
    let second = [created("evt_9", "incomplete"), updated("evt_1", "incomplete", "active")];
    assert_eq!(settled(&second), ("active".into(), true));
    assert_eq!(settled(&[created("evt_1", "active")]), ("active".into(), true));
}

#[test]
fn an_end_beats_what_it_ends() {
    let ended = contender("evt_1", SubscriptionChange::Deleted, "active", None);
    let second = [updated("evt_9", "past_due", "active"), ended];
    assert_eq!(settled(&second), ("canceled".into(), true), "deleted means the end, whatever was drawn");
}

#[test]
fn previous_values_chain_the_updates() {
    let second = [
        updated("evt_9", "incomplete", "active"),
        updated("evt_5", "active", "past_due"),
        updated("evt_1", "past_due", "unpaid"),
    ];
    assert_eq!(settled(&second), ("unpaid".into(), true));
}

#[test]
fn equal_snapshots_are_one_change() {
    let second = [updated("evt_1", "incomplete", "active"), updated("evt_2", "incomplete", "active")];
    assert_eq!(settled(&second), ("active".into(), true));
}

#[test]
fn a_cycle_is_settled_by_a_fixed_order_and_known_to_be_undecided() {
    let there = updated("evt_1", "active", "past_due");
    let back = updated("evt_2", "past_due", "active");
    assert_eq!(settled(&[there, back]), ("active".into(), false));
}

#[test]
fn updates_that_know_nothing_of_each_other_are_undecided() {
    let second = [updated("evt_1", "trialing", "active"), updated("evt_2", "unpaid", "past_due")];
    assert_eq!(settled(&second), ("past_due".into(), false));
    let silent = contender("evt_3", SubscriptionChange::Changed, "paused", None);
    let second = [updated("evt_1", "trialing", "active"), silent];
    assert!(!settled(&second).1, "an update that replaced nothing that we keep follows nobody");
}

#[test]
fn a_chain_with_a_cycle_beside_it_is_undecided() {
    let second = [
        updated("evt_1", "trialing", "active"),
        updated("evt_2", "paused", "unpaid"),
        updated("evt_3", "unpaid", "paused"),
    ];
    assert!(!settled(&second).1);
}
