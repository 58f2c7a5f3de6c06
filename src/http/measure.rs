//! How long requests take, and where somebody can read all that is counted: `GET /metrics`, on a listener of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, IntoResponse, PathPattern, Request, Response, Route, get, handler,
};

use super::contract::{READ, template};
use super::trace::method_name;
use super::{framing, methods, problem, security, static_files};
use crate::billing::Billing;
use crate::telemetry::metrics::{self, Metrics};

/// How long the database may take to say what waits in it: less than a scraper waits, so that it gets the rest.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts the request and how long it took until it was answered: until the answer's head, that is, for a stream's body
/// takes an hour and would be the slowest answer of all.
pub(super) async fn measured<E: Endpoint>(
    metrics: Metrics,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let (began, method) = (Instant::now(), method_name(request.method()));
    let route = template(request.uri().path());
    let result = next.call(request).await.map(IntoResponse::into_response);
    let status = result.as_ref().map_or_else(poem::Error::status, Response::status);
    let is_of_a_page = result.as_ref().is_ok_and(|response| {
        response.data::<PathPattern>().is_some_and(|PathPattern(pattern)| **pattern == *static_files::ROUTE)
    });
    let route = route.or(is_of_a_page.then_some(static_files::ROUTE));
    metrics.http_request(method, route, status.as_u16(), began.elapsed());
    result
}

/// The routes of the listener for metrics.
pub fn metrics_routes(billing: Arc<Billing>) -> impl Endpoint + 'static {
    Route::new()
        .at("/metrics", get(scrape))
        .catch_all_error(problem::from_framework)
        .around(|next, request| methods::told(|_| Some(READ), next, request))
        .data(billing)
        .around(framing::plain)
        .around(security::protected)
        .into_endpoint()
}

#[handler]
async fn scrape(billing: Data<&Arc<Billing>>) -> Response {
    let Billing { store, metrics, clock, streams, .. } = &***billing;
    metrics.set_streams(streams.count());
    let backlog = tokio::time::timeout(PATIENCE, store.backlog(clock.now_ms())).await;
    Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, metrics::CONTENT_TYPE)
        .body(metrics.text(store.connections(), backlog.ok().and_then(Result::ok).as_ref()))
}
