//! What the service reports about itself: spans over OTLP, metrics for Prometheus, lines on stderr, and the topic
//! files.
//!
//! The four are independent. `RUST_LOG` filters stderr and nothing else; without a collector spans still get their
//! ids, since journeys and log lines need them; the topic files are written whatever the others do. None of them blocks
//! a request.
//!
//! Start reading at [`init`]. `spans` and `export` are traces, `metrics` is what is counted, `topics` are the log files, and `stderr`
//! bounds what is printed.

mod collector;
mod export;
mod line;
mod line_queue;
pub mod loggable;
pub mod metrics;
mod sampler;
#[cfg(test)]
mod screen;
pub mod spans;
pub(crate) mod stderr;
mod stream;
mod tally;
pub mod topics;

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

use self::line::TracedLine;
use self::metrics::Metrics;
use self::sampler::JourneySampler;
use self::topics::TopicLogs;
use crate::domain::log_settings::LogConfig;

/// What stderr shows when `RUST_LOG` does not say. Of the libraries only errors: some warn of each frame that a client
/// sends.
const DEFAULT_FILTER: &str = "error,billhook=info";

/// How often the same failure is reported: often enough to be seen, too seldom to fill a disk.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// How long stderr may take for its last lines, when all else is flushed.
const STDERR_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `init` was called twice, or somebody else was first.
    #[error("a tracing subscriber is already installed")]
    AlreadyInstalled(#[from] SetGlobalDefaultError),
    /// An `OTEL_*` variable has a value that means nothing.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The system gives no more threads.
    #[error("no thread for the log: {0}")]
    Thread(#[from] io::Error),
}

/// The running telemetry of the process.
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    topics: TopicLogs,
    metrics: Metrics,
    provider: SdkTracerProvider,
    tally: Arc<SpanTally>,
}

/// Installs the process's subscriber and panic hook, starts the threads of stderr and of the topics and, where an
/// endpoint is configured, the export.
/// With an endpoint it must be called within the Tokio runtime, which drives the connection.
pub fn init(logs: &LogConfig) -> Result<Telemetry, InitError> {
    let tally = Arc::<SpanTally>::default();
    let provider = if export::is_wanted(variable) {
        tracer_provider().with_span_processor(export::processor(&tally)?)
    } else {
        tracer_provider().with_sampler(JourneySampler::for_ids_alone())
    };
    let provider = provider.build();
    let rust_log = variable("RUST_LOG");
    tracing::subscriber::set_global_default(subscriber(&provider, rust_log.as_deref(), || stderr::Lines))?;
    stderr::start()?;
    let topics = TopicLogs::start(logs)?;
    let metrics = Metrics::new(topics.clone(), tally.clone());
    Ok(Telemetry { topics, metrics, provider, tally })
}

impl Telemetry {
    /// The topic files.
    pub fn topics(&self) -> TopicLogs {
        self.topics.clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Writes the lines and sends the spans that wait, within the timeout, and reports how many are lost. What comes
    /// later is lost, too, so this comes last.
    pub async fn shutdown(self, timeout: Duration) {
        let (topics, deadline) = (self.topics, Instant::now() + timeout);
        let lines = tokio::task::spawn_blocking(move || topics.flush(deadline));
        export::flush(self.provider, &self.tally, timeout).await;
        // It fails only by a panic, which is reported by itself.
        let _ = lines.await;
        flush_stderr();
    }
}

/// Reports on stderr why the process ends, and waits for it a moment.
pub fn report_failure(error: &impl fmt::Display) {
    stderr::report(format_args!("{error}"));
    flush_stderr();
}

fn flush_stderr() {
    stderr::flush(Instant::now() + STDERR_FLUSH_TIMEOUT);
}

/// The tracer provider of the service but for where its spans go.
pub fn tracer_provider() -> TracerProviderBuilder {
    SdkTracerProvider::builder().with_resource(resource()).with_sampler(JourneySampler::as_configured())
}

/// The subscriber of the service: spans of our own go to the provider, whatever `RUST_LOG` says; events that
/// `RUST_LOG` lets through go to the writer as lines.
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
    // Where the code stands and how busy a thread was are of no use to an operator, and cost on every span. What is said on
    // the way is for stderr, with the trace's id: it may be in a library's words.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("billhook"))
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_span_of_ours).with_max_level_hint(LevelFilter::INFO));
    // A line says nothing of the spans that it stands in but the trace's id, so that none need be written down for it.
    let rust_log = EnvFilter::builder().parse_lossy(rust_log.unwrap_or(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(TracedLine)
        .with_writer(writer)
        .with_filter(filter_fn(is_event).with_max_level_hint(LevelFilter::TRACE).and(rust_log));
    Registry::default().with(traces).with(lines)
}

/// Keeps every log statement enabled for the tests, each of which has a subscriber of its own: `tracing` remembers for all
/// threads that a statement interests nobody, and may do so while the one that it interests is being set up.
#[cfg(test)]
fn keep_statements_enabled() {
    static INTERESTED_IN_ALL: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(Registry::default()));
    LazyLock::force(&INTERESTED_IN_ALL);
}

fn is_span_of_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("billhook") && *metadata.level() <= Level::INFO
}

fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// A variable of the environment; an empty one is as good as none, says OpenTelemetry's specification.
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

