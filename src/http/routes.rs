//! The endpoint that the server serves: the operations of `openapi::service`, the built page, and the middleware around them.
//! The last `.around` is the outermost.

use std::num::NonZeroU32;
use std::sync::Arc;

use poem::middleware::{CatchPanic, NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoEndpoint, Route, get};
use tokio::sync::watch;

use super::api::ApiState;
use super::api::health::Readiness;
use super::api::metrics::scrape;
use super::auth::TokenVerifier;
use super::middleware::cors::{self, CorsRules};
use super::middleware::{allow, framing, metrics, security_headers, timeout, trace};
use super::openapi::{self, READ};
use super::periodic_cleanup::PeriodicCleanup;
use super::problem;
use super::static_files::{self, StaticFiles};
use super::throttle::Throttle;
use super::webhook::Webhook;
use crate::billing::Billing;
use crate::domain::address::Origin;
use crate::domain::trusted_proxies::TrustedProxies;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::ingest::Ingest;
use crate::server::LifecycleWatch;

/// What the routes are made of.
pub struct App {
    /// What the use cases work with.
    pub billing: Arc<Billing>,
    /// Where verified events are handed in.
    pub ingest: Ingest,
    /// The secrets that sign webhooks, as they are at the moment.
    pub webhook_secrets: watch::Receiver<WebhookSecrets>,
    /// The proxies whose word is taken for who sent a request.
    pub trusted_proxies: TrustedProxies,
    /// Says whose tokens are taken.
    pub tokens: Arc<TokenVerifier>,
    /// How many checkout, refresh and portal requests a tenant may make in a minute.
    pub throttle_per_minute: NonZeroU32,
    /// The page that is served beside the API.
    pub static_files: Option<StaticFiles>,
    /// The origins of other pages that may ask.
    pub cors_origins: Vec<Origin>,
    /// Variables that are not set, without which a part of the service refuses to work.
    pub not_configured: Vec<&'static str>,
    /// Whether the service drains.
    pub lifecycle: LifecycleWatch,
}

/// The routes, and the cleanup that the caller runs at intervals while they are served.
pub fn routes(app: App) -> (impl Endpoint + 'static, PeriodicCleanup) {
    let (clock, counters) = (app.billing.clock.clone(), app.billing.metrics.clone());
    let throttle = Arc::new(Throttle::per_minute(app.throttle_per_minute, clock.clone()));
    let state = ApiState { billing: app.billing.clone(), throttle: throttle.clone() };
    let readiness = Readiness {
        billing: app.billing.clone(),
        tokens: app.tokens.clone(),
        not_configured: app.not_configured,
        lifecycle: app.lifecycle,
    };
    let webhook = Webhook::new(app.billing, app.ingest, app.webhook_secrets, app.trusted_proxies);
    let cleanup = PeriodicCleanup { throttle, admission: webhook.admission() };
    let static_files = app.static_files;
    let cors_rules = Arc::new(CorsRules::new(app.cors_origins, clock));
    let routes = Route::new()
        .at("/openapi.json", openapi::document())
        .at("/docs", openapi::page())
        .nest("/", openapi::service())
        .around(move |next, request| static_files::or_static_file(static_files.clone(), next, request))
        .catch_all_error(problem::from_framework)
        .with(CatchPanic::new().with_handler(|_| problem::from_panic()))
        .around(|next, request| allow::add_allow_header(openapi::methods, next, request))
        .data(Arc::new(state))
        .data(Arc::new(readiness))
        .data(Arc::new(webhook))
        .data(app.tokens)
        // Else the type of all that is around it grows beyond what an optimising compiler follows.
        .boxed()
        .around(timeout::in_time)
        .around(move |next, request| cors::cors(cors_rules.clone(), next, request))
        .around(framing::plain)
        .around(security_headers::protected)
        .around(move |next, request| metrics::measured(counters.clone(), next, request))
        .around(trace::server_span)
        // poem-openapi registers each path without the slash at its end. This removes it from requests, so that both match.
        .with(NormalizePath::new(TrailingSlash::Trim));
    (routes.into_endpoint(), cleanup)
}

/// The routes of the listener for metrics.
pub fn metrics_routes(billing: Arc<Billing>) -> impl Endpoint + 'static {
    Route::new()
        .at("/metrics", get(scrape))
        .catch_all_error(problem::from_framework)
        .around(|next, request| allow::add_allow_header(|_| Some(READ), next, request))
        .data(billing)
        .around(framing::plain)
        .around(security_headers::protected)
        .into_endpoint()
}
