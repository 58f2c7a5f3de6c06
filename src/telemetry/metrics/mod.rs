//! Metrics for Prometheus (<https://prometheus.io/docs/practices/naming/>).
//!
//! Every label value is fixed at build time or chosen by the operator (secret names). Tenants,
//! customers and client input are never labels, so the number of series is bounded. Start reading
//! at [`Metrics`]; `labels` has the label sets.

mod labels;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use self::labels::{HttpLabels, Labels, status_label, type_label};
use super::topics::{Topic, TopicLogs};
use super::{SpanTally, stderr};
use crate::domain::ids::SecretName;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;

pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

const PREFIX: &str = "billhook";

/// In seconds: from the duration of a local database query to the longest timeout.
const DURATION_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// In seconds: from the resolution of Stripe's `created` to the three days for which Stripe
/// retries.
const LAG_BUCKETS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 259_200.0];

/// Reported as 0 from the start, so that `increase()` sees the first rejection.
const REJECTION_REASONS: [&str; 13] = [
    "too_large",
    "body_timeout",
    "body_broken",
    "crowded",
    "missing",
    "malformed",
    "no_match",
    "too_old",
    "unreadable_event",
    "not_configured",
    "queue_full",
    "stopping",
    "database",
];

/// Reported as 0 from the start.
const KEY_FETCH_OUTCOMES: [&str; 8] = [
    "success",
    "timeout",
    "no_connection",
    "status",
    "too_large",
    "broken_reply",
    "not_a_key_set",
    "too_many_keys",
];

/// Reported as 0 from the start.
const CONNECTION_END_REASONS: [&str; 5] = ["silent", "stalled", "crowded", "refused", "no_tls"];

/// Reported as 0 from the start.
const CERTIFICATE_OUTCOMES: [&str; 2] = ["taken", "refused"];

/// How an event came to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Webhook,
    /// Found in Stripe's event list, but not in the inbox.
    Backfill,
    /// Retried after a failure, or applied once its customer was linked.
    Inbox,
}

/// Events in the inbox with one unfinished outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingEvents {
    /// `failed` events wait for a retry, `parked` ones for their customer, `dead` ones for the
    /// operator.
    pub outcome: Outcome,
    pub events: u64,
    /// How long the oldest event has waited.
    pub oldest_ms: i64,
}

/// Unfinished work, read from the database at each scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: Vec<WaitingEvents>,
    pub refreshes: u64,
    /// Milliseconds since the backfill last finished. None before its first run has finished.
    pub backfilled_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConnections {
    pub used: u32,
    pub idle: u32,
    pub max: u32,
}

/// Clones share the counters.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<MetricsInner>);

