//! Which of several snapshots of one second is the latest. It is what Billhook exists for, and no library has it.
//!
//! Stripe's `created` has whole seconds, and within a second nothing promises that events come in order. So the answer
//! is a function of the set of a second's snapshots, and never of their arrival: every replica, whatever it was told
//! first, comes to the same one.

use super::ids::EventId;
use super::previous::Previous;
use super::subscription::{Snapshot, State, Status, SubscriptionChange};

/// A snapshot that competes with the others of its second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// The event that brought it.
    pub event: EventId,
    /// When Stripe made the event, in Unix seconds.
    pub created: i64,
    change: SubscriptionChange,
    /// How the subscription stood.
    pub state: State,
    previous: Previous,
}

impl Contender {
    /// The snapshot of an event. `customer.subscription.deleted` means the end, whatever status it was drawn with.
    pub fn new(event: EventId, created: i64, change: SubscriptionChange, snapshot: &Snapshot) -> Self {
        let mut state = snapshot.state.clone();
        if change == SubscriptionChange::Deleted && !state.status.is_final() {
            state.status = Status::Canceled;
        }
        Self { event, created, change, state, previous: snapshot.previous.clone().unwrap_or_default() }
    }
}

/// The latest of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latest<'a> {
    /// It.
    pub contender: &'a Contender,
    /// Whether the set decides. If not, a fixed order does for now, and Stripe should be asked.
    pub certain: bool,
}

/// The latest of the snapshots of one second; none of none.
///
/// An end is later than what it ends, a first snapshot is earlier than all others, and of two updates the one whose
/// previous values are the other's current values is the later. Snapshots that are equal in what we keep are one.
pub fn latest(contenders: &[Contender]) -> Option<Latest<'_>> {
    let groups = groups(eligible(contenders));
    let last: Vec<usize> = (0..groups.len())
        .filter(|one| !(0..groups.len()).any(|other| follows(&groups, other, *one)))
        .collect();
    let (candidates, certain) = match last.as_slice() {
        [only] => (last.clone(), all_lead_to(&groups, *only)),
        [] => ((0..groups.len()).collect(), false),
        _ => (last.clone(), false),
    };
    let members = candidates.into_iter().flat_map(|group| groups[group].iter().copied());
    members.max_by_key(|contender| &contender.event).map(|contender| Latest { contender, certain })
}

/// The ends, if there are any; else all but the first snapshots, if there are others.
fn eligible(contenders: &[Contender]) -> Vec<&Contender> {
    let ends: Vec<_> = contenders.iter().filter(|one| one.state.status.is_final()).collect();
    if !ends.is_empty() {
        return ends;
    }
    let later: Vec<_> = contenders.iter().filter(|one| one.change != SubscriptionChange::Created).collect();
    if later.is_empty() { contenders.iter().collect() } else { later }
}

/// Contenders by what they say.
fn groups(contenders: Vec<&Contender>) -> Vec<Vec<&Contender>> {
    let mut groups: Vec<Vec<&Contender>> = Vec::new();
    for contender in contenders {
        match groups.iter_mut().find(|group| group[0].state == contender.state) {
            Some(group) => group.push(contender),
            None => groups.push(vec![contender]),
        }
    }
    groups
}

/// Whether one state was made from the other.
fn follows(groups: &[Vec<&Contender>], later: usize, earlier: usize) -> bool {
    let state = &groups[earlier][0].state;
    later != earlier && groups[later].iter().any(|one| one.previous.undo(&one.state).as_ref() == Some(state))
}

/// Whether every state leads to this one, so that nothing is left beside the chain.
fn all_lead_to(groups: &[Vec<&Contender>], last: usize) -> bool {
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
