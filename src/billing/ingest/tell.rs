//! After the commit: the topic lines, the spans' attributes and the journey's milestones.

use std::collections::HashMap;

use super::Delivery;
use crate::billing::Billing;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::scene::{Changes, Effect, Entry, JournalEntry};
use crate::domain::subscription::Status;
use crate::telemetry::spans::{self, BillingAttributes};
use crate::telemetry::topics::{Level, Line, Topic};

/// Tells what became of a batch.
pub(super) fn tell(billing: &Billing, deliveries: &[Delivery], effects: &[Effect], changes: &Changes) {
    let now_ms = billing.clock.now_ms();
    let traces: HashMap<&EventId, Traceparent> =
        deliveries.iter().filter_map(|delivery| Some((&delivery.event.id, delivery.trace()?))).collect();
    let mut lines = Vec::with_capacity(deliveries.len() * 3);
    for (delivery, effect) in deliveries.iter().zip(effects) {
        lines.push(signature_line(delivery, effect, now_ms));
    }
    for entry in &changes.journal {
        let trace = entry.event.as_ref().and_then(|event| traces.get(event)).copied();
        lines.extend(change_line(entry, trace, now_ms));
    }
    for (delivery, effect) in deliveries.iter().zip(effects) {
        lines.push(event_line(&delivery.event, effect, delivery.trace(), now_ms));
    }
    for (event, effect) in &changes.unparked {
        lines.push(event_line(event, effect, None, now_ms));
    }
    billing.topics.append(&lines);
    for (delivery, effect) in deliveries.iter().zip(effects) {
        mark_span(billing, delivery, effect, now_ms);
    }
}

/// Tells of changes that no event brought: a link, or an answer of Stripe's.
pub(crate) fn tell_changes(billing: &Billing, changes: &Changes, trace: Option<Traceparent>) {
    let now_ms = billing.clock.now_ms();
    let changed = changes.journal.iter().filter_map(|entry| change_line(entry, trace, now_ms));
    let unparked = changes.unparked.iter().map(|(event, effect)| event_line(event, effect, trace, now_ms));
    billing.topics.append(&changed.chain(unparked).collect::<Vec<_>>());
}

fn signature_line(delivery: &Delivery, effect: &Effect, now_ms: i64) -> Line {
    let future = delivery.verified.skew_seconds < 0;
    let level = if future { Level::Warn } else { Level::Info };
    Line::new(Topic::WebhookSignatures, level, "signature.accepted", now_ms)
        .outcome("accepted")
        .tenant(effect.tenant.as_ref())
        .customer(delivery.event.customer())
        .stripe_event(&delivery.event.id)
        .stripe_event_type(delivery.event.type_name.as_str())
        .stripe_request(delivery.event.request_id.as_deref())
        .journey(effect.journey.map(|journey| journey.id()))
        .in_trace(delivery.trace())
        .reason(future.then_some("future_timestamp"))
        .skew_seconds(delivery.verified.skew_seconds)
        .secret(delivery.verified.secret)
}

/// The line of a change, for those that have one.
fn change_line(change: &JournalEntry, trace: Option<Traceparent>, now_ms: i64) -> Option<Line> {
    if matches!(change.entry, Entry::PaymentNoted { .. } | Entry::CheckoutClosed) {
        return None;
    }
    let (from, to) = change.entry.statuses();
    let line = Line::new(Topic::SubscriptionState, Level::Info, change.entry.as_str(), now_ms)
        .tenant(&change.tenant)
        .customer(&change.customer)
        .subscription(change.entry.subscription())
        .stripe_event(change.event.as_ref())
        .journey(change.journey.map(|journey| journey.id()))
        .in_trace(trace)
        .transition(from.map(Status::as_str), to.map(Status::as_str));
    Some(if change.event.is_some() {
        line.stripe_event_type(change.cause.as_str())
    } else {
        line.reason(change.cause.as_str())
    })
}

fn event_line(event: &Event, effect: &Effect, trace: Option<Traceparent>, now_ms: i64) -> Line {
    let level = if effect.loud { Level::Warn } else { Level::Info };
    Line::new(Topic::SubscriptionState, level, effect.outcome.log_event(), now_ms)
        .outcome(effect.outcome.as_str())
        .tenant(effect.tenant.as_ref())
        .customer(event.customer())
        .subscription(event.subscription())
        .stripe_event(&event.id)
        .stripe_event_type(event.type_name.as_str())
        .stripe_request(event.request_id.as_deref())
        .journey(effect.journey.map(|journey| journey.id()))
        .in_trace(trace)
        .reason(effect.reason)
}

/// Says on the event's span whose it is and what became of it, links it to the journey's origin, and leaves a
/// milestone there if it was applied while the journey is young.
fn mark_span(billing: &Billing, delivery: &Delivery, effect: &Effect, now_ms: i64) {
    let event = &delivery.event;
    let attributes = BillingAttributes {
        tenant: effect.tenant.as_ref(),
        journey: effect.journey.map(|journey| journey.id()),
        customer: event.customer(),
        event_id: Some(&event.id),
        event_type: Some(&event.type_name),
        request_id: event.request_id.as_deref(),
        outcome: Some(effect.outcome.as_str()),
        user: None,
    };
    attributes.record(&delivery.span);
    let Some(journey) = effect.journey else { return };
    spans::link(&delivery.span, journey.origin);
    if effect.outcome == Outcome::Applied && journey.is_open(billing.journey_window_hours, now_ms) {
        spans::milestone(journey.origin, &event.type_name, &attributes, delivery.trace());
    }
}