#[derive(Debug)]
struct MetricsInner {
    registry: Registry,
    http: Family<HttpLabels, Histogram, fn() -> Histogram>,
    events: Family<Labels<3>, Counter>,
    rejected: Family<Labels<1>, Counter>,
    webhook_throttled: Counter,
    verified: Family<[(&'static str, SecretName); 1], Counter>,
    lag: Histogram,
    checkouts: Family<Labels<1>, Counter>,
    checkout_refreshes: Family<Labels<1>, Counter>,
    portals: Family<Labels<1>, Counter>,
    throttled: Counter,
    transitions: Family<Labels<2>, Counter>,
    stripe: Family<Labels<2>, Histogram, fn() -> Histogram>,
    streams: Gauge,
    token_key_fetches: Family<Labels<1>, Counter>,
    token_keys_fetched: Gauge,
    connections: Gauge,
    connections_ended: Family<Labels<1>, Counter>,
    certificate_expiry: Gauge,
    certificate_reloads: Family<Labels<1>, Counter>,
}

fn durations() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

impl MetricsInner {
    fn register() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        Self {
            events: add(r, "events", "Events by source, type and outcome", Family::default()),
            rejected: add(r, "webhook_rejections", "Rejected webhooks by reason", Family::default()),
            webhook_throttled: add(
                r,
                "webhook_throttled",
                "Webhooks over their address's rate limit",
                Counter::default(),
            ),
            verified: add(r, "webhook_verified", "Verified webhooks by secret name", Family::default()),
            lag: add_seconds(r, "webhook_lag", "Age of events at each delivery", Histogram::new(LAG_BUCKETS)),
            checkouts: add(r, "checkout_sessions", "Checkout session requests by outcome", Family::default()),
            checkout_refreshes: add(
                r,
                "checkout_refreshes",
                "Checkout refresh requests by outcome",
                Family::default(),
            ),
            portals: add(r, "portal_sessions", "Portal session requests by outcome", Family::default()),
            transitions: add(
                r,
                "subscription_transitions",
                "Transitions by old and new status",
                Family::default(),
            ),
            stripe: add_seconds(
                r,
                "stripe_request_duration",
                "Duration of requests to Stripe, for each attempt",
                Family::new_with_constructor(durations),
            ),
            http: add_seconds(
                r,
                "http_request_duration",
                "Duration of HTTP requests",
                Family::new_with_constructor(durations),
            ),
            throttled: add(
                r,
                "throttled_requests",
                "Requests over their tenant's rate limit",
                Counter::default(),
            ),
            streams: add(r, "subscription_streams", "Open subscription streams", Gauge::default()),
            token_key_fetches: add(
                r,
                "token_key_fetches",
                "Token issuer key fetches by outcome",
                Family::default(),
            ),
            token_keys_fetched: add_seconds(
                r,
                "token_keys_fetched_timestamp",
                "Unix time of the last successful fetch of the token issuer's keys; 0 if there was none",
                Gauge::default(),
            ),
            connections: add(r, "connections", "Open client connections", Gauge::default()),
            connections_ended: add(
                r,
                "connections_ended",
                "Connections closed early or refused",
                Family::default(),
            ),
            certificate_expiry: add_seconds(
                r,
                "tls_certificate_expiry_timestamp",
                "Unix time at which the TLS certificate in use expires; 0 without TLS",
                Gauge::default(),
            ),
            certificate_reloads: add(
                r,
                "tls_certificate_reads",
                "Reloads of changed certificates by outcome",
                Family::default(),
            ),
            registry,
        }
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn add_seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

impl Metrics {
    pub fn new(topics: TopicLogs, spans: Arc<SpanTally>) -> Self {
        let mut metrics = MetricsInner::register();
        for reason in REJECTION_REASONS {
            drop(metrics.rejected.get_or_create(&[("reason", reason)]));
        }
        for outcome in KEY_FETCH_OUTCOMES {
            drop(metrics.token_key_fetches.get_or_create(&[("outcome", outcome)]));
        }
        for reason in CONNECTION_END_REASONS {
            drop(metrics.connections_ended.get_or_create(&[("reason", reason)]));
        }
        for outcome in CERTIFICATE_OUTCOMES {
            drop(metrics.certificate_reloads.get_or_create(&[("outcome", outcome)]));
        }
        for requests in [&metrics.checkouts, &metrics.portals, &metrics.checkout_refreshes] {
            drop(requests.get_or_create(&[("outcome", "success")]));
        }
        metrics.registry.register_collector(Box::new(LogAndSpanCounters { topics, spans }));
        Self(Arc::new(metrics))
    }

    /// All metrics in Prometheus' text format. Without a backlog its gauges are left out, because
    /// old values would be taken for current ones.
    pub fn text(&self, connections: PoolConnections, backlog: Option<&Backlog>) -> String {
        let mut text = String::new();
        for registry in [&self.0.registry, &database_gauges(connections, backlog)] {
            // Writing to a String cannot fail.
            let _ = prometheus_text::encode(&mut text, registry);
        }
        text
    }

    /// `route` is the contract's path template; None is reported as `unmatched`.
    pub fn http_request(
        &self,
        method: &'static str,
        route: Option<&'static str>,
        status: u16,
        took: Duration,
    ) {
        let labels = HttpLabels { method, route: route.unwrap_or("unmatched"), status };
        self.0.http.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn event(&self, source: Source, type_name: &str, outcome: Outcome) {
        let labels =
            [("source", source.as_str()), ("type", type_label(type_name)), ("outcome", outcome.as_str())];
        self.0.events.get_or_create(&labels).inc();
    }

    pub fn webhook_verified(&self, secret: &SecretName) {
        self.0.verified.get_or_create(&[("secret_name", secret.clone())]).inc();
    }

    /// Seconds from the event's creation to its receipt.
    pub fn webhook_lag(&self, seconds: i64) {
        self.0.lag.observe(f64::from(i32::try_from(seconds.max(0)).unwrap_or(i32::MAX)));
    }

    pub fn webhook_rejected(&self, reason: &'static str) {
        debug_assert!(REJECTION_REASONS.contains(&reason), "{reason} is missing from REJECTION_REASONS");
        self.0.rejected.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a rejected webhook that was over its client's rate limit.
    pub fn webhook_throttled(&self) {
        self.0.webhook_throttled.inc();
    }

    pub fn connection_opened(&self) {
        self.0.connections.inc();
    }

    pub fn connection_closed(&self) {
        self.0.connections.dec();
    }

    /// Counts a connection that the service closed early or did not accept.
    pub fn connection_ended(&self, reason: &'static str) {
        debug_assert!(
            CONNECTION_END_REASONS.contains(&reason),
            "{reason} is missing from CONNECTION_END_REASONS"
        );
        self.0.connections_ended.get_or_create(&[("reason", reason)]).inc();
    }

    pub fn set_certificate_expiry(&self, at_seconds: i64) {
        self.0.certificate_expiry.set(at_seconds);
    }

    pub fn certificate_reloaded(&self, outcome: &'static str) {
        debug_assert!(
            CERTIFICATE_OUTCOMES.contains(&outcome),
            "{outcome} is missing from CERTIFICATE_OUTCOMES"
        );
        self.0.certificate_reloads.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn checkout_session(&self, outcome: &'static str) {
        self.0.checkouts.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn checkout_refresh(&self, outcome: &'static str) {
        self.0.checkout_refreshes.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn portal_session(&self, outcome: &'static str) {
        self.0.portals.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a request that was over its tenant's rate limit.
    pub fn throttled(&self) {
        self.0.throttled.inc();
    }

    pub fn transition(&self, from: Option<&Status>, to: Option<&Status>) {
        let labels = [("from", status_label(from)), ("to", status_label(to))];
        self.0.transitions.get_or_create(&labels).inc();
    }

    /// Counts one attempt. `operation` is the method and the path's template.
    pub fn stripe_request(&self, operation: &'static str, error: Option<&'static str>, took: Duration) {
        let labels = [("operation", operation), ("error", error.unwrap_or("none"))];
        self.0.stripe.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn token_key_fetch(&self, outcome: &'static str) {
        debug_assert!(KEY_FETCH_OUTCOMES.contains(&outcome), "{outcome} is missing from KEY_FETCH_OUTCOMES");
        self.0.token_key_fetches.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn set_token_keys_fetched(&self, at_seconds: i64) {
        self.0.token_keys_fetched.set(at_seconds);
    }

    pub fn set_streams(&self, open: usize) {
        self.0.streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// Gauges of the database, built for each scrape.
fn database_gauges(connections: PoolConnections, backlog: Option<&Backlog>) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let pool = Family::<Labels<1>, Gauge>::default();
    for (state, count) in [("used", connections.used), ("idle", connections.idle)] {
        pool.get_or_create(&[("state", state)]).set(count.into());
    }
    registry.register("database_connections", "Database connections in the pools by state", pool);
    let help = "Maximum number of database connections";
    registry.register("database_connections_limit", help, ConstGauge::new(i64::from(connections.max)));
    let Some(backlog) = backlog else { return registry };

    let (waiting, oldest) =
        (Family::<Labels<1>, Gauge>::default(), Family::<Labels<1>, Gauge<f64, AtomicU64>>::default());
    for WaitingEvents { outcome, events, oldest_ms } in &backlog.waiting {
        let labels = [("outcome", outcome.as_str())];
        waiting.get_or_create(&labels).set(count(*events));
        oldest.get_or_create(&labels).set(seconds(*oldest_ms));
    }
    registry.register("events_waiting", "Unfinished events by outcome", waiting);
    let help = "How long the oldest unfinished event has waited, by outcome";
    registry.register_with_unit("oldest_waiting_event_age", help, Unit::Seconds, oldest);
    let help = "Pending refreshes from Stripe";
    registry.register("refreshes_waiting", help, ConstGauge::new(count(backlog.refreshes)));
    if let Some(ago_ms) = backlog.backfilled_ms {
        let help = "Time since the backfill last caught up with Stripe";
        registry.register_with_unit("backfill_age", help, Unit::Seconds, ConstGauge::new(seconds(ago_ms)));
    }
    registry
}

impl Source {
    /// Its name in spans and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
            Self::Inbox => "inbox",
        }
    }
}

/// Reads the counters that the logs and the span exporter keep themselves.
#[derive(Debug)]
struct LogAndSpanCounters {
    topics: TopicLogs,
    spans: Arc<SpanTally>,
}

impl Collector for LogAndSpanCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Failed writes of topic log lines";
        let errors = Topic::ALL.map(|topic| ("topic", topic.as_str(), self.topics.write_errors(topic)));
        encode_counters(&mut encoder, "log_write_errors", help, &errors)?;
        let help = "Topic log lines dropped because the queue was full";
        let dropped = Topic::ALL.map(|topic| ("topic", topic.as_str(), self.topics.dropped_lines(topic)));
        encode_counters(&mut encoder, "log_lines_dropped", help, &dropped)?;
        let help = "Lines dropped from stderr because there were too many or it could not be written";
        let metric = encoder.encode_descriptor("stderr_lines_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(stderr::dropped_lines()).encode(metric)?;
        let spans = [
            ("outcome", "exported", self.spans.exported()),
            ("outcome", "no_room", self.spans.no_room()),
            ("outcome", "not_taken", self.spans.not_taken()),
        ];
        encode_counters(&mut encoder, "spans", "Finished spans by export outcome", &spans)
    }
}

fn encode_counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counters: &[(&str, &str, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (label, value, count) in counters {
        let labels = [(*label, *value)];
        ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(milliseconds: i64) -> f64 {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default()).as_secs_f64()
}