/// Something to tell when it happens, and again only after a while.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|then| now.saturating_duration_since(then) >= REPORT_INTERVAL);
        if due {
            *told = Some(now);
        }
        due
    }

    #[cfg(test)]
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// For this thread and as long as the guard lives: the service's subscriber, its spans kept to be looked at.
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

    use super::screen::Screen;
    use super::spans::current_trace;
    use super::topics::{Level, Line, Topic};
    use super::*;

    /// Far longer than anything here takes, so that a test which waits for it has failed.
    const PATIENCE: Duration = Duration::from_mins(1);

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
        let screen = Screen::default();
        let trace = with_default(subscriber(&provider, Some("off"), screen.clone()), || {
            info_span!("request").in_scope(|| {
                tracing::error!("unheard");
                topics.append(&[Line::new(Topic::Billing, Level::Info, "portal.create.start", 0).traced()]);
                current_trace().expect("an id")
            })
        });
        assert_eq!(screen.text(), "");
        assert_eq!(names(&exporter), ["request"]);
        let text = std::fs::read_to_string(dir.path().join("billing.log")).expect("the topic's file");
        let line: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["trace_id"], trace.journey_id().to_string());
        assert_eq!(line["span_id"], trace.span_id_hex());
    }

    #[test]
    fn a_line_on_stderr_bears_its_trace_and_without_one_none() {
        let screen = Screen::default();
        let provider = tracer_provider().build();
        let trace = with_default(subscriber(&provider, None, screen.clone()), || {
            info!("starting");
            info_span!("request").in_scope(|| {
                info!(tenant = "acme", "asked");
                tracing::info!(target: "sqlx::query", "select 1");
                current_trace().expect("an id")
            })
        });
        let text = screen.text();
        let [starting, asked] = text.lines().collect::<Vec<_>>()[..] else { panic!("not two lines: {text}") };
        assert!(starting.ends_with("Z  INFO billhook::telemetry::tests: starting"), "{starting}");
        let end = format!("asked tenant=\"acme\" trace_id={}", trace.journey_id());
        assert!(asked.ends_with(&end), "{asked}");
    }

    #[test]
    fn only_our_own_spans_are_exported_and_a_librarys_span_does_not_cut_the_trace() {
        let (exporter, _guard) = recording();
        info_span!("request").in_scope(|| {
            let ours = current_trace();
            tracing::info_span!(target: "sqlx", "query").in_scope(|| assert_eq!(current_trace(), ours));
            tracing::debug_span!("detail").in_scope(|| assert_eq!(current_trace(), ours));
        });
        assert_eq!(names(&exporter), ["request"]);
    }

    #[test]
    fn trouble_is_told_at_once_and_again_only_after_a_while() {
        let told = Seldom::default();
        let start = Instant::now();
        assert!(told.is_due(start));
        assert!(!told.is_due(start));
        assert!(!told.is_due(start + Duration::from_secs(59)));
        assert!(told.is_due(start + Duration::from_mins(1)));
        assert!(!told.is_due(start + Duration::from_secs(61)));
    }

    /// What [`the_environment_says_where_the_spans_go`] runs: the global subscriber is the process's, and so is the
    /// environment.
    #[tokio::test]
    #[ignore = "is run by another test, in a process of its own"]
    async fn in_a_process_of_its_own() {
        let spare = tempdir().expect("a directory");
        let log_dir = std::env::var_os("TEST_LOG_DIR").map_or_else(|| spare.path().to_owned(), PathBuf::from);
        let config = LogConfig::in_dir(&log_dir);
        let telemetry = init(&config).expect("the first");
        assert!(matches!(init(&config), Err(InitError::AlreadyInstalled(_))));

        info_span!("unsampled").in_scope(|| ());
        info_span!("create checkout", billing.journey.origin = true).in_scope(|| {
            tracing::error!("unheard");
            let line = Line::new(Topic::Billing, Level::Info, "checkout.create.success", 0).traced();
            telemetry.topics().append(&[line]);
        });
        let panicked = std::panic::catch_unwind(|| panic!("as a defect does"));
        assert!(panicked.is_err());
        telemetry.shutdown(PATIENCE).await;
    }

    #[tokio::test]
    async fn the_environment_says_where_the_spans_go() {
        let mut collector = FakeCollectorServer::start().await.expect("a collector");
        let dir = tempdir().expect("a directory");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child
            .args(["--exact", "telemetry::tests::in_a_process_of_its_own", "--ignored", "--nocapture"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
            .env("OTEL_TRACES_SAMPLER", "always_off")
            .env("RUST_LOG", "off")
            .env("TEST_LOG_DIR", dir.path());
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || child.output()).await.expect("joined").expect("ran");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
        assert!(!stderr.contains("unheard"), "{stderr}");
        assert!(
            stderr.contains("billhook: a defect: thread") && stderr.contains("as a defect does"),
            "{stderr}"
        );

        let spans = collector.exported_spans(1, PATIENCE).await;
        let [origin] = &spans[..] else { panic!("not one span: {spans:?}") };
        assert_eq!(origin.name, "create checkout");
        let text = std::fs::read_to_string(dir.path().join("billing.log")).expect("the topic's file");
        let line: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["trace_id"], origin.trace_id);
    }

    #[test]
    fn the_resource_bears_the_version() {
        let version = resource().get(&Key::from_static_str("service.version"));
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION").into()));
    }
}
