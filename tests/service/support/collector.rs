//! A third-party OTLP collector in the test's process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_opentelemetry_collector::{ExportedSpan, FakeCollectorServer};

/// One span as a collector receives it.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// Trace id and span id of each.
    pub links: Vec<(String, String)>,
    /// The whole span as text, with events and status.
    pub text: String,
}

pub struct Collector {
    pub endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let mut server = FakeCollectorServer::start().await.expect("the collector starts");
        let (endpoint, spans) = (server.endpoint(), Arc::<Mutex<Vec<Span>>>::default());
        let received = spans.clone();
        tokio::spawn(async move {
            loop {
                let exported = server.exported_spans(1, Duration::from_millis(20)).await;
                received.lock().expect("not poisoned").extend(exported.into_iter().map(Span::from));
            }
        });
        Self { endpoint, spans }
    }

    /// The spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("not poisoned").clone()
    }
}

impl From<ExportedSpan> for Span {
    fn from(span: ExportedSpan) -> Self {
        let text = format!("{span:?}");
        let links = span.links.into_iter().map(|link| (link.trace_id, link.span_id)).collect();
        Self {
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
            name: span.name,
            attributes: span.attributes,
            links,
            text,
        }
    }
}
