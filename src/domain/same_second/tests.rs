use super::*;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::metadata::Metadata;
use crate::domain::previous_attributes::PreviousValue;
use crate::domain::subscription::Status;

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

fn candidate(event: &str, kind: SubscriptionEventKind, status: &str, before: Option<&str>) -> Candidate {
    let replaced =
        before.map_or(PreviousValue::Unchanged, |before| PreviousValue::Was(Status::parse(before)));
    let previous = PreviousAttributes { status: replaced, ..PreviousAttributes::default() };
    let snapshot = Snapshot {
        id: SubscriptionId::parse("sub_1").expect("an id"),
        customer: CustomerId::parse("cus_1").expect("an id"),
        state: state(status),
        metadata: Metadata::default(),
        previous: Some(previous),
        has_all_items: true,
        latest_invoice: None,
    };
    Candidate::new(EventId::parse(event).expect("an id"), 5, kind, &snapshot.ended_if_deleted(kind))
}

fn created(event: &str, status: &str) -> Candidate {
    candidate(event, SubscriptionEventKind::Created, status, None)
}

/// An update from one status to another.
fn updated(event: &str, before: &str, status: &str) -> Candidate {
    candidate(event, SubscriptionEventKind::Changed, status, Some(before))
}

/// The status of the latest, and whether it is certain. Asserts that the order of the candidates
/// does not matter.
fn latest_status(candidates: &[Candidate]) -> (String, bool) {
    let forwards = latest(candidates).expect("there are candidates");
    let mut reversed = candidates.to_vec();
    reversed.reverse();
    let backwards = latest(&reversed).expect("there are candidates");
    assert_eq!(forwards, backwards, "the order does not matter");
    (forwards.candidate.state.status.to_string(), forwards.is_certain)
}

#[test]
fn latest_of_no_snapshots_is_none() {
    assert_eq!(latest(&[]), None);
}

#[test]
fn created_snapshot_is_older_than_any_other() {
    let second = [created("evt_9", "incomplete"), updated("evt_1", "incomplete", "active")];
    assert_eq!(latest_status(&second), ("active".into(), true));
    assert_eq!(latest_status(&[created("evt_1", "active")]), ("active".into(), true));
}

#[test]
fn final_snapshot_is_latest() {
    let ended = candidate("evt_1", SubscriptionEventKind::Deleted, "active", None);
    let second = [updated("evt_9", "past_due", "active"), ended];
    assert_eq!(latest_status(&second), ("canceled".into(), true), "deleted always means canceled");
}

#[test]
fn previous_attributes_order_the_updates() {
    let second = [
        updated("evt_9", "incomplete", "active"),
        updated("evt_5", "active", "past_due"),
        updated("evt_1", "past_due", "unpaid"),
    ];
    assert_eq!(latest_status(&second), ("unpaid".into(), true));
}

#[test]
fn equal_snapshots_count_as_one() {
    let second = [updated("evt_1", "incomplete", "active"), updated("evt_2", "incomplete", "active")];
    assert_eq!(latest_status(&second), ("active".into(), true));
}

#[test]
fn cycle_is_decided_by_event_id_and_not_certain() {
    let there = updated("evt_1", "active", "past_due");
    let back = updated("evt_2", "past_due", "active");
    assert_eq!(latest_status(&[there, back]), ("active".into(), false));
}

#[test]
fn unrelated_updates_are_not_certain() {
    let second = [updated("evt_1", "trialing", "active"), updated("evt_2", "unpaid", "past_due")];
    assert_eq!(latest_status(&second), ("past_due".into(), false));
    let unchanged = candidate("evt_3", SubscriptionEventKind::Changed, "paused", None);
    let second = [updated("evt_1", "trialing", "active"), unchanged];
    assert!(!latest_status(&second).1, "an update that changed no stored field follows no other");
}

#[test]
fn chain_with_a_separate_cycle_is_not_certain() {
    let second = [
        updated("evt_1", "trialing", "active"),
        updated("evt_2", "paused", "unpaid"),
        updated("evt_3", "unpaid", "paused"),
    ];
    assert!(!latest_status(&second).1);
}
