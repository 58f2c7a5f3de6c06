//! Exports spans to a collector by OTLP, over gRPC or HTTP.
//!
//! A slow or unreachable collector delays no request. Spans wait in a bounded queue for the export
//! thread. A span is dropped if the queue is full or the collector rejects it. Drops are counted
//! and logged at most once a minute.
//!
//! The `OTEL_*` variables have the meaning of OpenTelemetry's specification, with three exceptions.
//! Without an endpoint nothing is exported, instead of to localhost. The protocol is gRPC unless
//! `OTEL_EXPORTER_OTLP_PROTOCOL` is `http/protobuf`. Compression and client certificates are not
//! supported.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry::Context;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use reqwest::Url;
use tokio::runtime::Handle;
use tracing::warn;

use super::tally::SpanTally;
use super::{ReportLimiter, variable};

/// The default of `OTEL_BSP_MAX_QUEUE_SIZE`: the spans of one second at a thousand webhooks a
/// second, about 10 MB.
const DEFAULT_QUEUE_SPANS: u64 = 8192;

/// The upper bound of `OTEL_BSP_MAX_QUEUE_SIZE`, because the queue's memory is allocated at the
/// start.
const MAX_QUEUE_SPANS: u64 = 65_536;

/// The longest collector response that is read. It only contains a count and a message about
/// rejected spans.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The default of `OTEL_EXPORTER_OTLP_TIMEOUT`, from OpenTelemetry's specification.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Contains the variable's name and never its value.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{0} is not a whole number above 0")]
    NotANumber(&'static str),
    /// Without a scheme it is unknown whether to use TLS, and the exporter would drop every span.
    #[error("{0} is not a URL that starts with `http://` or `https://`")]
    NotAUrl(&'static str),
    #[error("{0} must be `grpc` or `http/protobuf`")]
    UnknownProtocol(&'static str),
    #[error("{0} is not supported")]
    NotSupported(&'static str),
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE is not a readable file with PEM certificates")]
    Certificate,
    /// The exporter rejected its configuration. Its error text is dropped because it repeats the
    /// values.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_HEADERS is invalid")]
    Unusable,
}

impl From<ExporterBuildError> for ExportError {
    fn from(_: ExporterBuildError) -> Self {
        Self::Unusable
    }
}

/// Variables of the specification that this build rejects, because ignoring them would be
/// misleading.
const UNSUPPORTED_VARIABLES: [&str; 6] = [
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
];

/// Whether a collector is configured and the export not disabled.
pub(super) fn is_enabled(variable: impl Fn(&str) -> Option<String>) -> bool {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporters = variable("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".into());
    let is_set = ENDPOINTS.into_iter().any(|name| variable(name).is_some());
    !disabled && exporters.split(',').any(|name| name.trim() == "otlp") && is_set
}

/// The variable for traces has precedence.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// None if no span is exported.
pub(super) fn endpoint(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Url>, ExportError> {
    if !is_enabled(&variable) {
        return Ok(None);
    }
    let named = ENDPOINTS.into_iter().find_map(|name| Some((name, variable(name)?)));
    let read = |(name, text): (&'static str, String)| {
        let url =
            Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or(ExportError::NotAUrl(name))
    };
    named.map(read).transpose()
}

/// Must be called within the Tokio runtime, which drives the connection.
pub(super) fn processor(tally: &Arc<SpanTally>) -> Result<CountedProcessor, ExportError> {
    if let Some(name) = UNSUPPORTED_VARIABLES.into_iter().find(|name| variable(name).is_some()) {
        return Err(ExportError::NotSupported(name));
    }
    endpoint(variable)?;
    let max_spans = number("OTEL_BSP_MAX_QUEUE_SIZE")?.unwrap_or(DEFAULT_QUEUE_SPANS).min(MAX_QUEUE_SPANS);
    let exporter = match protocol(variable)? {
        Protocol::Grpc => grpc_exporter()?,
        _ => http_exporter()?,
    };
    Ok(batch_processor(exporter, max_spans, tally))
}

fn protocol(variable: impl Fn(&str) -> Option<String>) -> Result<Protocol, ExportError> {
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        match variable(name).as_deref() {
            None => {}
            Some("grpc") => return Ok(Protocol::Grpc),
            Some("http/protobuf") => return Ok(Protocol::HttpBinary),
            Some(_) => return Err(ExportError::UnknownProtocol(name)),
        }
    }
    Ok(Protocol::Grpc)
}

/// The CA certificates for the collector, in PEM.
fn ca_certificates() -> Result<Option<Vec<u8>>, ExportError> {
    let path = variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_CERTIFICATE"));
    path.map(std::fs::read).transpose().map_err(|_| ExportError::Certificate)
}

fn grpc_exporter() -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
    // By default the exporter trusts no certificate. An `http://` endpoint ignores this setting.
    let mut tls = ClientTlsConfig::new().with_enabled_roots();
    if let Some(pem) = ca_certificates()? {
        tls = tls.ca_certificate(Certificate::from_pem(pem));
    }
    Ok(opentelemetry_otlp::SpanExporter::builder().with_tonic().with_tls_config(tls).build()?)
}

fn http_exporter() -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
    let milliseconds = match number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")? {
        Some(milliseconds) => Some(milliseconds),
        None => number("OTEL_EXPORTER_OTLP_TIMEOUT")?,
    };
    let timeout = milliseconds.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
    // Redirects are not followed, because the headers may contain an API key.
    let mut client = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = ca_certificates()? {
        let bundle = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| ExportError::Certificate)?;
        client = client.tls_certs_merge(bundle);
    }
    let client = client.build().map_err(|_| ExportError::Certificate)?;
    let client = RuntimeHttpClient { client, runtime: Handle::current() };
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_http_client(client);
    Ok(exporter.with_protocol(Protocol::HttpBinary).build()?)
}

