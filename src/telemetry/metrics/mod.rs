//! What is counted, for Prometheus (<https://prometheus.io/docs/practices/naming/>).
//!
//! Every label is a word of ours, known when the program was built: a tenant, a customer or anything that somebody sends
//! has no way in, and the number of series has a bound. Start reading at [`Metrics`]; `labels` are the words.

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
use prometheus_client::registry::{Registry, Unit};

use self::labels::{
    Events, Http, OfOutcome, OfReason, OfSecret, OfState, Stripe, Transition, status_label, type_label,
};
use super::topics::{Topic, TopicLogs};
use super::{SpanTally, stderr};
use crate::domain::ids::SecretName;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::Status;

/// The format's media type.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Before the name of every metric.
const PREFIX: &str = "billhook";

/// From what a local database takes to what everything gives up at, in seconds.
const DURATIONS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// From the second that Stripe counts in to the three days for which it tries again.
const LAGS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 259_200.0];

/// Why webhooks are not taken. Each is told from the start, as 0, so that the first one is seen to rise.
const REJECTIONS: [&str; 13] = [
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

/// What comes of fetching an issuer's keys, told from the start likewise.
const KEY_FETCHES: [&str; 8] = [
    "success",
    "timeout",
    "no_connection",
    "status",
    "too_large",
    "broken_reply",
    "not_a_key_set",
    "too_many_keys",
];
/// Why connections are ended.
const ENDINGS: [&str; 5] = ["silent", "stalled", "crowded", "refused", "no_tls"];

/// What comes of a certificate's new files.
const CERTIFICATES: [&str; 2] = ["taken", "refused"];

/// How an event came to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Stripe posted it.
    Webhook,
    /// It was missing when Stripe listed its events.
    Backfill,
    /// It had failed, or had waited for its customer.
    Inbox,
}

/// Events that wait for something, as the inbox has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Failed ones wait for another try, parked ones for their customer, dead ones for a person.
    pub outcome: Outcome,
    /// How many.
    pub events: u64,
    /// For how long the oldest has waited, in milliseconds.
    pub oldest_ms: i64,
}

/// What the database is asked for when somebody looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Events that wait for something.
    pub waiting: Vec<Waiting>,
    /// Questions to Stripe that are open.
    pub refreshes: u64,
    /// How long ago the backfill reached the present, in milliseconds; none before it has for the first time.
    pub backfilled_ms: Option<i64>,
}

/// The connections that the database's pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// That somebody works with.
    pub used: u32,
    /// That wait for work.
    pub idle: u32,
    /// That there may be.
    pub most: u32,
}

