//! Telemetry: spans over OTLP, metrics for Prometheus, log lines on stderr, and the topic logs.
//!
//! The four are independent. `RUST_LOG` filters stderr only. Without a collector spans still get
//! ids, because journeys and log lines need them. None of the four blocks a request.
//!
//! Start reading at [`init`]. `spans` and `export` are the traces, `metrics` the Prometheus
//! metrics, `topics` the log files, and `stderr` the bounded output to stderr.

#[cfg(test)]
mod captured_output;
mod collector;
mod export;
mod line_queue;
pub mod metrics;
pub mod redact;
mod sampler;
pub mod spans;
pub(crate) mod stderr;
mod stream_writer;
mod tally;
pub mod topics;
mod traced_line;

use std::fmt;
use std::io;
#[cfg(test)]
use std::sync::LazyLock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, TracerProviderBuilder};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

pub use collector::{Collector, collector};
pub use export::ExportError;
pub use tally::SpanTally;

use self::metrics::Metrics;
use self::sampler::JourneySampler;
use self::topics::TopicLogs;
use self::traced_line::TracedLine;
use crate::domain::log_config::LogConfig;

/// The filter without `RUST_LOG`. Libraries log errors only, because some warn about each frame
/// that a client sends.
const DEFAULT_FILTER: &str = "error,billhook=info";

/// How often the same failure is reported: often enough to be noticed, not so often that it fills a
/// disk.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// How long the process waits at its end for the last lines on stderr.
const STDERR_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("a tracing subscriber is already installed")]
    AlreadyInstalled(#[from] SetGlobalDefaultError),
    /// An `OTEL_*` variable is invalid.
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("cannot start a log thread: {0}")]
    Thread(#[from] io::Error),
}

#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    topics: TopicLogs,
    metrics: Metrics,
    provider: SdkTracerProvider,
    tally: Arc<SpanTally>,
}

/// Installs the subscriber and the panic hook of the process, starts the threads that write stderr
/// and the topic logs and, if an endpoint is configured, the span export. With an endpoint it must
/// be called within the Tokio runtime, which drives the connection.
pub fn init(logs: &LogConfig) -> Result<Telemetry, InitError> {
    let tally = Arc::<SpanTally>::default();
    let provider = if export::is_enabled(variable) {
        tracer_provider().with_span_processor(export::processor(&tally)?)
    } else {
        tracer_provider().with_sampler(JourneySampler::record_journeys_only())
    };
    let provider = provider.build();
    let rust_log = variable("RUST_LOG");
    let subscriber = subscriber(&provider, rust_log.as_deref(), || stderr::LineWriter);
    tracing::subscriber::set_global_default(subscriber)?;
    stderr::start()?;
    let topics = TopicLogs::start(logs)?;
    let metrics = Metrics::new(topics.clone(), tally.clone());
    Ok(Telemetry { topics, metrics, provider, tally })
}

impl Telemetry {
    pub fn topics(&self) -> TopicLogs {
        self.topics.clone()
    }

    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Writes the queued lines and exports the queued spans, within the timeout, and reports how
    /// many are lost. Later lines and spans are lost too, so call it last.
    pub async fn shutdown(self, timeout: Duration) {
        let (topics, deadline) = (self.topics, Instant::now() + timeout);
        let lines = tokio::task::spawn_blocking(move || topics.flush(deadline));
        export::flush(self.provider, &self.tally, timeout).await;
        // It fails only after a panic, which the panic hook has reported.
        let _ = lines.await;
        flush_stderr();
    }
}

/// Reports on stderr why the process exits, and waits up to a second until the report is written.
pub fn report_failure(error: &impl fmt::Display) {
    stderr::report(format_args!("{error}"));
    flush_stderr();
}

fn flush_stderr() {
    stderr::flush(Instant::now() + STDERR_FLUSH_TIMEOUT);
}

/// The service's tracer provider, without a span processor.
pub fn tracer_provider() -> TracerProviderBuilder {
    SdkTracerProvider::builder().with_resource(resource()).with_sampler(JourneySampler::from_env())
}

