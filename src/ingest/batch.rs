//! One transaction: which events are new, what they change, and the inbox that remembers them.

use std::collections::{HashMap, HashSet};

use super::delivery::Delivery;
use super::report::{Reporter, Traces};
use crate::domain::ids::{EventId, TenantId};
use crate::domain::outcome::Outcome;
use crate::domain::unit_of_work::{Changes, Effect, Policy};
use crate::store::{InboxRow, Store, StoreError, StoreFailure, Touched, Transaction, retry_on_conflict};

/// What a batch is applied with.
pub(super) struct IngestContext {
    pub(super) store: Store,
    pub(super) policy: Policy,
    pub(super) reporter: Reporter,
}

/// A batch that is applied, but for its commit.
pub(super) struct Applied {
    transaction: Transaction,
    effects: Vec<Effect>,
    changes: Changes,
}

impl Applied {
    /// Makes it last, and tells what became of each event and what changed.
    pub(super) async fn commit(self) -> Result<(Vec<Effect>, Changes), StoreError> {
        self.transaction.commit().await?;
        Ok((self.effects, self.changes))
    }
}

/// Applies the events. The first try does not ask the inbox for repeats, since few events are. A repeat makes that try fail: its
/// id is a duplicate key or, if the event is stored as failed, it fails as it did before. After such a failure the inbox is
/// asked, and a conflict with another replica is retried. If the database is not available, this fails at once.
pub(super) async fn apply(
    context: &IngestContext,
    deliveries: &[Delivery],
    inbox: Inbox,
) -> Result<Applied, StoreError> {
    if inbox == Inbox::NotAsked {
        match apply_once(context, deliveries, inbox).await {
            Err(error) if error.failure() != StoreFailure::Unavailable => {}
            result => return result,
        }
    }
    retry_on_conflict(|| apply_once(context, deliveries, Inbox::Asked)).await
}

/// Whether the inbox is asked for repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inbox {
    NotAsked,
    Asked,
}

async fn apply_once(
    context: &IngestContext,
    deliveries: &[Delivery],
    inbox: Inbox,
) -> Result<Applied, StoreError> {
    let transaction = context.store.begin_batch().await?;
    let known = match inbox {
        Inbox::NotAsked => HashMap::new(),
        Inbox::Asked => {
            transaction.known_events(deliveries.iter().map(|delivery| &delivery.event.id)).await?
        }
    };
    let fresh = Fresh::of(deliveries, &known);
    let mut work =
        transaction.unit_of_work(&Touched::by(fresh.deliveries().map(|delivery| &delivery.event))).await?;

    let now_ms = context.reporter.now_ms();
    let mut effects = Vec::with_capacity(deliveries.len());
    for (index, delivery) in deliveries.iter().enumerate() {
        effects.push(if fresh.contains(index) {
            work.apply(&delivery.event, delivery.here(now_ms), &context.policy)
        } else {
            duplicate(known.get(&delivery.event.id))
        });
    }

    // An event of this very batch may have waited for a later one.
    for unparked in &work.changes().unparked {
        let waited = |(index, delivery): (usize, &Delivery)| {
            (fresh.contains(index) && delivery.event.id == unparked.event.id).then_some(index)
        };
        if let Some(index) = deliveries.iter().enumerate().find_map(waited) {
            effects[index] = unparked.effect.clone();
        }
    }
    let traces = Traces::of(deliveries, work.changes());
    let trace_of = |event: Option<&EventId>| event.and_then(|event| traces.of_event(event));
    transaction.write(&work, &fresh.inbox(&effects), trace_of, now_ms).await?;
    let mut changes = work.into_changes();
    // Those are told of with the batch.
    changes.unparked.retain(|unparked| !fresh.brings(&unparked.event.id));
    Ok(Applied { transaction, effects, changes })
}

/// Stores an event that could not be applied as failed, with its payload, so that it is tried again later. If another
/// replica has stored it by now, it is a repeat. No other failure means that it is stored.
pub(super) async fn keep_as_failed(
    context: &IngestContext,
    delivery: &Delivery,
) -> Result<Effect, StoreError> {
    let effect = Effect::new(Outcome::Failed).because("not_applicable");
    let insert = || async {
        let transaction = context.store.begin_batch().await?;
        match transaction.insert_event(inbox_row(delivery, &effect)).await {
            Err(error) if error.failure() == StoreFailure::DuplicateKey => return Ok(false),
            inserted => inserted?,
        }
        transaction.commit().await?;
        Ok::<_, StoreError>(true)
    };
    let is_inserted = retry_on_conflict(insert).await?;
    Ok(if is_inserted { effect } else { duplicate(None) })
}

/// A repeat: of an event in the inbox, whose tenant it tells, or of one in the same batch.
fn duplicate(tenant: Option<&Option<TenantId>>) -> Effect {
    let effect = Effect::new(Outcome::Duplicate);
    match tenant {
        Some(Some(tenant)) => effect.of(tenant.clone()),
        _ => effect,
    }
}

/// The deliveries of a batch that are neither in the inbox nor in the batch twice.
struct Fresh<'a> {
    deliveries: &'a [Delivery],
    indexes: HashSet<usize>,
}

impl<'a> Fresh<'a> {
    fn of(deliveries: &'a [Delivery], known: &HashMap<EventId, Option<TenantId>>) -> Self {
        let mut seen = HashSet::new();
        let is_fresh = |id: &'a EventId| !known.contains_key(id) && seen.insert(id);
        let fresh = deliveries.iter().map(|delivery| &delivery.event.id).map(is_fresh);
        let fresh: Vec<bool> = fresh.collect();
        let indexes = fresh.iter().enumerate().filter(|(_, fresh)| **fresh).map(|(index, _)| index).collect();
        Self { deliveries, indexes }
    }

    fn contains(&self, index: usize) -> bool {
        self.indexes.contains(&index)
    }

    fn brings(&self, id: &EventId) -> bool {
        self.deliveries().any(|delivery| delivery.event.id == *id)
    }

    fn deliveries(&self) -> impl Iterator<Item = &'a Delivery> {
        self.deliveries.iter().enumerate().filter(|(index, _)| self.contains(*index)).map(|(_, one)| one)
    }

    fn inbox(&self, effects: &'a [Effect]) -> Vec<InboxRow<'a>> {
        let all = self.deliveries.iter().zip(effects).enumerate();
        all.filter(|(index, _)| self.contains(*index))
            .map(|(_, (delivery, effect))| inbox_row(delivery, effect))
            .collect()
    }
}

fn inbox_row<'a>(delivery: &'a Delivery, effect: &'a Effect) -> InboxRow<'a> {
    InboxRow {
        event: &delivery.event,
        effect,
        payload: &delivery.payload,
        trace: delivery.trace,
        received_at_ms: delivery.received_at_ms,
    }
}
