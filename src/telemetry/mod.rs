//! What the service tells about itself: spans over OTLP, lines on stderr, and the topic files.
//!
//! The three are independent. `RUST_LOG` filters stderr and nothing else; without a collector spans still get their
//! ids, since journeys and log lines need them; the topic files are written whatever the other two do.
//!
//! The `OTEL_*` variables mean what OpenTelemetry's specification says, with two differences. No endpoint means no
//! export, instead of a collector on localhost. And `OTEL_SDK_DISABLED` stops the export only, not the ids.

pub mod spans;
pub mod topics;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TracerProvider};
use opentelemetry::{Context, Key, KeyValue, Value};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Config, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span,
    SpanData, SpanExporter, SpanProcessor, TracerProviderBuilder,
};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Event, Subscriber, warn};
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use self::spans::current_trace;
use self::topics::TopicLogs;

/// What stderr shows when `RUST_LOG` does not say: us, and of the database only what is wrong.
const DEFAULT_FILTER: &str = "info,sqlx=warn,sea_orm=warn";

/// How often the same trouble is worth a line: often enough to be seen, too seldom to fill a disk.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// On a span that begins a journey. Such a span is always recorded.
const JOURNEY_ORIGIN: &str = "billing.journey.origin";

/// On a span that marks what happened in a journey later on. Always recorded, like the origin that it belongs to.
const JOURNEY_MILESTONE: &str = "billing.journey.milestone";

/// Where the service writes about itself.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The directory of the topic files.
    pub log_dir: PathBuf,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `init` was called twice, or somebody else was first.
    #[error("a tracing subscriber is already installed")]
    AlreadyInstalled(#[from] SetGlobalDefaultError),
    /// An `OTEL_EXPORTER_OTLP_*` variable has a value that means nothing.
    #[error("the OTLP exporter cannot be configured")]
    Exporter(#[from] ExporterBuildError),
}

/// The running telemetry of the process.
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    topics: TopicLogs,
    provider: SdkTracerProvider,
    tally: Arc<Tally>,
}

/// Installs the process's subscriber, opens the topic files and, where an endpoint is configured, begins to export.
/// With an endpoint it must be called within the Tokio runtime, which drives the connection.
pub fn init(config: &TelemetryConfig) -> Result<Telemetry, InitError> {
    let tally = Arc::<Tally>::default();
    let mut provider = tracer_provider();
    if wants_export(variable) {
        provider = provider.with_span_processor(batches_to(otlp_exporter()?, &tally));
    }
    let provider = provider.build();
    let rust_log = variable("RUST_LOG");
    tracing::subscriber::set_global_default(subscriber(&provider, rust_log.as_deref(), io::stderr))?;
    Ok(Telemetry { topics: TopicLogs::open(&config.log_dir), provider, tally })
}

impl Telemetry {
    /// The topic files.
    pub fn topics(&self) -> TopicLogs {
        self.topics.clone()
    }

    /// Sends what has not been sent, within the deadline, and says how much could not be. Spans that end later are
    /// lost, so this comes last.
    pub async fn shutdown(self, deadline: Duration) {
        let provider = self.provider.clone();
        // The result says nothing of spans that were dropped on the way, so the tally is asked instead.
        let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(deadline)).await;
        let unsent = self.tally.unsent();
        if unsent > 0 {
            warn!(unsent, "stopped before every span was exported");
        }
    }
}

/// The tracer provider of the service but for where its spans go.
pub fn tracer_provider() -> TracerProviderBuilder {
    // The SDK reads `OTEL_TRACES_SAMPLER` into the configuration's default, and nowhere else.
    let others = Config::default().sampler;
    SdkTracerProvider::builder().with_resource(resource()).with_sampler(JourneySampler { others })
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
    // Where the code stands and how busy a thread was are of no use to an operator, and cost on every span.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("billhook"))
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target("billhook", LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(TracedLine)
        .with_writer(writer)
        .with_filter(EnvFilter::builder().parse_lossy(rust_log.unwrap_or(DEFAULT_FILTER)));
    Registry::default().with(traces).with(lines)
}

/// A variable of the environment; an empty one is as good as none, says OpenTelemetry's specification.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn wants_export(variable: impl Fn(&str) -> Option<String>) -> bool {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporters = variable("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".into());
    let endpoint =
        variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    !disabled && exporters.split(',').any(|name| name.trim() == "otlp") && endpoint.is_some()
}

fn otlp_exporter() -> Result<opentelemetry_otlp::SpanExporter, ExporterBuildError> {
    // Left to itself the exporter trusts no certificate at all; on an `http://` endpoint this is not used.
    let tls = ClientTlsConfig::new().with_enabled_roots();
    opentelemetry_otlp::SpanExporter::builder().with_tonic().with_tls_config(tls).build()
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

/// Samples as the operator asked, except that what belongs to a journey's own trace is always recorded: it is a
/// handful of spans for each checkout, and the one thread that leads from there to all the rest.
#[derive(Debug, Clone)]
struct JourneySampler {
    others: Box<dyn ShouldSample>,
}

impl ShouldSample for JourneySampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if !attributes.iter().any(is_of_a_journey) {
            return self.others.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        SamplingResult {
            decision: SamplingDecision::RecordAndSample,
            attributes: Vec::new(),
            trace_state: parent.map(|cx| cx.span().span_context().trace_state().clone()).unwrap_or_default(),
        }
    }
}

