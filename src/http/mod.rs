//! HTTP: routes, tokens, throttle, problems. Poem lives here and nowhere else.

mod api;
pub mod auth;
mod bodies;
mod body;
mod client;
mod contract;
mod cors;
mod etag;
mod event_stream;
mod framing;
mod limiter;
mod measure;
mod methods;
mod problem;
mod rejections;
mod security;
mod static_files;
mod throttle;
pub mod trace;
mod upkeep;
mod webhook;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use poem::middleware::{CatchPanic, NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Route};
use tokio::sync::watch;

use crate::billing::{Billing, Ingest};
use crate::domain::address::Origin;
use crate::domain::webhook_secret::WebhookSecrets;
use crate::server::LifecycleWatch;
use api::ApiState;
use api::health::Readiness;
use auth::TokenVerifier;
use bodies::Bodies;
use cors::CorsRules;
use limiter::UnverifiedLimiter;
use rejections::Rejections;
use throttle::Throttle;
use webhook::WebhookState;

pub(crate) use api::subscription::Subscription;
pub use client::{InvalidProxies, TrustedProxies};
pub use contract::contract;
pub use measure::metrics_routes;
pub use static_files::{InvalidStaticFiles, StaticFiles};
pub use upkeep::Upkeep;

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
    /// Checkout and portal requests of a tenant in a minute.
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

/// How long an answer may take: the ten seconds that Stripe has, and five more for the database. Both have limits of their
/// own, but a database server that stands still keeps to none.
const PATIENCE: Duration = Duration::from_secs(15);

/// The routes, and what somebody has to see to while they are served.
pub fn routes(app: App) -> (impl Endpoint + 'static, Upkeep) {
    let (clock, metrics) = (app.billing.clock.clone(), app.billing.metrics.clone());
    let throttle = Arc::new(Throttle::per_minute(app.throttle_per_minute, clock.clone()));
    let state = ApiState { billing: app.billing.clone(), throttle: throttle.clone() };
    let readiness = Readiness {
        billing: app.billing.clone(),
        tokens: app.tokens.clone(),
        not_configured: app.not_configured,
        lifecycle: app.lifecycle,
    };
    let rejections = Arc::new(Rejections::new(
        app.billing.topics.clone(),
        app.billing.webhook_record.clone(),
        clock.clone(),
    ));
    let limiter = Arc::new(UnverifiedLimiter::new(clock.clone()));
    let upkeep = Upkeep { throttle, limiter: limiter.clone(), rejections: rejections.clone() };
    let webhook = WebhookState {
        billing: app.billing,
        ingest: app.ingest,
        secrets: app.webhook_secrets,
        rejections,
        trusted_proxies: app.trusted_proxies,
        limiter,
        bodies: Arc::new(Bodies::default()),
    };

    let static_files = app.static_files;
    let cors_rules = Arc::new(CorsRules::new(app.cors_origins, clock));
    let routes = Route::new()
        .at("/openapi.json", contract::document())
        .at("/docs", contract::page())
        .nest("/", contract::service())
        .around(move |next, request| static_files::or_static_file(static_files.clone(), next, request))
        .catch_all_error(problem::from_framework)
        .with(CatchPanic::new().with_handler(|_| problem::from_panic()))
        .around(|next, request| methods::told(contract::methods, next, request))
        .data(Arc::new(state))
        .data(Arc::new(readiness))
        .data(Arc::new(webhook))
        .data(app.tokens)
        // Else the type of all that is around it grows beyond what an optimising compiler follows.
        .boxed()
        .around(in_time)
        .around(move |next, request| cors::cors(cors_rules.clone(), next, request))
        .around(framing::plain)
        .around(security::protected)
        .around(move |next, request| measure::measured(metrics.clone(), next, request))
        .around(trace::server_span)
        .with(NormalizePath::new(TrailingSlash::Trim));
    (routes.into_endpoint(), upkeep)
}

/// Answers that the service is not available when an answer takes too long.
async fn in_time<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let answered = tokio::time::timeout(PATIENCE, next.call(request)).await;
    answered
        .map_or_else(|_| Ok(problem::from_silence()), |answered| answered.map(IntoResponse::into_response))
}
