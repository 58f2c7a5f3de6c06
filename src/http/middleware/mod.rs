//! The middleware around all routes. Start reading at [`Middleware::handle`], which shows the
//! steps.

mod cors;
mod framing;
pub(super) mod security_headers;
mod trace;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};
use tokio::time::timeout;
use tracing::Instrument;

use super::openapi::{self, GET_METHODS, KnownRoute};
use super::problem;
use super::static_files::{self, StaticFiles};
use crate::telemetry::metrics::Metrics;

pub(super) use cors::CorsRules;

/// The 10 s that a webhook's body may take, and 5 s for the database: a hanging database server
/// does not enforce its own timeouts. An event that takes longer is still stored, and Stripe's
/// repetition is then a duplicate.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// The middleware of the public listener. All steps are in one future: with layers, each would move
/// the request and the futures of the layers below.
pub(super) struct Middleware {
    pub(super) metrics: Metrics,
    pub(super) cors: CorsRules,
    pub(super) static_files: Option<StaticFiles>,
}

impl Middleware {
    /// Handles a request in its server span. The measured time ends with the head of the response,
    /// since the body of an event stream lasts up to an hour.
    pub(super) async fn handle<E: Endpoint>(
        self: Arc<Self>,
        next: Arc<E>,
        request: Request,
    ) -> poem::Result<Response> {
        let started = Instant::now();
        let route = openapi::route(request.uri().path());
        let method = trace::method_name(request.method());
        let is_https = is_https(&request);
        let span = trace::open_span(&request, method);
        let mut response = self.respond(next, request, route).instrument(span.clone()).await;
        security_headers::add(&mut response, is_https);
        let template = route.map(|route| route.template.as_str());
        // Routes outside the OpenAPI document have only poem's pattern.
        let pattern = response.data::<PathPattern>().map(|PathPattern(pattern)| &**pattern);
        trace::describe(&span, method, template.or(pattern), response.status());
        let counted = template.or((pattern == Some(static_files::ROUTE)).then_some(static_files::ROUTE));
        self.metrics.http_request(method, counted, response.status().as_u16(), started.elapsed());
        Ok(response)
    }

    async fn respond<E: Endpoint>(
        &self,
        next: Arc<E>,
        request: Request,
        route: Option<&'static KnownRoute>,
    ) -> Response {
        if let Some(rejection) = framing::reject_ambiguous(&request) {
            return rejection;
        }
        let cors = route.filter(|route| route.is_for_users).map(|_| self.cors.check(&request));
        let preflight = cors.as_ref().and_then(cors::Check::preflight_response);
        let mut response = match preflight {
            Some(response) => response,
            None => timeout(RESPONSE_TIMEOUT, self.call(next, request))
                .await
                .unwrap_or_else(|_| problem::from_timeout()),
        };
        add_allow_header(&mut response, route.map(|route| route.methods.as_str()));
        if let Some(cors) = cors {
            cors.add_headers(&mut response);
        }
        response
    }

    /// Returns the route's response, or the problem for its error or panic.
    async fn call<E: Endpoint>(&self, next: Arc<E>, request: Request) -> Response {
        let files = self.static_files.clone();
        let called = AssertUnwindSafe(static_files::or_static_file(files, next, request)).catch_unwind();
        match called.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => problem::from_framework(error),
            Err(_) => problem::from_panic(),
        }
    }
}

/// The middleware of the metrics listener.
pub(super) async fn handle_scrape<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let is_https = is_https(&request);
    let mut response = match framing::reject_ambiguous(&request) {
        Some(rejection) => rejection,
        None => next.call(request).await.map_or_else(problem::from_framework, IntoResponse::into_response),
    };
    add_allow_header(&mut response, Some(GET_METHODS));
    security_headers::add(&mut response, is_https);
    Ok(response)
}

/// Adds `Allow` to a 405 (RFC 9110, section 15.5.6).
fn add_allow_header(response: &mut Response, methods: Option<&'static str>) {
    if let Some(methods) = methods.filter(|_| response.status() == StatusCode::METHOD_NOT_ALLOWED) {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
}

fn is_https(request: &Request) -> bool {
    *request.scheme() == Scheme::HTTPS
}
