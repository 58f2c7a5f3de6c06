//! Reports committed changes: topic log lines, metrics, span attributes and journey milestones.
//! Notifies the streams and the refresh job.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, broadcast};
use tracing::Span;

use super::delivery::Delivery;
use crate::clock::Clock;
use crate::domain::batch::{Changes, Effect, EntryKind, JournalEntry, Unparked, cause};
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;
use crate::store::TenantKey;
use crate::telemetry::metrics::{Metrics, Source};
use crate::telemetry::spans::{self, BillingAttributes};
use crate::telemetry::topics::{Level, Line, Topic, TopicLogs};

/// How many changes a slow subscriber may leave unread. One that lags further must reload
/// everything.
const MAX_UNREAD_CHANGES: usize = 1024;

/// The trace in which each event of a batch was processed.
pub(super) struct Traces<'a>(HashMap<&'a EventId, Traceparent>);

impl<'a> Traces<'a> {
    /// A duplicate within the batch does not replace the first delivery. A parked event has the
    /// trace of the event that unparked it.
    pub(super) fn new(deliveries: &'a [Delivery], changes: &'a Changes) -> Self {
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

    pub(super) fn of_event(&self, event: Option<&EventId>) -> Option<Traceparent> {
        self.0.get(event?).copied()
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    topics: TopicLogs,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// How long after its start a journey gets milestones.
    journey_window_hours: u32,
    changed_tenants: broadcast::Sender<TenantKey>,
    refresh_wanted: Arc<Notify>,
}

impl Reporter {
    pub fn new(
        topics: TopicLogs,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        journey_window_hours: u32,
    ) -> Self {
        let changed_tenants = broadcast::Sender::new(MAX_UNREAD_CHANGES);
        Self { topics, metrics, clock, journey_window_hours, changed_tenants, refresh_wanted: Arc::default() }
    }

    /// Subscribes to the tenants whose entitlement may have changed.
    pub fn changed_tenants(&self) -> broadcast::Receiver<TenantKey> {
        self.changed_tenants.subscribe()
    }

    /// Notified when a refresh was inserted.
    pub fn refresh_wanted(&self) -> &Notify {
        &self.refresh_wanted
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Whether the journey still gets milestones.
    pub fn is_open(&self, journey: Journey, now_ms: i64) -> bool {
        journey.is_open(self.journey_window_hours, now_ms)
    }

    pub(super) fn report_batch(&self, deliveries: &[Delivery], effects: &[Effect], changes: &Changes) {
        let traces = Traces::new(deliveries, changes);
        self.report(deliveries, effects, changes, |event| traces.of_event(event));
    }

    /// Reports verified events that were not stored.
    pub(super) fn report_not_stored(&self, deliveries: &[Delivery]) {
        let now_ms = self.clock.now_ms();
        let lines = deliveries.iter().filter_map(|delivery| signature_line(delivery, None, now_ms));
        self.topics.append(&lines.collect::<Vec<_>>());
    }

    /// Reports the retry of a failed event.
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
        self.link_to_journey(&Span::current(), event, effect, now_ms);
    }

    /// Reports changes without a delivery, such as those of a link or a refresh.
    pub fn report_changes(&self, changes: &Changes, trace: Option<Traceparent>) {
        self.report(&[], &[], changes, |_| trace);
    }

    fn report(
        &self,
        deliveries: &[Delivery],
        effects: &[Effect],
        changes: &Changes,
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
    ) {
        self.notify(changes);
        let now_ms = self.clock.now_ms();
        let mut lines = Vec::with_capacity(deliveries.len() * 3);
        for (delivery, effect) in deliveries.iter().zip(effects) {
            lines.extend(signature_line(delivery, Some(effect), now_ms));
        }
        for entry in &changes.journal {
            lines.extend(journal_line(entry, trace_of(entry.event.as_ref()), now_ms));
        }
        for (delivery, effect) in deliveries.iter().zip(effects) {
            lines.push(event_line(&delivery.event, effect, delivery.trace, now_ms));
        }
        for Unparked { event, effect, .. } in &changes.unparked {
            lines.push(event_line(event, effect, trace_of(Some(&event.id)), now_ms));
        }
        self.topics.append(&lines);
        for JournalEntry { kind, .. } in &changes.journal {
            if let EntryKind::Transition { from, to, .. } = kind {
                self.metrics.transition(from.as_ref(), Some(to));
            }
        }
        for (delivery, effect) in deliveries.iter().zip(effects) {
            self.metrics.event(delivery.source(), &delivery.event.type_name, effect.outcome);
            self.record_on_spans(delivery, effect, now_ms);
        }
        for Unparked { event, effect, .. } in &changes.unparked {
            self.metrics.event(Source::Inbox, &event.type_name, effect.outcome);
            self.add_milestone(event, effect, trace_of(Some(&event.id)), now_ms);
        }
    }

    fn record_on_spans(&self, delivery: &Delivery, effect: &Effect, now_ms: i64) {
        let event = &delivery.event;
        let attributes = attributes(event, effect);
        attributes.record(&delivery.request_span);
        // `Delivery` has recorded the event's id and type on this span.
        BillingAttributes { event_id: None, event_type: None, ..attributes }.record(&delivery.span);
        self.link_to_journey(&delivery.span, event, effect, now_ms);
    }

    /// Links the span to the origin of the event's journey and adds a milestone there, unless the
    /// journey started in this span.
    fn link_to_journey(&self, span: &Span, event: &Event, effect: &Effect, now_ms: i64) {
        let trace = spans::traceparent_of(span);
        if let Some(journey) = effect.journey.filter(|journey| Some(journey.origin) != trace) {
            spans::link(span, journey.origin);
            self.add_milestone(event, effect, trace, now_ms);
        }
    }

    /// Only for an applied event of an open journey.
    fn add_milestone(&self, event: &Event, effect: &Effect, trace: Option<Traceparent>, now_ms: i64) {
        let Some(journey) = effect.journey else { return };
        if effect.outcome == Outcome::Applied && self.is_open(journey, now_ms) {
            spans::record_milestone(journey.origin, &event.type_name, &attributes(event, effect), trace);
        }
    }

    /// Notifies the streams and the refresh job. Every committed change of a subscription passes
    /// here.
    fn notify(&self, changes: &Changes) {
        for tenant in &changes.entitlements {
            // Fails if there is no subscriber.
            let _ = self.changed_tenants.send(TenantKey::of(tenant));
        }
        if !changes.refreshes.is_empty() {
            self.refresh_wanted.notify_one();
        }
    }
}

/// `None` for an event that the backfill fetched: it has no signature.
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

/// `None` for an entry that is only kept in the journal.
fn journal_line(entry: &JournalEntry, trace: Option<Traceparent>, now_ms: i64) -> Option<Line> {
    if matches!(entry.kind, EntryKind::PaymentNoted { .. } | EntryKind::CheckoutClosed) {
        return None;
    }
    let (from, to) = entry.kind.statuses();
    let needs_attention =
        matches!(entry.kind, EntryKind::SecondSubscription { .. }) || entry.cause == cause::RESOURCE_MISSING;
    let level = if needs_attention { Level::Warn } else { Level::Info };
    let line = Line::new(Topic::SubscriptionState, level, entry.kind.as_str(), now_ms)
        .tenant(&entry.tenant)
        .customer(&entry.customer)
        .subscription(entry.kind.subscription())
        .stripe_event(entry.event.as_ref())
        .journey(entry.journey.map(|journey| journey.id()))
        .in_trace(trace)
        .transition(from.map(Status::as_str), to.map(Status::as_str));
    Some(if entry.event.is_some() {
        line.stripe_event_type(entry.cause.as_str())
    } else {
        line.reason(entry.cause.as_str())
    })
}

fn event_line(event: &Event, effect: &Effect, trace: Option<Traceparent>, now_ms: i64) -> Line {
    let level = if effect.is_warning { Level::Warn } else { Level::Info };
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
