//! After the commit: the topic lines, the metrics, the spans' attributes, the journey's milestones, and the channel of
//! tenants whose entitlement may have changed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, broadcast};
use tracing::Span;

use super::delivery::Delivery;
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;
use crate::domain::unit_of_work::{Changes, Effect, Entry, JournalEntry, Unparked, cause};
use crate::store::TenantKey;
use crate::telemetry::metrics::{Metrics, Source};
use crate::telemetry::spans::{self, BillingAttributes};
use crate::telemetry::topics::{Level, Line, Topic, TopicLogs};

/// How many changes wait for a subscriber that is busy. One that misses some must read everything.
const MAX_UNREAD_CHANGES: usize = 1024;

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

/// Reports what was committed: in the topic logs, the metrics and the spans, and to those who wait for a change. Cheap to
/// clone.
#[derive(Clone)]
pub struct Reporter {
    topics: TopicLogs,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// For how long a checkout's trace shows what followed from it.
    journey_window_hours: u32,
    changed_tenants: broadcast::Sender<TenantKey>,
    refresh_wanted: Arc<Notify>,
}

impl Reporter {
    /// A reporter that nobody waits for yet.
    pub fn new(
        topics: TopicLogs,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        journey_window_hours: u32,
    ) -> Self {
        let changed_tenants = broadcast::Sender::new(MAX_UNREAD_CHANGES);
        Self { topics, metrics, clock, journey_window_hours, changed_tenants, refresh_wanted: Arc::default() }
    }

    /// The tenants whose entitlement may have changed, from now on.
    pub fn changed_tenants(&self) -> broadcast::Receiver<TenantKey> {
        self.changed_tenants.subscribe()
    }

    /// Is notified when there is something to ask Stripe.
    pub fn refresh_wanted(&self) -> &Notify {
        &self.refresh_wanted
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Whether a journey still shows what happens now.
    pub fn is_open(&self, journey: Journey, now_ms: i64) -> bool {
        journey.is_open(self.journey_window_hours, now_ms)
    }

    /// Tells what became of a batch.
    pub(super) fn report_batch(&self, deliveries: &[Delivery], effects: &[Effect], changes: &Changes) {
        self.wake(changes);
        let now_ms = self.clock.now_ms();
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
        self.topics.append(&lines);
        self.count_transitions(changes);
        for (delivery, effect) in deliveries.iter().zip(effects) {
            self.metrics.event(delivery.source(), &delivery.event.type_name, effect.outcome);
            self.mark_spans(delivery, effect, now_ms);
        }
        for Unparked { event, effect, .. } in &changes.unparked {
            self.settle(event, effect, traces.of_event(&event.id), now_ms);
        }
    }

    /// Tells of events that were verified and then not stored: nothing became of them yet.
    pub(super) fn report_not_stored(&self, deliveries: &[Delivery]) {
        let now_ms = self.clock.now_ms();
        let lines = deliveries.iter().filter_map(|delivery| signature_line(delivery, None, now_ms));
        self.topics.append(&lines.collect::<Vec<_>>());
    }

    /// Tells what became of an event that had failed before.
    pub fn report_retried(
        &self,
        event: &Event,
        effect: &Effect,
        changes: &Changes,
        trace: Option<Traceparent>,
    ) {
        self.report_changes(changes, trace);
        let now_ms = self.clock.now_ms();
        self.topics.append(&[event_line(event, effect, trace, now_ms)]);
        BillingAttributes { event_id: None, ..attributes(event, effect) }.record(&Span::current());
        self.metrics.event(Source::Inbox, &event.type_name, effect.outcome);
        self.follow_journey(&Span::current(), event, effect, now_ms);
    }

    /// Tells of changes that no delivery brought: a link, or an answer of Stripe's.
    pub fn report_changes(&self, changes: &Changes, trace: Option<Traceparent>) {
        self.wake(changes);
        let now_ms = self.clock.now_ms();
        let entries = changes.journal.iter().filter_map(|entry| change_line(entry, trace, now_ms));
        let unparked = changes.unparked.iter();
        let unparked = unparked.map(|unparked| event_line(&unparked.event, &unparked.effect, trace, now_ms));
        self.topics.append(&entries.chain(unparked).collect::<Vec<_>>());
        self.count_transitions(changes);
        for Unparked { event, effect, .. } in &changes.unparked {
            self.settle(event, effect, trace, now_ms);
        }
    }

    /// Says on the event's spans whose it is and what became of it, links them to the journey's origin, and leaves a
    /// milestone there if it was applied while the journey is young.
    fn mark_spans(&self, delivery: &Delivery, effect: &Effect, now_ms: i64) {
        let event = &delivery.event;
        let attributes = attributes(event, effect);
        attributes.record(&delivery.request_span);
        // Which event it is stands there from the start.
        BillingAttributes { event_id: None, event_type: None, ..attributes }.record(&delivery.span);
        self.follow_journey(&delivery.span, event, effect, now_ms);
    }

    /// Links the span in which an event was processed to its journey's origin, and marks the event there; unless the journey
    /// began in that very span.
    fn follow_journey(&self, span: &Span, event: &Event, effect: &Effect, now_ms: i64) {
        let here = spans::traceparent_of(span);
        if let Some(journey) = effect.journey.filter(|journey| Some(journey.origin) != here) {
            spans::link(span, journey.origin);
            self.leave_milestone(event, effect, here, now_ms);
        }
    }

    /// An event whose wait is over is counted once more, and marked in its journey.
    fn settle(&self, event: &Event, effect: &Effect, here: Option<Traceparent>, now_ms: i64) {
        self.metrics.event(Source::Inbox, &event.type_name, effect.outcome);
        self.leave_milestone(event, effect, here, now_ms);
    }

    fn leave_milestone(&self, event: &Event, effect: &Effect, here: Option<Traceparent>, now_ms: i64) {
        let Some(journey) = effect.journey else { return };
        if effect.outcome == Outcome::Applied && self.is_open(journey, now_ms) {
            spans::milestone(journey.origin, &event.type_name, &attributes(event, effect), here);
        }
    }

    fn count_transitions(&self, changes: &Changes) {
        for JournalEntry { entry, .. } in &changes.journal {
            if let Entry::Transition { from, to, .. } = entry {
                self.metrics.transition(from.as_ref(), Some(to));
            }
        }
    }

    /// Tells whoever asks Stripe that there is something to ask, and the streams what may have changed. All that changes a
    /// subscription comes by here, and only once it is committed.
    fn wake(&self, changes: &Changes) {
        for tenant in &changes.entitlements {
            // Without a subscriber nobody needs it.
            let _ = self.changed_tenants.send(TenantKey::of(tenant));
        }
        if !changes.refreshes.is_empty() {
            self.refresh_wanted.notify_one();
        }
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
