//! Subscriptions: snapshots by the ordering rule, and answers of Stripe's.

use super::{Cause, Effect, Entry, Held, Policy, UnitOfWork, cause};
use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::ordering::{self, Contender};
use crate::domain::outcome::Outcome;
use crate::domain::plan::Recognition;
use crate::domain::refresh::{RefreshReason, RefreshSubject};
use crate::domain::subscription::SubscriptionChange;
use crate::domain::subscription::{self, Decision, Snapshot, StaleReason, Status, Subscription};
use crate::domain::tags::Tags;

impl UnitOfWork {
    /// Takes over what Stripe answered when asked for a customer's subscriptions, at Stripe's own time. Whether it changed
    /// anything. Nothing does if the customer has no tenant any more.
    pub fn answer(&mut self, customer: &CustomerId, snapshots: &[Snapshot], answered_at: i64) -> bool {
        let Ok(tenant) = self.tenant_that_has(customer) else { return false };
        let mut changed = false;
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.customer == *customer) {
            self.remember_prices(snapshot, answered_at);
            changed |= self.answer_one(&tenant, snapshot, answered_at);
        }
        changed
    }

    /// An end that we know of stays one.
    fn answer_one(&mut self, tenant: &TenantId, snapshot: &Snapshot, answered_at: i64) -> bool {
        let held = self.subscriptions.get(&snapshot.id).map(|held| &held.subscription.state);
        if held.is_some_and(|state| state.status.is_final()) && !snapshot.state.status.is_final() {
            return false;
        }
        let changed = held != Some(&snapshot.state);
        self.put(tenant, snapshot, Cause { name: cause::REFRESH, event: None, at: answered_at });
        changed
    }

    pub(super) fn snapshot(
        &mut self,
        event: &Event,
        change: SubscriptionChange,
        snapshot: &Snapshot,
        policy: &Policy,
    ) -> Effect {
        self.remember_prices(snapshot, event.created);
        let named = snapshot.tags.tenant.as_ref();
        let tenant = match self.tenant_or_link(event, &snapshot.customer, named) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        let contender = Contender::new(event.id.clone(), event.created, change, snapshot);
        let snapshot = Snapshot { state: contender.state.clone(), ..snapshot.clone() };
        if !snapshot.judges_plan() {
            self.doubt(event, &tenant, &snapshot, RefreshReason::IncompleteItems);
            return Effect::stale(StaleReason::IncompleteItems).of(tenant);
        }
        let held = self.subscriptions.get(&snapshot.id).map(|held| &held.subscription);
        let decision = subscription::decide(held, change, &snapshot, event.created);
        let has_gap = held.is_some_and(|held| has_gap(held, &snapshot));
        if change != SubscriptionChange::Announced {
            self.contend(&snapshot.id, contender);
        }
        let effect = match decision {
            Decision::Stale(reason) => {
                if let Some(doubt) = doubt(reason) {
                    self.doubt(event, &tenant, &snapshot, doubt);
                }
                Effect::stale(reason)
            }
            Decision::SameSecond => self.settle_second(event, &tenant, &snapshot, policy),
            Decision::Unchanged => {
                self.confirm(&snapshot.id, change, event.created);
                Effect::new(Outcome::Applied).because("no_change")
            }
            Decision::Apply => {
                self.put(&tenant, &snapshot, Cause::event(event));
                if has_gap {
                    self.doubt(event, &tenant, &snapshot, RefreshReason::MissedUpdate);
                }
                if change == SubscriptionChange::Announced {
                    self.distrust(&snapshot.id);
                    self.doubt(event, &tenant, &snapshot, RefreshReason::Announcement);
                }
                self.applied(&snapshot, policy)
            }
        };
        effect.of(tenant)
    }

    /// Lets a snapshot compete with the others of its second.
    pub fn contend(&mut self, id: &SubscriptionId, contender: Contender) {
        let contenders = self.contenders.entry(id.clone()).or_default();
        if contenders.iter().all(|other| other.event != contender.event) {
            contenders.push(contender);
        }
    }

    /// All the second's snapshots decide together which of them is the latest, and that one stands. What no event of the
    /// second said came from Stripe itself, which of all knows best.
    fn settle_second(
        &mut self,
        event: &Event,
        tenant: &TenantId,
        snapshot: &Snapshot,
        policy: &Policy,
    ) -> Effect {
        let contenders = self.contenders.get(&snapshot.id).map(Vec::as_slice).unwrap_or_default();
        let second: Vec<Contender> =
            contenders.iter().filter(|one| one.created == event.created).cloned().collect();
        let held = self.subscriptions.get(&snapshot.id).map(|held| held.subscription.state.clone());
        let is_of_the_second =
            second.iter().any(|one| Some(&one.state) == held.as_ref() && one.event != event.id);
        let Some(latest) = ordering::latest(&second).filter(|_| is_of_the_second) else {
            if held.as_ref() == Some(&snapshot.state) {
                return Effect::new(Outcome::Applied).because("no_change");
            }
            return self.undecided(Effect::stale(StaleReason::SameSecond), event, tenant, snapshot);
        };
        let certain = latest.certain;
        let latest_snapshot = Snapshot { state: latest.contender.state.clone(), ..snapshot.clone() };
        let wins = latest_snapshot.state == snapshot.state;
        let changes = held.as_ref() != Some(&latest_snapshot.state);
        if changes {
            self.put(tenant, &latest_snapshot, Cause::event(event));
        }
        let effect = match (wins, changes) {
            (true, true) => self.applied(&latest_snapshot, policy),
            (true, false) => Effect::new(Outcome::Applied).because("no_change"),
            (false, true) => Effect::new(Outcome::Applied).because("settled_its_second"),
            (false, false) => Effect::stale(StaleReason::SameSecond),
        };
        if certain { effect } else { self.undecided(effect, event, tenant, snapshot) }
    }

    /// A price that no plan has gives `free`, and an operator should know.
    fn applied(&self, snapshot: &Snapshot, policy: &Policy) -> Effect {
        let applied = Effect::new(Outcome::Applied);
        if snapshot.state.status.is_final() {
            return applied;
        }
        match policy.catalog.recognise(&snapshot.state.items, &self.known_prices) {
            Recognition::Current => applied,
            Recognition::FormerKey => applied.because("former_lookup_key"),
            Recognition::Unknown => applied.because("price_not_configured").loudly(),
        }
    }

    /// Every key that a price is seen with is remembered, whatever becomes of the snapshot: the key is the price's. What an
    /// update replaced was so before it.
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

    fn undecided(&mut self, effect: Effect, event: &Event, tenant: &TenantId, snapshot: &Snapshot) -> Effect {
        self.doubt(event, tenant, snapshot, RefreshReason::UndecidedSecond);
        effect.because(RefreshReason::UndecidedSecond.as_str()).loudly()
    }

    /// What we hold stands for now, and Stripe is to be asked.
    fn doubt(&mut self, event: &Event, tenant: &TenantId, snapshot: &Snapshot, reason: RefreshReason) {
        let subject = RefreshSubject::Subscription(snapshot.id.clone());
        self.ask(subject, (tenant, &snapshot.customer), reason, Cause::event(event));
    }

    /// Asks Stripe for a subscription that something names and we do not hold. Its own event may still come first.
    pub(super) fn ask_unless_held(
        &mut self,
        id: &SubscriptionId,
        of: (&TenantId, &CustomerId),
        cause: Cause<'_>,
    ) {
        if !self.subscriptions.contains_key(id) {
            self.ask(RefreshSubject::Subscription(id.clone()), of, RefreshReason::NotHeld, cause);
        }
    }

    /// Takes a snapshot over, and journals it if it changed anything.
    fn put(&mut self, tenant: &TenantId, snapshot: &Snapshot, cause: Cause<'_>) {
        let from = self.subscriptions.get(&snapshot.id).map(|held| held.subscription.state.clone());
        let awaiting_payment = from.is_none() && self.awaits_payment(&snapshot.id);
        let doubles = self.doubles(tenant, snapshot);
        let held = self.subscriptions.entry(snapshot.id.clone()).or_insert_with(|| Held {
            tenant: tenant.clone(),
            subscription: Subscription { awaiting_payment, ..Subscription::first(snapshot, cause.at) },
        });
        if from.is_some() {
            held.subscription.advance(snapshot.state.clone(), cause.at);
        }
        for (payment, at) in self.payments.remove(&snapshot.id).unwrap_or_default() {
            payment.tell(&mut held.subscription, at);
        }
        self.changed(&snapshot.id);
        self.changes.refreshes.retain(|subject, refresh| {
            refresh.reason != RefreshReason::NotHeld || subject.subscription() != Some(&snapshot.id)
        });
        if from.as_ref() != Some(&snapshot.state) {
            let entry = Entry::Transition {
                subscription: snapshot.id.clone(),
                from: from.map(|state| state.status),
                to: snapshot.state.status.clone(),
            };
            self.note(entry, tenant, &snapshot.customer, cause);
        }
        if doubles {
            let entry = Entry::SubscriptionDoubled { subscription: snapshot.id.clone() };
            self.note(entry, tenant, &snapshot.customer, cause);
        }
    }

    /// Whether the tenant is about to pay for this subscription beside another one: two were bought in a race.
    fn doubles(&self, tenant: &TenantId, snapshot: &Snapshot) -> bool {
        let is_paid_for = |held: &Held| held.subscription.state.status.blocks_checkout();
        let is_another = |held: &Held| held.tenant == *tenant && held.subscription.id != snapshot.id;
        snapshot.state.status.blocks_checkout()
            && !self.subscriptions.get(&snapshot.id).is_some_and(is_paid_for)
            && self.subscriptions.values().any(|held| is_paid_for(held) && is_another(held))
    }

    /// What we hold was still so at that time. An announcement says nothing of its time: its snapshot can be old.
    fn confirm(&mut self, id: &SubscriptionId, change: SubscriptionChange, created: i64) {
        if let Some(held) = self.subscriptions.get_mut(id)
            && change != SubscriptionChange::Announced
            && created > held.subscription.as_of
        {
            held.subscription.as_of = created;
            held.subscription.revision += 1;
            self.changed(id);
        }
    }

    /// What an announcement made gives way to any real snapshot: it counts as older than all of them.
    fn distrust(&mut self, id: &SubscriptionId) {
        if let Some(held) = self.subscriptions.get_mut(id) {
            held.subscription.as_of = i64::MIN;
        }
    }

    pub(super) fn end_subscriptions_of(&mut self, customer: &CustomerId, cause: Cause<'_>) {
        let living: Vec<(TenantId, Snapshot)> = self
            .subscriptions
            .values()
            .filter(|held| held.subscription.customer == *customer)
            .filter(|held| !held.subscription.state.status.is_final())
            .map(|held| (held.tenant.clone(), ended(&held.subscription, cause.at)))
            .collect();
        for (tenant, snapshot) in living {
            self.put(&tenant, &snapshot, cause);
        }
    }
}