fn number<T: FromStr + PartialEq + Default>(name: &'static str) -> Result<Option<T>, ExportError> {
    let read = |text: String| text.parse().ok().filter(|number| *number != T::default());
    variable(name).map(|text| read(text).ok_or(ExportError::NotANumber(name))).transpose()
}

/// Runs requests on the Tokio runtime, because the export thread has none.
#[derive(Debug)]
struct RuntimeHttpClient {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for RuntimeHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(send(client, request)).await?
    }
}

/// Errors leave out the URL, which may contain a password.
async fn send(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut received = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let headers = std::mem::take(received.headers_mut());
    let status = received.status();
    let mut body = Vec::new();
    while let Some(chunk) = received.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err("the collector's response is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::builder().status(status).body(body.into())?;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Exports the queued spans within the timeout, and logs how many are lost.
pub(super) async fn flush(provider: SdkTracerProvider, tally: &SpanTally, timeout: Duration) {
    // The result does not include spans that were dropped before. The tally does.
    let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(timeout)).await;
    let (unsent, no_room, not_taken) = (tally.unsent(), tally.no_room(), tally.not_taken());
    if unsent > 0 {
        warn!(unsent, no_room, not_taken, "stopping; the collector did not receive every span");
    }
}

pub(super) fn batch_processor(
    exporter: impl SpanExporter + 'static,
    max_spans: u64,
    tally: &Arc<SpanTally>,
) -> CountedProcessor {
    let exporter = CountedExporter::new(exporter, tally);
    // The SDK's queue has the same size, so that it never drops a span itself.
    let queue = usize::try_from(max_spans).unwrap_or(usize::MAX);
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    CountedProcessor { processor, max_spans, tally: tally.clone() }
}

/// Passes ended spans to the export thread while there is room in its queue. Drops and counts the
/// others.
#[derive(Debug)]
pub(super) struct CountedProcessor {
    processor: BatchSpanProcessor,
    max_spans: u64,
    tally: Arc<SpanTally>,
}

impl SpanProcessor for CountedProcessor {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.processor.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if self.tally.admit(self.max_spans) {
            self.processor.on_end(span);
        }
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
    tally: Arc<SpanTally>,
    reports: ReportLimiter,
    reported_drops: AtomicU64,
}

impl<E> CountedExporter<E> {
    fn new(exporter: E, tally: &Arc<SpanTally>) -> Self {
        Self {
            exporter,
            tally: tally.clone(),
            reports: ReportLimiter::default(),
            reported_drops: AtomicU64::default(),
        }
    }
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        self.tally.record_export(spans, result.is_ok());
        let (no_room, not_taken) = (self.tally.no_room(), self.tally.not_taken());
        let dropped = no_room + not_taken;
        if dropped > self.reported_drops.load(Ordering::Relaxed) && self.reports.is_due(Instant::now()) {
            self.reported_drops.store(dropped, Ordering::Relaxed);
            let error = result.as_ref().err().map(ToString::to_string);
            warn!(no_room, not_taken, error, "dropped spans; totals since the start");
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::TcpListener;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use fake_opentelemetry_collector::FakeCollectorServer;
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::InMemorySpanExporter;
    use tracing::info_span;
    use tracing::subscriber::{DefaultGuard, set_default};

    use super::*;
    use crate::telemetry::captured_output::CapturedOutput;
    use crate::telemetry::spans::{BillingAttributes, current_trace, record_milestone};
    use crate::telemetry::{subscriber, tracer_provider};

    /// Far longer than any step here takes.
    const TEST_TIMEOUT: Duration = Duration::from_mins(1);

    fn grpc_exporter_to(endpoint: &str) -> opentelemetry_otlp::SpanExporter {
        let tls = ClientTlsConfig::new().with_enabled_roots();
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_tls_config(tls);
        exporter.with_endpoint(endpoint).build().expect("an exporter")
    }

    /// For this thread: exports spans through the exporter, and captures stderr.
    fn export_through(
        exporter: impl SpanExporter + 'static,
        max_spans: u64,
    ) -> (SdkTracerProvider, Arc<SpanTally>, CapturedOutput, DefaultGuard) {
        let (tally, output) = (Arc::<SpanTally>::default(), CapturedOutput::default());
        let processor = batch_processor(exporter, max_spans, &tally);
        let provider = tracer_provider().with_span_processor(processor).build();
        let guard = set_default(subscriber(&provider, None, output.clone()));
        (provider, tally, output, guard)
    }

    #[test]
    fn export_needs_an_endpoint_and_can_be_disabled() {
        let enabled = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            is_enabled(|name| variables.get(name).map(ToString::to_string))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        assert!(!enabled(&[]));
        assert!(enabled(&[endpoint]));
        assert!(enabled(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")]));
        assert!(enabled(&[endpoint, ("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(enabled(&[endpoint, ("OTEL_TRACES_EXPORTER", "console, otlp")]));
        assert!(!enabled(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!enabled(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(enabled(&[endpoint, ("OTEL_SDK_DISABLED", "false")]));
        assert!(!enabled(&[("OTEL_TRACES_EXPORTER", "otlp")]));
    }

    #[test]
    fn protocol_defaults_to_grpc() {
        let chosen = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            protocol(|name| variables.get(name).map(ToString::to_string)).ok()
        };
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        assert_eq!(chosen(&[]), Some(Protocol::Grpc));
        assert_eq!(chosen(&[http]), Some(Protocol::HttpBinary));
        assert_eq!(chosen(&[http, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]), Some(Protocol::Grpc));
        assert_eq!(chosen(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]), None);
    }

    #[tokio::test]
    async fn collector_receives_a_journey_with_parents_and_links() {
        let mut collector = FakeCollectorServer::start().await.expect("a collector");
        let exporter = grpc_exporter_to(&collector.endpoint());
        let (provider, tally, output, _guard) = export_through(exporter, DEFAULT_QUEUE_SPANS);

        let origin = info_span!("create checkout", billing.journey.origin = true)
            .in_scope(|| current_trace().expect("an id"));
        let webhook = info_span!("process", otel.kind = "consumer").in_scope(|| {
            record_milestone(origin, "subscription active", &BillingAttributes::default(), current_trace());
            current_trace().expect("an id")
        });
        flush(provider, &tally, TEST_TIMEOUT).await;

        let spans = collector.exported_spans(3, TEST_TIMEOUT).await;
        let milestone =
            spans.iter().find(|span| span.name == "journey: subscription active").expect("exported");
        assert_eq!(milestone.trace_id, origin.trace_id().to_string());
        assert_eq!(milestone.parent_span_id, origin.span_id_hex());
        assert_eq!(milestone.links.len(), 1);
        assert_eq!(milestone.links[0].trace_id, webhook.trace_id().to_string());
        assert_eq!(milestone.links[0].span_id, webhook.span_id_hex());
        assert_eq!(spans.len(), 3);
        assert_eq!(output.text(), "", "no span was lost");
    }

    #[tokio::test]
    async fn hanging_collector_does_not_delay_flush_and_loss_is_logged() {
        let hanging = TcpListener::bind("127.0.0.1:0").expect("a port that never responds");
        let endpoint = format!("http://{}", hanging.local_addr().expect("an address"));
        let (provider, tally, output, _guard) =
            export_through(grpc_exporter_to(&endpoint), DEFAULT_QUEUE_SPANS);
        info_span!("lost").in_scope(|| ());

        // The exporter's own timeout is ten seconds.
        flush(provider, &tally, Duration::from_millis(50)).await;
        let text = output.text();
        assert!(text.contains("the collector did not receive every span unsent=1"), "{text}");
    }

    #[derive(Debug)]
    struct RejectingExporter;

    impl SpanExporter for RejectingExporter {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("refused".into()))
        }
    }

    #[tokio::test]
    async fn rejected_spans_are_logged_once_a_minute_if_there_are_more() {
        let memory = InMemorySpanExporter::default();
        let provider = tracer_provider().with_simple_exporter(memory.clone()).build();
        let output = CapturedOutput::default();
        let _guard = set_default(subscriber(&provider, None, output.clone()));
        info_span!("refused").in_scope(|| ());
        let spans = memory.get_finished_spans().expect("a span");

        let tally = Arc::<SpanTally>::default();
        let exporter = CountedExporter::new(RejectingExporter, &tally);
        for _ in 0..3 {
            assert!(exporter.export(spans.clone()).await.is_err());
        }
        let reports = || output.text().matches("dropped spans").count();
        assert_eq!((reports(), tally.not_taken()), (1, 3), "{}", output.text());
        exporter.reports.reset();
        assert!(exporter.export(Vec::new()).await.is_err());
        assert_eq!(reports(), 2, "spans were dropped since the last report");
        exporter.reports.reset();
        assert!(exporter.export(Vec::new()).await.is_err());
        assert_eq!(reports(), 2, "no span was dropped since the last report");
    }

    /// Blocks until the sender is dropped, and then accepts every batch.
    #[derive(Debug)]
    struct StallingExporter(Mutex<Receiver<()>>);

    impl SpanExporter for StallingExporter {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.0.lock().expect("not poisoned").recv();
            Ok(())
        }
    }

    #[tokio::test]
    async fn spans_over_the_queue_size_are_dropped_and_counted() {
        const QUEUE_SPANS: u64 = 10;
        let (stall, stalled) = channel();
        let exporter = StallingExporter(Mutex::new(stalled));
        let (provider, tally, output, _guard) = export_through(exporter, QUEUE_SPANS);
        for _ in 0..25 {
            info_span!("burst").in_scope(|| ());
        }
        assert_eq!((tally.no_room(), tally.exported(), tally.unsent()), (15, 0, 25));

        drop(stall);
        flush(provider, &tally, TEST_TIMEOUT).await;
        assert_eq!((tally.no_room(), tally.exported(), tally.not_taken()), (15, QUEUE_SPANS, 0));
        assert!(output.text().contains("unsent=15 no_room=15 not_taken=0"), "{}", output.text());
    }
}