fn is_of_a_journey(attribute: &KeyValue) -> bool {
    matches!(attribute.key.as_str(), JOURNEY_ORIGIN | JOURNEY_MILESTONE)
        && attribute.value == Value::Bool(true)
}

/// How many spans ended and how many of them the collector took. The SDK drops spans without a word, when its queue
/// is full and when the collector does not answer; the difference tells.
#[derive(Debug, Default)]
struct Tally {
    ended: AtomicU64,
    exported: AtomicU64,
}

impl Tally {
    fn unsent(&self) -> u64 {
        self.ended.load(Ordering::Relaxed).saturating_sub(self.exported.load(Ordering::Relaxed))
    }
}

fn batches_to(exporter: impl SpanExporter + 'static, tally: &Arc<Tally>) -> CountedProcessor {
    let exporter = CountedExporter { exporter, tally: tally.clone(), told: Seldom::default() };
    CountedProcessor { processor: BatchSpanProcessor::builder(exporter).build(), tally: tally.clone() }
}

#[derive(Debug)]
struct CountedProcessor {
    processor: BatchSpanProcessor,
    tally: Arc<Tally>,
}

impl SpanProcessor for CountedProcessor {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.processor.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        self.tally.ended.fetch_add(1, Ordering::Relaxed);
        self.processor.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

#[derive(Debug)]
struct CountedExporter<E> {
    exporter: E,
    tally: Arc<Tally>,
    told: Seldom,
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => {
                self.tally.exported.fetch_add(spans as u64, Ordering::Relaxed);
            }
            Err(error) if self.told.is_due(Instant::now()) => {
                warn!(spans, unsent = self.tally.unsent(), %error, "the collector did not take the spans");
            }
            Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Something to tell when it happens, and again only after a while.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|then| now.saturating_duration_since(then) >= TELL_EVERY);
        if due {
            *told = Some(now);
        }
        due
    }
}

/// A line for people: time, level, target, what happened, and the trace in which to look for more.
struct TracedLine;