/// Whether a newer update was made to another state than the one that we hold, so that an update between them is missing, or
/// has a later `created` than the one that followed it. Nothing follows an end, and what only an announcement brought is
/// asked about already.
fn has_gap(held: &Subscription, newer: &Snapshot) -> bool {
    let Some(previous) = &newer.previous else { return false };
    let is_settled = newer.state.status.is_final() || held.as_of == i64::MIN;
    !is_settled && previous.undo(&newer.state).as_ref() != Some(&held.state)
}

/// Why Stripe is to be asked after a snapshot that does not stand. An end, a settled second and a deleted customer leave
/// nothing open.
fn doubt(reason: StaleReason) -> Option<RefreshReason> {
    match reason {
        StaleReason::Older => Some(RefreshReason::Older),
        StaleReason::Announcement => Some(RefreshReason::Announcement),
        StaleReason::IncompleteItems => Some(RefreshReason::IncompleteItems),
        StaleReason::AlreadyFinal | StaleReason::SameSecond | StaleReason::CustomerDeleted => None,
    }
}

fn ended(subscription: &Subscription, at: i64) -> Snapshot {
    let mut state = subscription.state.clone();
    state.status = Status::Canceled;
    state.ended_at = Some(at);
    Snapshot {
        id: subscription.id.clone(),
        customer: subscription.customer.clone(),
        state,
        tags: Tags::default(),
        previous: None,
        has_all_items: true,
        latest_invoice: None,
    }
}