/// What is counted. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    registry: Registry,
    http: Family<Http, Histogram, fn() -> Histogram>,
    events: Family<Events, Counter>,
    rejected: Family<OfReason, Counter>,
    webhook_throttled: Counter,
    verified: Family<OfSecret, Counter>,
    lag: Histogram,
    checkouts: Family<OfOutcome, Counter>,
    checkout_refreshes: Family<OfOutcome, Counter>,
    portals: Family<OfOutcome, Counter>,
    throttled: Counter,
    transitions: Family<Transition, Counter>,
    stripe: Family<Stripe, Histogram, fn() -> Histogram>,
    streams: Gauge,
    token_key_fetches: Family<OfOutcome, Counter>,
    token_keys_fetched: Gauge,
    connections: Gauge,
    connections_ended: Family<OfReason, Counter>,
    certificate_expires: Gauge,
    certificates_read: Family<OfOutcome, Counter>,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Metrics {
    /// Begins to count; what the topic files and the spans count of themselves is told with the rest.
    pub fn new(topics: TopicLogs, spans: Arc<SpanTally>) -> Self {
        let mut counted = Counted {
            registry: Registry::with_prefix(PREFIX),
            http: Family::new_with_constructor(durations),
            events: Family::default(),
            rejected: Family::default(),
            webhook_throttled: Counter::default(),
            verified: Family::default(),
            lag: Histogram::new(LAGS),
            checkouts: Family::default(),
            checkout_refreshes: Family::default(),
            portals: Family::default(),
            throttled: Counter::default(),
            transitions: Family::default(),
            stripe: Family::new_with_constructor(durations),
            streams: Gauge::default(),
            token_key_fetches: Family::default(),
            token_keys_fetched: Gauge::default(),
            connections: Gauge::default(),
            connections_ended: Family::default(),
            certificate_expires: Gauge::default(),
            certificates_read: Family::default(),
        };
        for reason in REJECTIONS {
            drop(counted.rejected.get_or_create(&OfReason { reason }));
        }
        for outcome in KEY_FETCHES {
            drop(counted.token_key_fetches.get_or_create(&OfOutcome { outcome }));
        }
        for reason in ENDINGS {
            drop(counted.connections_ended.get_or_create(&OfReason { reason }));
        }
        for outcome in CERTIFICATES {
            drop(counted.certificates_read.get_or_create(&OfOutcome { outcome }));
        }
        for requests in [&counted.checkouts, &counted.portals, &counted.checkout_refreshes] {
            drop(requests.get_or_create(&OfOutcome { outcome: "success" }));
        }
        counted.register();
        counted.registry.register_collector(Box::new(Elsewhere { topics, spans }));
        Self(Arc::new(counted))
    }

    /// Everything that has been counted, and how things stand now, in Prometheus' text format. What the database did not
    /// tell is left out, so that nothing old is taken for new.
    pub fn text(&self, connections: Connections, backlog: Option<&Backlog>) -> String {
        let mut text = String::new();
        for registry in [&self.0.registry, &standing(connections, backlog)] {
            // A String takes all that is written.
            let _ = prometheus_text::encode(&mut text, registry);
        }
        text
    }

    /// A request was answered. `route` is a template of the contract's; none if nothing is there.
    pub fn http_request(
        &self,
        method: &'static str,
        route: Option<&'static str>,
        status: u16,
        took: Duration,
    ) {
        let labels = Http { method, route: route.unwrap_or("unmatched"), status };
        self.0.http.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Something became of an event.
    pub fn event(&self, source: Source, type_name: &str, outcome: Outcome) {
        let labels =
            Events { source: source.as_str(), r#type: type_label(type_name), outcome: outcome.as_str() };
        self.0.events.get_or_create(&labels).inc();
    }

    /// A webhook was verified, by which of the secrets.
    pub fn webhook_verified(&self, secret: &SecretName) {
        self.0.verified.get_or_create(&OfSecret { secret_name: secret.clone() }).inc();
    }

    /// A verified event came, so long after Stripe had made it.
    pub fn webhook_lag(&self, seconds: i64) {
        self.0.lag.observe(f64::from(i32::try_from(seconds.max(0)).unwrap_or(i32::MAX)));
    }

    /// A webhook was not taken.
    pub fn webhook_rejected(&self, reason: &'static str) {
        debug_assert!(REJECTIONS.contains(&reason), "{reason} is told from the start");
        self.0.rejected.get_or_create(&OfReason { reason }).inc();
    }

    /// A webhook that was not taken was one too many of its client.
    pub fn webhook_throttled(&self) {
        self.0.webhook_throttled.inc();
    }

    /// A connection was taken.
    pub fn connection_opened(&self) {
        self.0.connections.inc();
    }

    /// A connection is gone.
    pub fn connection_closed(&self) {
        self.0.connections.dec();
    }

    /// A connection was ended by us before its time, or not taken.
    pub fn connection_ended(&self, reason: &'static str) {
        debug_assert!(ENDINGS.contains(&reason), "{reason} is told from the start");
        self.0.connections_ended.get_or_create(&OfReason { reason }).inc();
    }

    /// Takes note of when the certificate that is served will be over, in Unix seconds.
    pub fn certificate_expires(&self, at_seconds: i64) {
        self.0.certificate_expires.set(at_seconds);
    }

    /// The certificate's files were read again.
    pub fn certificate_read(&self, outcome: &'static str) {
        debug_assert!(CERTIFICATES.contains(&outcome), "{outcome} is told from the start");
        self.0.certificates_read.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// A request for a checkout session ended.
    pub fn checkout_session(&self, outcome: &'static str) {
        self.0.checkouts.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// A request for a look at a checkout session ended.
    pub fn checkout_refresh(&self, outcome: &'static str) {
        self.0.checkout_refreshes.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// A request for a portal session ended.
    pub fn portal_session(&self, outcome: &'static str) {
        self.0.portals.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// A tenant asked too often.
    pub fn throttled(&self) {
        self.0.throttled.inc();
    }

    /// A subscription's state changed.
    pub fn transition(&self, from: Option<&Status>, to: Option<&Status>) {
        let labels = Transition { from: status_label(from), to: status_label(to) };
        self.0.transitions.get_or_create(&labels).inc();
    }

    /// Stripe was asked, once. `operation` is the method and the path's template.
    pub fn stripe_request(&self, operation: &'static str, error: Option<&'static str>, took: Duration) {
        let labels = Stripe { operation, error: error.unwrap_or("none") };
        self.0.stripe.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An issuer's keys were asked for.
    pub fn token_key_fetch(&self, outcome: &'static str) {
        debug_assert!(KEY_FETCHES.contains(&outcome), "{outcome} is told from the start");
        self.0.token_key_fetches.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// Takes note of when an issuer's keys were last had, in Unix seconds.
    pub fn token_keys_fetched(&self, at_seconds: i64) {
        self.0.token_keys_fetched.set(at_seconds);
    }

    /// Takes note of how many streams are open.
    pub fn set_streams(&self, open: usize) {
        self.0.streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// How things stand now, which is nobody's but whoever asks.
fn standing(connections: Connections, backlog: Option<&Backlog>) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let pool = Family::<OfState, Gauge>::default();
    for (state, count) in [("used", connections.used), ("idle", connections.idle)] {
        pool.get_or_create(&OfState { state }).set(count.into());
    }
    registry.register("database_connections", "The database's connections", pool);
    let help = "How many connections to the database there may be";
    registry.register("database_connections_limit", help, ConstGauge::new(i64::from(connections.most)));
    let Some(backlog) = backlog else { return registry };

    let (waiting, oldest) =
        (Family::<OfOutcome, Gauge>::default(), Family::<OfOutcome, Gauge<f64, AtomicU64>>::default());
    for Waiting { outcome, events, oldest_ms } in &backlog.waiting {
        let labels = OfOutcome { outcome: outcome.as_str() };
        waiting.get_or_create(&labels).set(count(*events));
        oldest.get_or_create(&labels).set(seconds(*oldest_ms));
    }
    registry.register("events_waiting", "Events that wait, by why", waiting);
    let help = "For how long the oldest event has waited";
    registry.register_with_unit("oldest_waiting_event_age", help, Unit::Seconds, oldest);
    let help = "Questions to Stripe that are open";
    registry.register("refreshes_waiting", help, ConstGauge::new(count(backlog.refreshes)));
    if let Some(ago_ms) = backlog.backfilled_ms {
        let help = "How long ago the backfill reached the present";
        registry.register_with_unit("backfill_age", help, Unit::Seconds, ConstGauge::new(seconds(ago_ms)));
    }
    registry
}

impl Counted {
    fn register(&mut self) {
        self.register_events();
        self.register_requests();
    }

    /// What comes from Stripe, and what is asked there.
    fn register_events(&mut self) {
        let Self { registry, .. } = self;
        registry.register("events", "Events by how they came, by type and by outcome", self.events.clone());
        registry.register("webhook_rejections", "Webhooks that were not taken", self.rejected.clone());
        registry.register(
            "webhook_throttled",
            "Webhooks that were not taken and were one too many of their client",
            self.webhook_throttled.clone(),
        );
        registry.register(
            "webhook_verified",
            "Webhooks by the name of the secret that verified them",
            self.verified.clone(),
        );
        registry.register_with_unit(
            "webhook_lag",
            "From when Stripe made an event until it came, each time that it did",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register(
            "checkout_sessions",
            "Requests for a checkout session by outcome",
            self.checkouts.clone(),
        );
        registry.register(
            "checkout_refreshes",
            "Requests for a look at a checkout session by outcome",
            self.checkout_refreshes.clone(),
        );
        registry.register(
            "portal_sessions",
            "Requests for a portal session by outcome",
            self.portals.clone(),
        );
        registry.register(
            "subscription_transitions",
            "Changes of a subscription's state by its statuses",
            self.transitions.clone(),
        );
        registry.register_with_unit(
            "stripe_request_duration",
            "How long requests to Stripe took, each try by itself",
            Unit::Seconds,
            self.stripe.clone(),
        );
    }

    /// What clients ask, and how they are connected.
    fn register_requests(&mut self) {
        let Self { registry, .. } = self;
        registry.register_with_unit(
            "http_request_duration",
            "How long requests took to be answered",
            Unit::Seconds,
            self.http.clone(),
        );
        registry.register(
            "throttled_requests",
            "Requests that a tenant made too often",
            self.throttled.clone(),
        );
        registry.register(
            "subscription_streams",
            "Streams that are open, on which tenants' pages follow their subscriptions",
            self.streams.clone(),
        );
        registry.register(
            "token_key_fetches",
            "Fetches of the token issuer's keys by outcome",
            self.token_key_fetches.clone(),
        );
        registry.register_with_unit(
            "token_keys_fetched_timestamp",
            "When the token issuer's keys were last had, in Unix time; 0 without such an issuer, and before the \
             first time",
            Unit::Seconds,
            self.token_keys_fetched.clone(),
        );
        registry.register("connections", "Connections that are open", self.connections.clone());
        registry.register(
            "connections_ended",
            "Connections that were ended before their time, or not taken",
            self.connections_ended.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "When the certificate that is served will be over, in Unix time; 0 without one",
            Unit::Seconds,
            self.certificate_expires.clone(),
        );
        registry.register(
            "tls_certificate_reads",
            "Certificates found in changed files, by what became of them",
            self.certificates_read.clone(),
        );
    }
}

impl Source {
    /// The word in spans and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
            Self::Inbox => "inbox",
        }
    }
}

/// What others count: the logs their failures, the exporter its spans.
struct Elsewhere {
    topics: TopicLogs,
    spans: Arc<SpanTally>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere(..)")
    }
}

impl Collector for Elsewhere {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Times that a topic's lines could not be written";
        let errors = Topic::ALL.map(|topic| ("topic", topic.as_str(), self.topics.write_errors(topic)));
        encode_counters(&mut encoder, "log_write_errors", help, &errors)?;
        let help = "A topic's lines that were dropped because too many waited to be written";
        let dropped = Topic::ALL.map(|topic| ("topic", topic.as_str(), self.topics.dropped_lines(topic)));
        encode_counters(&mut encoder, "log_lines_dropped", help, &dropped)?;
        let help = "Lines that were left out of stderr because there were too many";
        let metric = encoder.encode_descriptor("stderr_lines_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(stderr::dropped_lines()).encode(metric)?;
        let spans = [
            ("outcome", "exported", self.spans.exported()),
            ("outcome", "no_room", self.spans.no_room()),
            ("outcome", "not_taken", self.spans.not_taken()),
        ];
        encode_counters(&mut encoder, "spans", "Spans by what the collector made of them", &spans)
    }
}

fn encode_counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counters: &[(&'static str, &'static str, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (label, value, counted) in counters {
        let labels = [(*label, *value)];
        ConstCounter::new(*counted).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(milliseconds: i64) -> f64 {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default()).as_secs_f64()
}
