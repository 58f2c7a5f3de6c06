//! After the commit: the topic lines, the spans' attributes and the journey's milestones.

use std::collections::HashMap;

use tracing::Span;

use super::Delivery;
use crate::billing::Billing;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::Traceparent;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;
use crate::domain::unit_of_work::{Changes, Effect, Entry, JournalEntry, Unparked, cause};
use crate::store::TenantKey;
use crate::telemetry::metrics::Source;
use crate::telemetry::spans::{self, BillingAttributes};
use crate::telemetry::topics::{Level, Line, Topic};

/// In which trace each event of a batch was processed.
pub(super) struct Traces<'a>(HashMap<&'a EventId, Traceparent>);

impl<'a> Traces<'a> {
    /// A repeat within the batch does not take the first one's place; an event that was parked belongs to the trace of
    /// the one that ended its wait.
    pub(super) fn of(deliveries: &'a [Delivery], changes: &'a Changes) -> Self {
        let mut traces = HashMap::new();
        for delivery in deliveries {
            if let Some(trace) = delivery.trace {
                traces.entry(&delivery.event.id).or_insert(trace);
            }
        }
        for unparked in &changes.unparked {
            if let Some(trace) = unparked.by.as_ref().and_then(|by| traces.get(by)).copied() {
                traces.entry(&unparked.event.id).or_insert(trace);
            }
        }
        Self(traces)
    }

    pub(super) fn of_event(&self, event: &EventId) -> Option<Traceparent> {
        self.0.get(event).copied()
    }
}

/// Tells what became of a batch.
pub(super) fn report(billing: &Billing, deliveries: &[Delivery], effects: &[Effect], changes: &Changes) {
    wake(billing, changes);
    let now_ms = billing.clock.now_ms();
    let traces = Traces::of(deliveries, changes);
    let mut lines = Vec::with_capacity(deliveries.len() * 3);
    for (delivery, effect) in deliveries.iter().zip(effects) {
        lines.extend(signature_line(delivery, Some(effect), now_ms));
    }
    for entry in &changes.journal {
        let trace = entry.event.as_ref().and_then(|event| traces.of_event(event));
        lines.extend(change_line(entry, trace, now_ms));
    }
    for (delivery, effect) in deliveries.iter().zip(effects) {
        lines.push(event_line(&delivery.event, effect, delivery.trace, now_ms));
    }
    for Unparked { event, effect, .. } in &changes.unparked {
        lines.push(event_line(event, effect, traces.of_event(&event.id), now_ms));
    }
    billing.topics.append(&lines);
    count_transitions(billing, changes);
    for (delivery, effect) in deliveries.iter().zip(effects) {
        billing.metrics.event(delivery.source(), &delivery.event.type_name, effect.outcome);
        mark_spans(billing, delivery, effect, now_ms);
    }
    for Unparked { event, effect, .. } in &changes.unparked {
        settle(billing, event, effect, traces.of_event(&event.id), now_ms);
    }
}

/// Tells of events that were verified and then not stored: nothing became of them yet.
pub(super) fn report_not_stored(billing: &Billing, deliveries: &[Delivery]) {
    let now_ms = billing.clock.now_ms();
    let lines = deliveries.iter().filter_map(|delivery| signature_line(delivery, None, now_ms));
    billing.topics.append(&lines.collect::<Vec<_>>());
}

/// Tells what became of an event that had failed before.
pub(crate) fn report_retried(
    billing: &Billing,
    event: &Event,
    effect: &Effect,
    changes: &Changes,
    trace: Option<Traceparent>,
) {
    report_changes(billing, changes, trace);
    let now_ms = billing.clock.now_ms();
    billing.topics.append(&[event_line(event, effect, trace, now_ms)]);
    BillingAttributes { event_id: None, ..attributes(event, effect) }.record(&Span::current());
    billing.metrics.event(Source::Inbox, &event.type_name, effect.outcome);
    follow_journey(billing, &Span::current(), event, effect, now_ms);
}

/// Tells of changes that no delivery brought: a link, or an answer of Stripe's.
pub(crate) fn report_changes(billing: &Billing, changes: &Changes, trace: Option<Traceparent>) {
    wake(billing, changes);
    let now_ms = billing.clock.now_ms();
    let entries = changes.journal.iter().filter_map(|entry| change_line(entry, trace, now_ms));
    let unparked = changes.unparked.iter();
    let unparked = unparked.map(|unparked| event_line(&unparked.event, &unparked.effect, trace, now_ms));
    billing.topics.append(&entries.chain(unparked).collect::<Vec<_>>());
    count_transitions(billing, changes);
    for Unparked { event, effect, .. } in &changes.unparked {
        settle(billing, event, effect, trace, now_ms);
    }
}

