//! `GET /metrics`, on a listener of its own: what is counted, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{Response, handler};

use crate::billing::Billing;
use crate::telemetry::metrics;

/// How long the database may take to say what waits in it: less than a scraper waits, so that it gets the rest.
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
