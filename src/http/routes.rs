//! The endpoint that the server serves: the operations of `openapi::service` inside the middleware.
//! Each operation declares its own path. That of the webhook is in `webhook::handler`.

use std::future::ready;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use poem::middleware::{NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoEndpoint, Route, get};
use tokio::sync::watch;

use super::api::ApiState;
use super::api::health::Readiness;
use super::api::metrics::scrape;
use super::auth::TokenVerifier;
use super::middleware::{CorsRules, Middleware, handle_scrape};
use super::openapi;
use super::static_files::StaticFiles;
use super::throttle::Throttle;
use super::webhook::{Admission, WebhookState};
use crate::billing::Billing;
use crate::domain::app_url::Origin;
use crate::domain::trusted_proxies::TrustedProxies;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::ingest::Ingest;
use crate::server::LifecycleWatch;

/// The dependencies and settings of the routes.
pub struct App {
    pub billing: Arc<Billing>,
    pub ingest: Ingest,
    /// Follows reloads of the configuration.
    pub webhook_secrets: watch::Receiver<WebhookSecrets>,
    /// The proxies whose `X-Forwarded-For` is used.
    pub trusted_proxies: TrustedProxies,
    pub tokens: Arc<TokenVerifier>,
    /// The checkout, refresh and portal requests that a tenant may send per minute.
    pub throttle_per_minute: NonZeroU32,
    /// The built frontend, served beside the API.
    pub static_files: Option<StaticFiles>,
    /// Other origins whose pages may call the API.
    pub cors_origins: Vec<Origin>,
    /// Unset variables that a part of the service needs.
    pub not_configured: Vec<&'static str>,
    pub lifecycle: LifecycleWatch,
}

/// Returns the routes, and the cleanup to run every [`PeriodicCleanup::INTERVAL`] while they are
/// served.
pub fn routes(app: App) -> (impl Endpoint + 'static, PeriodicCleanup) {
    let (clock, metrics) = (app.billing.clock.clone(), app.billing.metrics.clone());
    let throttle = Arc::new(Throttle::per_minute(app.throttle_per_minute, clock.clone()));
    let state = ApiState { billing: app.billing.clone(), throttle: throttle.clone() };
    let readiness = Readiness {
        billing: app.billing.clone(),
        tokens: app.tokens.clone(),
        not_configured: app.not_configured,
        lifecycle: app.lifecycle,
    };
    let webhook = WebhookState::new(app.billing, app.ingest, app.webhook_secrets, app.trusted_proxies);
    let cleanup = PeriodicCleanup { throttle, admission: webhook.admission() };
    let (state, readiness, webhook) = (Arc::new(state), Arc::new(readiness), Arc::new(webhook));
    let middleware = Arc::new(Middleware {
        metrics,
        cors: CorsRules::new(app.cors_origins, clock),
        static_files: app.static_files,
    });
    let routes = Route::new()
        .at("/openapi.json", openapi::document())
        .at("/docs", openapi::swagger_page())
        .nest("/", openapi::service())
        .before(move |mut request| {
            // The operations extract these.
            request.set_data(state.clone());
            request.set_data(readiness.clone());
            request.set_data(webhook.clone());
            request.set_data(app.tokens.clone());
            ready(Ok(request))
        })
        .around(move |next, request| middleware.clone().handle(next, request))
        // poem-openapi registers paths without the trailing slash. This removes it from requests,
        // so that both forms match.
        .with(NormalizePath::new(TrailingSlash::Trim));
    (routes.into_endpoint(), cleanup)
}

/// The routes of the metrics listener.
pub fn metrics_routes(billing: Arc<Billing>) -> impl Endpoint + 'static {
    Route::new().at("/metrics", get(scrape)).data(billing).around(handle_scrape).into_endpoint()
}

/// Clones share the same state.
#[derive(Clone)]
pub struct PeriodicCleanup {
    throttle: Arc<Throttle>,
    admission: Arc<Admission>,
}

impl PeriodicCleanup {
    pub const INTERVAL: Duration = Duration::from_mins(1);

    /// Removes the tenants and clients that have their full quota again, and logs the suppressed
    /// webhook rejections.
    pub fn sweep(&self) {
        self.throttle.sweep();
        self.admission.sweep();
    }
}
