//! Counts requests and how long they take.

use std::sync::Arc;
use std::time::Instant;

use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};

use super::trace::method_name;
use crate::http::openapi::template;
use crate::http::static_files;
use crate::telemetry::metrics::Metrics;

/// Counts the request and how long it took until it was answered: until the answer's head, that is, for a stream's body
/// takes an hour and would be the slowest answer of all.
pub(in crate::http) async fn measured<E: Endpoint>(
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