/// Sends Billhook's own spans to the provider, regardless of `RUST_LOG`, and writes the events that
/// `RUST_LOG` selects to the writer as lines.
pub fn subscriber<W>(
    provider: &SdkTracerProvider,
    rust_log: Option<&str>,
    writer: W,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    #[cfg(test)]
    keep_statements_enabled();
    // Code location, thread and busy time are useless to an operator and cost time on each span.
    // Events go to stderr with the trace id and not into the spans, because a library may have
    // written them.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("billhook"))
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_span_of_ours).with_max_level_hint(LevelFilter::INFO));
    // A line contains only the trace id of its spans, so their fields are not formatted for it.
    let rust_log = EnvFilter::builder().parse_lossy(rust_log.unwrap_or(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(TracedLine)
        .with_writer(writer)
        .with_filter(filter_fn(is_event).with_max_level_hint(LevelFilter::TRACE).and(rust_log));
    Registry::default().with(traces).with(lines)
}

/// Keeps every log statement enabled in tests. Each test has its own subscriber, but `tracing`
/// caches for all threads whether any subscriber is interested in a statement, and may cache "no"
/// while a test sets up the one that is.
#[cfg(test)]
fn keep_statements_enabled() {
    static ENABLE_ALL: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(Registry::default()));
    LazyLock::force(&ENABLE_ALL);
}

fn is_span_of_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("billhook") && *metadata.level() <= Level::INFO
}

fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// Reads an environment variable. Empty means unset, as OpenTelemetry's specification requires.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn resource() -> Resource {
    let service_name = Resource::builder()
        .build()
        .get(&Key::from_static_str("service.name"))
        .filter(|name| !name.as_str().starts_with("unknown_service"))
        .unwrap_or_else(|| "billhook".into());
    Resource::builder()
        .with_service_name(service_name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Allows one report per [`REPORT_INTERVAL`]. Holds the time of the last one.
#[derive(Debug, Default)]
struct ReportLimiter(Mutex<Option<Instant>>);

impl ReportLimiter {
    fn is_due(&self, now: Instant) -> bool {
        let mut reported_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = reported_at.is_none_or(|then| now.saturating_duration_since(then) >= REPORT_INTERVAL);
        if due {
            *reported_at = Some(now);
        }
        due
    }

    #[cfg(test)]
    fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Installs the service's subscriber for this thread until the guard is dropped, and keeps its
/// spans in memory.
#[cfg(test)]
pub(crate) fn recording()
-> (opentelemetry_sdk::trace::InMemorySpanExporter, tracing::subscriber::DefaultGuard) {
    let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
    let provider = tracer_provider().with_simple_exporter(exporter.clone()).build();
    (exporter, tracing::subscriber::set_default(subscriber(&provider, Some("off"), io::sink)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::{Command, Output};

    use fake_opentelemetry_collector::FakeCollectorServer;
    use opentelemetry_sdk::trace::InMemorySpanExporter;
    use serde_json::Value as Json;
    use tempfile::tempdir;
    use tracing::subscriber::with_default;
    use tracing::{info, info_span};

    use super::captured_output::CapturedOutput;
    use super::spans::current_trace;
    use super::topics::{Level, Line, Topic};
    use super::*;

    /// Far longer than any step here takes.
    const TEST_TIMEOUT: Duration = Duration::from_mins(1);

    fn names(exporter: &InMemorySpanExporter) -> Vec<String> {
        let spans = exporter.get_finished_spans().expect("spans");
        spans.into_iter().map(|span| span.name.into_owned()).collect()
    }

    #[test]
    fn rust_log_off_mutes_neither_spans_nor_topics() {
        let dir = tempdir().expect("a directory");
        let topics = TopicLogs::open(&LogConfig::in_dir(dir.path()));
        let exporter = InMemorySpanExporter::default();
        let provider = tracer_provider().with_simple_exporter(exporter.clone()).build();
        let output = CapturedOutput::default();
        let trace = with_default(subscriber(&provider, Some("off"), output.clone()), || {
            info_span!("request").in_scope(|| {
                tracing::error!("muted");
                topics.append(&[Line::new(Topic::Billing, Level::Info, "portal.create.start", 0).traced()]);
                current_trace().expect("an id")
            })
        });
        assert_eq!(output.text(), "");
        assert_eq!(names(&exporter), ["request"]);
        let text = std::fs::read_to_string(dir.path().join("billing.log")).expect("the topic's file");
        let line: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["trace_id"], trace.trace_id().to_string());
        assert_eq!(line["span_id"], trace.span_id_hex());
    }

    #[test]
    fn stderr_line_in_a_span_ends_with_the_trace_id() {
        let output = CapturedOutput::default();
        let provider = tracer_provider().build();
        let trace = with_default(subscriber(&provider, None, output.clone()), || {
            info!("starting");
            info_span!("request").in_scope(|| {
                info!(tenant = "acme", "asked");
                tracing::info!(target: "sqlx::query", "select 1");
                current_trace().expect("an id")
            })
        });
        let text = output.text();
        let [starting, asked] = text.lines().collect::<Vec<_>>()[..] else { panic!("not two lines: {text}") };
        assert!(starting.ends_with("Z  INFO billhook::telemetry::tests: starting"), "{starting}");
        let end = format!("asked tenant=\"acme\" trace_id={}", trace.trace_id());
        assert!(asked.ends_with(&end), "{asked}");
    }

    #[test]
    fn library_span_is_not_exported_and_does_not_cut_the_trace() {
        let (exporter, _guard) = recording();
        info_span!("request").in_scope(|| {
            let ours = current_trace();
            tracing::info_span!(target: "sqlx", "query").in_scope(|| assert_eq!(current_trace(), ours));
            tracing::debug_span!("detail").in_scope(|| assert_eq!(current_trace(), ours));
        });
        assert_eq!(names(&exporter), ["request"]);
    }

    #[test]
    fn report_limiter_allows_one_report_per_interval() {
        let limiter = ReportLimiter::default();
        let start = Instant::now();
        assert!(limiter.is_due(start));
        assert!(!limiter.is_due(start));
        assert!(!limiter.is_due(start + Duration::from_secs(59)));
        assert!(limiter.is_due(start + Duration::from_mins(1)));
        assert!(!limiter.is_due(start + Duration::from_secs(61)));
    }

    /// Run by [`init_exports_spans_to_the_endpoint_in_the_environment`] in a child process, because
    /// the subscriber and the environment are global.
    #[tokio::test]
    #[ignore = "another test runs it in a child process"]
    async fn init_child_process() {
        let fallback = tempdir().expect("a directory");
        let log_dir =
            std::env::var_os("TEST_LOG_DIR").map_or_else(|| fallback.path().to_owned(), PathBuf::from);
        let config = LogConfig::in_dir(&log_dir);
        let telemetry = init(&config).expect("the first call succeeds");
        assert!(matches!(init(&config), Err(InitError::AlreadyInstalled(_))));

        info_span!("unsampled").in_scope(|| ());
        info_span!("create checkout", billing.journey.origin = true).in_scope(|| {
            tracing::error!("muted");
            let line = Line::new(Topic::Billing, Level::Info, "checkout.create.success", 0).traced();
            telemetry.topics().append(&[line]);
        });
        let panicked = std::panic::catch_unwind(|| panic!("for the test"));
        assert!(panicked.is_err());
        telemetry.shutdown(TEST_TIMEOUT).await;
    }

    #[tokio::test]
    async fn init_exports_spans_to_the_endpoint_in_the_environment() {
        let mut collector = FakeCollectorServer::start().await.expect("a collector");
        let dir = tempdir().expect("a directory");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child
            .args(["--exact", "telemetry::tests::init_child_process", "--ignored", "--nocapture"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
            .env("OTEL_TRACES_SAMPLER", "always_off")
            .env("RUST_LOG", "off")
            .env("TEST_LOG_DIR", dir.path());
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || child.output()).await.expect("joined").expect("ran");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
        assert!(!stderr.contains("muted"), "{stderr}");
        assert!(stderr.contains("billhook: a defect: thread") && stderr.contains("for the test"), "{stderr}");

        let spans = collector.exported_spans(1, TEST_TIMEOUT).await;
        let [origin] = &spans[..] else { panic!("not one span: {spans:?}") };
        assert_eq!(origin.name, "create checkout");
        let text = std::fs::read_to_string(dir.path().join("billing.log")).expect("the topic's file");
        let line: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["trace_id"], origin.trace_id);
    }

    #[test]
    fn resource_contains_the_version() {
        let version = resource().get(&Key::from_static_str("service.version"));
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION").into()));
    }
}