impl<S, N> FormatEvent<S, N> for TracedLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        SystemTime.format_time(&mut line)?;
        write!(line, " {:>5} {}: ", metadata.level(), metadata.target())?;
        ctx.field_format().format_fields(line.by_ref(), event)?;
        if let Some(trace) = current_trace() {
            write!(line, " trace_id={}", trace.journey_id())?;
        }
        writeln!(line)
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
    use std::collections::HashMap;
    use std::net::TcpListener;
    use std::process::{Command, Output};

    use fake_opentelemetry_collector::FakeCollectorServer;
    use opentelemetry_otlp::WithExportConfig;
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler};
    use serde_json::Value as Json;
    use tempfile::tempdir;
    use tracing::subscriber::{set_default, with_default};
    use tracing::{info, info_span};

    use super::spans::{BillingAttributes, detach, milestone, traceparent_of};
    use super::topics::{Level, Line, Topic};
    use super::*;

    /// Far longer than anything here takes, so that a test which waits for it has failed.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// What stderr would show.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    impl io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Screen {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn exporting_to(endpoint: &str, topics: TopicLogs) -> Telemetry {
        let tally = Arc::<Tally>::default();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
            .with_endpoint(endpoint)
            .build()
            .expect("an exporter");
        let provider = tracer_provider().with_span_processor(batches_to(exporter, &tally)).build();
        Telemetry { topics, provider, tally }
    }

    fn names(exporter: &InMemorySpanExporter) -> Vec<String> {
        let spans = exporter.get_finished_spans().expect("spans");
        spans.into_iter().map(|span| span.name.into_owned()).collect()
    }

    #[test]
    fn what_belongs_to_a_journey_is_always_sampled_and_the_rest_as_the_operator_asked() {
        let exporter = InMemorySpanExporter::default();
        let provider = tracer_provider()
            .with_sampler(JourneySampler { others: Box::new(Sampler::AlwaysOff) })
            .with_simple_exporter(exporter.clone())
            .build();
        with_default(subscriber(&provider, None, io::sink), || {
            let unsampled = info_span!("request").entered();
            let trace = current_trace().expect("an id nevertheless");
            assert!(!trace.sampled());

            let origin = info_span!("origin", billing.journey.origin = true);
            detach(&origin);
            let journey = traceparent_of(&origin).expect("an id");
            assert!(journey.sampled());
            assert_ne!(journey.journey_id(), trace.journey_id());

            info_span!("no origin", billing.journey.origin = false).in_scope(|| ());
            milestone(journey, "portal opened", &BillingAttributes::default(), Some(trace));
            drop((origin, unsampled));
        });
        assert_eq!(names(&exporter), ["journey: portal opened", "origin"]);
    }

    #[test]
    fn rust_log_off_mutes_neither_spans_nor_topics() {
        let dir = tempdir().expect("a directory");
        let topics = TopicLogs::open(dir.path());
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
    fn spans_are_exported_only_to_an_endpoint_that_somebody_named() {
        let wants = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            wants_export(|name| variables.get(name).map(ToString::to_string))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        assert!(!wants(&[]));
        assert!(wants(&[endpoint]));
        assert!(wants(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")]));
        assert!(wants(&[endpoint, ("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(wants(&[endpoint, ("OTEL_TRACES_EXPORTER", "console, otlp")]));
        assert!(!wants(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!wants(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(wants(&[endpoint, ("OTEL_SDK_DISABLED", "false")]));
        assert!(!wants(&[("OTEL_TRACES_EXPORTER", "otlp")]));
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

    #[tokio::test]
    async fn a_journey_reaches_a_collector_with_its_parents_and_links() {
        let mut collector = FakeCollectorServer::start().await.expect("a collector");
        let dir = tempdir().expect("a directory");
        let telemetry = exporting_to(&collector.endpoint(), TopicLogs::open(dir.path()));
        let screen = Screen::default();
        let _guard = set_default(subscriber(&telemetry.provider, None, screen.clone()));

        let origin = info_span!("create checkout", billing.journey.origin = true)
            .in_scope(|| current_trace().expect("an id"));
        let webhook = info_span!("process", otel.kind = "consumer").in_scope(|| {
            milestone(origin, "subscription active", &BillingAttributes::default(), current_trace());
            current_trace().expect("an id")
        });
        telemetry.shutdown(PATIENCE).await;

        let spans = collector.exported_spans(3, PATIENCE).await;
        let milestone =
            spans.iter().find(|span| span.name == "journey: subscription active").expect("exported");
        assert_eq!(milestone.trace_id, origin.journey_id().to_string());
        assert_eq!(milestone.parent_span_id, origin.span_id_hex());
        assert_eq!(milestone.links.len(), 1);
        assert_eq!(milestone.links[0].trace_id, webhook.journey_id().to_string());
        assert_eq!(milestone.links[0].span_id, webhook.span_id_hex());
        assert_eq!(spans.len(), 3);
        assert_eq!(screen.text(), "", "nothing was lost");
    }

    #[tokio::test]
    async fn a_collector_that_hangs_holds_nobody_up_and_the_loss_is_told() {
        let deaf = TcpListener::bind("127.0.0.1:0").expect("a port that nobody answers");
        let endpoint = format!("http://{}", deaf.local_addr().expect("an address"));
        let dir = tempdir().expect("a directory");
        let telemetry = exporting_to(&endpoint, TopicLogs::open(dir.path()));
        let screen = Screen::default();
        let _guard = set_default(subscriber(&telemetry.provider, None, screen.clone()));
        info_span!("lost").in_scope(|| ());

        // The exporter itself would wait for ten seconds.
        telemetry.shutdown(Duration::from_millis(50)).await;
        let text = screen.text();
        assert!(text.contains("stopped before every span was exported unsent=1"), "{text}");
    }

    #[derive(Debug)]
    struct Refusing;

    impl SpanExporter for Refusing {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("refused".into()))
        }
    }

    #[tokio::test]
    async fn a_collector_that_refuses_is_told_once_in_a_while() {
        let screen = Screen::default();
        let _guard = set_default(subscriber(&tracer_provider().build(), None, screen.clone()));
        let exporter = CountedExporter { exporter: Refusing, tally: Arc::default(), told: Seldom::default() };
        for _ in 0..3 {
            assert!(exporter.export(Vec::new()).await.is_err());
        }
        let text = screen.text();
        assert_eq!(text.matches("the collector did not take the spans").count(), 1, "{text}");
    }

    /// What [`the_environment_says_where_the_spans_go`] runs: the global subscriber is the process's, and so is the
    /// environment.
    #[tokio::test]
    #[ignore = "is run by another test, in a process of its own"]
    async fn in_a_process_of_its_own() {
        let spare = tempdir().expect("a directory");
        let log_dir = std::env::var_os("TEST_LOG_DIR").map_or_else(|| spare.path().to_owned(), PathBuf::from);
        let config = TelemetryConfig { log_dir };
        let telemetry = init(&config).expect("the first");
        assert!(matches!(init(&config), Err(InitError::AlreadyInstalled(_))));

        info_span!("unsampled").in_scope(|| ());
        info_span!("create checkout", billing.journey.origin = true).in_scope(|| {
            tracing::error!("unheard");
            let line = Line::new(Topic::Billing, Level::Info, "checkout.create.success", 0).traced();
            telemetry.topics().append(&[line]);
        });
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
