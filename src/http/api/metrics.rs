//! `GET /metrics` for Prometheus, on its own listener.

use std::sync::Arc;
use std::time::Duration;

use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{Response, handler};

use crate::billing::Billing;
use crate::telemetry::metrics;

/// The timeout for the metrics from the database. Shorter than a scraper's, so that it gets the
/// other metrics in any case.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(2);

#[handler]
pub(in crate::http) async fn scrape(billing: Data<&Arc<Billing>>) -> Response {
    let Billing { store, metrics, clock, streams, .. } = &***billing;
    metrics.set_streams(streams.count());
    let backlog = tokio::time::timeout(BACKLOG_TIMEOUT, store.backlog(clock.now_ms())).await;
    Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, metrics::CONTENT_TYPE)
        .body(metrics.text(store.connections(), backlog.ok().and_then(Result::ok).as_ref()))
}