/// The line of a signature, for what came with one.
fn signature_line(delivery: &Delivery, effect: Option<&Effect>, now_ms: i64) -> Option<Line> {
    let verified = delivery.verified.as_ref()?;
    let future = verified.skew_seconds < 0;
    let level = if future { Level::Warn } else { Level::Info };
    let line = Line::new(Topic::WebhookSignatures, level, "signature.accepted", now_ms)
        .outcome("accepted")
        .tenant(effect.and_then(|effect| effect.tenant.as_ref()))
        .customer(delivery.event.customer())
        .stripe_event(&delivery.event.id)
        .stripe_event_type(delivery.event.type_name.as_str())
        .stripe_request(delivery.event.request_id.as_deref())
        .journey(effect.and_then(|effect| effect.journey).map(|journey| journey.id()))
        .in_trace(delivery.trace)
        .reason(future.then_some("future_timestamp"))
        .skew_seconds(verified.skew_seconds)
        .secret_name(&verified.secret);
    Some(line)
}

/// The line of a change, for those that have one.
fn change_line(change: &JournalEntry, trace: Option<Traceparent>, now_ms: i64) -> Option<Line> {
    if matches!(change.entry, Entry::PaymentNoted { .. } | Entry::CheckoutClosed) {
        return None;
    }
    let (from, to) = change.entry.statuses();
    let is_loud =
        matches!(change.entry, Entry::SubscriptionDoubled { .. }) || change.cause == cause::RESOURCE_MISSING;
    let level = if is_loud { Level::Warn } else { Level::Info };
    let line = Line::new(Topic::SubscriptionState, level, change.entry.as_str(), now_ms)
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

/// Says on the event's spans whose it is and what became of it, links them to the journey's origin, and leaves a
/// milestone there if it was applied while the journey is young.
fn mark_spans(billing: &Billing, delivery: &Delivery, effect: &Effect, now_ms: i64) {
    let event = &delivery.event;
    let attributes = attributes(event, effect);
    attributes.record(&delivery.request_span);
    // Which event it is stands there from the start.
    BillingAttributes { event_id: None, event_type: None, ..attributes }.record(&delivery.span);
    follow_journey(billing, &delivery.span, event, effect, now_ms);
}

/// Links the span in which an event was processed to its journey's origin, and marks the event there; unless the journey
/// began in that very span.
fn follow_journey(billing: &Billing, span: &Span, event: &Event, effect: &Effect, now_ms: i64) {
    let here = spans::traceparent_of(span);
    if let Some(journey) = effect.journey.filter(|journey| Some(journey.origin) != here) {
        spans::link(span, journey.origin);
        leave_milestone(billing, event, effect, here, now_ms);
    }
}

/// An event whose wait is over is counted once more, and marked in its journey.
fn settle(billing: &Billing, event: &Event, effect: &Effect, here: Option<Traceparent>, now_ms: i64) {
    billing.metrics.event(Source::Inbox, &event.type_name, effect.outcome);
    leave_milestone(billing, event, effect, here, now_ms);
}

fn leave_milestone(
    billing: &Billing,
    event: &Event,
    effect: &Effect,
    here: Option<Traceparent>,
    now_ms: i64,
) {
    let Some(journey) = effect.journey else { return };
    if effect.outcome == Outcome::Applied && journey.is_open(billing.journey_window_hours, now_ms) {
        spans::milestone(journey.origin, &event.type_name, &attributes(event, effect), here);
    }
}

fn count_transitions(billing: &Billing, changes: &Changes) {
    for JournalEntry { entry, .. } in &changes.journal {
        if let Entry::Transition { from, to, .. } = entry {
            billing.metrics.transition(from.as_ref(), Some(to));
        }
    }
}

fn attributes<'a>(event: &'a Event, effect: &'a Effect) -> BillingAttributes<'a> {
    BillingAttributes {
        tenant: effect.tenant.as_ref(),
        journey: effect.journey.map(|journey| journey.id()),
        customer: event.customer(),
        event_id: Some(&event.id),
        event_type: Some(&event.type_name),
        request_id: event.request_id.as_deref(),
        outcome: Some(effect.outcome.as_str()),
        user: None,
    }
}

/// Tells whoever asks Stripe that there is something to ask, and the streams what may have changed. All that changes a
/// subscription comes by here, and only once it is committed.
fn wake(billing: &Billing, changes: &Changes) {
    for tenant in &changes.entitlements {
        billing.streams.want(&TenantKey::of(tenant));
    }
    if !changes.refreshes.is_empty() {
        billing.refresh_wanted.notify_one();
    }
}
