//! One transaction: which events are new, what they change, and the inbox that remembers them.

use std::collections::{HashMap, HashSet};

use super::Delivery;
use crate::billing::Billing;
use crate::billing::link::RACES;
use crate::domain::ids::{EventId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::scene::{Changes, Effect};
use crate::store::{InboxRow, StoreError, StoreFailure, Touched};

/// Applies the events, beginning again when another replica was faster with one of them.
pub(super) async fn apply(
    billing: &Billing,
    deliveries: &[Delivery],
) -> Result<(Vec<Effect>, Changes), StoreError> {
    for _ in 1..RACES {
        match apply_once(billing, deliveries).await {
            Err(error) if error.failure() == StoreFailure::Conflict => {}
            result => return result,
        }
    }
    apply_once(billing, deliveries).await
}

async fn apply_once(
    billing: &Billing,
    deliveries: &[Delivery],
) -> Result<(Vec<Effect>, Changes), StoreError> {
    let transaction = billing.store.begin().await?;
    let known = transaction.known_events(deliveries.iter().map(|delivery| &delivery.event.id)).await?;
    let fresh = Fresh::of(deliveries, &known);
    let mut scene =
        transaction.scene(&Touched::by(fresh.deliveries().map(|delivery| &delivery.event))).await?;

    let mut effects = Vec::with_capacity(deliveries.len());
    for (index, delivery) in deliveries.iter().enumerate() {
        effects.push(if fresh.contains(index) {
            scene.play(&delivery.event, &billing.policy)
        } else {
            duplicate(known.get(&delivery.event.id))
        });
    }

    let now_ms = billing.clock.now_ms();
    let traces: HashMap<&EventId, Traceparent> =
        deliveries.iter().filter_map(|delivery| Some((&delivery.event.id, delivery.trace()?))).collect();
    let trace_of = |event: Option<&EventId>| event.and_then(|event| traces.get(event)).copied();
    transaction.write(&scene, trace_of, now_ms).await?;
    transaction.insert_events(&fresh.inbox(&effects)).await?;
    transaction.commit().await?;
    Ok((effects, scene.into_changes()))
}

/// Keeps an event that could not be applied, with its payload, for another try.
pub(super) async fn keep_as_failed(billing: &Billing, delivery: &Delivery) -> Result<Effect, StoreError> {
    let effect = Effect::new(Outcome::Failed).because("not_applicable");
    let transaction = billing.store.begin().await?;
    transaction.insert_events(&[inbox_row(delivery, &effect)]).await?;
    transaction.commit().await?;
    Ok(effect)
}

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
        trace: delivery.trace(),
        received_at_ms: delivery.received_at_ms,
    }
}
