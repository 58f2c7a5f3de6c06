//! The endpoint that the server serves: the operations of `openapi::service`, and the middleware around them.

use std::future::ready;
use std::num::NonZeroU32;
use std::sync::Arc;

use poem::middleware::{NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoEndpoint, Request, Route, get};
use tokio::sync::watch;

use super::api::ApiState;
use super::api::health::Readiness;
use super::api::metrics::scrape;
use super::auth::TokenVerifier;
use super::middleware::{CorsRules, Middleware, handle_scrape};
use super::openapi;
use super::periodic_cleanup::PeriodicCleanup;
use super::static_files::StaticFiles;
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
    let shared = Shared {
        state: Arc::new(state),
        readiness: Arc::new(readiness),
        webhook: Arc::new(webhook),
        tokens: app.tokens,
    };
    let middleware = Arc::new(Middleware {
        metrics: counters,
        cors: CorsRules::new(app.cors_origins, clock),
        static_files: app.static_files,
    });
    let routes = Route::new()
        .at("/openapi.json", openapi::document())
        .at("/docs", openapi::page())
        .nest("/", openapi::service())
        .before(move |request| ready(Ok(shared.attach_to(request))))
        .around(move |next, request| middleware.clone().handle(next, request))
        // poem-openapi registers each path without the slash at its end. This removes it from requests, so that both match.
        .with(NormalizePath::new(TrailingSlash::Trim));
    (routes.into_endpoint(), cleanup)
}

/// What operations take from their request.
struct Shared {
    state: Arc<ApiState>,
    readiness: Arc<Readiness>,
    webhook: Arc<Webhook>,
    tokens: Arc<TokenVerifier>,
}

impl Shared {
    fn attach_to(&self, mut request: Request) -> Request {
        request.set_data(self.state.clone());
        request.set_data(self.readiness.clone());
        request.set_data(self.webhook.clone());
        request.set_data(self.tokens.clone());
        request
    }
}

/// The routes of the listener for metrics.
pub fn metrics_routes(billing: Arc<Billing>) -> impl Endpoint + 'static {
    Route::new().at("/metrics", get(scrape)).data(billing).around(handle_scrape).into_endpoint()
}
