//! Spans on their way to a collector, by OTLP over gRPC or over HTTP.
//!
//! A collector that is slow, away or hanging costs no request anything: spans wait in a bounded queue for a thread of
//! their own, and what finds no room there, or is not taken, is dropped, counted, and told once in a while.
//!
//! The `OTEL_*` variables mean what OpenTelemetry's specification says, with these differences. No endpoint means no
//! export, instead of a collector on localhost; the protocol is gRPC unless `OTEL_EXPORTER_OTLP_PROTOCOL` says
//! `http/protobuf`; and there is neither compression nor a certificate of the client's.

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
use super::{Seldom, variable};

/// Spans that wait for the collector, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise: a second's worth at a thousand
/// webhooks a second, and some ten megabytes.
const QUEUE: u64 = 8192;

/// The most that may be waited for: the queue's places are made at the start.
const LONGEST_QUEUE: u64 = 65_536;

/// The longest answer of a collector's that is read: it has nothing to say but which spans it did not take.
const ANSWER_BYTES: usize = 64 * 1024;

/// How long one request to the collector may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise: OpenTelemetry's
/// own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why spans cannot be exported as configured. Names the variable and never repeats its value.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A number was expected.
    #[error("{0} is not a whole number above 0")]
    NotANumber(&'static str),
    /// Without a scheme nothing says whether TLS is used, and the exporter would drop every span.
    #[error("{0} is not a URL that starts with `http://` or `https://`")]
    NotAUrl(&'static str),
    /// A protocol that this build does not speak.
    #[error("{0} is neither `grpc` nor `http/protobuf`")]
    UnknownProtocol(&'static str),
    /// Something that this build cannot do, and that is better refused than left out.
    #[error("{0} is set, and is not supported")]
    NotSupported(&'static str),
    /// The certificate of the collector's authority.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE does not name a readable file of certificates in PEM")]
    Certificate,
    /// What the exporter's own configuration refuses; its words repeat the values.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_HEADERS cannot be used")]
    Unusable,
}

impl From<ExporterBuildError> for ExportError {
    fn from(_: ExporterBuildError) -> Self {
        Self::Unusable
    }
}

/// What the specification names and this build does not have.
const NOT_SUPPORTED: [&str; 6] = [
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
];

/// Whether somebody named a collector, and did not switch it off.
pub(super) fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporters = variable("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".into());
    let is_set = ENDPOINTS.into_iter().any(|name| variable(name).is_some());
    !disabled && exporters.split(',').any(|name| name.trim() == "otlp") && is_set
}

/// Where spans are sent: what names traces comes first.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The URL that spans are sent to, if they are sent.
pub(super) fn endpoint(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Url>, ExportError> {
    if !is_wanted(&variable) {
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

/// What carries spans to the collector that the environment names. Must be called within the Tokio runtime, which
/// drives the connection.
pub(super) fn processor(tally: &Arc<SpanTally>) -> Result<CountedProcessor, ExportError> {
    if let Some(name) = NOT_SUPPORTED.into_iter().find(|name| variable(name).is_some()) {
        return Err(ExportError::NotSupported(name));
    }
    endpoint(variable)?;
    let most = number("OTEL_BSP_MAX_QUEUE_SIZE")?.unwrap_or(QUEUE).min(LONGEST_QUEUE);
    let exporter = match protocol(variable)? {
        Protocol::Grpc => over_grpc()?,
        _ => over_http()?,
    };
    Ok(batches_to(exporter, most, tally))
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

/// The certificates of an authority of the operator's own, in PEM.
fn authority() -> Result<Option<Vec<u8>>, ExportError> {
    let path = variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_CERTIFICATE"));
    path.map(std::fs::read).transpose().map_err(|_| ExportError::Certificate)
}

fn over_grpc() -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
    // Left to itself the exporter trusts no certificate at all; on an `http://` endpoint this is not used.
    let mut tls = ClientTlsConfig::new().with_enabled_roots();
    if let Some(pem) = authority()? {
        tls = tls.ca_certificate(Certificate::from_pem(pem));
    }
    Ok(opentelemetry_otlp::SpanExporter::builder().with_tonic().with_tls_config(tls).build()?)
}

fn over_http() -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
    let milliseconds = match number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")? {
        Some(milliseconds) => Some(milliseconds),
        None => number("OTEL_EXPORTER_OTLP_TIMEOUT")?,
    };
    let timeout = milliseconds.map_or(TIMEOUT, Duration::from_millis);
    // Redirects are not followed: the headers may hold a key.
    let mut client = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = authority()? {
        let bundle = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| ExportError::Certificate)?;
        client = client.tls_certs_merge(bundle);
    }
    let client = client.build().map_err(|_| ExportError::Certificate)?;
    let client = OnRuntime { client, runtime: Handle::current() };
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_http_client(client);
    Ok(exporter.with_protocol(Protocol::HttpBinary).build()?)
}

fn number<T: FromStr + PartialEq + Default>(name: &'static str) -> Result<Option<T>, ExportError> {
    let read = |text: String| text.parse().ok().filter(|number| *number != T::default());
    variable(name).map(|text| read(text).ok_or(ExportError::NotANumber(name))).transpose()
}

/// The HTTP client, at work on the runtime: spans are sent by a thread of their own, where an async client has none.
#[derive(Debug)]
struct OnRuntime {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(exchange(client, request)).await?
    }
}

/// An error's address may bear a password.
async fn exchange(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let headers = std::mem::take(answer.headers_mut());
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::builder().status(status).body(body.into())?;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Sends what has not been sent, within the deadline, and says how much could not be.
pub(super) async fn flush(provider: SdkTracerProvider, tally: &SpanTally, deadline: Duration) {
    // The result says nothing of spans that were dropped on the way, so the tally is asked instead.
    let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(deadline)).await;
    let (unsent, no_room, not_taken) = (tally.unsent(), tally.no_room(), tally.not_taken());
    if unsent > 0 {
        warn!(unsent, no_room, not_taken, "stopped, and the collector does not have every span");
    }
}

pub(super) fn batches_to(
    exporter: impl SpanExporter + 'static,
    most: u64,
    tally: &Arc<SpanTally>,
) -> CountedProcessor {
    let exporter = counted(exporter, tally);
    // As long as ours, so that the SDK has nothing to drop.
    let queue = usize::try_from(most).unwrap_or(usize::MAX);
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    CountedProcessor { processor, most, tally: tally.clone() }
}

/// Hands spans that have ended to the thread that sends them, as far as there is room.
#[derive(Debug)]
pub(super) struct CountedProcessor {
    processor: BatchSpanProcessor,
    most: u64,
    tally: Arc<SpanTally>,
}

impl SpanProcessor for CountedProcessor {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.processor.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if self.tally.admit(self.most) {
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
    told: Seldom,
    /// How many had been dropped when it was told last.
    told_of: AtomicU64,
}

fn counted<E>(exporter: E, tally: &Arc<SpanTally>) -> CountedExporter<E> {
    CountedExporter { exporter, tally: tally.clone(), told: Seldom::default(), told_of: AtomicU64::default() }
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        self.tally.settle(spans, result.is_ok());
        let (no_room, not_taken) = (self.tally.no_room(), self.tally.not_taken());
        let dropped = no_room + not_taken;
        if dropped > self.told_of.load(Ordering::Relaxed) && self.told.is_due(Instant::now()) {
            self.told_of.store(dropped, Ordering::Relaxed);
            let error = result.as_ref().err().map(ToString::to_string);
            warn!(no_room, not_taken, error, "the collector did not take all spans; in all since the start");
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
    use crate::telemetry::screen::Screen;
    use crate::telemetry::spans::{BillingAttributes, current_trace, milestone};
    use crate::telemetry::{subscriber, tracer_provider};

    /// Far longer than anything here takes, so that a test which waits for it has failed.
    const PATIENCE: Duration = Duration::from_mins(1);

    fn grpc_to(endpoint: &str) -> opentelemetry_otlp::SpanExporter {
        let tls = ClientTlsConfig::new().with_enabled_roots();
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_tls_config(tls);
        exporter.with_endpoint(endpoint).build().expect("an exporter")
    }

    /// For this thread: spans go through the exporter, and what stderr would show goes to the screen.
    fn exporting_through(
        exporter: impl SpanExporter + 'static,
        most: u64,
    ) -> (SdkTracerProvider, Arc<SpanTally>, Screen, DefaultGuard) {
        let (tally, screen) = (Arc::<SpanTally>::default(), Screen::default());
        let provider = tracer_provider().with_span_processor(batches_to(exporter, most, &tally)).build();
        let guard = set_default(subscriber(&provider, None, screen.clone()));
        (provider, tally, screen, guard)
    }

    #[test]
    fn spans_are_exported_only_to_an_endpoint_that_somebody_named() {
        let wants = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            is_wanted(|name| variables.get(name).map(ToString::to_string))
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
    fn the_protocol_is_grpc_unless_somebody_says_otherwise() {
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
    async fn a_journey_reaches_a_collector_with_its_parents_and_links() {
        let mut collector = FakeCollectorServer::start().await.expect("a collector");
        let exporter = grpc_to(&collector.endpoint());
        let (provider, tally, screen, _guard) = exporting_through(exporter, QUEUE);

        let origin = info_span!("create checkout", billing.journey.origin = true)
            .in_scope(|| current_trace().expect("an id"));
        let webhook = info_span!("process", otel.kind = "consumer").in_scope(|| {
            milestone(origin, "subscription active", &BillingAttributes::default(), current_trace());
            current_trace().expect("an id")
        });
        flush(provider, &tally, PATIENCE).await;

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
        let (provider, tally, screen, _guard) = exporting_through(grpc_to(&endpoint), QUEUE);
        info_span!("lost").in_scope(|| ());

        // The exporter itself would wait for ten seconds.
        flush(provider, &tally, Duration::from_millis(50)).await;
        let text = screen.text();
        assert!(text.contains("the collector does not have every span unsent=1"), "{text}");
    }

    #[derive(Debug)]
    struct Refusing;

    impl SpanExporter for Refusing {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("refused".into()))
        }
    }

    #[tokio::test]
    async fn a_collector_that_refuses_is_told_once_in_a_while_and_only_of_further_losses() {
        let memory = InMemorySpanExporter::default();
        let provider = tracer_provider().with_simple_exporter(memory.clone()).build();
        let screen = Screen::default();
        let _guard = set_default(subscriber(&provider, None, screen.clone()));
        info_span!("refused").in_scope(|| ());
        let spans = memory.get_finished_spans().expect("a span");

        let tally = Arc::<SpanTally>::default();
        let exporter = counted(Refusing, &tally);
        for _ in 0..3 {
            assert!(exporter.export(spans.clone()).await.is_err());
        }
        let told = || screen.text().matches("the collector did not take all spans").count();
        assert_eq!((told(), tally.not_taken()), (1, 3), "{}", screen.text());
        exporter.told.forget();
        assert!(exporter.export(Vec::new()).await.is_err());
        assert_eq!(told(), 2, "of what was lost since");
        exporter.told.forget();
        assert!(exporter.export(Vec::new()).await.is_err());
        assert_eq!(told(), 2, "nothing was");
    }

    /// Takes nothing until it is let, and then everything.
    #[derive(Debug)]
    struct Stalling(Mutex<Receiver<()>>);

    impl SpanExporter for Stalling {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            // An error means that nobody holds it up any more.
            let _ = self.0.lock().expect("not poisoned").recv();
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_at_once_and_counted_to_the_last_span() {
        const ROOM: u64 = 10;
        let (let_go, held) = channel();
        let (provider, tally, screen, _guard) = exporting_through(Stalling(Mutex::new(held)), ROOM);
        for _ in 0..25 {
            info_span!("burst").in_scope(|| ());
        }
        assert_eq!((tally.no_room(), tally.exported(), tally.unsent()), (15, 0, 25));

        drop(let_go);
        flush(provider, &tally, PATIENCE).await;
        assert_eq!((tally.no_room(), tally.exported(), tally.not_taken()), (15, ROOM, 0));
        assert!(screen.text().contains("unsent=15 no_room=15 not_taken=0"), "{}", screen.text());
    }
}
