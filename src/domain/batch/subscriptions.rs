//! Subscriptions: applies snapshots from events by the ordering rule, and snapshots from refreshes.
//!
//! `decide` compares a snapshot with the current state, which an earlier event of the batch may
//! have changed. Within one second `same_second` decides. If the events do not determine the state,
//! a refresh is requested.

use super::{Batch, Cause, Effect, EntryKind, OwnedSubscription, Policy, cause};
use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::metadata::Metadata;
use crate::domain::outcome::Outcome;
use crate::domain::plan::Recognition;
use crate::domain::refresh::{RefreshReason, RefreshSubject};
use crate::domain::same_second::{self, Candidate, Latest};
use crate::domain::subscription::{
    self, Decision, Snapshot, StaleReason, Status, Subscription, SubscriptionEventKind,
};
use crate::domain::tenant::Checkout;

impl Batch {
    /// Applies Stripe's answer to a request for a customer's subscriptions. `answered_at` is
    /// Stripe's own time. Returns whether anything changed. Nothing does if the customer no longer
    /// has a tenant.
    pub fn apply_refresh(&mut self, customer: &CustomerId, snapshots: &[Snapshot], answered_at: i64) -> bool {
        let Ok(tenant) = self.linked_tenant_or_effect(customer) else { return false };
        let cause = Cause { name: cause::REFRESH, event: None, at: answered_at };
        let mut changed = false;
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.customer == *customer) {
            self.remember_prices(snapshot, answered_at);
            let current = self.subscriptions.get(&snapshot.id).map(|owned| &owned.subscription.state);
            // An answer does not replace a final state either.
            if current.is_some_and(|state| state.status.is_final()) && !snapshot.state.status.is_final() {
                continue;
            }
            changed |= current != Some(&snapshot.state);
            self.set_subscription(&tenant, snapshot, cause);
        }
        changed
    }

    /// Applies the snapshot of a subscription event by the ordering rule.
    pub(super) fn apply_snapshot(
        &mut self,
        event: &Event,
        kind: SubscriptionEventKind,
        snapshot: &Snapshot,
        policy: &Policy,
    ) -> Effect {
        let snapshot = &snapshot.clone().ended_if_deleted(kind);
        self.remember_prices(snapshot, event.created);
        let named = snapshot.metadata.tenant.as_ref();
        let tenant = match self.tenant_or_link(event, &snapshot.customer, named) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        if !snapshot.can_determine_plan() {
            self.refresh_subscription(event, &tenant, snapshot, RefreshReason::IncompleteItems);
            return Effect::stale(StaleReason::IncompleteItems).for_tenant(tenant);
        }
        if kind != SubscriptionEventKind::Announced {
            let candidate = Candidate::new(event.id.clone(), event.created, kind, snapshot);
            self.add_candidate(&snapshot.id, candidate);
        }
        let current = self.subscriptions.get(&snapshot.id).map(|owned| &owned.subscription);
        let effect = match subscription::decide(current, kind, snapshot, event.created) {
            Decision::Stale(reason) => {
                if let Some(reason) = refresh_reason(reason) {
                    self.refresh_subscription(event, &tenant, snapshot, reason);
                }
                Effect::stale(reason)
            }
            Decision::SameSecond => self.apply_same_second(event, &tenant, snapshot, policy),
            Decision::Unchanged => {
                self.confirm(&snapshot.id, kind, event.created);
                Effect::new(Outcome::Applied).with_reason("no_change")
            }
            Decision::Apply => {
                let misses_update = current.is_some_and(|current| is_update_missing(current, snapshot));
                self.set_subscription(&tenant, snapshot, Cause::event(event));
                if misses_update {
                    self.refresh_subscription(event, &tenant, snapshot, RefreshReason::MissedUpdate);
                }
                if kind == SubscriptionEventKind::Announced {
                    if let Some(owned) = self.subscriptions.get_mut(&snapshot.id) {
                        owned.subscription.mark_announced();
                    }
                    self.refresh_subscription(event, &tenant, snapshot, RefreshReason::Announcement);
                }
                self.applied(snapshot, policy)
            }
        };
        effect.for_tenant(tenant)
    }

    /// Adds a snapshot that may have to be compared with others of its second.
    pub fn add_candidate(&mut self, id: &SubscriptionId, candidate: Candidate) {
        let candidates = self.candidates.entry(id.clone()).or_default();
        if candidates.iter().all(|other| other.event != candidate.event) {
            candidates.push(candidate);
        }
    }

    /// Applies a snapshot of the same second as the current state. If the current state is from no
    /// other event of that second, it is Stripe's own answer to a refresh, and stays.
    fn apply_same_second(
        &mut self,
        event: &Event,
        tenant: &TenantId,
        snapshot: &Snapshot,
        policy: &Policy,
    ) -> Effect {
        let candidates = self.candidates.get(&snapshot.id).into_iter().flatten();
        let of_same_second: Vec<Candidate> =
            candidates.filter(|one| one.created == event.created).cloned().collect();
        let current = self.subscriptions.get(&snapshot.id).map(|owned| &owned.subscription.state);
        let current_is_from_another_event =
            of_same_second.iter().any(|one| Some(&one.state) == current && one.event != event.id);
        match same_second::latest(&of_same_second) {
            Some(latest) if current_is_from_another_event => {
                self.store_latest(latest, event, tenant, snapshot, policy)
            }
            _ if current == Some(&snapshot.state) => Effect::new(Outcome::Applied).with_reason("no_change"),
            _ => self.undecided(Outcome::Stale, event, tenant, snapshot),
        }
    }

    /// Stores the latest state of the second of `snapshot`.
    fn store_latest(
        &mut self,
        latest: Latest<'_>,
        event: &Event,
        tenant: &TenantId,
        snapshot: &Snapshot,
        policy: &Policy,
    ) -> Effect {
        let state = &latest.candidate.state;
        let current = self.subscriptions.get(&snapshot.id).map(|owned| &owned.subscription.state);
        let (is_latest, changes_state) = (snapshot.state == *state, current != Some(state));
        if changes_state {
            let latest = Snapshot { state: state.clone(), ..snapshot.clone() };
            self.set_subscription(tenant, &latest, Cause::event(event));
        }
        if !latest.is_certain {
            let outcome = if is_latest || changes_state { Outcome::Applied } else { Outcome::Stale };
            return self.undecided(outcome, event, tenant, snapshot);
        }
        match (is_latest, changes_state) {
            (true, true) => self.applied(snapshot, policy),
            (true, false) => Effect::new(Outcome::Applied).with_reason("no_change"),
            (false, true) => Effect::new(Outcome::Applied).with_reason("settled_its_second"),
            (false, false) => Effect::stale(StaleReason::SameSecond),
        }
    }

    /// Warns about a price that no plan has: the subscription grants `free`.
    fn applied(&self, snapshot: &Snapshot, policy: &Policy) -> Effect {
        let applied = Effect::new(Outcome::Applied);
        if snapshot.state.status.is_final() {
            return applied;
        }
        match policy.catalog.recognise(&snapshot.state.items, &self.known_prices) {
            Recognition::Current => applied,
            Recognition::FormerKey => applied.with_reason("former_lookup_key"),
            Recognition::Unknown => applied.with_reason("price_not_configured").into_warning(),
        }
    }

    /// Remembers the lookup keys of the snapshot's prices, even if the snapshot is not applied: a
    /// key belongs to the price, not to the subscription. The items that an update replaced had
    /// their keys before it.
    fn remember_prices(&mut self, snapshot: &Snapshot, at: i64) {
        let now = snapshot.state.items.iter().map(|item| (item, at));
        let before = snapshot.replaced_items().iter().map(|item| (item, at.saturating_sub(1)));
        for (item, seen_at) in now.chain(before) {
            if let Some(key) = &item.lookup_key
                && self.known_prices.add(&item.price, key, seen_at)
            {
                self.changes.known_prices.add(&item.price, key, seen_at);
            }
        }
    }

    fn undecided(
        &mut self,
        outcome: Outcome,
        event: &Event,
        tenant: &TenantId,
        snapshot: &Snapshot,
    ) -> Effect {
        self.refresh_subscription(event, tenant, snapshot, RefreshReason::UndecidedSecond);
        Effect::new(outcome).with_reason(RefreshReason::UndecidedSecond.as_str()).into_warning()
    }

    fn refresh_subscription(
        &mut self,
        event: &Event,
        tenant: &TenantId,
        snapshot: &Snapshot,
        reason: RefreshReason,
    ) {
        let subject = RefreshSubject::Subscription(snapshot.id.clone());
        self.request_refresh(subject, (tenant, &snapshot.customer), reason, Cause::event(event));
    }

    /// Requests a refresh of a subscription that an event names and that is not stored. If the
    /// subscription's own event follows in this batch, the request is withdrawn.
    pub(super) fn refresh_if_unknown(
        &mut self,
        id: &SubscriptionId,
        owner: (&TenantId, &CustomerId),
        cause: Cause<'_>,
    ) {
        if !self.subscriptions.contains_key(id) {
            let subject = RefreshSubject::Subscription(id.clone());
            self.request_refresh(subject, owner, RefreshReason::NotHeld, cause);
        }
    }

    /// Stores the snapshot's state and journals what changed.
    fn set_subscription(&mut self, tenant: &TenantId, snapshot: &Snapshot, cause: Cause<'_>) {
        let from = self.subscriptions.get(&snapshot.id).map(|owned| owned.subscription.state.clone());
        let is_second = self.is_second_subscription(tenant, snapshot);
        let withholds = |checkout: &Checkout| checkout.status.withholds_access();
        let awaiting_payment = from.is_none() && self.checkout_of(&snapshot.id).is_some_and(withholds);
        let owned = self.subscriptions.entry(snapshot.id.clone()).or_insert_with(|| OwnedSubscription {
            tenant: tenant.clone(),
            subscription: Subscription { awaiting_payment, ..Subscription::new(snapshot, cause.at) },
        });
        if from.is_some() {
            owned.subscription.set_state(snapshot.state.clone(), cause.at);
        }
        for (payment, at) in self.payments.remove(&snapshot.id).unwrap_or_default() {
            payment.apply_to(&mut owned.subscription, at);
        }
        self.mark_changed(&snapshot.id);
        self.changes.refreshes.retain(|subject, refresh| {
            refresh.reason != RefreshReason::NotHeld || subject.subscription() != Some(&snapshot.id)
        });
        if from.as_ref() != Some(&snapshot.state) {
            let kind = EntryKind::Transition {
                subscription: snapshot.id.clone(),
                from: from.map(|state| state.status),
                to: snapshot.state.status.clone(),
            };
            self.add_to_journal(kind, tenant, &snapshot.customer, cause);
        }
        if is_second {
            let kind = EntryKind::SecondSubscription { subscription: snapshot.id.clone() };
            self.add_to_journal(kind, tenant, &snapshot.customer, cause);
        }
    }

    /// Whether the subscription starts to block a checkout while another one of the tenant does:
    /// two were bought in a race.
    fn is_second_subscription(&self, tenant: &TenantId, snapshot: &Snapshot) -> bool {
        let blocks = |owned: &OwnedSubscription| owned.subscription.state.status.blocks_checkout();
        let is_another =
            |owned: &OwnedSubscription| owned.tenant == *tenant && owned.subscription.id != snapshot.id;
        snapshot.state.status.blocks_checkout()
            && !self.subscriptions.get(&snapshot.id).is_some_and(blocks)
            && self.subscriptions.values().any(|owned| blocks(owned) && is_another(owned))
    }

    /// Advances `as_of` of a state that an event has repeated. An announcement does not: its
    /// snapshot can be old.
    fn confirm(&mut self, id: &SubscriptionId, kind: SubscriptionEventKind, created: i64) {
        if let Some(owned) = self.subscriptions.get_mut(id)
            && kind != SubscriptionEventKind::Announced
            && created > owned.subscription.as_of
        {
            owned.subscription.as_of = created;
            owned.subscription.revision += 1;
            self.mark_changed(id);
        }
    }

    pub(super) fn end_subscriptions_of(&mut self, customer: &CustomerId, cause: Cause<'_>) {
        let not_final: Vec<(TenantId, Snapshot)> = self
            .subscriptions_of(customer)
            .filter(|owned| !owned.subscription.state.status.is_final())
            .map(|owned| (owned.tenant.clone(), canceled(&owned.subscription, cause.at)))
            .collect();
        for (tenant, snapshot) in not_final {
            self.set_subscription(&tenant, &snapshot, cause);
        }
    }
}

/// Whether a newer update started from another state than the current one: an update between the
/// two is missing, or it will arrive with a later `created`. Nothing can be missing before a final
/// state, and a state that comes from an announcement is refreshed anyway.
fn is_update_missing(current: &Subscription, newer: &Snapshot) -> bool {
    let Some(previous) = &newer.previous else { return false };
    let needs_no_check = newer.state.status.is_final() || current.is_from_announcement();
    !needs_no_check && previous.state_before(&newer.state).as_ref() != Some(&current.state)
}

/// The refresh to request for a snapshot that was not applied, if any.
fn refresh_reason(reason: StaleReason) -> Option<RefreshReason> {
    match reason {
        StaleReason::Older => Some(RefreshReason::Older),
        StaleReason::Announcement => Some(RefreshReason::Announcement),
        _ => None,
    }
}

fn canceled(subscription: &Subscription, at: i64) -> Snapshot {
    let mut state = subscription.state.clone();
    state.status = Status::Canceled;
    state.ended_at = Some(at);
    Snapshot {
        id: subscription.id.clone(),
        customer: subscription.customer.clone(),
        state,
        metadata: Metadata::default(),
        previous: None,
        has_all_items: true,
        latest_invoice: None,
    }
}
