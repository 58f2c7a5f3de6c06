//! Decides which of several snapshots of the same second is the latest. No library does this; it is
//! Billhook's own core.
//!
//! Stripe's `created` has whole seconds, and Stripe promises no order of delivery. The result
//! therefore depends only on the set of a second's snapshots and never on their order of arrival,
//! so that all replicas come to the same result.

use super::ids::EventId;
use super::previous_attributes::PreviousAttributes;
use super::subscription::{Snapshot, State, SubscriptionEventKind};

/// A snapshot that is compared with the others of its second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub event: EventId,
    /// The event's `created`, in Unix seconds.
    pub created: i64,
    kind: SubscriptionEventKind,
    pub state: State,
    previous: PreviousAttributes,
}

impl Candidate {
    pub fn new(event: EventId, created: i64, kind: SubscriptionEventKind, snapshot: &Snapshot) -> Self {
        let (state, previous) = (snapshot.state.clone(), snapshot.previous.clone().unwrap_or_default());
        Self { event, created, kind, state, previous }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latest<'a> {
    pub candidate: &'a Candidate,
    /// Whether the snapshots themselves show that it is the latest. If not, it was chosen by event
    /// id, and Stripe should be asked.
    pub is_certain: bool,
}

/// The latest of the snapshots of one second. `None` if there are none.
///
/// This is rule 3 of `docs/ordering.md`:
/// - Final states come after all others.
/// - The snapshot of `customer.subscription.created` comes before all others.
/// - An update comes after the state that its `previous_attributes` lead back to.
/// - Snapshots with equal states count as one.
/// - If more than one state remains, or the updates form a cycle, the greatest event id wins, and
///   the result is not certain.
pub fn latest(candidates: &[Candidate]) -> Option<Latest<'_>> {
    let groups = group_by_state(without_superseded(candidates));
    let ends: Vec<usize> = (0..groups.len())
        .filter(|one| !(0..groups.len()).any(|other| follows(&groups, other, *one)))
        .collect();
    let (remaining, is_certain) = match ends.as_slice() {
        [only] => (vec![*only], all_lead_to(&groups, *only)),
        [] => ((0..groups.len()).collect(), false),
        _ => (ends, false),
    };
    let remaining = remaining.into_iter().flat_map(|group| groups[group].iter().copied());
    remaining.max_by_key(|candidate| &candidate.event).map(|candidate| Latest { candidate, is_certain })
}

/// Only the final snapshots if there are any, else all but that of `customer.subscription.created`.
fn without_superseded(candidates: &[Candidate]) -> Vec<&Candidate> {
    let finals: Vec<_> = candidates.iter().filter(|one| one.state.status.is_final()).collect();
    if !finals.is_empty() {
        return finals;
    }
    let later: Vec<_> = candidates.iter().filter(|one| one.kind != SubscriptionEventKind::Created).collect();
    if later.is_empty() { candidates.iter().collect() } else { later }
}

fn group_by_state(candidates: Vec<&Candidate>) -> Vec<Vec<&Candidate>> {
    let mut groups: Vec<Vec<&Candidate>> = Vec::new();
    for candidate in candidates {
        match groups.iter_mut().find(|group| group[0].state == candidate.state) {
            Some(group) => group.push(candidate),
            None => groups.push(vec![candidate]),
        }
    }
    groups
}

/// Whether an update of the later group started from the state of the earlier one.
fn follows(groups: &[Vec<&Candidate>], later: usize, earlier: usize) -> bool {
    let state = &groups[earlier][0].state;
    let started_from = |one: &&Candidate| one.previous.state_before(&one.state).as_ref() == Some(state);
    later != earlier && groups[later].iter().any(started_from)
}

/// Whether the updates lead from every state to the last one.
fn all_lead_to(groups: &[Vec<&Candidate>], last: usize) -> bool {
    let mut reached = vec![last];
    let mut next = 0;
    while let Some(&later) = reached.get(next) {
        let before = (0..groups.len()).filter(|earlier| follows(groups, later, *earlier));
        let unseen: Vec<usize> = before.filter(|earlier| !reached.contains(earlier)).collect();
        reached.extend(unseen);
        next += 1;
    }
    reached.len() == groups.len()
}

#[cfg(test)]
mod tests;
