//! What every request passes on its way to its route and back: [`Middleware::handle`] shows the steps, and each file has one
//! concern. What a request means is decided in `api` and `webhook`.

mod allow;
mod cors;
mod framing;
pub(super) mod security_headers;
mod trace;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use poem::http::uri::Scheme;
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};
use tokio::time::timeout;
use tracing::Instrument;

use super::openapi::{self, KnownRoute, READ};
use super::problem;
use super::static_files::{self, StaticFiles};
use crate::telemetry::metrics::Metrics;

pub(super) use cors::CorsRules;

/// How long a response may take: the ten seconds that Stripe waits, and five more for the database. The database has timeouts
/// of its own, but a server that hangs does not enforce them.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// What the requests of the public listener pass. All steps are in one future: in a tower of layers each of them would move
/// the request and the futures of the layers below.
pub(super) struct Middleware {
    pub(super) metrics: Metrics,
    pub(super) cors: CorsRules,
    pub(super) static_files: Option<StaticFiles>,
}

impl Middleware {
    /// Handles a request in its server span, and counts how long it took until the head of its response: the body of a stream
    /// takes an hour.
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
        // What is not in the contract is named as the framework does.
        let pattern = response.data::<PathPattern>().map(|PathPattern(pattern)| &**pattern);
        trace::describe(&span, method, template.or(pattern), response.status());
        let is_of_a_page = pattern == Some(static_files::ROUTE);
        let counted = template.or(is_of_a_page.then_some(static_files::ROUTE));
        self.metrics.http_request(method, counted, response.status().as_u16(), started.elapsed());
        Ok(response)
    }

    async fn respond<E: Endpoint>(
        &self,
        next: Arc<E>,
        request: Request,
        route: Option<&'static KnownRoute>,
    ) -> Response {
        if let Some(refusal) = framing::refuse(&request) {
            return refusal;
        }
        let cors = route.filter(|route| route.is_for_users).map(|_| self.cors.check(&request));
        let preflight = cors.as_ref().and_then(cors::Check::answer_preflight);
        let mut response = match preflight {
            Some(answer) => answer,
            None => timeout(RESPONSE_TIMEOUT, self.call(next, request))
                .await
                .unwrap_or_else(|_| problem::from_silence()),
        };
        allow::add_header(&mut response, route.map(|route| route.methods.as_str()));
        if let Some(cors) = cors {
            cors.add_headers(&mut response);
        }
        response
    }

    /// The route's response, or the problem that became of it.
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

/// Handles a request to the listener for metrics.
pub(super) async fn handle_scrape<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let is_https = is_https(&request);
    let mut response = match framing::refuse(&request) {
        Some(refusal) => refusal,
        None => next.call(request).await.map_or_else(problem::from_framework, IntoResponse::into_response),
    };
    allow::add_header(&mut response, Some(READ));
    security_headers::add(&mut response, is_https);
    Ok(response)
}

fn is_https(request: &Request) -> bool {
    *request.scheme() == Scheme::HTTPS
}
